//go:build linux && (amd64 || arm64)

package xdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

const (
	// heartbeat is how often the programs are told that user space is there;
	// they believe it for a second.
	heartbeat = 200 * time.Millisecond
	// settle is how long changes of links, routes and neighbours are collected
	// before the programs are told.
	settle = 50 * time.Millisecond
)

// Attachment says how the program is attached.
type Attachment string

// Attachments.
const (
	// Auto tries Native, then Generic.
	Auto Attachment = "auto"
	// Native runs in the driver.
	Native Attachment = "native"
	// Generic runs in the network stack, on any interface.
	Generic Attachment = "generic"
)

// Config of an Engine.
type Config struct {
	// Node is the name that everything is pinned under.
	Node string
	// Directory in a BPF file system.
	Directory string
	// Interfaces to attach to; empty: those that carry Addresses.
	Interfaces []string
	Addresses  []netip.Addr
	Attachment Attachment
	// MaxFlows bounds the plans.
	MaxFlows int
	Logger   *slog.Logger
}

// Engine forwards in the kernel. It implements fastpath.Engine.
type Engine struct {
	config  Config
	log     *slog.Logger
	reason  string
	pins    *pins
	network *network
	store   *store

	stop func()
	done sync.WaitGroup
	once sync.Once
}

// Open loads the program and attaches it, or takes over what an earlier process
// of this node left. Its error says why that is not possible here, in words for
// an operator; nothing is left of it then.
func Open(cfg Config) (_ *Engine, err error) {
	e := &Engine{config: cfg, log: cfg.Logger, stop: func() {}}
	if err := checkPrivileges(); err != nil {
		return nil, err
	}
	if e.network, err = newNetwork(cfg.Interfaces, cfg.Addresses); err != nil {
		return nil, err
	}
	if err := allowLookups(e.network.families(cfg.Addresses)); err != nil {
		return nil, err
	}
	if e.pins, err = openPins(cfg, e.network.interfaces); err != nil {
		return nil, explain(err)
	}
	defer func() {
		if err != nil {
			e.pins.abandon()
		}
	}()
	if e.store, err = openStore(&e.pins.maps); err != nil {
		return nil, err
	}
	if err = e.network.publish(e.pins.maps.Egresses); err != nil {
		e.store.unmap()
		return nil, err
	}
	e.store.beat()
	e.store.reroute()
	e.reason = e.pins.attachment()
	if n := e.store.size(); n > 0 {
		e.log.Info("flows of an earlier process adopted", "flows", n)
	}
	return e, nil
}

// Name is "xdp".
func (e *Engine) Name() string { return "xdp" }

// Reason says how the program is attached, and where.
func (e *Engine) Reason() string { return e.reason }

// Start keeps the programs informed until Close.
func (e *Engine) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	changes, err := e.network.watch(ctx.Done())
	if err != nil {
		cancel()
		return fmt.Errorf("watch links and routes: %w", err)
	}
	e.stop = cancel
	e.done.Go(func() { e.beat(ctx) })
	e.done.Go(func() { e.follow(ctx, changes) })
	if err := dropPrivileges(); err != nil {
		e.log.Warn("privileges are kept", "error", err)
	}
	return nil
}

func (e *Engine) beat(ctx context.Context) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		e.store.beat()
		e.store.wipe(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// follow tells the programs of changes in the network.
func (e *Engine) follow(ctx context.Context, changes <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		select {
		case <-changes:
		default:
		}
		if err := e.network.publish(e.pins.maps.Egresses); err != nil {
			e.log.Warn("interfaces could not be read again", "error", err)
		}
		e.store.reroute()
	}
}

// Close stops. Plans that are left go on; without any everything is taken away.
func (e *Engine) Close() error {
	var err error
	e.once.Do(func() {
		e.stop()
		e.done.Wait()
		left := e.store.size()
		e.store.unmap()
		if left == 0 {
			err = e.pins.remove()
			return
		}
		e.log.Info("flows go on in the kernel", "flows", left)
		e.pins.close()
	})
	return err
}

// Upsert takes a plan.
func (e *Engine) Upsert(p fastpath.Plan) (fastpath.Reason, bool) {
	if err := validate(&p); err != nil {
		return fastpath.Reason(err.Error()), false
	}
	if e.store.has(p.Key) {
		return "another stream comes from the same source to the same port with the same SSRC", false
	}
	if why := e.network.reachable(p.From.Addr(), p.To.Addr()); why != "" {
		return fastpath.Reason(why), false
	}
	switch err := e.store.insert(&p); {
	case errors.Is(err, errFull), errors.Is(err, errKeys):
		return fastpath.Reason(fmt.Sprintf("the engine has as many flows as it may have (xdp.max_flows: %d)", e.pins.maps.Flows4.MaxEntries())), false
	case err != nil:
		return fastpath.Reason(err.Error()), false
	}
	return "", true
}

// Remove gives a plan back.
func (e *Engine) Remove(key fastpath.Key) (fastpath.Position, bool) { return e.store.remove(key) }

// Position of a plan.
func (e *Engine) Position(key fastpath.Key) (fastpath.Position, bool) { return e.store.at(key) }

// Stats of all plans.
func (e *Engine) Stats(yield func(fastpath.Key, fastpath.Position) bool) { e.store.each(yield) }

// Adopted plans of an earlier process.
func (e *Engine) Adopted() []fastpath.Adopted { return e.store.adopted() }

// Causes of all plans' packets.
func (e *Engine) Causes(yield func(string, uint64) bool) { e.store.causes(yield) }

var _ fastpath.Engine = (*Engine)(nil)
