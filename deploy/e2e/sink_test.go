package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// sink is a server-side application's webhook.
type sink struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	device  *device.Device
	waiting [][]byte
	down    bool
	asked   int // requests while it was down
}

// newSink serves a webhook over TLS until the test ends.
func newSink(t *testing.T, a *authority.Authority) *sink {
	t.Helper()
	listener, err := net.Listen("tcp", address(port.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{t: t, url: fmt.Sprintf("https://%s/events", listener.Addr())}
	server := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{a.Pair}, NextProtos: []string{"http/1.1"}}))
	}()
	t.Cleanup(func() {
		_ = server.Close() // the test is over
		<-done
	})
	return s
}

// ServeHTTP takes an event.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		s.asked++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
	if s.device == nil {
		s.waiting = append(s.waiting, text)
		return
	}
	if err := s.device.Take(text); err != nil {
		s.t.Error(err)
	}
}

// deliverTo hands all events to a device.
func (s *sink) deliverTo(d *device.Device) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.device = d
	for _, text := range s.waiting {
		if err := d.Take(text); err != nil {
			s.t.Error(err)
		}
	}
	s.waiting = nil
}

// setDown lets the sink answer 503, or no longer.
func (s *sink) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// refusals is how many requests were answered 503.
func (s *sink) refusals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}
