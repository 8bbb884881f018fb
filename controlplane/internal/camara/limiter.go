package camara

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// limiter has a token bucket for each application.
type limiter struct {
	rate  Rate
	clock func() time.Time

	mu      sync.Mutex
	buckets map[call.Owner]*bucket
	swept   time.Time
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

func newLimiter(r Rate, clock func() time.Time) *limiter {
	return &limiter{rate: r, clock: clock, buckets: map[call.Owner]*bucket{}, swept: clock()}
}

// wait takes a token of the application; when there is none, it answers after how
// many seconds to come again.
func (l *limiter) wait(owner call.Owner) int {
	if l.rate.PerSecond == 0 {
		return 0
	}
	owner.Subject = ""
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	b := l.buckets[owner]
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)}
		l.buckets[owner] = b
	}
	b.used = now
	if b.AllowN(now, 1) {
		return 0
	}
	missing := (1 - b.TokensAt(now)) / l.rate.PerSecond
	return max(1, int(math.Ceil(missing)))
}

// sweep forgets the buckets that have been full for a while.
func (l *limiter) sweep(now time.Time) {
	full := time.Minute + time.Duration(float64(l.rate.Burst)/l.rate.PerSecond*float64(time.Second))
	if now.Sub(l.swept) < full {
		return
	}
	l.swept = now
	for owner, b := range l.buckets {
		if now.Sub(b.used) >= full {
			delete(l.buckets, owner)
		}
	}
}
