package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

const (
	// together is how many users act at once.
	together = 4
	// measured is how long each thing is measured.
	measured = 6 * time.Second
)

// BenchmarkOperations measures every operation of the APIs as apps use them: one
// user after the other registers, calls, is called, and leaves, a few at once.
func BenchmarkOperations(b *testing.B) {
	onEach(b, nil, func(b *testing.B, s *site) {
		quiet(b)
		for range b.N {
			var l latencies
			var calls atomic.Int64
			var work sync.WaitGroup
			began := time.Now()
			for range together {
				work.Go(func() {
					for time.Since(began) < measured {
						if err := s.life(&l); err != nil {
							b.Error(err)
							return
						}
						calls.Add(1)
					}
				})
			}
			work.Wait()
			b.ReportMetric(float64(calls.Load())/time.Since(began).Seconds(), "lives/s")
			l.report(b)
		}
	})
	b.Run("calls", func(b *testing.B) { onEach(b, nil, callsPerSecond) })
}

// life is every operation once, in the order of an app.
func (s *site) life(l *latencies) error {
	u := s.user()
	step := func(what string, took time.Duration, err error) error {
		if err == nil {
			l.add(what, took)
		}
		return err
	}
	id, took, err := u.subscribe()
	if err := step("createSubscription", took, err); err != nil {
		return err
	}
	took, err = u.register()
	if err := step("createRegistration", took, err); err != nil {
		return err
	}
	far, answered, over := s.number("+1777"), make(chan struct{}), make(chan struct{})
	err = s.network.Handle(far, func(ctx context.Context, c *telco.Call) {
		defer close(over)
		if c.Answer() == nil {
			close(answered)
		}
		<-ctx.Done()
	})
	if err != nil {
		return err
	}
	defer s.network.Handle(far, nil)
	session, took, err := u.call(far)
	if err := step("createSession", took, err); err != nil {
		return err
	}
	<-answered
	status := func(status string) (time.Duration, error) {
		return u.do("PUT", device.Calls+"/"+session+"/status", nil, map[string]any{"status": status}, nil)
	}
	if err := u.connected(session); err != nil {
		return err
	}
	for _, o := range []struct {
		what string
		do   func() (time.Duration, error)
	}{
		{"getSession", func() (time.Duration, error) { return u.do("GET", device.Calls+"/"+session, nil, nil, nil) }},
		{"putHold", func() (time.Duration, error) { return status("Hold") }},
		{"putResume", func() (time.Duration, error) { return status("Resume") }},
		{"deleteSession", func() (time.Duration, error) { return u.do("DELETE", device.Calls+"/"+session, nil, nil, nil) }},
		{"getRegistration", func() (time.Duration, error) {
			return u.do("GET", device.Registrations+"/"+u.registration, nil, nil, nil)
		}},
		{"putRegistration", func() (time.Duration, error) {
			return u.do("PUT", device.Registrations+"/"+u.registration, nil, map[string]any{}, nil)
		}},
		{"listSubscriptions", func() (time.Duration, error) { return u.do("GET", device.Subscriptions, nil, nil, nil) }},
		{"getSubscription", func() (time.Duration, error) { return u.do("GET", device.Subscriptions+"/"+id, nil, nil, nil) }},
		{"putSubscription", func() (time.Duration, error) {
			return u.do("PUT", device.Subscriptions+"/"+id, nil, map[string]any{
				"config": map[string]any{"subscriptionExpireTime": time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339)}}, nil)
		}},
		{"deleteRegistration", func() (time.Duration, error) {
			return u.do("DELETE", device.Registrations+"/"+u.registration, nil, nil, nil)
		}},
		{"deleteSubscription", func() (time.Duration, error) {
			return u.do("DELETE", device.Subscriptions+"/"+id, nil, nil, nil)
		}},
	} {
		took, err := o.do()
		if err := step(o.what, took, err); err != nil {
			return err
		}
	}
	<-over
	return nil
}

// connected waits until the gateway has taken the answer.
func (u *user) connected(session string) error {
	for {
		var s device.Session
		if _, err := u.do("GET", device.Calls+"/"+session, nil, nil, &s); err != nil || s.Status == "Connected" {
			return err
		}
	}
}

// callsPerSecond makes whole calls, answered and hung up, as fast as they go, by
// users that stay.
func callsPerSecond(b *testing.B, s *site) {
	quiet(b)
	const lines = 32
	for range b.N {
		var calls atomic.Int64
		var work sync.WaitGroup
		before, began := busy(b, s.gateway.Control.PID()), time.Now()
		for range lines {
			u, far := s.user(), s.number("+1777")
			over := make(chan struct{}, 1)
			if err := s.network.Handle(far, func(_ context.Context, c *telco.Call) {
				if c.Ring() == nil && c.Answer() == nil {
					c.HangUp(context.Background())
				}
				over <- struct{}{}
			}); err != nil {
				b.Fatal(err)
			}
			_, _, err := u.subscribe()
			if err == nil {
				_, err = u.register()
			}
			if err != nil {
				b.Fatal(err)
			}
			work.Go(func() {
				for time.Since(began) < measured {
					if _, _, err := u.call(far); err != nil {
						b.Error(err)
						return
					}
					<-over
					calls.Add(1)
				}
			})
		}
		work.Wait()
		b.ReportMetric(float64(calls.Load())/time.Since(began).Seconds(), "calls/s")
		used := busy(b, s.gateway.Control.PID()) - before
		b.ReportMetric(used.Seconds()*1000/float64(max(1, calls.Load())), "control_plane_cpu_ms/call")
	}
}
