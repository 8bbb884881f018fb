package locate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Bounds on what is kept.
const (
	maxLife = 24 * time.Hour
	minLife = time.Second
	// absentLife bounds how long an absence is believed (RFC 2308), failureLife
	// how long a server that failed is not asked again.
	absentLife  = 5 * time.Minute
	failureLife = 5 * time.Second
	// staleLife is how long records are used after their end when the DNS fails
	// (RFC 8767).
	staleLife = 24 * time.Hour
	// patience is how long a question is waited for when there are records that
	// have just ended.
	patience   = 300 * time.Millisecond
	maxEntries = 10000
)

// answer of the DNS: the records of a name, none when they do not exist.
type answer struct {
	records []dns.RR
	life    time.Duration
}

// exchange asks the DNS. An error means that there was no answer.
type exchange func(ctx context.Context, name string, kind uint16) (answer, error)

type question struct {
	name string
	kind uint16
}

type entry struct {
	answer
	until time.Time
	// retry is not before this when the last question failed.
	retry time.Time
	err   error
}

type cache struct {
	exchange exchange
	now      func() time.Time
	flights  singleflight.Group

	mu      sync.Mutex
	entries map[question]entry
}

func newCache(e exchange, now func() time.Time) *cache {
	return &cache{exchange: e, now: now, entries: map[question]entry{}}
}

// ask answers from what is kept, or from the DNS. Many who ask the same at once
// cost one question.
func (c *cache) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	q := question{name, kind}
	c.mu.Lock()
	e, ok := c.entries[q]
	c.mu.Unlock()
	now := c.now()
	switch {
	case ok && now.Before(e.until):
		return e.records, nil
	case ok && now.Before(e.retry):
		return e.stale(now)
	}
	done := c.flights.DoChan(fmt.Sprint(kind, " ", name), func() (any, error) {
		// One asker that gives up must not fail the others: the exchange has its
		// own bounds.
		return c.refresh(context.WithoutCancel(ctx), q), nil
	})
	var late <-chan time.Time
	if ok && len(e.records) > 0 && now.Before(e.until.Add(staleLife)) {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case r := <-done:
		return r.Val.(entry).stale(c.now())
	case <-late:
		return e.records, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("resolve %s: %w", name, ctx.Err())
	}
}

// stale answers what an entry has, even if it is past its end.
func (e entry) stale(now time.Time) ([]dns.RR, error) {
	if e.err != nil && (len(e.records) == 0 || now.After(e.until.Add(staleLife))) {
		return nil, e.err
	}
	return e.records, nil
}

func (c *cache) refresh(ctx context.Context, q question) entry {
	a, err := c.exchange(ctx, q.name, q.kind)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.entries) >= maxEntries {
		clear(c.entries)
	}
	e := c.entries[q]
	if err != nil {
		e.err, e.retry = fmt.Errorf("resolve %s: %w", q.name, err), now.Add(failureLife)
	} else {
		limit := maxLife
		if len(a.records) == 0 {
			limit = absentLife
		}
		e = entry{answer: a, until: now.Add(min(max(a.life, minLife), limit))}
	}
	c.entries[q] = e
	return e
}
