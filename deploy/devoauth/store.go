package devoauth

import (
	"container/list"
	"sync"
	"time"
)

// shelf keeps values until they expire, and never more than max of them: when it
// is full, the value that was put first makes room. Safe for concurrent use.
type shelf[V any] struct {
	max int
	now func() time.Time

	mu    sync.Mutex
	order *list.List // of *item[V], oldest first
	items map[string]*list.Element
}

type item[V any] struct {
	key     string
	value   V
	expires time.Time
}

func newShelf[V any](max int, now func() time.Time) *shelf[V] {
	return &shelf[V]{max: max, now: now, order: list.New(), items: map[string]*list.Element{}}
}

// put stores v under key, in place of an earlier one.
func (s *shelf[V]) put(key string, v V, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(key, v, expires)
}

func (s *shelf[V]) set(key string, v V, expires time.Time) {
	if e, ok := s.items[key]; ok {
		s.drop(e)
	}
	now := s.now()
	for front := s.order.Front(); front != nil; front = s.order.Front() {
		if len(s.items) < s.max && now.Before(front.Value.(*item[V]).expires) {
			break
		}
		s.drop(front)
	}
	s.items[key] = s.order.PushBack(&item[V]{key: key, value: v, expires: expires})
}

// add stores v unless a living value is there; it reports whether it did.
func (s *shelf[V]) add(key string, v V, expires time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.find(key); ok {
		return false
	}
	s.set(key, v, expires)
	return true
}

func (s *shelf[V]) get(key string) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key)
}

// take returns the value and removes it.
func (s *shelf[V]) take(key string) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.find(key)
	if ok {
		s.drop(s.items[key])
	}
	return v, ok
}

func (s *shelf[V]) delete(key string) { s.take(key) }

func (s *shelf[V]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

func (s *shelf[V]) find(key string) (v V, ok bool) {
	e, ok := s.items[key]
	if !ok {
		return v, false
	}
	it := e.Value.(*item[V])
	if !s.now().Before(it.expires) {
		s.drop(e)
		return v, false
	}
	return it.value, true
}

func (s *shelf[V]) drop(e *list.Element) {
	delete(s.items, e.Value.(*item[V]).key)
	s.order.Remove(e)
}
