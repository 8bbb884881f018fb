package media

import (
	"context"
	"hash/maphash"
	"sync"
)

// lanes run functions in order per key, with a fixed number of goroutines.
type lanes struct {
	queues [16]chan func()
	done   <-chan struct{}
}

var laneSeed = maphash.MakeSeed()

// start makes the lanes work until ctx is done; the result waits for their end.
func (l *lanes) start(ctx context.Context) (wait func()) {
	const backlog = 256
	l.done = ctx.Done()
	var tasks sync.WaitGroup
	for i := range l.queues {
		q := make(chan func(), backlog)
		l.queues[i] = q
		tasks.Go(func() {
			for {
				select {
				case <-l.done:
					return
				case f := <-q:
					f()
				}
			}
		})
	}
	return tasks.Wait
}

// do queues f behind what was queued for the key before.
func (l *lanes) do(key string, f func()) {
	q := l.queues[maphash.String(laneSeed, key)%uint64(len(l.queues))]
	select {
	case q <- f:
	case <-l.done:
	}
}
