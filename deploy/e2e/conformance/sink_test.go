package conformance

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// delivery is one request that came to a sink.
type delivery struct {
	at     time.Time
	header http.Header
	text   string
	event  event
	// refused with a status other than 2xx.
	status int
}

// event is a CloudEvent.
type event struct {
	ID   string         `json:"id"`
	Type string         `json:"type"`
	Data map[string]any `json:"data"`
	all  map[string]any
}

func (e event) kind() string { return e.Type[strings.LastIndexByte(e.Type, '.')+1:] }

func (e event) text(key string) string {
	s, _ := e.Data[key].(string)
	return s
}

// reply is how a sink answers one delivery.
type reply struct {
	status int
	header map[string]string
	// hang keeps the request until the sink closes.
	hang bool
}

// sink is the HTTPS server of a scenario that events are sent to. What comes to
// it is checked at once; what is wrong fails the scenario at its end. The first
// segment of a path is the generation, so that events are known to be of the
// right form, the second is the actor, the third the scenario: the port may have
// been another's before.
type sink struct {
	id        string
	server    *httptest.Server
	documents *documents
	closed    chan struct{}
	// over: what comes now is the end of the scenario and no part of it.
	over atomic.Bool

	mu         sync.Mutex
	deliveries map[string][]delivery
	replies    map[string][]reply
	// refused are statuses that are always answered with 500.
	refused   map[string]bool
	problems  []string
	sequences map[string]float64
	changed   chan struct{}
}

func newSink(pair tls.Certificate, d *documents) *sink {
	s := &sink{
		id: uuid.NewString(), documents: d, closed: make(chan struct{}), deliveries: map[string][]delivery{}, replies: map[string][]reply{}, refused: map[string]bool{},
		sequences: map[string]float64{}, changed: make(chan struct{}),
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.server.Config.ErrorLog = discard
	s.server.StartTLS()
	return s
}

func (s *sink) url(g generation, actor string) string {
	return s.server.URL + s.path(g, actor)
}

func (s *sink) path(g generation, actor string) string {
	return "/" + g.name + "/" + strings.ReplaceAll(actor, " ", "-") + "/" + s.id
}

func (s *sink) close() {
	close(s.closed)
	s.server.CloseClientConnections()
	s.server.Close()
}

// answer makes a path give these answers before it goes back to 204.
func (s *sink) answer(path string, replies ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[path] = append(s.replies[path], replies...)
}

func (s *sink) serve(w http.ResponseWriter, r *http.Request) {
	if s.over.Load() || !strings.HasSuffix(r.URL.Path, "/"+s.id) {
		w.WriteHeader(http.StatusGone)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	answer, closed := s.take(r, text), s.closed
	if answer.hang {
		select {
		case <-closed:
		case <-r.Context().Done():
		}
		return
	}
	for k, v := range answer.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(answer.status)
}

func (s *sink) take(r *http.Request, text []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := reply{status: http.StatusNoContent}
	path := r.URL.Path
	if waiting := s.replies[path]; len(waiting) > 0 {
		answer, s.replies[path] = waiting[0], waiting[1:]
	}
	for status := range s.refused {
		if strings.Contains(string(text), `"status":"`+status+`"`) {
			answer.status = http.StatusInternalServerError
		}
	}
	d := delivery{at: time.Now(), header: r.Header.Clone(), text: string(text), status: answer.status}
	if answer.hang {
		d.status = 0
	}
	if err := s.inspect(path, r, &d); err != nil {
		s.problems = append(s.problems, fmt.Sprintf("%s: %v\n%s", path, err, text))
	}
	s.deliveries[path] = append(s.deliveries[path], d)
	close(s.changed)
	s.changed = make(chan struct{})
	return answer
}

// inspect checks what holds for every event.
func (s *sink) inspect(path string, r *http.Request, d *delivery) error {
	if err := json.Unmarshal([]byte(d.text), &d.event); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(d.text), &d.event.all); err != nil {
		return err
	}
	segments := strings.Split(path, "/")
	g, known := generationNamed(segments[1])
	switch {
	case !known:
		return fmt.Errorf("nobody subscribed with this sink")
	case r.Method != http.MethodPost:
		return fmt.Errorf("the method is %s", r.Method)
	case r.Header.Get("Content-Type") != "application/cloudevents+json":
		return fmt.Errorf("the content type is %q", r.Header.Get("Content-Type"))
	case !correlator.MatchString(r.Header.Get("X-Correlator")):
		return fmt.Errorf("x-correlator is %q", r.Header.Get("X-Correlator"))
	case !strings.HasPrefix(d.event.Type, g.prefix):
		return fmt.Errorf("the event is of type %s", d.event.Type)
	}
	for _, old := range s.deliveries[path] {
		if old.event.ID == d.event.ID {
			if !reflect.DeepEqual(old.event.all, d.event.all) {
				return fmt.Errorf("the event was sent again with another content; before: %s", old.text)
			}
			if old.status/100 == 2 {
				return fmt.Errorf("the event was sent again although it was accepted")
			}
			return nil
		}
	}
	if err := s.documents.checkEvent(g, d.event.all); err != nil {
		return err
	}
	return s.inspectSequence(d.event)
}

// inspectSequence: events of a session are numbered for each subscription, and
// come in their order.
func (s *sink) inspectSequence(e event) error {
	n, ok := e.Data["sequenceNumber"].(float64)
	if e.text("mediaSessionId") == "" {
		return nil
	}
	key := e.text("subscriptionId") + " " + e.text("mediaSessionId")
	if s.sequences[key]++; !ok || n != s.sequences[key] {
		return fmt.Errorf("sequenceNumber is %v instead of %v", e.Data["sequenceNumber"], s.sequences[key])
	}
	return nil
}

// all that came to a path, and a channel that tells when there is more anywhere.
func (s *sink) all(path string) ([]delivery, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]delivery(nil), s.deliveries[path]...), s.changed
}

// patience is how long a scenario waits for what must come.
const patience = 20 * time.Second

// await waits until what came to a path satisfies check, which says what is
// missing.
func (s *sink) await(path string, check func([]delivery) error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		have, changed := s.all(path)
		err := check(have)
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return fmt.Errorf("%w; there were %s", err, summary(have))
		}
	}
}

func summary(all []delivery) string {
	var out []string
	for _, d := range all {
		e := d.event
		out = append(out, strings.TrimSpace(strings.Join([]string{e.kind(), e.text("status"), e.text("terminationReason"), e.text("reason")}, " ")))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
