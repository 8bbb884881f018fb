package sip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/registrar"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
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
	// Resolver for host names.
	Resolver *net.Resolver
}

// Network is the operator's SIP network. It implements gateway.Network.
type Network struct {
	cfg       Config
	log       *slog.Logger
	tracer    gateway.Tracer
	metrics   *metrics
	rand      func(int) int
	now       func() time.Time
	resolver  *net.Resolver
	events    gateway.NetworkEvents
	tap       *tap.Tap
	tx        *transaction.Layer
	trunks    *trunk.Set
	registrar *registrar.Registrar

	// ctx is that of the events; it ends with Run.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
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
	// finding holds requests that wait for FindDialog.
	finding map[string][]pending
	timers  map[*time.Timer]struct{}
}

var _ gateway.Network = (*Network)(nil)

// New binds the listeners. A port in use is an error that names the key to change.
// The Network must be run or closed.
func New(cfg Config, deps Deps) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Network{
		cfg: cfg, log: deps.Logger, tracer: deps.Tracer, rand: deps.Rand, now: deps.Now, events: deps.Events, resolver: deps.Resolver,
		calls: map[string]*liveCall{}, local: map[string]*liveCall{}, incoming: map[string]*liveCall{},
		labels: map[string]call.Number{}, accounts: map[string]*digest.Session{}, finding: map[string][]pending{}, timers: map[*time.Timer]struct{}{},
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
	if n.resolver == nil {
		n.resolver = net.DefaultResolver
	}
	trunks := make([]trunk.Config, len(cfg.Trunks))
	for i, t := range cfg.Trunks {
		trunks[i] = t.Complete()
	}
	n.trunks = trunk.NewSet(trunks)
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.metrics = newMetrics(n)
	listeners := make([]tap.Listener, len(cfg.Listeners))
	for i, l := range cfg.Listeners {
		listeners[i] = tap.Listener{Network: l.Network, Address: l.Address, Advertise: l.Advertise, Key: fmt.Sprintf("sip.listeners[%d].address", i)}
	}
	var err error
	n.tap, err = tap.Listen(tap.Config{
		Listeners: listeners, DialTimeout: cfg.Timers.Dial, WriteTimeout: cfg.Timers.Dial, IdleTimeout: cfg.Timers.Idle,
		MaxStreams: cfg.MaxStreams, Logger: n.log, Resolver: n.resolver,
	}, tap.Hooks{Message: n.receive, Sent: n.sent, Refused: n.refused})
	if err != nil {
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
	for _, t := range n.trunks.All() {
		if names := t.Names(); len(names) > 0 {
			n.spawn(func() { n.resolvePeers(t, names) })
		}
		if t.OptionsPing > 0 {
			for i := range t.Targets {
				n.ping(t, i)
			}
		}
	}
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

// peerLife is how long the addresses of a peer given by name are kept.
const peerLife = time.Minute

func (n *Network) resolvePeers(t *trunk.Trunk, names []string) {
	var all []netip.Addr
	for _, name := range names {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timers.Dial)
		addrs, err := n.resolver.LookupNetIP(ctx, "ip", name)
		cancel()
		if err != nil {
			n.log.Warn("sip: cannot resolve a trunk's host, its calls are refused until it resolves", "trunk", t.Name, "host", name, "error", err)
			continue
		}
		for _, a := range addrs {
			all = append(all, a.Unmap())
		}
	}
	if len(all) > 0 {
		t.Resolved(all)
	}
	n.after(peerLife, func() { n.resolvePeers(t, names) })
}
