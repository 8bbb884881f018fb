// Command webhook is a sink for events over HTTPS, for those who try the APIs by
// hand as an application server. It prints each event as one line of JSON.
package main

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	listen := flag.String("listen", "localhost:8444", "host and port to listen on")
	certificate := flag.String("certificate", ".isthmus/server.pem", "certificate chain")
	key := flag.String("key", ".isthmus/server-key.pem", "key of the certificate")
	tokens := flag.String("tokens", "", "tokens that a notifier may show, with commas between")
	flag.Parse()
	if *tokens == "" {
		log.Fatal("webhook: -tokens is missing")
	}
	s := &sink{tokens: strings.Split(*tokens, ","), out: os.Stdout}
	log.Fatal("webhook: ", http.ListenAndServeTLS(*listen, *certificate, *key, s))
}

// sink prints events.
type sink struct {
	tokens []string

	mu  sync.Mutex
	out io.Writer
}

// ServeHTTP takes an event.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.accepts(r.Header.Get("Authorization")) {
		http.Error(w, "the sink credential is wrong", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var line bytes.Buffer
	if err == nil {
		err = json.Compact(&line, body)
	}
	if err != nil {
		http.Error(w, "the body is no event", http.StatusBadRequest)
		return
	}
	line.WriteByte('\n')
	s.mu.Lock()
	_, err = s.out.Write(line.Bytes())
	s.mu.Unlock()
	if err != nil {
		http.Error(w, "the event cannot be kept", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *sink) accepts(authorization string) bool {
	found := 0
	for _, token := range s.tokens {
		found |= subtle.ConstantTimeCompare([]byte("Bearer "+token), []byte(authorization))
	}
	return found == 1
}
