package crash

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
)

// queue is what came for one subscription; the path of its sink names it.
type queue struct {
	path string
	// first subscription of a device, whose events the ledger of calls takes.
	first bool
	// limit is the number of events that it may have, 0 for any.
	limit int
	// ended: the API acknowledged that it was deleted.
	ended bool

	ids      map[string]string // content by id
	last     string            // id
	accepted bool
	// buried is how many processes were dead when the last one was accepted.
	buried    int
	sequences map[string]int
	stopped   bool
	count     int
}

func (l *ledger) subscribes(path string, first bool, limit int) *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &queue{path: path, first: first, limit: limit, ids: map[string]string{}, sequences: map[string]int{}}
	l.queues[path] = q
	return q
}

func (q *queue) missing() error {
	if (q.ended || q.limit > 0 && q.count >= q.limit) && !q.stopped {
		return fmt.Errorf("the end of subscription %s", q.path)
	}
	return nil
}

// take checks one delivery and says whether it is accepted; what was accepted once
// is again.
func (l *ledger) take(path string, text []byte, accept bool) (bool, error) {
	var e device.Event
	var data struct {
		Sequence int `json:"sequenceNumber"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return accept, err
	}
	if err := json.Unmarshal(e.Data, &e.Session); err != nil {
		return accept, err
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return accept, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[path]
	if q == nil {
		return accept, fmt.Errorf("nobody subscribed with this sink")
	}
	before, known := q.ids[e.ID]
	switch {
	case known && before != string(text):
		return accept, fmt.Errorf("event %s came again with another content; before: %s", e.ID, before)
	case known && q.last != e.ID:
		return accept, fmt.Errorf("event %s came again after event %s", e.ID, q.last)
	case known && q.accepted && q.buried == l.buried:
		return accept, fmt.Errorf("event %s came again though it was accepted and nobody was killed", e.ID)
	case !known && q.last != "" && !q.accepted:
		return accept, fmt.Errorf("event %s came before event %s was accepted", e.ID, q.last)
	case q.stopped && !known:
		return accept, fmt.Errorf("event %s came after the end of the subscription", e.ID)
	}
	accept = accept || known && q.accepted
	if !known || !q.accepted {
		q.buried = l.buried
	}
	q.last, q.accepted = e.ID, accept
	if known {
		return accept, nil
	}
	q.ids[e.ID] = string(text)
	defer func() {
		close(l.changed)
		l.changed = make(chan struct{})
	}()
	if e.Kind() == "subscription-ended" {
		q.stopped = true
		return accept, nil
	}
	q.count++
	if q.limit > 0 && q.count > q.limit {
		return accept, fmt.Errorf("this is one event more than %d", q.limit)
	}
	if e.Session.ID == "" {
		return accept, nil
	}
	q.sequences[e.Session.ID]++
	if want := q.sequences[e.Session.ID]; data.Sequence != want {
		return accept, fmt.Errorf("the sequence number is %d instead of %d", data.Sequence, want)
	}
	if q.first {
		l.tell(e)
	}
	return accept, nil
}

// sink is the HTTPS server that events are sent to. Now and then it refuses, or
// takes its time.
type sink struct {
	*httptest.Server
	ledger *ledger

	mu     sync.Mutex
	random *rand.Rand
}

func newSink(t *testing.T, pair tls.Certificate, l *ledger, random *rand.Rand) *sink {
	s := &sink{ledger: l, random: random}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections break off, that is the test
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off: it has not come
	}
	s.mu.Lock()
	refuse, delay := s.random.IntN(12) == 0, time.Duration(0)
	if s.random.IntN(8) == 0 {
		delay = time.Duration(s.random.Int64N(int64(40 * time.Millisecond)))
	}
	s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	accepted, err := s.ledger.take(path, text, !refuse)
	if err != nil {
		s.ledger.mu.Lock()
		s.ledger.problem("sink %s: %v\n%s", path, err, text)
		s.ledger.mu.Unlock()
	}
	s.ledger.pulse("delivery")
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
		}
	}
	if !accepted {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
