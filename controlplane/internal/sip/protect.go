package sip

import (
	"net/netip"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/guard"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

// admit is the tap's hook before anything of a source is read.
func (n *Network) admit(from netip.Addr) bool {
	if n.guard.Admit(from, n.now()) {
		return true
	}
	n.metrics.rejected.WithLabelValues("blocked").Inc()
	return false
}

// pass counts one message of a source against its limits.
func (n *Network) pass(in tap.Inbound, k guard.Kind, peer bool) bool {
	verdict := n.guard.Check(in.Remote.Addr(), k, peer, n.now())
	if verdict == guard.Pass {
		return true
	}
	n.metrics.rejected.WithLabelValues("flood_" + k.String()).Inc()
	switch {
	case verdict == guard.Blocked:
		n.log.Info("sip: a source is blocked", "peer", in.Remote, "network", in.Network, "reason", "flood_"+k.String(), "for", n.cfg.Guard.Block)
	case n.guard.Notice(in.Remote.Addr(), n.now()):
		n.log.Info("sip: a source sends more than it may", "peer", in.Remote, "network", in.Network, "reason", "flood_"+k.String())
	}
	return false
}

var kinds = map[sip.RequestMethod]guard.Kind{sip.INVITE: guard.Invite, sip.REGISTER: guard.Register, sip.OPTIONS: guard.Options}

// welcome judges a request that belongs to no call that is known: a trunk's peer
// within its limits, or anybody within theirs. A peer above its limits is told to
// wait; the others are told nothing.
func (n *Network) welcome(in tap.Inbound, req *sip.Request, peer bool) bool {
	k, ok := kinds[req.Method]
	if !ok {
		k = guard.Other
	}
	if n.pass(in, k, peer) {
		if peer || !n.cfg.Guard.Silent {
			return true
		}
		n.metrics.rejected.WithLabelValues("peer").Inc()
		n.refusedPeer(in, req)
		return false
	}
	if peer && req.Method != sip.ACK {
		// Without a transaction: a flood must not cost memory.
		res := n.reply(req, 503, "", n.random(12))
		res.AppendHeader(sip.NewHeader("Retry-After", "2"))
		res.SetBody(nil)
		n.tap.Send(res, in.Back(), nil)
	}
	return false
}

// refusedPeer tells people of a request that no trunk allows.
func (n *Network) refusedPeer(in tap.Inbound, req *sip.Request) {
	if n.guard.Notice(in.Remote.Addr(), n.now()) {
		n.log.Info("sip: a request was refused, its source belongs to no trunk", "peer", in.Remote, "network", in.Network,
			"certificate", in.Names, "method", string(req.Method), "sip_call_id", req.CallID().Value())
	}
}
