package auth

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps values until they expire, and never more than max of them: the one
// that was put first makes room. Safe for concurrent use.
type cache[V any] struct {
	max int
	now func() time.Time

	mu    sync.Mutex
	order *list.List // of *entry[V], oldest first
	items map[string]*list.Element
}

type entry[V any] struct {
	key     string
	value   V
	expires time.Time
}

func newCache[V any](max int, now func() time.Time) *cache[V] {
	return &cache[V]{max: max, now: now, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache[V]) get(key string) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return v, false
	}
	it := e.Value.(*entry[V])
	if !c.now().Before(it.expires) {
		c.drop(e)
		return v, false
	}
	return it.value, true
}

func (c *cache[V]) put(key string, v V, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[key]; ok {
		c.drop(e)
	}
	if !c.now().Before(expires) {
		return
	}
	for len(c.items) >= c.max {
		c.drop(c.order.Front())
	}
	c.items[key] = c.order.PushBack(&entry[V]{key: key, value: v, expires: expires})
}

func (c *cache[V]) drop(e *list.Element) {
	delete(c.items, e.Value.(*entry[V]).key)
	c.order.Remove(e)
}

// replayGuard remembers names for at least life and refuses to take one twice.
// It keeps two generations: when the younger is older than life, the elder is
// forgotten as a whole. Safe for concurrent use.
type replayGuard struct {
	life time.Duration
	max  int // of each generation

	mu    sync.Mutex
	young map[[32]byte]struct{}
	elder map[[32]byte]struct{}
	since time.Time // of young
}

// take reports whether name is new; full is true when no more can be remembered.
func (g *replayGuard) take(name [32]byte, now time.Time) (fresh, full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.young == nil || now.Sub(g.since) > g.life {
		g.elder = g.young
		if now.Sub(g.since) > 2*g.life {
			g.elder = nil
		}
		g.young, g.since = map[[32]byte]struct{}{}, now
	}
	if _, ok := g.young[name]; ok {
		return false, false
	}
	if _, ok := g.elder[name]; ok {
		return false, false
	}
	if len(g.young) >= g.max {
		return false, true
	}
	g.young[name] = struct{}{}
	return true, false
}
