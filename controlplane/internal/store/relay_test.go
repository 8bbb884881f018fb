package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func (b *bundle) channel(t *testing.T) gateway.RelayChannel {
	t.Helper()
	c := gateway.RelayChannel{
		ID: newID(), Owner: anna, SinkKey: newID(), CreatedAt: at(0),
		Credentials: []gateway.RelayCredential{{Hash: []byte{1, 2, 3}, Expires: at(60)}},
	}
	if err := b.OpenRelayChannel(t.Context(), c, 100); err != nil {
		t.Fatal(err)
	}
	return c
}

func relayEvent(n int) gateway.RelayEvent {
	return gateway.RelayEvent{Key: fmt.Sprintf("key-%d", n), IDKey: fmt.Sprintf("id-%d", n), Body: []byte(fmt.Sprintf("{\r\n\"n\": %d}", n))}
}

func (b *bundle) relayed(t *testing.T, channel string, after int64) []string {
	t.Helper()
	events, err := b.RelayEvents(t.Context(), channel, after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range events {
		got = append(got, fmt.Sprintf("%d %s", e.Seq, e.Body))
	}
	return got
}

func TestRelayChannel(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		c := s.channel(t)
		for _, find := range []func() (gateway.RelayChannel, error){
			func() (gateway.RelayChannel, error) { return s.RelayChannel(ctx, c.ID) },
			func() (gateway.RelayChannel, error) { return s.RelayChannelBySink(ctx, c.SinkKey) },
		} {
			if got, err := find(); err != nil || !reflect.DeepEqual(got, c) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c)
			}
		}
		c.Credentials = append(c.Credentials, gateway.RelayCredential{Hash: []byte{4}, Expires: at(90)})
		if err := s.SetRelayCredentials(ctx, c); err != nil {
			t.Fatal(err)
		}
		if got, err := s.RelayChannel(ctx, c.ID); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, c)
		}
		if err := s.AppendRelayEvent(ctx, c.ID, relayEvent(1), 10); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseRelayChannel(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := s.RelayChannel(ctx, c.ID); err != nil || !got.Closed {
			t.Errorf("after closing: %+v, %v", got, err)
		}
		if got := s.relayed(t, c.ID, 0); len(got) != 0 {
			t.Errorf("a closed channel holds %v", got)
		}
		for what, err := range map[string]error{
			"append":      s.AppendRelayEvent(ctx, c.ID, relayEvent(2), 10),
			"credentials": s.SetRelayCredentials(ctx, c),
			"touch":       s.TouchRelayChannel(ctx, c.ID, 0),
			"close":       s.CloseRelayChannel(ctx, c.ID),
			"ticket":      s.PutRelayTicket(ctx, gateway.RelayTicket{Key: "k", ChannelID: c.ID, Expires: at(1)}),
		} {
			if !errors.Is(err, gateway.ErrNotFound) {
				t.Errorf("%s on a closed channel: %v, want not found", what, err)
			}
		}
	})
}

func TestRelayEvents(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		c, other := s.channel(t), s.channel(t)
		add := func(n int) {
			t.Helper()
			if err := s.AppendRelayEvent(ctx, c.ID, relayEvent(n), 3); err != nil {
				t.Fatal(err)
			}
		}
		add(1)
		add(2)
		add(1) // comes again
		add(3)
		want := []string{"1 {\r\n\"n\": 1}", "2 {\r\n\"n\": 2}", "3 {\r\n\"n\": 3}"}
		if got := s.relayed(t, c.ID, 0); !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		if got := s.relayed(t, c.ID, 2); !slices.Equal(got, want[2:]) {
			t.Errorf("after 2: got %q", got)
		}
		if got := s.relayed(t, other.ID, 0); len(got) != 0 {
			t.Errorf("another channel holds %q", got)
		}
		if seq, err := s.RelayPosition(ctx, c.ID, "id-2"); err != nil || seq != 2 {
			t.Errorf("position %d, %v, want 2", seq, err)
		}
		if seq, err := s.RelayPosition(ctx, other.ID, "id-2"); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("position in another channel: %d, %v", seq, err)
		}
		if err := s.AppendRelayEvent(ctx, c.ID, relayEvent(4), 3); !errors.Is(err, gateway.ErrFull) {
			t.Fatalf("got %v, want full", err)
		}
		if err := s.TouchRelayChannel(ctx, c.ID, 2); err != nil {
			t.Fatal(err)
		}
		if err := s.TouchRelayChannel(ctx, c.ID, 1); err != nil {
			t.Fatal(err)
		}
		add(4)
		add(5)
		if got, err := s.RelayChannel(ctx, c.ID); err != nil || got.LastSeq != 5 {
			t.Errorf("last number is %d, %v, want 5", got.LastSeq, err)
		}
		if err := s.AppendRelayEvent(ctx, c.ID, relayEvent(6), 3); !errors.Is(err, gateway.ErrFull) {
			t.Fatalf("got %v, want full", err)
		}
		if got := s.relayed(t, c.ID, 0); len(got) != 3 || got[0] != want[2] {
			t.Errorf("got %q, want 3 to 5", got)
		}
	})
}

// Events that are appended at once are read in order and without gaps by someone
// who reads all the while.
func TestRelayReadsInOrder(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		const writers, each = 4, 15
		c := s.channel(t)
		stores := s.processes(t)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for n := range each {
					if err := stores[w%2].AppendRelayEvent(t.Context(), c.ID, relayEvent(w*each+n), 1000); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var last int64
		eventually(t, "the last event", func() bool {
			events, err := s.RelayEvents(t.Context(), c.ID, last, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Seq != last+1 {
					t.Fatalf("event %d came after %d", e.Seq, last)
				}
				last = e.Seq
			}
			return last == writers*each
		})
		all.Wait()
	})
}

func TestRelayLimit(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		open := func() (string, error) {
			c := gateway.RelayChannel{ID: newID(), Owner: anna, SinkKey: newID(), CreatedAt: at(0)}
			return c.ID, s.OpenRelayChannel(ctx, c, 2)
		}
		first, err1 := open()
		_, err2 := open()
		_, err3 := open()
		if err1 != nil || err2 != nil || !errors.Is(err3, gateway.ErrLimit) {
			t.Fatalf("got %v, %v, %v, want the third refused", err1, err2, err3)
		}
		if err := s.CloseRelayChannel(ctx, first); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); err != nil {
			t.Errorf("after one was closed: %v", err)
		}
	})
}

func TestRelayTickets(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		want := gateway.RelayTicket{Key: "k", ChannelID: s.channel(t).ID, Expires: at(60), Authorized: at(600)}
		if err := s.PutRelayTicket(ctx, want); err != nil {
			t.Fatal(err)
		}
		if got, err := s.TakeRelayTicket(ctx, "k"); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if _, err := s.TakeRelayTicket(ctx, "k"); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("taken twice: %v", err)
		}
	})
}

func TestSweepRelay(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		c := s.channel(t)
		if err := s.AppendRelayEvent(ctx, c.ID, relayEvent(1), 10); err != nil {
			t.Fatal(err)
		}
		sweep := func(idle, age, remember time.Duration, want ...string) {
			t.Helper()
			if closed, err := s.SweepRelay(ctx, idle, age, remember); err != nil || !slices.Equal(closed, want) {
				t.Errorf("closed %v, %v, want %v", closed, err, want)
			}
		}
		// A negative duration lies in the future: everything is that old.
		const old, young = -time.Minute, time.Hour
		sweep(young, young, young)
		if got := s.relayed(t, c.ID, 0); len(got) != 1 {
			t.Fatalf("young events are gone: %v", got)
		}
		sweep(young, old, young)
		if got := s.relayed(t, c.ID, 0); len(got) != 0 {
			t.Errorf("old events are there: %v", got)
		}
		sweep(old, young, young, c.ID)
		if got, err := s.RelayChannel(ctx, c.ID); err != nil || !got.Closed {
			t.Errorf("after closing for idleness: %+v, %v", got, err)
		}
		sweep(young, young, old)
		if _, err := s.RelayChannel(ctx, c.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("not forgotten: %v", err)
		}
	})
}

func TestRelayWake(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		c := s.channel(t)
		woken := func(r gateway.RelayStore) {
			t.Helper()
			select {
			case id := <-r.RelayWake():
				if id != c.ID {
					t.Errorf("woken for %s, want %s", id, c.ID)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("not woken")
			}
		}
		if err := s.AppendRelayEvent(t.Context(), c.ID, relayEvent(1), 10); err != nil {
			t.Fatal(err)
		}
		woken(s)
		if s.config.DSN[:5] != "postg" {
			return
		}
		other := s.open(t)
		<-other.Wake() // it listens
		if err := s.CloseRelayChannel(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		woken(other)
		woken(s)
	})
}
