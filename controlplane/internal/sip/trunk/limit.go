package trunk

import (
	"math"
	"sync"
	"time"
)

// usage counts the calls of a trunk; it outlives a change of the configuration.
type usage struct {
	mu     sync.Mutex
	calls  int
	tokens float64
	filled time.Time
}

// Take counts a new call, unless the trunk has as much as it may: then the reason
// is "calls" or "rate". A call with priority is never refused. Whoever took must
// Release.
func (t *Trunk) Take(now time.Time, priority bool) (reason string, ok bool) {
	u := t.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	if rate := t.Limits.Rate; rate > 0 {
		size := float64(t.Limits.Burst)
		if size == 0 {
			size = math.Max(1, rate)
		}
		if u.filled.IsZero() {
			u.tokens = size
		} else if d := now.Sub(u.filled); d > 0 {
			u.tokens = math.Min(size, u.tokens+d.Seconds()*rate)
		}
		u.filled = now
		if u.tokens < 1 && !priority {
			return "rate", false
		}
	}
	if t.Limits.Calls > 0 && u.calls >= t.Limits.Calls && !priority {
		return "calls", false
	}
	u.tokens = math.Max(0, u.tokens-1)
	u.calls++
	return "", true
}

// Adopt counts a call that was there before, of another process for instance.
func (t *Trunk) Adopt() {
	t.usage.mu.Lock()
	t.usage.calls++
	t.usage.mu.Unlock()
}

// Release gives back what Take or Adopt took.
func (t *Trunk) Release() {
	t.usage.mu.Lock()
	t.usage.calls--
	t.usage.mu.Unlock()
}

// Calls is the number of calls that the trunk has.
func (t *Trunk) Calls() int {
	t.usage.mu.Lock()
	defer t.usage.mu.Unlock()
	return t.usage.calls
}
