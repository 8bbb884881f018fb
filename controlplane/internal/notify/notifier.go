package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Render shapes an event for the API generation of its subscription: the
// CloudEvent and header fields beside Content-Type and Authorization.
type Render func(s call.Subscription, e call.Event) (body []byte, header http.Header, err error)

// Ender ends subscriptions whose sink wants no more events.
type Ender interface {
	// EndSubscription does nothing for one that has ended already.
	EndSubscription(ctx context.Context, tenant, id string, reason call.EndReason, description string, silent bool) error
}

// Deps is what a Notifier needs of its surroundings. Outbox, Render and End are
// mandatory.
type Deps struct {
	Outbox gateway.Outbox
	Render Render
	End    Ender
	// Logger defaults to slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
	// Tracer gets every delivery; nil for none.
	Tracer gateway.Tracer
	// Resolver defaults to that of package net.
	Resolver Resolver
	// Transport replaces the one that is made by the configuration, in tests.
	Transport http.RoundTripper
}

// Notifier delivers events. It is made by New and works while Run does.
type Notifier struct {
	*Guard
	config  Config
	outbox  gateway.Outbox
	render  Render
	end     Ender
	log     *slog.Logger
	tracer  gateway.Tracer
	metrics *metrics
	client  *http.Client
	lease   time.Duration

	// started is when this process began, so that what waited while no process
	// ran still gets its full time.
	started time.Time

	mu sync.Mutex
	// life is Run's; nil when nothing is delivered.
	life  context.Context
	lanes map[string]*lane
	// busy counts requests on their way, held what was leased and is not
	// finished; requests and put-offs are waited for by work.
	busy, held int
	work       sync.WaitGroup
	// flushing: somebody waits until nothing is held any more.
	flushing bool
	// look is signalled when the outbox is to be asked what is due; nextLook is
	// when it will be anyway, sooner is signalled when that has been advanced.
	look, sooner chan struct{}
	nextLook     time.Time
	flushes      chan chan struct{}
}

// New makes a Notifier that is idle until Run.
func New(c Config, d Deps) (*Notifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Outbox == nil || d.Render == nil || d.End == nil {
		return nil, errors.New("build the Notification Service: an outbox, a renderer and an ender are needed")
	}
	guard, err := newGuard(c, d.Resolver)
	if err != nil {
		return nil, err
	}
	if d.Transport == nil {
		if d.Transport, err = newTransport(c, guard); err != nil {
			return nil, fmt.Errorf("build the Notification Service: %w", err)
		}
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the Notification Service: %w", err)
	}
	return &Notifier{
		Guard: guard, config: c, outbox: d.Outbox, render: d.Render, end: d.End, log: d.Logger, tracer: d.Tracer, metrics: m,
		client: &http.Client{
			Transport:     d.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lease:   2*c.Timeout + 30*time.Second,
		lanes:   map[string]*lane{},
		look:    make(chan struct{}, 1),
		sooner:  make(chan struct{}, 1),
		flushes: make(chan chan struct{}),
	}, nil
}

const (
	// batch of one claim.
	batch = 128
	// slowPoll finds what no wake-up told of.
	slowPoll = 15 * time.Second
	// shortPoll keeps from asking all the time for what another process is about
	// to take.
	shortPoll = 5 * time.Millisecond
	// pause after the outbox failed.
	pause = time.Second
	// finishWithin bounds what is still said to the outbox when Run ends.
	finishWithin = 5 * time.Second
)

// Run delivers until ctx is done; requests on their way are then broken off and
// their events released for another process.
//
// What this process records comes by Receive. The outbox is asked only for what
// is to be repeated, and for what other processes left.
func (n *Notifier) Run(ctx context.Context) error {
	n.begin(ctx)
	defer n.client.CloseIdleConnections()
	defer n.work.Wait()
	defer n.cease()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var flushes []chan struct{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-n.flushes:
			flushes = append(flushes, f)
			n.setFlushing(true)
		case <-n.outbox.Wake():
		case <-n.look:
		case <-n.sooner:
			timer.Reset(n.untilLook())
			continue
		case <-timer.C:
		}
		empty := n.claim(ctx)
		timer.Reset(n.untilLook())
		if empty {
			for _, f := range flushes {
				close(f)
			}
			flushes = nil
			n.setFlushing(false)
		}
	}
}

func (n *Notifier) begin(ctx context.Context) {
	n.mu.Lock()
	n.started, n.life = time.Now(), ctx
	n.mu.Unlock()
	n.outbox.Receive(n.lease, n.take)
}

// cease gives back what waits.
func (n *Notifier) cease() {
	n.outbox.Receive(0, nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life = nil
	n.release()
}

func (n *Notifier) setFlushing(flushing bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flushing = flushing
}

func (n *Notifier) untilLook() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Until(n.nextLook)
}

// lookIn has the outbox asked after that time at the latest.
func (n *Notifier) lookIn(after time.Duration) {
	at := time.Now().Add(after)
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Before(n.nextLook) {
		n.nextLook = at
		signal(n.sooner)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// claim starts all deliveries that are due, and notes when to look for the next.
// It answers whether there is nothing due nor under way.
func (n *Notifier) claim(ctx context.Context) (empty bool) {
	n.mu.Lock()
	n.nextLook = time.Now().Add(slowPoll)
	n.mu.Unlock()
	for {
		deliveries, err := n.outbox.Claim(ctx, n.lease, batch)
		if err != nil {
			n.outboxFailed(ctx, "claim deliveries", err)
			return false
		}
		for _, d := range deliveries {
			n.take(d)
		}
		if len(deliveries) < batch {
			break
		}
	}
	wait, some, err := n.outbox.NextDue(ctx)
	if err != nil {
		n.outboxFailed(ctx, "look for the next delivery", err)
		return false
	}
	if some {
		n.lookIn(max(wait, shortPoll))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held == 0 && (!some || wait > 0)
}

func (n *Notifier) outboxFailed(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		n.log.Error("the outbox cannot be used", "attempt", what, "error", err)
	}
	n.lookIn(pause)
}

// Flush waits until everything that is due has been tried once and nothing is
// under way, for an orderly end of the process. Run must be running.
func (n *Notifier) Flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case n.flushes <- done:
	case <-ctx.Done():
		return fmt.Errorf("flush the outbox: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush the outbox: %w", ctx.Err())
	}
}
