package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

const (
	// lines are how many calls are set up at the same time.
	lines = 32
	// dialogs is how many calls are kept up. ISTHMUS_BENCH_CALLS asks for another
	// number.
	dialogs = 10_000
)

// answerer runs SIPp as a far end that answers every call at once.
func answerer(b *testing.B) (address string) {
	b.Helper()
	path := process.Find(b, "sipp", "sip-tester")
	p := port.Free(b)
	process.Start(b, process.Config{Name: "sipp", Path: path, Quick: true, Args: []string{
		"-sn", "uas", "-i", "127.0.0.1", "-p", strconv.Itoa(p), "-nostdin", "-rtcheck", "loose", "-buff_size", "8000000",
		"-mp", strconv.Itoa(port.Range(b, 4)), "-default_behaviors", "none",
	}})
	address = fmt.Sprintf("127.0.0.1:%d", p)
	condition.Await(b, 10*time.Second, "sipp to listen", func() error {
		conn, err := net.ListenPacket("udp", address)
		if err == nil {
			conn.Close()
			return fmt.Errorf("nobody listens on %s", address)
		}
		return nil
	})
	return address
}

// BenchmarkSIP makes whole calls through the APIs to a far end that answers at
// once: what the control plane needs of a core for each, with media nodes that are
// faked and with real ones, and what a call that is up needs of memory.
func BenchmarkSIP(b *testing.B) {
	more := func(b *testing.B) gateway.Settings {
		return gateway.Settings{
			"sip.trunks":        []map[string]any{{"name": "far", "targets": []string{answerer(b)}, "domain": "carrier.example"}},
			"sip.guard.enabled": false, "sip.max_calls": 1_000_000, "store.sqlite_sync": "normal", "ladder.enabled": false,
			"calls.limits.registrations_per_number": 10,
		}
	}
	b.Run("media=faked", func(b *testing.B) {
		s := newSiteOf(b, gateway.SplitConfig{Control: more(b), Others: func(controlPlane, secret string) { startFakeNode(b, controlPlane, secret) }})
		b.Run("calls", s.rate)
		b.Run("memory", s.memory)
	})
	b.Run("media=real", func(b *testing.B) {
		s := newSiteOf(b, gateway.SplitConfig{Control: more(b), Nodes: nodes})
		b.Run("calls", s.rate)
	})
}

// waiter tells when a session has reached a status.
type waiter struct{ statuses sync.Map }

func (w *waiter) key(session, status string) chan struct{} {
	c, _ := w.statuses.LoadOrStore(session+" "+status, make(chan struct{}, 1))
	return c.(chan struct{})
}

func (w *waiter) hear(_ time.Time, e device.Event) {
	select {
	case w.key(e.Session.ID, e.Session.Status) <- struct{}{}:
	default: // it was delivered before
	}
}

func (w *waiter) await(session, status string) error {
	defer w.statuses.Delete(session + " " + status)
	select {
	case <-w.key(session, status):
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("session %s has not become %s", session, status)
	}
}

// talker is a user that can call.
func (s *site) talker() (*user, error) {
	u := s.user()
	_, _, err := u.subscribe()
	if err == nil {
		_, err = u.register()
	}
	return u, err
}

// rate makes calls, as many as go.
func (s *site) rate(b *testing.B) {
	quiet(b)
	for range b.N {
		var w waiter
		hear := w.hear
		s.heard.Store(&hear)
		users := make([]*user, lines)
		for i := range users {
			var err error
			if users[i], err = s.talker(); err != nil {
				b.Fatal(err)
			}
		}
		var calls atomic.Int64
		var work sync.WaitGroup
		before, began := busy(b, s.gateway.Control.PID()), time.Now()
		for _, u := range users {
			work.Go(func() {
				for time.Since(began) < measured {
					if err := w.whole(u); err != nil {
						b.Error(err)
						return
					}
					calls.Add(1)
				}
			})
		}
		work.Wait()
		took, used := time.Since(began), busy(b, s.gateway.Control.PID())-before
		b.ReportMetric(float64(calls.Load())/took.Seconds(), "calls/s")
		b.ReportMetric(float64(calls.Load())/used.Seconds(), "calls/s-core")
		b.ReportMetric(used.Seconds()*1000/float64(max(1, calls.Load())), "control_plane_cpu_ms/call")
	}
}

// whole is a call that is answered and hung up.
func (w *waiter) whole(u *user) error {
	id, _, err := u.call("+17775550100")
	if err == nil {
		err = w.await(id, "Connected")
	}
	if err == nil {
		_, err = u.do("DELETE", device.Calls+"/"+id, nil, nil, nil)
	}
	if err == nil {
		err = w.await(id, "Terminated")
	}
	return err
}

// memory keeps calls up and tells what each of them needs.
func (s *site) memory(b *testing.B) {
	quiet(b)
	count := dialogs
	if text := os.Getenv("ISTHMUS_BENCH_CALLS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			b.Fatalf("ISTHMUS_BENCH_CALLS: %v", err)
		}
	}
	for range b.N {
		var w waiter
		hear := w.hear
		s.heard.Store(&hear)
		users := make([]*user, lines)
		for i := range users {
			var err error
			if users[i], err = s.talker(); err != nil {
				b.Fatal(err)
			}
		}
		before, heap := resident(b, s.gateway.Control.PID()), s.gateway.Metric("go_memstats_heap_alloc_bytes")
		var next atomic.Int64
		ctx, fail := context.WithCancelCause(b.Context())
		var work sync.WaitGroup
		for _, u := range users {
			work.Go(func() {
				for next.Add(1) <= int64(count) && ctx.Err() == nil {
					id, _, err := u.call("+17775550100")
					if err == nil {
						err = w.await(id, "Connected")
					}
					if err != nil {
						fail(err)
					}
				}
			})
		}
		work.Wait()
		if err := context.Cause(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((resident(b, s.gateway.Control.PID())-before)/float64(count), "rss_B/call")
		b.ReportMetric((s.gateway.Metric("go_memstats_heap_alloc_bytes")-heap)/float64(count), "heap_B/call")
		fail(nil)
	}
}
