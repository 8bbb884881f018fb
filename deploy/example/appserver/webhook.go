package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// webhook is the sink of events.
type webhook struct {
	events chan<- event

	mu          sync.Mutex
	credentials []credential
	known       map[string]bool // events that came before
}

// newCredential makes a credential for the gateway to show. The one before it is
// good until it expires, as events with it may be on their way.
func (w *webhook) newCredential() credential {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	c := credential{Type: "ACCESSTOKEN", Token: rand.Text() + rand.Text(), Expires: now.Add(time.Hour), Scheme: "bearer"}
	w.credentials = slices.DeleteFunc(w.credentials, func(old credential) bool { return now.After(old.Expires) })
	w.credentials = append(w.credentials, c)
	return c
}

func (w *webhook) accepts(authorization string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.credentials, func(c credential) bool {
		return time.Now().Before(c.Expires) && subtle.ConstantTimeCompare([]byte("Bearer "+c.Token), []byte(authorization)) == 1
	})
}

// first reports whether an event has not come before: one whose acknowledgement
// got lost comes again, with the same id.
func (w *webhook) first(e event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := e.Source + " " + e.ID
	if w.known[key] {
		return false
	}
	w.known[key] = true
	return true
}

// ServeHTTP takes an event. It answers at once and leaves the work to others:
// the next event of the session waits for the answer.
func (w *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !w.accepts(r.Header.Get("Authorization")) {
		http.Error(rw, "the sink credential is wrong", http.StatusUnauthorized)
		return
	}
	var e event
	if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, 1<<20)).Decode(&e); err != nil {
		http.Error(rw, "the body is no event", http.StatusBadRequest)
		return
	}
	if w.first(e) {
		select {
		case w.events <- e:
		case <-r.Context().Done():
			return
		}
	}
	rw.WriteHeader(http.StatusNoContent)
}
