package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Deps are what a Gateway needs of the world; all but Now are required.
type Deps struct {
	Store   Store
	Network Network
	Media   Media
	Sinks   Sinks
	Tracer  Tracer
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Gateway runs the use cases. It is the NetworkEvents and, by Media, the
// MediaEvents of its adapters.
type Gateway struct {
	config  Config
	store   Store
	network Network
	media   Media
	sinks   Sinks
	tracer  Tracer
	log     *slog.Logger
	now     func() time.Time
	metrics metrics
	epoch   uint64

	// poke makes Run look anew at what ends next.
	poke chan struct{}
	// stopped is closed when no call is taken any more.
	stopped  chan struct{}
	stopOnce sync.Once
	// background counts work that outlives the request that asked for it.
	background sync.WaitGroup
	// life ends when Run does.
	life    context.Context
	endLife context.CancelFunc

	mu    sync.Mutex
	calls map[string]*liveCall
}

// New makes a Gateway. Its epoch fences media sessions against processes that
// came before.
func New(ctx context.Context, c Config, d Deps) (*Gateway, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	epoch, err := d.Store.NewEpoch(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a new epoch from the store: %w", err)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	g := &Gateway{
		config: c, store: d.Store, network: d.Network, media: d.Media, sinks: d.Sinks,
		tracer: d.Tracer, log: d.Logger, now: d.Now, epoch: epoch,
		poke:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		calls:   map[string]*liveCall{},
	}
	g.life, g.endLife = context.WithCancel(context.WithoutCancel(ctx))
	g.metrics = newMetrics(d.Metrics, g)
	return g, nil
}

// Run ends what ends by itself, at its moment, until ctx is done. Before it
// returns it waits for work in the background.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.background.Wait()
	defer g.endLife()
	defer g.stopTimers()
	return g.runTimers(ctx)
}

// stopTimers ends what calls wait for.
func (g *Gateway) stopTimers() {
	for _, lc := range g.held() {
		lc.mu.Lock()
		lc.stopWaiting()
		lc.mu.Unlock()
	}
}

// Shutdown takes no more calls and ends those there are; it waits for the ends to
// be told until ctx is done. Of calls that are to be kept it ends only those in
// set-up, with which no other process can go on.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.stopOnce.Do(func() { close(g.stopped) })
	g.endAll(ctx, !g.config.KeepCalls)
}

func (g *Gateway) stopping() bool {
	select {
	case <-g.stopped:
		return true
	default:
		return false
	}
}

// wake makes Run look anew at what ends next.
func (g *Gateway) wake() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}

// later runs f in the background of the gateway, bounded by limit.
func (g *Gateway) later(limit time.Duration, f func(ctx context.Context)) {
	g.background.Go(func() {
		ctx, cancel := context.WithTimeout(g.life, limit)
		defer cancel()
		f(ctx)
	})
}

// newID makes an id that sorts by the time it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// trace puts a milestone of a call on the message ladder.
func (g *Gateway) trace(lc *liveCall, from, to Actor, title, text string) {
	e := TraceEntry{Time: g.now(), From: from, To: to, CallID: lc.ID, SIPCallID: lc.Dialog.SIPCallID, Title: title, Text: text}
	if len(lc.sessions) > 0 {
		e.Number = lc.sessions[0].Owner.Subject
	}
	g.tracer.Trace(e)
}
