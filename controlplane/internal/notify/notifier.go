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

	mu    sync.Mutex
	lanes map[string]*lane
	// busy counts requests on their way, claimed what was claimed and is not
	// finished; requests and put-offs are waited for by work.
	busy, claimed int
	work          sync.WaitGroup
	// idle is signalled when nothing is claimed any more.
	idle    chan struct{}
	flushes chan chan struct{}
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
		idle:    make(chan struct{}, 1),
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
func (n *Notifier) Run(ctx context.Context) error {
	n.started = time.Now()
	defer n.client.CloseIdleConnections()
	defer n.work.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var flushes []chan struct{}
	for {
		select {
		case <-ctx.Done():
			n.release()
			return nil
		case f := <-n.flushes:
			flushes = append(flushes, f)
		case <-n.outbox.Wake():
		case <-n.idle:
		case <-timer.C:
		}
		wait, empty := n.claim(ctx)
		timer.Reset(wait)
		if empty {
			for _, f := range flushes {
				close(f)
			}
			flushes = nil
		}
	}
}

// claim starts all deliveries that are due. It answers how long to wait for the
// next and whether there is nothing due nor under way.
func (n *Notifier) claim(ctx context.Context) (wait time.Duration, empty bool) {
	for {
		deliveries, err := n.outbox.Claim(ctx, n.lease, batch)
		if err != nil {
			return n.outboxFailed(ctx, "claim deliveries", err), false
		}
		now := time.Now()
		for _, d := range deliveries {
			n.admit(ctx, d, now)
		}
		if len(deliveries) < batch {
			break
		}
	}
	wait, some, err := n.outbox.NextDue(ctx)
	if err != nil {
		return n.outboxFailed(ctx, "look for the next delivery", err), false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	empty = n.claimed == 0 && (!some || wait > 0)
	if !some {
		return slowPoll, empty
	}
	return min(max(wait, shortPoll), slowPoll), empty
}

func (n *Notifier) outboxFailed(ctx context.Context, what string, err error) time.Duration {
	if ctx.Err() == nil {
		n.log.Error("the outbox cannot be used", "attempt", what, "error", err)
	}
	return pause
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
