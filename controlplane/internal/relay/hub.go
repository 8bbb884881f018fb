package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// hub knows the streams of this process, by channel.
type hub struct {
	most int

	mu      sync.Mutex
	streams map[string][]*stream
	closed  bool
}

// stream is one reader of a channel.
type stream struct {
	// woken is signalled when the channel may have changed.
	woken chan struct{}
	end   context.CancelCauseFunc
}

// Why streams are ended.
var (
	errReplaced = errors.New("a newer stream took the place of this one")
	errShutdown = errors.New("the relay is shutting down")
	errClosed   = errors.New("the channel is closed for good")
	errToken    = errors.New("the access token of the stream has expired")
)

func newHub(most int) *hub { return &hub{most: most, streams: map[string][]*stream{}} }

// join adds a stream, ending the oldest when there are too many. The context
// that it answers ends with the stream.
func (h *hub) join(ctx context.Context, channelID string) (context.Context, *stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, errShutdown
	}
	ctx, end := context.WithCancelCause(ctx)
	s := &stream{woken: make(chan struct{}, 1), end: end}
	list := append(h.streams[channelID], s)
	if len(list) > h.most {
		list[0].end(errReplaced)
		list = slices.Delete(list, 0, 1)
	}
	h.streams[channelID] = list
	return ctx, s, nil
}

func (h *hub) leave(channelID string, s *stream) {
	s.end(context.Canceled)
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.DeleteFunc(h.streams[channelID], func(o *stream) bool { return o == s })
	if len(list) == 0 {
		delete(h.streams, channelID)
		return
	}
	h.streams[channelID] = list
}

// wake makes the streams of a channel look for what is new.
func (h *hub) wake(channelID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams[channelID] {
		select {
		case s.woken <- struct{}{}:
		default:
		}
	}
}

// shut ends all streams and admits no more.
func (h *hub) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, list := range h.streams {
		for _, s := range list {
			s.end(errShutdown)
		}
	}
}
