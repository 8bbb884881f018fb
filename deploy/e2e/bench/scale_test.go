package bench

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
)

const (
	// population is how many devices are registered at once, each with so many
	// subscriptions.
	population, each = 10_000, 3
	// looks is how often each look-up is timed.
	looks = 200
	// filling is how many devices register at the same time.
	filling = 12
)

// BenchmarkScale registers 10,000 devices with three subscriptions each, and
// compares look-ups in a full store with those in an empty one. What the control
// plane needs more of memory is told for each device; PostgreSQL has its own.
// ISTHMUS_BENCH_DEVICES asks for another number of devices.
func BenchmarkScale(b *testing.B) {
	devices := population
	if text := os.Getenv("ISTHMUS_BENCH_DEVICES"); text != "" {
		var err error
		if devices, err = strconv.Atoi(text); err != nil {
			b.Fatalf("ISTHMUS_BENCH_DEVICES: %v", err)
		}
	}
	// What is measured are look-ups, not the disk of this machine.
	onEach(b, gateway.Settings{"store.sqlite_sync": "normal"}, func(b *testing.B, s *site) {
		quiet(b)
		for range b.N {
			var l latencies
			one := s.user()
			if err := one.settle(); err != nil {
				b.Fatal(err)
			}
			look(b, &l, "empty", []*user{one})
			before := resident(b, s.gateway.Control.PID())
			began := time.Now()
			users, err := s.fill(devices)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(devices*(1+each))/time.Since(began).Seconds(), "fill_requests/s")
			b.ReportMetric((resident(b, s.gateway.Control.PID())-before)/float64(devices), "bytes/device")
			look(b, &l, "full", users)
			l.report(b)
		}
	})
}

func (u *user) settle() error {
	if _, err := u.register(); err != nil {
		return err
	}
	for range each {
		if _, _, err := u.subscribe(); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) fill(devices int) ([]*user, error) {
	users := make([]*user, devices)
	for i := range users {
		users[i] = s.user()
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var work sync.WaitGroup
	for range filling {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(devices) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := users[i].settle(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	work.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return users, nil
}

// look times the look-ups of random users.
func look(b *testing.B, l *latencies, when string, users []*user) {
	b.Helper()
	for range looks {
		u := users[rand.IntN(len(users))]
		for what, path := range map[string]string{
			"getRegistration":   device.Registrations + "/" + u.registration,
			"listSubscriptions": device.Subscriptions,
		} {
			took, err := u.do("GET", path, nil, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			l.add(what+"_"+when, took)
		}
	}
}
