package media

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Apply makes a plan's session so: on its node, or on the least loaded one that
// takes it.
func (r *Registry) Apply(ctx context.Context, p gateway.MediaPlan) (gateway.MediaState, error) {
	spec := specOf(p)
	if p.Node != "" {
		n := r.node(p.Node)
		if n == nil {
			return gateway.MediaState{}, fmt.Errorf("media node %s: %w", p.Node, gateway.ErrNoMediaNode)
		}
		return r.applyOn(ctx, n, spec)
	}
	var refused []error
	for _, n := range r.candidates(p.Core) {
		state, err := r.applyOn(ctx, n, spec)
		if err == nil {
			r.metric.placed.WithLabelValues(n.name).Inc()
			return state, nil
		}
		refused = append(refused, err)
		if ctx.Err() != nil || !elsewhere(err) {
			break
		}
	}
	return gateway.MediaState{}, errors.Join(append(refused, gateway.ErrNoMediaNode)...)
}

// elsewhere reports whether another node may take what this one did not.
func elsewhere(err error) bool {
	return isTimeout(err) || connect.CodeOf(err) == connect.CodeResourceExhausted
}

func (r *Registry) applyOn(ctx context.Context, n *node, spec *mediav1.SessionSpec) (gateway.MediaState, error) {
	state, err := n.apply(ctx, spec)
	switch {
	case connect.CodeOf(err) == connect.CodeAborted && err != nil:
		return gateway.MediaState{}, fmt.Errorf("media node %s: %w: %w", n.name, gateway.ErrStalePlan, err)
	case err != nil:
		return gateway.MediaState{}, fmt.Errorf("media node %s: %w", n.name, err)
	}
	return stateOf(n.name, state)
}

// SendDTMF sends a digit on a leg of a plan as telephone-event.
func (r *Registry) SendDTMF(ctx context.Context, p gateway.MediaPlan, leg, digit string, duration time.Duration) error {
	n := r.node(p.Node)
	if n == nil {
		return fmt.Errorf("media node %s: %w", p.Node, gateway.ErrNoMediaNode)
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.RequestTimeout)
	defer cancel()
	_, err := n.rpc.SendDTMF(ctx, connect.NewRequest(&mediav1.SendDTMFRequest{
		Session: p.CallID, OwnerEpoch: p.Epoch, Stream: leg, Digits: []*mediav1.Digit{{Digit: digit, Duration: durationpb.New(duration)}},
	}))
	if err != nil {
		return fmt.Errorf("media node %s: %w", n.name, err)
	}
	return nil
}

// Remove ends a session in the background.
func (r *Registry) Remove(ctx context.Context, p gateway.MediaPlan) {
	n := r.node(p.Node)
	if n == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	r.tasks.Go(func() { n.remove(ctx, p.CallID, p.Epoch) })
}

func (r *Registry) node(name string) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[name]
}

// candidates lists the nodes that may take a session, least loaded first.
func (r *Registry) candidates(core *gateway.CoreLeg) []*node {
	type loaded struct {
		*node
		load float64
	}
	r.mu.Lock()
	var list []loaded
	for _, n := range r.nodes {
		if n.info.Draining || core != nil && core.IPv6 && !hasIPv6(n.info) {
			continue
		}
		n.mu.Lock()
		used := max(len(n.applied), int(n.info.GetCapacity().GetSessions()))
		n.mu.Unlock()
		most := max(1, n.info.GetCapacity().GetMaxSessions())
		list = append(list, loaded{n, float64(used) / float64(most)})
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b loaded) int {
		switch {
		case a.load < b.load:
			return -1
		case a.load > b.load:
			return 1
		case a.name < b.name:
			return -1
		}
		return 1
	})
	out := make([]*node, len(list))
	for i, l := range list {
		out[i] = l.node
	}
	return out
}

func hasIPv6(n *mediav1.Node) bool {
	return slices.ContainsFunc(n.RtpAddresses, func(a *mediav1.SocketAddress) bool {
		ip, err := netip.ParseAddr(a.Ip)
		return err == nil && ip.Is6() && !ip.Is4In6()
	})
}

type metrics struct {
	lost   prometheus.Counter
	placed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Registry) metrics {
	m := metrics{
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_media_nodes_lost_total", Help: "Media nodes that fell silent.",
		}),
		placed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_media_sessions_placed_total", Help: "Media sessions placed, by node.",
		}, []string{"node"}),
	}
	reg.MustRegister(m.lost, m.placed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_media_nodes", Help: "Media nodes that are there and take sessions.",
	}, func() float64 { return float64(len(r.candidates(nil))) }))
	return m
}
