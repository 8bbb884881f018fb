// Package controlplane is one process of the control plane: it wires the CAMARA
// APIs, token validation, SIP, media nodes, notifications and the store around
// the use cases, and runs them. Its adapters know the use cases only, never each
// other; this is the one place that knows them all.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/auth"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/ladder"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/media"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/notify"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/relay"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

// Deps are what a Plane gets from the program around it.
type Deps struct {
	Logger *slog.Logger
	// Registry takes the metrics and is what /metrics shows.
	Registry *prometheus.Registry
	// Fallback serves paths that are not the control plane's own, a web page
	// for instance; nil answers 404.
	Fallback http.Handler
}

// Plane is one control-plane process.
type Plane struct {
	config  Config
	log     *slog.Logger
	store   *store.Store
	network *sip.Network
	nodes   *media.Registry
	notify  *notify.Notifier
	relay   *relay.Relay
	ladder  *ladder.Ladder
	gateway *gateway.Gateway
	public  []*server
	admin   *server
	inner   *server
}

// New opens the store and binds every address, so that what is wrong with them
// shows before anything runs. A Plane that is not run must be closed.
func New(ctx context.Context, c Config, d Deps) (_ *Plane, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Plane{config: c, log: d.Logger}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.store, err = store.Open(ctx, c.Store, d.Logger); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	tokens, err := auth.New(c.Auth, auth.Deps{Log: d.Logger, Metrics: d.Registry})
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	authenticate := func(r *http.Request) (gateway.Principal, error) { return tokens.Validate(r.Context(), r) }
	tracer := gateway.Tracer(silent{})
	if c.Ladder.Enabled {
		if p.ladder, err = ladder.New(c.Ladder, authenticate); err != nil {
			return nil, fmt.Errorf("ladder: %w", err)
		}
		tracer = p.ladder
	}
	if p.nodes, err = media.New(c.Nodes.Config, media.Deps{Logger: d.Logger, Metrics: d.Registry}); err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	if p.network, err = sip.New(c.SIP, sip.Deps{Tracer: tracer, Logger: d.Logger, Metrics: d.Registry, Accounts: p.store}); err != nil {
		return nil, err
	}
	sinks, err := notify.NewGuard(c.Notify)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	calls := c.Calls
	calls.KeepCalls = c.Shutdown.KeepCalls
	if p.gateway, err = gateway.New(ctx, calls, gateway.Deps{
		Store: p.store, Network: p.network, Media: p.nodes, Sinks: sinks,
		Tracer: tracer, Logger: d.Logger, Metrics: d.Registry,
	}); err != nil {
		return nil, fmt.Errorf("calls: %w", err)
	}
	p.network.SetEvents(p.gateway)
	p.nodes.Attach(p.gateway)
	if p.notify, err = notify.New(c.Notify, notify.Deps{
		Outbox: p.store, Render: camara.NewRenderer(c.API).Render, End: p.gateway,
		Tracer: tracer, Logger: d.Logger, Registerer: d.Registry,
	}); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	apis, err := camara.New(c.API, camara.Deps{
		Gateway: p.gateway, Authenticate: authenticate, Logger: d.Logger, Registerer: d.Registry, Tracer: tracer,
	})
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if p.relay, err = relay.New(c.Relay, relay.Deps{
		Store: p.store, Authenticate: authenticate, Logger: d.Logger, Registerer: d.Registry,
	}); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return p, p.listen(apis, d)
}

// listen binds the HTTP listeners.
func (p *Plane) listen(apis *camara.API, d Deps) error {
	public := p.routes(apis, d.Fallback)
	for i, l := range p.config.HTTP {
		s, err := listen(l, fmt.Sprintf("http[%d]", i), public, p.log)
		if err != nil {
			return err
		}
		p.public = append(p.public, s)
	}
	inner := http.NewServeMux()
	inner.Handle(p.nodes.Handler())
	nodes := p.config.Nodes.Listen
	nodes.mutual = true
	s, err := listen(nodes, "nodes.listen", inner, p.log)
	if err != nil {
		return err
	}
	p.inner = s
	if p.config.Admin == "" {
		return nil
	}
	s, err = listen(Listener{Address: p.config.Admin}, "admin", p.operations(d.Registry), p.log)
	if err != nil {
		return err
	}
	p.admin = s
	return nil
}

// Addresses of the public listeners, in the order of the configuration, and of
// the listeners for media nodes and operators (empty when not served).
func (p *Plane) Addresses() (public []string, nodes, admin string) {
	for _, s := range p.public {
		public = append(public, s.Listener.Addr().String())
	}
	if p.admin != nil {
		admin = p.admin.Listener.Addr().String()
	}
	return public, p.inner.Listener.Addr().String(), admin
}

// Run takes over what an earlier process left behind and serves until ctx is
// done; then calls end, or are left to the next process, and their events are
// delivered, within the configured grace.
func (p *Plane) Run(ctx context.Context) error {
	// The parts outlive ctx: they are needed to end calls.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	parts, life := errgroup.WithContext(life)
	for name, run := range map[string]func(context.Context) error{
		"sip": p.network.Run, "nodes": p.nodes.Run, "notify": p.notify.Run, "relay": p.relay.Run, "calls": p.gateway.Run,
		"nodes.listen": p.inner.run,
	} {
		parts.Go(func() error {
			if err := run(life); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := p.gateway.Resume(life); err != nil {
		end()
		return errors.Join(err, parts.Wait(), p.store.Close())
	}
	servers, serving := errgroup.WithContext(life)
	doors, closeDoors := context.WithCancel(serving)
	defer closeDoors()
	for _, s := range p.public {
		servers.Go(func() error { return s.run(doors) })
	}
	if p.admin != nil {
		servers.Go(func() error { return p.admin.run(life) })
	}
	public, nodes, admin := p.Addresses()
	p.log.Info("control plane is up", "http", public, "nodes", nodes, "admin", admin)

	select {
	case <-ctx.Done():
	case <-serving.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.config.Shutdown.Grace)
	defer cancel()
	p.gateway.Shutdown(grace)
	if err := p.notify.Flush(grace); err != nil {
		p.log.Warn("events are left for the next process to deliver", "error", err)
	}
	if p.ladder != nil {
		p.ladder.Close()
	}
	closeDoors()
	end()
	err := errors.Join(servers.Wait(), parts.Wait(), p.store.Close())
	p.log.Info("control plane has stopped")
	return err
}

// Reload puts the SIP trunks and routes of a configuration in force, with their
// accounts and certificates; calls that are up go on. Other keys of sip that changed
// are an error, and nothing changes then; all else of c needs a new process.
func (p *Plane) Reload(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return p.network.Reload(c.SIP)
}

// Close gives back what New took. It is for a Plane that is not run.
func (p *Plane) Close() {
	for _, s := range append(p.public, p.admin, p.inner) {
		if s != nil {
			s.Listener.Close()
		}
	}
	if p.network != nil {
		p.network.Close()
	}
	if p.store != nil {
		p.store.Close()
	}
}

// Ready answers an error while calls cannot be taken.
func (p *Plane) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return errors.Join(p.store.Ping(ctx), p.nodes.Ready())
}

// silent traces nothing.
type silent struct{}

func (silent) Trace(gateway.TraceEntry) {}
