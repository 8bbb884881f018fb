package store_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(crashDSN); dsn != "" {
		record(dsn, os.Getenv(crashKey), os.Getenv(crashSubscription))
	}
	goleak.VerifyTestMain(m)
}

// engines by name, with where each has a new and empty database.
var engines = map[string]func(t *testing.T) string{
	"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "test.db") },
	"memory":   func(*testing.T) string { return ":memory:" },
	"postgres": func(t *testing.T) string { return pgtest.Start(t) },
}

// onEach runs a test of the conformance suite on every engine, each time on a
// new and empty database.
func onEach(t *testing.T, test func(t *testing.T, s *bundle)) {
	on(t, test, "sqlite", "memory", "postgres")
}

// onDisk leaves out the engine whose databases end with their process.
func onDisk(t *testing.T, test func(t *testing.T, s *bundle)) { on(t, test, "sqlite", "postgres") }

func on(t *testing.T, test func(t *testing.T, s *bundle), names ...string) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bundle{config: store.Default()}
			b.config.DSN = engines[name](t)
			b.config.SealingKey = newKey()
			b.Store = b.open(t)
			test(t, b)
		})
	}
}

// bundle is an open store and how it was opened.
type bundle struct {
	*store.Store
	config store.Config
}

// open opens the same database again, as another process would.
func (b *bundle) open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), b.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (b *bundle) memory() bool { return b.config.DSN == ":memory:" }

func newKey() string {
	k := make([]byte, 32)
	rand.Read(k)
	return base64.StdEncoding.EncodeToString(k)
}

func update(t *testing.T, s gateway.Store, fn func(tx gateway.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// at is a moment some seconds from a fixed one, in whole microseconds.
func at(seconds int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(seconds) * time.Second)
}

var anna = call.Owner{Tenant: call.DefaultTenant, Issuer: "https://as.example", ClientID: "phone", Subject: "+15550100"}

func (b *bundle) registration(t *testing.T, change func(*call.Registration)) call.Registration {
	t.Helper()
	r := call.Registration{ID: newID(), Owner: anna, DeviceID: newID(), CreatedAt: at(0), ExpiresAt: at(3600)}
	if change != nil {
		change(&r)
	}
	update(t, b, func(tx gateway.Tx) error { return tx.InsertRegistration(t.Context(), r) })
	return r
}

func (b *bundle) subscription(t *testing.T, change func(*call.Subscription)) call.Subscription {
	t.Helper()
	s := call.Subscription{
		ID: newID(), Owner: anna, DeviceID: newID(), Types: []call.EventType{call.SessionStatus},
		Sink:       call.Sink{URL: "https://sink.example/x", AccessToken: "sink-secret"},
		Generation: "r3.1", State: call.SubscriptionActive, StartsAt: at(0),
	}
	if change != nil {
		change(&s)
	}
	update(t, b, func(tx gateway.Tx) error { return tx.InsertSubscription(t.Context(), s) })
	return s
}

func (b *bundle) session(t *testing.T, change func(*call.MediaSession)) call.MediaSession {
	t.Helper()
	m := call.MediaSession{
		ID: newID(), CallID: newID(), Owner: anna, RegistrationID: newID(), DeviceID: newID(),
		Direction: call.Origination, Originator: anna.Subject.Address(), Receiver: call.Number("+15550199").Address(),
		CallType: call.Regular, Status: call.Initial, Offer: "v=0\r\na=ice-pwd:browser-secret\r\n", CreatedAt: at(0),
	}
	if change != nil {
		change(&m)
	}
	update(t, b, func(tx gateway.Tx) error { return tx.InsertSession(t.Context(), m) })
	return m
}

func event(n int) call.Event {
	return call.Event{
		ID: fmt.Sprintf("event-%03d", n), Type: call.SessionStatus, Time: at(n),
		Session: &call.SessionChange{
			MediaSessionID: newID(), Originator: anna.Subject.Address(), Status: call.Ringing,
			Answer: "v=0\r\na=ice-pwd:answer-secret\r\n", Sequence: int32(n),
		},
	}
}

func (b *bundle) enqueue(t *testing.T, subscription string, events ...call.Event) {
	t.Helper()
	update(t, b, func(tx gateway.Tx) error {
		for _, e := range events {
			if err := tx.Enqueue(t.Context(), subscription, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func claim(t *testing.T, o gateway.Outbox, lease time.Duration, limit int) []gateway.Delivery {
	t.Helper()
	d, err := o.Claim(t.Context(), lease, limit)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// claimOne claims exactly one delivery, of the given event.
func claimOne(t *testing.T, o gateway.Outbox, lease time.Duration, eventID string) gateway.Delivery {
	t.Helper()
	d := claim(t, o, lease, 100)
	if len(d) != 1 || d[0].Event.ID != eventID {
		t.Fatalf("claimed %v, want one delivery of %s", eventIDs(d), eventID)
	}
	return d[0]
}

func eventIDs(deliveries []gateway.Delivery) []string {
	ids := []string{}
	for _, d := range deliveries {
		ids = append(ids, d.Event.ID)
	}
	return ids
}

// eventually polls a condition until it holds or the patience of a test is over.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}
