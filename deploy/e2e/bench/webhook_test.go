package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// rate of new calls, in one second.
const rate = 50

// BenchmarkWebhook measures the time from a SIP response, when the far end writes
// it, to the first byte of the notification that tells of it, when the sink has
// it: 180 as Ringing, 200 as Connected, BYE as Terminated.
func BenchmarkWebhook(b *testing.B) {
	onEach(b, nil, func(b *testing.B, s *site) {
		quiet(b)
		users := make([]*user, 2*rate)
		for i := range users {
			u := s.user()
			_, _, err := u.subscribe()
			if err == nil {
				_, err = u.register()
			}
			if err != nil {
				b.Fatal(err)
			}
			users[i] = u
		}
		for range b.N {
			w := webhook{site: s, said: map[string]time.Time{}}
			heard := w.heard
			s.heard.Store(&heard)
			before := busy(b, s.gateway.Control.PID())
			w.run(b, users)
			used := busy(b, s.gateway.Control.PID()) - before
			unheard := 0
			_ = condition.Until(5*time.Second, func() error { // what is left is reported
				w.mu.Lock()
				defer w.mu.Unlock()
				if unheard = len(w.said); unheard > 0 {
					return errors.New("not everything is heard")
				}
				return nil
			})
			w.latencies.report(b)
			b.ReportMetric(float64(unheard), "unheard")
			b.ReportMetric(float64(w.refused.Load()), "refused_calls")
			b.ReportMetric(used.Seconds()/measured.Seconds(), "control_plane_cores")
		}
	})
}

// webhook knows when the far end said what nobody has heard of yet.
type webhook struct {
	*site
	latencies latencies
	mu        sync.Mutex
	said      map[string]time.Time // by number and status
	// refused calls: the gateway or the machine could not keep up.
	refused atomic.Int64
}

func (w *webhook) say(far, status string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said["tel:"+far+status] = time.Now()
}

func (w *webhook) heard(at time.Time, e device.Event) {
	w.mu.Lock()
	began, ok := w.said[e.Session.Receiver+e.Session.Status]
	delete(w.said, e.Session.Receiver+e.Session.Status)
	w.mu.Unlock()
	if ok {
		w.latencies.add(e.Session.Status, at.Sub(began))
	}
}

// run makes calls at the rate, however long they take.
func (w *webhook) run(b *testing.B, users []*user) {
	ticker := time.NewTicker(time.Second / rate)
	defer ticker.Stop()
	var work sync.WaitGroup
	for i := range int(rate * measured / time.Second) {
		<-ticker.C
		u, far := users[i%len(users)], w.number("+1777")
		over := make(chan struct{})
		if err := w.network.Handle(far, func(ctx context.Context, c *telco.Call) {
			defer close(over)
			w.play(ctx, far, c)
		}); err != nil {
			b.Fatal(err)
		}
		work.Go(func() {
			defer w.network.Handle(far, nil)
			_, took, err := u.call(far)
			if err != nil {
				w.refused.Add(1)
				return
			}
			w.latencies.add("createSession", took)
			<-over
		})
	}
	work.Wait()
}

// play is the called number.
func (w *webhook) play(ctx context.Context, far string, c *telco.Call) {
	pause := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	w.say(far, "Ringing")
	if c.Ring() != nil || !pause(200*time.Millisecond) {
		return
	}
	w.say(far, "Connected")
	if c.Answer() != nil || !pause(400*time.Millisecond) {
		return
	}
	w.say(far, "Terminated")
	c.HangUp(ctx)
}
