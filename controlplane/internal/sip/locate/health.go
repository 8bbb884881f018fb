package locate

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Health remembers targets that did not answer: until the time that was set they
// are tried last; after that, or when they answer, they are as good as any. It is
// safe for concurrent use.
type Health struct {
	now func() time.Time

	mu    sync.Mutex
	marks map[place]mark
}

type place struct {
	network string
	addr    netip.AddrPort
}

type mark struct {
	misses int
	down   bool
	until  time.Time
	// alone: the target answered, and asked to be left alone until then.
	alone time.Time
}

// NewHealth knows nothing bad of anybody. now may be nil.
func NewHealth(now func() time.Time) *Health {
	if now == nil {
		now = time.Now
	}
	return &Health{now: now, marks: map[place]mark{}}
}

// Failed marks a target down for d and reports whether it was up.
func (h *Health) Failed(t Target, d time.Duration) (changed bool) { return h.miss(t, 1, d) }

// Missed notes one unanswered ping of a target: limit of them in a row put it down
// for d. It reports whether the target was up and is down now.
func (h *Health) Missed(t Target, limit int, d time.Duration) (changed bool) {
	return h.miss(t, limit, d)
}

func (h *Health) miss(t Target, limit int, d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prune()
	m := h.marks[place{t.Network, t.Addr}]
	before := m.down
	m.misses++
	now := h.now()
	if m.misses >= limit || m.down {
		m.down = true
		if until := now.Add(d); until.After(m.until) {
			m.until = until
		}
	} else {
		m.until = now.Add(d) // for prune
	}
	h.marks[place{t.Network, t.Addr}] = m
	return m.down && !before
}

// prune drops marks that have long ended, so that addresses that nobody uses any
// more cost nothing. The caller holds the lock.
func (h *Health) prune() {
	if len(h.marks) < 1024 {
		return
	}
	now := h.now()
	for p, m := range h.marks {
		if now.After(m.until.Add(time.Hour)) {
			delete(h.marks, p)
		}
	}
}

// Refused notes that a target lives but wants no requests for d, and reports
// whether that is new.
func (h *Health) Refused(t Target, d time.Duration) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prune()
	now := h.now()
	m := h.marks[place{t.Network, t.Addr}]
	changed = !now.Before(m.alone)
	m.alone = now.Add(d)
	if m.until.Before(m.alone) {
		m.until = m.alone
	}
	m.down = true
	h.marks[place{t.Network, t.Addr}] = m
	return changed
}

// Refusing reports whether a target wants no requests.
func (h *Health) Refusing(t Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now().Before(h.marks[place{t.Network, t.Addr}].alone)
}

// Answered notes that a target lives, and reports whether it was down.
func (h *Health) Answered(t Target) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.marks[place{t.Network, t.Addr}]
	if ok && h.now().Before(m.alone) {
		return false // it takes what is under way, but nothing new
	}
	if ok {
		delete(h.marks, place{t.Network, t.Addr})
	}
	return ok && m.down
}

// Down reports whether a target is to be tried last.
func (h *Health) Down(t Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.marks[place{t.Network, t.Addr}]
	return m.down && h.now().Before(m.until)
}

// Order puts targets that are down last, and otherwise keeps the order.
func (h *Health) Order(in []Target) []Target {
	var up, down []Target
	for _, t := range in {
		if h.Down(t) {
			down = append(down, t)
		} else {
			up = append(up, t)
		}
	}
	return slices.Concat(up, down)
}
