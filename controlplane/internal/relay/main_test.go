package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a RelayStore of one process.
type memory struct {
	mu       sync.Mutex
	channels map[string]*kept
	tickets  map[string]gateway.RelayTicket
	wakes    chan string
	// fail is answered by AppendRelayEvent, when set.
	fail error
}

type kept struct {
	gateway.RelayChannel
	events    []gateway.RelayEvent
	delivered int64
	used      time.Time
}

func newMemory() *memory {
	return &memory{channels: map[string]*kept{}, tickets: map[string]gateway.RelayTicket{}, wakes: make(chan string, 100)}
}

func (m *memory) open(id string) (*kept, error) {
	if k := m.channels[id]; k != nil && !k.Closed {
		return k, nil
	}
	return nil, gateway.ErrNotFound
}

func (m *memory) OpenRelayChannel(_ context.Context, c gateway.RelayChannel, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, k := range m.channels {
		if k.Owner == c.Owner && !k.Closed {
			n++
		}
	}
	if n >= most {
		return gateway.ErrLimit
	}
	m.channels[c.ID] = &kept{RelayChannel: c, used: time.Now()}
	return nil
}

func (m *memory) RelayChannel(_ context.Context, id string) (gateway.RelayChannel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.channels[id]; k != nil {
		return k.RelayChannel, nil
	}
	return gateway.RelayChannel{}, gateway.ErrNotFound
}

func (m *memory) RelayChannelBySink(_ context.Context, sinkKey string) (gateway.RelayChannel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.channels {
		if k.SinkKey == sinkKey {
			return k.RelayChannel, nil
		}
	}
	return gateway.RelayChannel{}, gateway.ErrNotFound
}

func (m *memory) SetRelayCredentials(_ context.Context, c gateway.RelayChannel) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := m.open(c.ID)
	if err == nil {
		k.Credentials = c.Credentials
	}
	return err
}

func (m *memory) TouchRelayChannel(_ context.Context, id string, delivered int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := m.open(id)
	if err == nil {
		k.used, k.delivered = time.Now(), max(k.delivered, delivered)
	}
	return err
}

func (m *memory) CloseRelayChannel(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := m.open(id)
	if err == nil {
		k.Closed, k.events = true, nil
	}
	return err
}

func (m *memory) AppendRelayEvent(_ context.Context, id string, e gateway.RelayEvent, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := m.open(id)
	if err != nil || m.fail != nil {
		return errors.Join(err, m.fail)
	}
	if slices.ContainsFunc(k.events, func(o gateway.RelayEvent) bool { return o.Key == e.Key }) {
		return nil
	}
	if len(k.events) >= most {
		if k.events[0].Seq > k.delivered {
			return gateway.ErrFull
		}
		k.events = k.events[1:]
	}
	k.LastSeq++
	e.Seq = k.LastSeq
	k.events = append(k.events, e)
	return nil
}

func (m *memory) RelayEvents(_ context.Context, id string, after int64, limit int) ([]gateway.RelayEvent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []gateway.RelayEvent
	if k := m.channels[id]; k != nil {
		for _, e := range k.events {
			if e.Seq > after && len(found) < limit {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

func (m *memory) RelayPosition(_ context.Context, id, idKey string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.channels[id].events {
		if e.IDKey == idKey {
			return e.Seq, nil
		}
	}
	return 0, gateway.ErrNotFound
}

func (m *memory) PutRelayTicket(_ context.Context, t gateway.RelayTicket) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tickets[t.Key] = t
	return nil
}

func (m *memory) TakeRelayTicket(_ context.Context, key string) (gateway.RelayTicket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tickets[key]
	delete(m.tickets, key)
	if !ok {
		return t, gateway.ErrNotFound
	}
	return t, nil
}

func (m *memory) SweepRelay(_ context.Context, idle, _, _ time.Duration) (closed []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, k := range m.channels {
		if !k.Closed && time.Since(k.used) > idle {
			k.Closed = true
			closed = append(closed, id)
		}
	}
	return closed, nil
}

func (m *memory) RelayWake() <-chan string { return m.wakes }

// bundle is a running relay behind a server.
type bundle struct {
	*Relay
	store *memory
	url   string
	stop  func()
	// expires of the tokens that are accepted.
	expires time.Time
}

// setup starts a relay. Access tokens are "Bearer " and a subscriber's number.
func setup(t *testing.T, change func(*Config)) *bundle {
	t.Helper()
	c := Default()
	if change != nil {
		change(&c)
	}
	b := &bundle{store: newMemory()}
	r, err := New(c, Deps{Store: b.store, Logger: slog.New(slog.DiscardHandler), Authenticate: func(q *http.Request) (gateway.Principal, error) {
		number, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
		switch {
		case number == "+down":
			return gateway.Principal{}, &gateway.AuthError{Unavailable: true, RetryAfter: 3 * time.Second}
		case !ok || !strings.HasPrefix(number, "+"):
			return gateway.Principal{}, &gateway.AuthError{}
		}
		return gateway.Principal{
			Owner: call.Owner{Tenant: "default", Issuer: "i", ClientID: "phone", Subject: call.Number(number)}, Expires: b.expires,
		}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.Relay = r
	server := httptest.NewServer(http.StripPrefix("/relay", r.Handler()))
	b.url = server.URL + "/relay"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		b.stop()
		server.CloseClientConnections()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return b
}

const anna = "+15550100"

// do makes a request; body may be nil, header pairs follow.
func (b *bundle) do(t *testing.T, method, url string, body string, header ...string) (*http.Response, string) {
	t.Helper()
	if strings.HasPrefix(url, "/") {
		url = b.url + url
	}
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(content)
}

// channel is an open channel as its device knows it.
type channel struct {
	opened
	// sink as this test reaches it.
	sink string
}

func (b *bundle) channel(t *testing.T) channel {
	t.Helper()
	answer, body := b.do(t, "POST", "/channels", "", "Authorization", "Bearer "+anna)
	var c channel
	if err := json.Unmarshal([]byte(body), &c.opened); err != nil || answer.StatusCode != http.StatusCreated {
		t.Fatalf("open: %d %s, %v", answer.StatusCode, body, err)
	}
	c.sink = b.url + "/sinks/" + c.SinkURL[strings.LastIndex(c.SinkURL, "/")+1:]
	return c
}

func cloudEvent(n int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"/calls","type":"t","data":{"n":%d}}`, n, n)
}

// notify delivers an event as the Notification Service would.
func (b *bundle) notify(t *testing.T, c channel, body string) int {
	t.Helper()
	answer, _ := b.do(t, "POST", c.sink, body, "Authorization", "Bearer "+c.Credential.Token, "Content-Type", "application/cloudevents+json")
	return answer.StatusCode
}

func (b *bundle) mustNotify(t *testing.T, c channel, events ...int) {
	t.Helper()
	for _, n := range events {
		if status := b.notify(t, c, cloudEvent(n)); status != http.StatusNoContent {
			t.Fatalf("event %d: status %d", n, status)
		}
	}
}

// sse is a reader of server-sent events.
type sse struct {
	t        *testing.T
	response *http.Response
	cancel   func()
	rest     bytes.Buffer
}

// stream opens a channel's stream; the status is not judged.
func (b *bundle) stream(t *testing.T, url string, header ...string) *sse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	q, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	s := &sse{t: t, response: answer, cancel: cancel}
	t.Cleanup(s.close)
	return s
}

func (s *sse) close() {
	s.cancel()
	s.response.Body.Close()
}

// block reads up to an empty line; ok is false at the end of the stream.
func (s *sse) block() (text string, ok bool) {
	for {
		if i := bytes.Index(s.rest.Bytes(), []byte("\n\n")); i >= 0 {
			text := string(s.rest.Next(i + 2))
			return text[:i], true
		}
		var p [4096]byte
		n, err := s.response.Body.Read(p[:])
		s.rest.Write(p[:n])
		if err != nil && n == 0 {
			return "", false
		}
	}
}

// next is the id and data of the next event.
func (s *sse) next() (id, data string, ok bool) {
	for {
		text, ok := s.block()
		if !ok {
			return "", "", false
		}
		var lines []string
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				id = value
			case "data":
				lines = append(lines, value)
			}
		}
		if lines != nil {
			return id, strings.Join(lines, "\n"), true
		}
	}
}

// want reads these events and nothing in between.
func (s *sse) want(events ...int) (lastID string) {
	s.t.Helper()
	for _, n := range events {
		id, data, ok := s.next()
		if !ok || data != cloudEvent(n) {
			s.t.Fatalf("got %q, %v, want event %d", data, ok, n)
		}
		lastID = id
	}
	return lastID
}

// wantEnd reads until the stream ends.
func (s *sse) wantEnd() {
	s.t.Helper()
	if id, data, ok := s.next(); ok {
		s.t.Fatalf("got event %s %q, want the end", id, data)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}

// notifyThrough delivers an event to another relay on the same store.
func (b *bundle) notifyThrough(t *testing.T, other *Relay, c channel, body string) {
	t.Helper()
	q := httptest.NewRequest("POST", strings.TrimPrefix(c.sink, b.url), strings.NewReader(body))
	q.Header.Set("Authorization", "Bearer "+c.Credential.Token)
	q.Header.Set("Content-Type", "application/cloudevents+json")
	w := httptest.NewRecorder()
	other.Handler().ServeHTTP(w, q)
	if w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
