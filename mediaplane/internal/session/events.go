package session

import (
	"sync"
	"sync/atomic"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Watcher receives the events of all sessions.
type Watcher struct {
	hub    *hub
	events chan *mediav1.SessionEvent
	lost   chan struct{}
	once   sync.Once
}

// Events are in the order in which they happened.
func (w *Watcher) Events() <-chan *mediav1.SessionEvent { return w.events }

// Lost is closed when the watcher was too slow and events were dropped.
func (w *Watcher) Lost() <-chan struct{} { return w.lost }

// Close ends the watch.
func (w *Watcher) Close() { w.hub.remove(w) }

// hub hands events to watchers. Publishing never waits: it runs where packets do.
type hub struct {
	buffer int
	count  atomic.Int32
	joined atomic.Uint64 // watchers that ever came

	mu       sync.RWMutex
	watchers map[*Watcher]struct{}
}

func newHub(buffer int) *hub {
	return &hub{buffer: buffer, watchers: map[*Watcher]struct{}{}}
}

func (h *hub) subscribe() *Watcher {
	w := &Watcher{hub: h, events: make(chan *mediav1.SessionEvent, h.buffer), lost: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	h.joined.Add(1)
	h.count.Store(int32(len(h.watchers)))
	return w
}

func (h *hub) remove(w *Watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	h.count.Store(int32(len(h.watchers)))
}

func (h *hub) watched() bool { return h.count.Load() > 0 }

func (h *hub) publish(e *mediav1.SessionEvent) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for w := range h.watchers {
		select {
		case w.events <- e:
		default:
			w.once.Do(func() { close(w.lost) })
		}
	}
}
