package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

// processes answers two stores on one database where that is possible.
func (b *bundle) processes(t *testing.T) []*store.Store {
	if b.memory() {
		return []*store.Store{b.Store, b.Store}
	}
	return []*store.Store{b.Store, b.open(t)}
}

// Many transactions add to the same queues while many workers deliver from them
// and some die with a lease. Every event comes through, and the first delivery
// of each is in the order in which its queue was filled.
func TestOrderUnderConcurrency(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		const queues, events = 6, 25
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stores := s.processes(t)
		subs := make([]string, queues)
		for i := range subs {
			subs[i] = s.subscription(t, nil).ID
		}
		var producers sync.WaitGroup
		for p := range 3 {
			producers.Go(func() {
				session := fmt.Sprint(p)
				for n := range events {
					// Different orders, so that transactions also meet crosswise.
					err := stores[p%2].Update(ctx, func(tx gateway.Tx) error {
						for i := range subs {
							if p == 1 {
								i = queues - 1 - i
							}
							sub := subs[(i+p)%queues]
							e := call.Event{ID: fmt.Sprintf("%d-%d", p, n), Type: call.SessionStatus,
								Session: &call.SessionChange{MediaSessionID: session, Sequence: int32(n + 1)}}
							if err := tx.Enqueue(ctx, sub, e); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		const total = queues * events * 3
		var mu sync.Mutex
		last := map[string]int32{}
		var delivered atomic.Int32
		var claims atomic.Int64
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				o := stores[w%2]
				for delivered.Load() < total && ctx.Err() == nil {
					batch, err := o.Claim(ctx, 200*time.Millisecond, 4)
					if err != nil {
						t.Error(err)
						return
					}
					for _, d := range batch {
						mu.Lock()
						seq := d.Event.Session.Sequence
						key := d.Subscription.ID + "/" + d.Event.Session.MediaSessionID
						switch before := last[key]; {
						case seq == before+1:
							last[key] = seq
							delivered.Add(1)
						case seq > before:
							t.Errorf("event %d of a queue came after %d", seq, before)
						}
						mu.Unlock()
						if claims.Add(1)%97 == 0 {
							continue // dies before it is done
						}
						if err := o.Done(ctx, d.ID); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		producers.Wait()
		workers.Wait()
		if delivered.Load() != total {
			t.Errorf("delivered %d of %d", delivered.Load(), total)
		}
		for sub, seq := range last {
			if seq != events {
				t.Errorf("queue %s ends with %d, want %d", sub, seq, events)
			}
		}
	})
}

// Claims of many workers never overlap while their leases last.
func TestClaimsAreExclusive(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		const queues = 60
		for n := range queues {
			s.enqueue(t, s.subscription(t, nil).ID, event(n))
		}
		stores := s.processes(t)
		var mu sync.Mutex
		seen := map[string]int{}
		var workers sync.WaitGroup
		for w := range 6 {
			workers.Go(func() {
				for {
					batch, err := stores[w%2].Claim(t.Context(), time.Minute, 7)
					if err != nil {
						t.Error(err)
						return
					}
					if len(batch) == 0 {
						return
					}
					mu.Lock()
					for _, d := range batch {
						seen[d.Event.ID]++
					}
					mu.Unlock()
				}
			})
		}
		workers.Wait()
		// A worker may have met only rows that another was just claiming.
		for _, d := range claim(t, s, time.Minute, queues) {
			seen[d.Event.ID]++
		}
		if len(seen) != queues {
			t.Errorf("claimed %d different events, want %d", len(seen), queues)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
	})
}

// A quota holds when transactions count and insert at once.
func TestQuotaUnderConcurrency(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		const quota, applicants = 5, 16
		full := errors.New("quota exceeded")
		stores := s.processes(t)
		var admitted, refused atomic.Int32
		var all sync.WaitGroup
		for n := range applicants {
			all.Go(func() {
				err := stores[n%2].Update(t.Context(), func(tx gateway.Tx) error {
					if err := tx.LockOwner(t.Context(), anna); err != nil {
						return err
					}
					there, err := tx.RegistrationsByNumber(t.Context(), anna.Tenant, anna.Subject, at(0))
					if err != nil {
						return err
					}
					if len(there) >= quota {
						return full
					}
					return tx.InsertRegistration(t.Context(), call.Registration{
						ID: newID(), Owner: anna, DeviceID: newID(), CreatedAt: at(n), ExpiresAt: at(100),
					})
				})
				switch {
				case err == nil:
					admitted.Add(1)
				case errors.Is(err, full):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if admitted.Load() != quota || refused.Load() != applicants-quota {
			t.Errorf("admitted %d and refused %d, want %d and %d", admitted.Load(), refused.Load(), quota, applicants-quota)
		}
	})
}

// What one transaction reads and writes again is not lost to another, without
// any lock asked for.
func TestNoLostUpdates(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		const workers, each = 5, 10
		sub := s.subscription(t, nil)
		stores := s.processes(t)
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				for range each {
					err := stores[w%2].Update(t.Context(), func(tx gateway.Tx) error {
						got, err := tx.Subscription(t.Context(), anna.Tenant, sub.ID)
						if err != nil {
							return err
						}
						got.Sent++
						return tx.UpdateSubscription(t.Context(), got)
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		got, err := s.Subscription(t.Context(), anna.Tenant, sub.ID)
		if err != nil || got.Sent != workers*each {
			t.Errorf("counted %d, %v, want %d", got.Sent, err, workers*each)
		}
	})
}

// Of several transactions that insert the same key, one succeeds and the others
// hear of a conflict.
func TestInsertRace(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		stores := s.processes(t)
		r := call.Registration{Owner: anna, DeviceID: newID(), CreatedAt: at(0), ExpiresAt: at(100)}
		var won atomic.Int32
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				mine := r
				mine.ID = newID()
				err := stores[n%2].Update(t.Context(), func(tx gateway.Tx) error { return tx.InsertRegistration(t.Context(), mine) })
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, gateway.ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d insertions of one key succeeded", won.Load())
		}
	})
}

// A transaction that adds an event to a subscription which another one ends
// meanwhile is run again, so that nothing comes after the end.
func TestNoEventAfterTheEnd(t *testing.T) {
	// On SQLite no transaction can come between.
	on(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub := s.subscription(t, nil)
		runs := 0
		update(t, s, func(tx gateway.Tx) error {
			runs++
			got, err := tx.Subscription(ctx, anna.Tenant, sub.ID)
			if err != nil {
				return err
			}
			if runs == 1 {
				update(t, s, func(other gateway.Tx) error {
					ended := got
					ended.State = call.SubscriptionOver
					return errors.Join(other.UpdateSubscription(ctx, ended), other.Enqueue(ctx, sub.ID, event(1)))
				})
			}
			if got.State != call.SubscriptionActive {
				return nil
			}
			return tx.Enqueue(ctx, sub.ID, event(2))
		})
		if runs != 2 {
			t.Errorf("ran %d times, want 2", runs)
		}
		d := claimOne(t, s, time.Minute, "event-001")
		if err := s.Done(ctx, d.ID); err != nil {
			t.Fatal(err)
		}
		if more := claim(t, s, time.Minute, 10); len(more) > 0 {
			t.Errorf("%v came after the end", eventIDs(more))
		}
	}, "postgres")
}
