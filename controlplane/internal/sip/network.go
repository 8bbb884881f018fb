package sip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/guard"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/registrar"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
)

// Deps of a Network. Tracer, Logger, Metrics, Rand and Now may be nil.
type Deps struct {
	// Events may be set later, with SetEvents, but before Run.
	Events  gateway.NetworkEvents
	Tracer  gateway.Tracer
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Rand answers a number from 0 to limit-1 and must be safe for concurrent
	// use.
	Rand func(limit int) int
	Now  func() time.Time
	// Accounts in the store; nil for none.
	Accounts gateway.SIPAccounts
}

// Network is the operator's SIP network. It implements gateway.Network.
type Network struct {
	cfg       Config
	log       *slog.Logger
	tracer    gateway.Tracer
	metrics   *metrics
	rand      func(int) int
	now       func() time.Time
	events    gateway.NetworkEvents
	stored    gateway.SIPAccounts
	tap       *tap.Tap
	tx        *transaction.Layer
	locator   *locate.Locator
	health    *locate.Health
	guard     *guard.Guard
	registrar *registrar.Registrar
	// running holds what Reload changes.
	running atomic.Pointer[running]

	// ctx is that of the events; it ends with Run.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	serving bool
	// calls by the gateway's id.
	calls map[string]*liveCall
	// local by Call-ID and local tag, kept until late messages are unlikely.
	local map[string]*liveCall
	// incoming by Call-ID and remote tag, for what has no local tag yet: INVITE
	// again, CANCEL.
	incoming map[string]*liveCall
	// labels of registrations' Call-IDs.
	labels map[string]call.Number
	// accounts are their digest sessions.
	accounts map[string]*digest.Session
	// watches and watching are the subscriptions to reg events, by number and by
	// Call-ID.
	watches  map[watchKey]*watch
	watching map[string]*watch
	// finding holds requests that wait for FindDialog.
	finding map[string][]pending
	// undone calls, whose INVITE may still be refused; by Call-ID and local tag.
	undone map[string]left
	timers map[*time.Timer]struct{}
}

var _ gateway.Network = (*Network)(nil)

// New binds the listeners. A port in use is an error that names the key to change.
// The Network must be run or closed.
func New(cfg Config, deps Deps) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Network{
		cfg: cfg, log: deps.Logger, tracer: deps.Tracer, rand: deps.Rand, now: deps.Now, events: deps.Events, stored: deps.Accounts,
		calls: map[string]*liveCall{}, local: map[string]*liveCall{}, incoming: map[string]*liveCall{},
		labels: map[string]call.Number{}, accounts: map[string]*digest.Session{},
		watches: map[watchKey]*watch{}, watching: map[string]*watch{}, finding: map[string][]pending{}, undone: map[string]left{},
		timers: map[*time.Timer]struct{}{},
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.rand == nil {
		n.rand = rand.IntN
	}
	if n.now == nil {
		n.now = time.Now
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.metrics = newMetrics(n)
	n.health = locate.NewHealth(n.now)
	n.guard = guard.New(cfg.Guard)
	now, err := n.prepare(cfg)
	if err != nil {
		return nil, err
	}
	n.running.Store(now)
	listeners, err := n.listeners()
	if err != nil {
		return nil, err
	}
	n.tap, err = tap.Listen(tap.Config{
		Listeners: listeners, DialTimeout: cfg.Timers.Dial, WriteTimeout: cfg.Timers.Dial, MessageTimeout: cfg.Timers.Message,
		IdleTimeout: cfg.Timers.Idle, MaxStreams: cfg.MaxStreams, MaxPerSource: cfg.MaxPerSource, Logger: n.log, Client: n.client,
	}, tap.Hooks{Message: n.receive, Sending: n.sending, Sent: n.sent, Refused: n.refused, Admit: n.admit})
	if err != nil {
		return nil, err
	}
	if n.locator, err = n.newLocator(); err != nil {
		n.tap.Close()
		return nil, err
	}
	n.tx = transaction.New(transaction.Timers{T1: cfg.Timers.T1, T2: cfg.Timers.T2, T4: cfg.Timers.T4}, n.tap, (*handler)(n))
	n.registrar = registrar.New(registrar.Config{
		Retry: cfg.Timers.T2, Transport: (*registering)(n), Rand: n.rand, Now: n.now, Logger: n.log,
		Lost: n.bindingLost,
	})
	if err := n.metrics.register(deps.Metrics); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// listeners of the configuration as the tap wants them.
func (n *Network) listeners() ([]tap.Listener, error) {
	out := make([]tap.Listener, len(n.cfg.Listeners))
	for i, l := range n.cfg.Listeners {
		out[i] = tap.Listener{Network: l.Network, Address: l.Address, Advertise: l.Advertise, Key: fmt.Sprintf("sip.listeners[%d].address", i)}
		if l.Network != "tls" {
			continue
		}
		var err error
		if out[i].TLS, err = n.running.Load().identities[""].Server(); err != nil {
			return nil, fmt.Errorf("sip.listeners[%d]: %w", i, err)
		}
	}
	return out, nil
}

// newLocator looks for what the listeners can reach.
func (n *Network) newLocator() (*locate.Locator, error) {
	c := locate.Config{Servers: n.cfg.DNS.Servers, Timeout: n.cfg.DNS.Timeout, PreferIPv6: n.cfg.DNS.PreferIPv6, Rand: n.rand, Now: n.now}
	for _, network := range []string{"udp", "tcp", "tls"} {
		if n.tap.Pick(network, netip.Addr{}) >= 0 {
			c.Networks = append(c.Networks, network)
		}
		c.IPv4 = c.IPv4 || n.tap.Pick(network, netip.IPv4Unspecified()) >= 0
		c.IPv6 = c.IPv6 || n.tap.Pick(network, netip.IPv6Unspecified()) >= 0
	}
	return locate.New(c)
}

// SetEvents says who is told; it must be called before Run unless Deps had it.
func (n *Network) SetEvents(e gateway.NetworkEvents) { n.events = e }

// Bound lists the listeners with the ports that they got.
func (n *Network) Bound() []tap.Bound { return n.tap.Bound() }

// Calls is the number of calls that are not over.
func (n *Network) Calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.calls)
}

// Run serves until ctx ends. It does not end calls: the gateway does that before.
// When it returns, no goroutine of the network is left.
func (n *Network) Run(ctx context.Context) error {
	if n.events == nil {
		n.Close()
		return fmt.Errorf("the SIP network has nobody to tell its events to")
	}
	n.tap.Serve()
	n.mu.Lock()
	n.serving = true
	now := n.running.Load()
	n.mu.Unlock()
	n.watch(now)
	<-ctx.Done()
	n.Close()
	return nil
}

// Close releases everything at once. Run does it by itself.
func (n *Network) Close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	for t := range n.timers {
		t.Stop()
	}
	n.mu.Unlock()
	n.registrar.Close()
	n.tx.Close()
	n.tap.Close()
	n.stop()
	n.mu.Lock()
	calls := make([]*liveCall, 0, len(n.local))
	for _, c := range n.local {
		calls = append(calls, c)
	}
	n.mu.Unlock()
	for _, c := range calls {
		c.abandon()
	}
	n.wg.Wait()
}

// spawn runs f on a goroutine that Close waits for.
func (n *Network) spawn(f func()) bool {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return false
	}
	n.wg.Add(1)
	n.mu.Unlock()
	go func() {
		defer n.wg.Done()
		f()
	}()
	return true
}

// after runs f once, unless the network is closed before.
func (n *Network) after(d time.Duration, f func()) *time.Timer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		t := time.NewTimer(d)
		t.Stop()
		return t
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		n.mu.Lock()
		delete(n.timers, t)
		closed := n.closed
		if !closed {
			n.wg.Add(1)
		}
		n.mu.Unlock()
		if closed {
			return
		}
		defer n.wg.Done()
		f()
	})
	n.timers[t] = struct{}{}
	return t
}

// cancel stops a timer of after.
func (n *Network) cancelTimer(t *time.Timer) {
	t.Stop()
	n.mu.Lock()
	delete(n.timers, t)
	n.mu.Unlock()
}

const letters = "0123456789abcdefghijklmnopqrstuvwxyz"

// random is a string for tags, branches and Call-IDs.
func (n *Network) random(length int) string {
	b := make([]byte, length)
	for i := range b {
		b[i] = letters[n.rand(len(letters))]
	}
	return string(b)
}
