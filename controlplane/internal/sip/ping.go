package sip

import (
	"context"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// watch keeps an eye on the trunks as long as their configuration is in force.
func (n *Network) watch(r *running) {
	for _, t := range r.trunks.All() {
		n.watchTrunk(r.ctx, t)
	}
}

// watchTrunk looks after peers' addresses, OPTIONS and keep-alives.
func (n *Network) watchTrunk(ctx context.Context, t *trunk.Trunk) {
	if names := t.Names(); len(names) > 0 {
		n.every(ctx, peerLife, func() { n.resolvePeers(ctx, t, names) })
	}
	if t.OptionsPing > 0 {
		shown := map[string]bool{}
		n.every(ctx, t.OptionsPing, func() { shown = n.pingAll(ctx, t, shown) })
	}
	if t.KeepAlive > 0 {
		n.every(ctx, t.KeepAlive, func() { n.keepAlive(ctx, t) })
	}
}

// every runs f now, and then again and again until ctx ends.
func (n *Network) every(ctx context.Context, d time.Duration, f func()) {
	n.spawn(func() {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			f()
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// peerLife is how long the addresses of a peer given by name are kept.
const peerLife = time.Minute

func (n *Network) resolvePeers(ctx context.Context, t *trunk.Trunk, names []trunk.Target) {
	var all []netip.Addr
	for _, p := range names {
		found, err := n.lookup(ctx, placeQuery(t, p))
		if err != nil {
			if ctx.Err() == nil {
				n.log.Warn("sip: cannot resolve a trunk's host, its calls are refused until it resolves", "trunk", t.Name, "host", p.Host, "error", err)
			}
			continue
		}
		for _, target := range found {
			all = append(all, target.Addr.Addr())
		}
	}
	if len(all) > 0 {
		t.Resolved(all)
	}
}

// pingAll asks every target of a trunk with OPTIONS whether it lives. It answers
// which targets have a gauge now, of those in shown that are gone it is removed.
func (n *Network) pingAll(ctx context.Context, t *trunk.Trunk, shown map[string]bool) map[string]bool {
	targets, err := n.targets(ctx, t)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Warn("sip: a trunk's targets cannot be resolved", "trunk", t.Name, "error", err)
		}
		return shown
	}
	now := map[string]bool{}
	for _, target := range targets {
		if name := target.Addr.String(); !now[name] {
			now[name] = true
			n.ping(ctx, t, target)
		}
	}
	for name := range shown {
		if !now[name] {
			n.metrics.targetUp.DeleteLabelValues(t.Name, name)
		}
	}
	return now
}

func (n *Network) ping(ctx context.Context, t *trunk.Trunk, target locate.Target) {
	d := dialog.State{CallID: n.random(24), LocalTag: n.random(12), LocalURI: "<" + t.Scheme() + t.Domain + ">",
		RemoteURI: "<" + t.Scheme() + t.Domain + ">", Target: t.Scheme() + t.Domain, Secure: t.SIPS}
	out, err := n.build("OPTIONS", 1, d)
	if err != nil {
		n.log.Warn("sip: cannot ask a target with OPTIONS", "trunk", t.Name, "error", err)
		return
	}
	out.req.AppendHeader(sip.NewHeader("Accept", "application/sdp"))
	out.req.SetBody(nil)
	route := n.route(t, target)
	req, err := out.request(n, &route, true)
	if err != nil {
		n.pinged(t, target, false, err.Error())
		return
	}
	gauge := n.metrics.targetUp
	n.tx.Request(req, route, func(r transaction.Result) {
		switch {
		case ctx.Err() != nil:
			return // the trunk has another configuration, or none
		case r.Err != nil:
			n.pinged(t, target, false, r.Err.Error())
		case r.Response.StatusCode < 200:
			return
		case r.Response.StatusCode == 503:
			n.targetAnswered(t, target, r.Response)
			n.pinged(t, target, false, "503 "+phrase(r.Response.Reason))
		default:
			n.pinged(t, target, true, "")
		}
		up := 1.0
		if n.health.Down(target) {
			up = 0
		}
		gauge.WithLabelValues(t.Name, target.Addr.String()).Set(up)
	})
}

// pinged notes whether a target answered. A target that is down stays so for three
// pings at least, or until it answers.
func (n *Network) pinged(t *trunk.Trunk, target locate.Target, ok bool, reason string) {
	if ok {
		if n.health.Answered(target) {
			n.log.Info("sip: a target came up", "trunk", t.Name, "target", target.String())
		}
		return
	}
	if n.health.Missed(target, t.PingMisses, max(n.cfg.Timers.Penalty, 3*t.OptionsPing+64*n.cfg.Timers.T1)) {
		n.log.Info("sip: a target went down", "trunk", t.Name, "target", target.String(), "reason", reason, "misses", t.PingMisses)
	}
}

// keepAlive keeps the way to a trunk's UDP targets open (RFC 5626 3.5.1). Streams
// do it by themselves.
func (n *Network) keepAlive(ctx context.Context, t *trunk.Trunk) {
	targets, err := n.targets(ctx, t)
	if err != nil {
		return // the pings or the next call tell
	}
	for _, target := range targets {
		if r := n.route(t, target); target.Network == "udp" && r.Listener >= 0 {
			n.tap.Ping(tap.Route{Network: "udp", Listener: r.Listener, Addr: r.Addr})
		}
	}
}
