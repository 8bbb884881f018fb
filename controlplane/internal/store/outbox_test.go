package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

func TestOutboxOrder(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		a, b := s.subscription(t, nil), s.subscription(t, nil)
		e := event(1)
		s.enqueue(t, a.ID, e, event(2))
		s.enqueue(t, a.ID, event(3))
		s.enqueue(t, b.ID, event(101))

		first := claim(t, s, time.Minute, 100)
		ids := eventIDs(first)
		slices.Sort(ids)
		if !slices.Equal(ids, []string{"event-001", "event-101"}) {
			t.Fatalf("claimed %v, want the head of each queue", ids)
		}
		d := first[slices.IndexFunc(first, func(d gateway.Delivery) bool { return d.Event.ID == e.ID })]
		if !reflect.DeepEqual(d.Event, e) || !reflect.DeepEqual(d.Subscription, a) || d.Attempts != 0 {
			t.Errorf("got %+v\nwant event %+v of %+v", d, e, a)
		}
		if age := time.Since(d.Since); age < -time.Minute || age > time.Minute {
			t.Errorf("recorded at %v", d.Since)
		}
		if more := claim(t, s, time.Minute, 100); len(more) != 0 {
			t.Errorf("claimed %v while the heads are leased", eventIDs(more))
		}
		for n := 2; n <= 3; n++ {
			if err := s.Done(ctx, d.ID); err != nil {
				t.Fatal(err)
			}
			d = claimOne(t, s, time.Minute, fmt.Sprintf("event-%03d", n))
		}
	})
}

// With a receiver, what is recorded comes to it, leased, and so does what a
// delivery that is done lets through.
func TestHandOver(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		taken := make(chan gateway.Delivery, 10)
		s.Receive(time.Minute, func(d gateway.Delivery) { taken <- d })
		sub := s.subscription(t, nil)
		s.enqueue(t, sub.ID, event(1), event(2))
		s.enqueue(t, sub.ID, event(3))
		if err := s.Update(ctx, func(tx gateway.Tx) error {
			return errors.Join(tx.Enqueue(ctx, sub.ID, event(4)), errors.New("no"))
		}); err == nil {
			t.Fatal("want an error")
		}
		for n := 1; n <= 3; n++ {
			var d gateway.Delivery
			select {
			case d = <-taken:
			case <-time.After(20 * time.Second):
				t.Fatalf("event %d was not handed over", n)
			}
			if d.Event.ID != event(n).ID || d.Attempts != 0 || !reflect.DeepEqual(d.Subscription, sub) || time.Since(d.Since) > time.Minute {
				t.Errorf("got %+v, want event %d", d, n)
			}
			if len(taken) > 0 {
				t.Errorf("two events of a queue were handed over together")
			}
			if n == 2 {
				// Put off, it comes by being claimed.
				if err := s.Retry(ctx, d.ID, 0); err != nil {
					t.Fatal(err)
				}
				if d = claimOne(t, s, time.Minute, event(n).ID); d.Attempts != 1 {
					t.Errorf("attempt %d", d.Attempts)
				}
			}
			if got := claim(t, s, time.Minute, 10); len(got) != 0 {
				t.Errorf("claimed %v, which is leased or behind", eventIDs(got))
			}
			if err := s.Done(ctx, d.ID); err != nil {
				t.Fatal(err)
			}
		}
		s.Receive(0, nil)
		s.enqueue(t, sub.ID, event(5))
		claimOne(t, s, time.Minute, event(5).ID)
		if len(taken) > 0 {
			t.Error("handed over to nobody")
		}
	})
}

// An event is not added to a queue whose subscription another process ended after
// it was read. (On SQLite the other process waits for its turn.)
func TestEnqueueAfterTheEnd(t *testing.T) {
	on(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub, other := s.subscription(t, nil), s.open(t)
		ended := sub
		ended.State = call.SubscriptionGone
		reads := 0
		update(t, s, func(tx gateway.Tx) error {
			reads++
			read, err := tx.Subscription(ctx, anna.Tenant, sub.ID)
			if err != nil || read.State != call.SubscriptionActive {
				return err
			}
			update(t, other, func(tx gateway.Tx) error { return tx.UpdateSubscription(ctx, ended) })
			return tx.Enqueue(ctx, sub.ID, event(1))
		})
		if got := claim(t, s, time.Minute, 10); len(got) != 0 || reads != 2 {
			t.Errorf("%v after the end, read %d times", eventIDs(got), reads)
		}
	}, "postgres")
}

func TestRetry(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub := s.subscription(t, nil)
		s.enqueue(t, sub.ID, event(1), event(2))
		d := claimOne(t, s, time.Minute, "event-001")
		if err := s.Retry(ctx, d.ID, 40*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, time.Minute, 10); len(got) != 0 {
			t.Fatalf("claimed %v before its time", eventIDs(got))
		}
		wait, ok, err := s.NextDue(ctx)
		if err != nil || !ok || wait > 40*time.Second || wait < 20*time.Second {
			t.Errorf("next due in %v, %v, %v, want somewhat less than 40s", wait, ok, err)
		}
		if err := s.Retry(ctx, d.ID, 0); err != nil {
			t.Fatal(err)
		}
		again := claimOne(t, s, time.Minute, "event-001")
		if again.Attempts != 1 || !again.Since.Equal(d.Since) {
			t.Errorf("attempts %d since %v, want 1 since %v", again.Attempts, again.Since, d.Since)
		}
	})
}

// What a process holds that dies is free long before its lease runs out, and what
// one holds that lives is not.
func TestLeaseOfDeadProcess(t *testing.T) {
	onDisk(t, func(t *testing.T, s *bundle) {
		sub, other := s.subscription(t, nil), s.subscription(t, nil)
		dead, err := store.Open(t.Context(), s.config, discard)
		if err != nil {
			t.Fatal(err)
		}
		s.enqueue(t, sub.ID, event(1), event(2))
		claimOne(t, dead, time.Hour, "event-001")
		s.enqueue(t, other.ID, event(101))
		claimOne(t, s, time.Hour, "event-101")
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		var taken []gateway.Delivery
		eventually(t, "the dead process's delivery", func() bool {
			taken = claim(t, s, time.Hour, 10)
			return len(taken) > 0
		})
		if ids := eventIDs(taken); !slices.Equal(ids, []string{"event-001"}) || taken[0].Attempts != 1 {
			t.Errorf("took over %v", ids)
		}
	})
}

// A process that dies while it delivers loses its lease; what it still says
// afterwards does not disturb who took over.
func TestLeaseExpires(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub := s.subscription(t, nil)
		s.enqueue(t, sub.ID, event(1), event(2))
		dead := claimOne(t, s, 50*time.Millisecond, "event-001")
		var taken []gateway.Delivery
		eventually(t, "the second claim", func() bool {
			taken = claim(t, s, time.Minute, 10)
			return len(taken) > 0
		})
		if len(taken) != 1 || taken[0].Event.ID != "event-001" || taken[0].Attempts != 1 {
			t.Fatalf("took over %v", taken)
		}
		if err := s.Retry(ctx, dead.ID, 0); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, time.Minute, 10); len(got) != 0 {
			t.Fatalf("a lost claim released %v", eventIDs(got))
		}
		if err := s.Done(ctx, taken[0].ID); err != nil {
			t.Fatal(err)
		}
		next := claimOne(t, s, time.Minute, "event-002")
		if err := s.Done(ctx, dead.ID); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, time.Minute, 10); len(got) != 0 {
			t.Errorf("a lost claim let %v through", eventIDs(got))
		}
		if err := s.Done(ctx, next.ID); err != nil {
			t.Fatal(err)
		}
		if _, due, err := s.NextDue(ctx); due || err != nil {
			t.Errorf("something is left: %v, %v", due, err)
		}
	})
}

func TestDiscard(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		a, b := s.subscription(t, nil), s.subscription(t, nil)
		s.enqueue(t, a.ID, event(1), event(2))
		s.enqueue(t, b.ID, event(3))
		if err := s.Discard(ctx, a.ID); err != nil {
			t.Fatal(err)
		}
		claimOne(t, s, time.Minute, "event-003")
		s.enqueue(t, a.ID, event(4))
		claimOne(t, s, time.Minute, "event-004")
		if err := s.Discard(ctx, newID()); err != nil {
			t.Errorf("discarding an unknown queue: %v", err)
		}
	})
}

func TestEnqueueForNobody(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		err := s.Update(t.Context(), func(tx gateway.Tx) error { return tx.Enqueue(t.Context(), newID(), event(1)) })
		if !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func TestUnknownDelivery(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		for _, id := range []string{"", "1", "1.1.x", "a.1.x/y", "1.b.x/y"} {
			if err := s.Done(t.Context(), id); err == nil {
				t.Errorf("done with delivery %q", id)
			}
			if err := s.Retry(t.Context(), id, 0); err == nil {
				t.Errorf("retry of delivery %q", id)
			}
		}
	})
}

func TestWake(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		sub := s.subscription(t, nil)
		woken := func(o gateway.Outbox, why string) {
			t.Helper()
			select {
			case <-o.Wake():
			case <-time.After(20 * time.Second):
				t.Fatalf("not woken by %s", why)
			}
		}
		s.enqueue(t, sub.ID, event(1))
		woken(s, "an event")
		if s.memory() || s.config.DSN[0] == '/' {
			return
		}
		other := s.open(t)
		woken(other, "having begun to listen")
		s.enqueue(t, sub.ID, event(2))
		woken(other, "an event of another process")
		err := s.Update(t.Context(), func(tx gateway.Tx) error {
			return errors.Join(tx.Enqueue(t.Context(), sub.ID, event(3)), errors.New("no"))
		})
		if err == nil {
			t.Fatal("want an error")
		}
		s.enqueue(t, sub.ID, event(4))
		woken(other, "an event of another process")
		select {
		case <-other.Wake():
			t.Error("woken by a transaction that was rolled back")
		default:
		}
	})
}

// Ten thousand queues, one of them long and its sink dead: a claim must not pay
// for either. What it costs is measured by BenchmarkClaim; here the plan must
// find the head rows alone.
func TestClaimSkipsLongQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		dead, live := s.subscription(t, nil), s.subscription(t, nil)
		var backlog []call.Event
		for n := range 2000 {
			backlog = append(backlog, call.Event{ID: fmt.Sprintf("backlog-%d", n), Type: call.SessionStatus, Time: at(0)})
		}
		s.enqueue(t, dead.ID, backlog...)
		d := claimOne(t, s, time.Minute, "backlog-0")
		if err := s.Retry(t.Context(), d.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			s.enqueue(t, live.ID, event(n))
			d := claimOne(t, s, time.Minute, event(n).ID)
			if err := s.Done(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}
