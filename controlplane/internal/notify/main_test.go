package notify

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outbox is the queue in memory, with the rules of the stored one.
type outbox struct {
	mu     sync.Mutex
	queues map[string][]*queued
	subs   map[string]call.Subscription
	wake   chan struct{}
	ended  []string
	lease  time.Duration
	take   func(gateway.Delivery)
}

type queued struct {
	event    call.Event
	attempts int
	since    time.Time
	due      time.Time
}

func newOutbox() *outbox {
	return &outbox{queues: map[string][]*queued{}, subs: map[string]call.Subscription{}, wake: make(chan struct{}, 1)}
}

// add records events, and hands over what it can as the stored queue does.
func (o *outbox) add(s call.Subscription, events ...string) {
	o.mu.Lock()
	o.subs[s.ID] = s
	for _, id := range events {
		e := call.Event{ID: id, Type: call.SessionStatus, Time: time.Now(), Session: &call.SessionChange{Status: call.Ringing, CallID: "call-1"}}
		o.queues[s.ID] = append(o.queues[s.ID], &queued{event: e, since: time.Now()})
	}
	if len(o.queues[s.ID]) > len(events) || len(events) == 0 {
		o.mu.Unlock()
		return
	}
	o.handOver(s.ID)
}

// handOver gives a new head to the receiver, or tells that there is one. It
// releases the lock.
func (o *outbox) handOver(sub string) {
	take := o.take
	if take == nil {
		o.signal()
		o.mu.Unlock()
		return
	}
	d := o.leased(sub, o.lease)
	o.mu.Unlock()
	take(d)
}

func (o *outbox) leased(sub string, lease time.Duration) gateway.Delivery {
	head := o.queues[sub][0]
	head.due = time.Now().Add(lease)
	head.attempts++
	return gateway.Delivery{
		ID: sub + " " + head.event.ID, Subscription: o.subs[sub], Event: head.event, Attempts: head.attempts - 1, Since: head.since,
	}
}

func (o *outbox) Receive(lease time.Duration, take func(gateway.Delivery)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lease, o.take = lease, take
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) Claim(_ context.Context, lease time.Duration, limit int) ([]gateway.Delivery, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var claimed []gateway.Delivery
	for id, q := range o.queues {
		if len(claimed) == limit {
			break
		}
		if len(q) == 0 || time.Now().Before(q[0].due) {
			continue
		}
		claimed = append(claimed, o.leased(id, lease))
	}
	return claimed, nil
}

func (o *outbox) head(id string) (sub string, head *queued) {
	var event string
	fmt.Sscan(id, &sub, &event)
	if q := o.queues[sub]; len(q) > 0 && q[0].event.ID == event {
		return sub, q[0]
	}
	return sub, nil
}

func (o *outbox) Done(_ context.Context, id string) error {
	o.mu.Lock()
	sub, head := o.head(id)
	if head != nil {
		o.queues[sub] = o.queues[sub][1:]
	}
	if head == nil || len(o.queues[sub]) == 0 {
		o.mu.Unlock()
		return nil
	}
	o.handOver(sub)
	return nil
}

func (o *outbox) Retry(_ context.Context, id string, after time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, head := o.head(id); head != nil {
		head.due = time.Now().Add(after)
	}
	return nil
}

func (o *outbox) Discard(_ context.Context, sub string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queues[sub] = nil
	return nil
}

func (o *outbox) NextDue(context.Context) (time.Duration, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var next time.Time
	for _, q := range o.queues {
		if len(q) > 0 && (next.IsZero() || q[0].due.Before(next)) {
			next = q[0].due
		}
		if len(q) > 0 && q[0].due.IsZero() {
			return 0, true, nil
		}
	}
	return max(0, time.Until(next)), !next.IsZero(), nil
}

func (o *outbox) Wake() <-chan struct{} { return o.wake }

func (o *outbox) EndSubscription(_ context.Context, tenant, id string, reason call.EndReason, _ string, silent bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, fmt.Sprintf("%s %s %s silent=%v", tenant, id, reason, silent))
	return nil
}

func (o *outbox) endings() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.ended)
}

func (o *outbox) left() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range o.queues {
		n += len(q)
	}
	return n
}

func render(s call.Subscription, e call.Event) ([]byte, http.Header, error) {
	if s.Generation == "broken" {
		return nil, nil, errors.New("no such generation")
	}
	return []byte(`{"id":"` + e.ID + `"}`), http.Header{}, nil
}

func sub(id, url string) call.Subscription {
	return call.Subscription{
		ID: id, Owner: call.Owner{Tenant: "default", Subject: "+15550100"},
		Sink: call.Sink{URL: url, AccessToken: "sink-token"}, State: call.SubscriptionActive,
	}
}

// sink is an HTTPS server that collects what it gets.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	// answer is asked for every request; nil answers 204.
	answer func(w http.ResponseWriter, r *http.Request, body string)
}

func newSink(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body string)) *sink {
	s := &sink{answer: answer}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.bodies = append(s.bodies, string(body))
		s.mu.Unlock()
		if s.answer != nil {
			s.answer(w, r, string(body))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// caFile holds the certificate of the test servers.
func (s *sink) caFile(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(name, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// local is a configuration for sinks on this machine.
func local(t *testing.T, s *sink) Config {
	c := Default()
	c.AllowNetworks = []string{"127.0.0.0/8"}
	c.CAFiles = []string{s.caFile(t)}
	c.BackoffMin = 10 * time.Millisecond
	return c
}

// run starts a notifier for the time of the test.
func run(t *testing.T, c Config, o *outbox, change func(*Deps)) *Notifier {
	t.Helper()
	d := Deps{Outbox: o, Render: render, End: o, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&d)
	}
	n, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

func flush(t *testing.T, n *Notifier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}

// names is a resolver from a table.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, s := range n[host] {
		all = append(all, netip.MustParseAddr(s))
	}
	if all == nil {
		return nil, errors.New("no such host")
	}
	return all, nil
}
