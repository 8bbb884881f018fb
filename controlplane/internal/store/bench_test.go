package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
)

// BenchmarkDelivery is one event through the outbox: enqueue, claim, done,
// beside ten thousand subscriptions of which one has a dead sink and a long
// queue, and all others wait for another attempt.
func BenchmarkDelivery(b *testing.B) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(b.TempDir(), "bench.db") },
		"postgres": func() string { return pgtest.Start(b) },
	} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			c := store.Default()
			c.DSN, c.SealingKey = dsn(), newKey()
			s, err := store.Open(ctx, c, discard)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			live := crowd(b, ctx, s)
			b.ResetTimer()
			for n := range b.N {
				err := s.Update(ctx, func(tx gateway.Tx) error { return tx.Enqueue(ctx, live, event(n)) })
				if err != nil {
					b.Fatal(err)
				}
				d, err := s.Claim(ctx, time.Minute, 10)
				if err != nil || len(d) != 1 {
					b.Fatalf("claimed %d, %v", len(d), err)
				}
				if err := s.Done(ctx, d[0].ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func crowd(b *testing.B, ctx context.Context, s *store.Store) (live string) {
	const subscriptions, backlog = 10_000, 5_000
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for from := 0; from < subscriptions; from += 1000 {
		must(s.Update(ctx, func(tx gateway.Tx) error {
			for n := range 1000 {
				sub := call.Subscription{ID: newID(), Owner: anna, DeviceID: newID(), State: call.SubscriptionActive}
				if err := tx.InsertSubscription(ctx, sub); err != nil {
					return err
				}
				live = sub.ID
				if from+n == subscriptions-1 {
					return nil
				}
				if err := tx.Enqueue(ctx, sub.ID, event(n)); err != nil {
					return err
				}
				if from+n > 0 {
					continue
				}
				for e := range backlog {
					if err := tx.Enqueue(ctx, sub.ID, call.Event{ID: fmt.Sprint(e)}); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	for {
		batch, err := s.Claim(ctx, 24*time.Hour, 1000)
		must(err)
		if len(batch) == 0 {
			return live
		}
	}
}
