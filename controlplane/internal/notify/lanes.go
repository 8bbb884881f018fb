package notify

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

const (
	// whileFailing is how many requests at once an origin gets while it fails.
	whileFailing = 2
	// waiting room of a lane; what does not fit goes back to the outbox.
	waitingRoom = 512
	// crowded is how long that stays there, at least and with luck.
	crowded = 5 * time.Second
	// rememberLanes bounds the failing origins that are remembered.
	rememberLanes = 4096
)

// lane has the deliveries to one origin, so that one sink does not take the
// place of another. It exists while it has any
// or its origin fails.
type lane struct {
	busy    int
	failing bool
	waiting []waiter
}

type waiter struct {
	gateway.Delivery
	leased time.Time
}

func (n *Notifier) width(l *lane) int {
	if l.failing {
		return min(whileFailing, n.config.PerHost)
	}
	return n.config.PerHost
}

// take starts a delivery that is leased, lets it wait in its lane, or gives it
// back.
func (n *Notifier) take(d gateway.Delivery) {
	name, now := laneOf(d.Subscription.Sink.URL), time.Now()
	n.mu.Lock()
	if n.life == nil {
		// Run has ended meanwhile and waits for nothing any more.
		n.mu.Unlock()
		n.retry(d, 0)
		return
	}
	defer n.mu.Unlock()
	l := n.lanes[name]
	if l == nil {
		l = &lane{}
		n.lanes[name] = l
	}
	n.count(1)
	switch {
	case l.busy < n.width(l) && n.busy < n.config.Concurrency:
		n.start(n.life, name, l, d)
	case l.busy > 0 && len(l.waiting) < waitingRoom:
		l.waiting = append(l.waiting, waiter{d, now})
	default:
		n.metrics.deliveries.WithLabelValues(putOff).Inc()
		n.giveBack(d, crowded+rand.N(crowded))
	}
	n.tidy(name, l)
}

// start is called with the lock held.
func (n *Notifier) start(ctx context.Context, name string, l *lane, d gateway.Delivery) {
	l.busy++
	n.busy++
	n.work.Go(func() {
		failed := n.deliver(ctx, d)
		n.mu.Lock()
		defer n.mu.Unlock()
		l.busy--
		n.busy--
		n.count(-1)
		l.failing = failed
		n.next(ctx, name, l)
		n.tidy(name, l)
	})
}

// next starts what waits in a lane and has room now. A delivery that has waited
// for most of its lease is left to whoever claims it next.
func (n *Notifier) next(ctx context.Context, name string, l *lane) {
	for len(l.waiting) > 0 && l.busy < n.width(l) && n.busy < n.config.Concurrency && ctx.Err() == nil {
		w := l.waiting[0]
		l.waiting = l.waiting[1:]
		if time.Since(w.leased) > n.lease-n.config.Timeout-finishWithin {
			n.count(-1)
			continue
		}
		n.start(ctx, name, l, w.Delivery)
	}
	if l.busy > 0 {
		return
	}
	// Nobody is left who would come back for them.
	for _, w := range l.waiting {
		n.giveBack(w.Delivery, 0)
	}
	l.waiting = nil
}

// tidy forgets a lane without deliveries. That its origin fails is remembered,
// unless there are very many of that kind.
func (n *Notifier) tidy(name string, l *lane) {
	if l.busy == 0 && len(l.waiting) == 0 && (!l.failing || len(n.lanes) > rememberLanes) {
		delete(n.lanes, name)
	}
}

// release gives back what waits, with the lock held.
func (n *Notifier) release() {
	for _, l := range n.lanes {
		for _, w := range l.waiting {
			n.giveBack(w.Delivery, 0)
		}
		l.waiting = nil
	}
}

// giveBack is called with the lock held.
func (n *Notifier) giveBack(d gateway.Delivery, after time.Duration) {
	n.work.Go(func() {
		n.retry(d, after)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.count(-1)
	})
}

// count keeps the number of leased deliveries, with the lock held.
func (n *Notifier) count(change int) {
	n.held += change
	n.metrics.queue.Set(float64(n.held))
	if n.held == 0 && n.flushing {
		signal(n.look)
	}
}

func laneOf(sink string) string {
	if u, err := parseSink(sink); err == nil {
		return originOf(u)
	}
	return ""
}
