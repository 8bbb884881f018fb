package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Deps is what a Relay needs of its surroundings. Store and Authenticate are
// mandatory.
type Deps struct {
	Store gateway.RelayStore
	// Authenticate judges the access token of a device's request. A refusal is a
	// *gateway.AuthError; any other error is a fault of the gateway.
	Authenticate func(*http.Request) (gateway.Principal, error)
	// Logger defaults to slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
}

// Relay keeps channels and serves them. Handler serves while Run runs.
type Relay struct {
	config  Config
	store   gateway.RelayStore
	auth    func(*http.Request) (gateway.Principal, error)
	log     *slog.Logger
	metrics *metrics
	hub     *hub
}

// New makes a Relay.
func New(c Config, d Deps) (*Relay, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Store == nil || d.Authenticate == nil {
		return nil, errors.New("build the relay: a store and an authenticator are needed")
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the relay: %w", err)
	}
	return &Relay{config: c, store: d.Store, auth: d.Authenticate, log: d.Logger, metrics: m, hub: newHub(c.StreamsPerChannel)}, nil
}

const sweepEvery = time.Minute

// Run wakes the streams of channels that get events, closes idle channels and
// drops old events, until ctx is done; then it ends all streams.
func (r *Relay) Run(ctx context.Context) error {
	defer r.hub.shut()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	r.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-r.store.RelayWake():
			r.hub.wake(id)
		case <-tick.C:
			r.sweep(ctx)
		}
	}
}

func (r *Relay) sweep(ctx context.Context) {
	closed, err := r.store.SweepRelay(ctx, r.config.IdleClose, r.config.MaxAge, r.config.Remember)
	if err != nil && ctx.Err() == nil {
		r.log.Error("old relay channels could not be swept", "error", err)
	}
	for _, id := range closed {
		r.log.Info("a relay channel was not used and is closed", "channel", id)
	}
}

type metrics struct {
	events  *prometheus.CounterVec
	streams *prometheus.GaugeVec
}

// Outcomes of a delivery to a sink, as the metric names them.
const (
	outcomeStored       = "stored"
	outcomeFull         = "full"
	outcomeInvalid      = "invalid"
	outcomeUnauthorized = "unauthorized"
	outcomeGone         = "gone"
	outcomeFailed       = "failed"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_relay_events_total",
			Help: "Notifications that arrived at sinks of the relay, by outcome.",
		}, []string{"outcome"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_relay_streams",
			Help: "Streams that are open now, by transport.",
		}, []string{"transport"}),
	}
	for _, o := range []string{outcomeStored, outcomeFull, outcomeInvalid, outcomeUnauthorized, outcomeGone, outcomeFailed} {
		m.events.WithLabelValues(o)
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.streams} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
