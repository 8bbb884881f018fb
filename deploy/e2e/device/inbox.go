package device

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Event is a CloudEvent of the gateway.
type Event struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
	// Session is the data of session events.
	Session Session `json:"-"`
}

// Kind is the last part of the type, session-status for instance.
func (e Event) Kind() string { return e.Type[strings.LastIndexByte(e.Type, '.')+1:] }

// inbox keeps the events that came.
type inbox struct {
	t    testing.TB
	name string

	mu      sync.Mutex
	events  []Event
	changed chan struct{}
}

func newInbox(t testing.TB, name string) *inbox {
	return &inbox{t: t, name: name, changed: make(chan struct{})}
}

// take puts in an event in JSON; one that came before is known by its id.
func (b *inbox) take(text []byte) error {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("event %q: %w", text, err)
	}
	if err := json.Unmarshal(e.Data, &e.Session); err != nil {
		return fmt.Errorf("event %q: %w", text, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.events, func(old Event) bool { return old.ID == e.ID }) {
		return nil
	}
	b.events = append(b.events, e)
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// await answers the first event that match accepts.
func (b *inbox) await(within time.Duration, what string, match func(Event) bool) Event {
	b.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		b.mu.Lock()
		events, changed := b.events, b.changed
		b.mu.Unlock()
		if i := slices.IndexFunc(events, match); i >= 0 {
			return events[i]
		}
		select {
		case <-changed:
		case <-deadline.C:
			b.t.Fatalf("%s: no %s within %s; there were %s", b.name, what, within, summary(events))
		}
	}
}

// Events that came so far, in their order.
func (d *Device) Events() []Event {
	d.inbox.mu.Lock()
	defer d.inbox.mu.Unlock()
	return slices.Clone(d.inbox.events)
}

// Take puts in an event that came to a sink of the test's own.
func (d *Device) Take(text []byte) error { return d.inbox.take(text) }

// AwaitEvent waits for an event of a kind.
func (d *Device) AwaitEvent(within time.Duration, kind string) Event {
	d.t.Helper()
	return d.inbox.await(within, kind, func(e Event) bool { return e.Kind() == kind })
}

func summary(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, strings.TrimSpace(e.Kind()+" "+e.Session.Status+" "+e.Session.Reason))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
