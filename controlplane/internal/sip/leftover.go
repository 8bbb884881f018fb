package sip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/guard"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// A process that dies leaves calls in set-up at the far end. What it takes to end
// them is stored with each: the CANCEL of an INVITE that was sent, the failure
// response to one that was received. An answer to an INVITE that nobody knows any
// more is acknowledged and its dialog ended, so that no far end keeps a call that
// the gateway does not have.

// undo is a message and where it goes: over a trunk, to a target as package locate
// has it.
type undo struct {
	Trunk   string         `json:"trunk"`
	Network string         `json:"network"`
	Addr    netip.AddrPort `json:"addr"`
	Host    string         `json:"host,omitempty"`
	Message string         `json:"message"`
}

func (u undo) marshal() []byte {
	b, err := json.Marshal(u)
	if err != nil {
		panic(err) // strings cannot fail
	}
	return b
}

// invited notes what it takes to end the INVITE that was sent last, and has it
// stored unless it is the first, which Invite answers itself. The caller holds the
// lock.
func (c *liveCall) invited() {
	u, ok := c.last.undo()
	if !ok {
		return // it could not be sent
	}
	first := c.pending.IsZero()
	c.pending = gateway.Dialog{SIPCallID: c.sipID, LocalTag: c.localTag, Undo: u.marshal()}
	if first {
		return
	}
	d := c.pending
	c.tell(func(ctx context.Context) { c.told.DialogChanged(ctx, c.id, d) })
}

// undo is what ends an INVITE that is on its way.
func (f *flight) undo() (undo, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client == nil {
		return undo{}, false
	}
	cancel, route := f.client.Cancel()
	return undo{f.trunk.Name, route.Network, route.Addr, f.hops[f.hop].Host, cancel.String()}, true
}

// inSetUp is the dialog of a call whose INVITE has been sent.
func (c *liveCall) inSetUp() gateway.Dialog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}

// announced is the dialog of a call that was received with tx.
func (c *liveCall) announced(tx *transaction.Server) gateway.Dialog {
	d := c.stored(c.m.Dialog())
	res := c.n.reply(tx.Request, 500, "", c.localTag)
	res.SetBody(nil)
	back := tx.Back()
	if back.Network != "udp" {
		back.Addr = viaAddress(tx.Request, back.Addr)
	}
	d.Undo = undo{Trunk: c.trunk.Name, Network: back.Network, Addr: back.Addr, Message: res.String()}.marshal()
	return d
}

// viaAddress is where a response goes when the connection of its request is gone
// (RFC 3261 18.2.2).
func viaAddress(req *sip.Request, remote netip.AddrPort) netip.AddrPort {
	port := req.Via().Port
	if port == 0 {
		port = sip.DefaultPort(req.Transport())
	}
	return netip.AddrPortFrom(remote.Addr(), uint16(port))
}

// Abandon ends what a process that died had in set-up. See gateway.Network.
func (n *Network) Abandon(_ context.Context, callID string, d gateway.Dialog) error {
	if len(d.Undo) == 0 {
		return nil
	}
	var u undo
	if err := json.Unmarshal(d.Undo, &u); err != nil {
		return fmt.Errorf("call %s: how its set-up is undone cannot be read: %w", callID, err)
	}
	m, err := sip.NewParser().ParseSIP([]byte(u.Message))
	if err != nil {
		return fmt.Errorf("call %s: what undoes its set-up cannot be read: %w", callID, err)
	}
	route := n.route(n.trunkOr(u.Trunk), locate.Target{Network: u.Network, Addr: u.Addr, Host: u.Host})
	if route.Listener < 0 {
		return fmt.Errorf("call %s: there is no %s listener to reach %s", callID, u.Network, u.Addr)
	}
	switch m := m.(type) {
	case *sip.Request:
		key := d.SIPCallID + "|" + d.LocalTag
		n.mu.Lock()
		n.undone[key] = left{m, route}
		n.mu.Unlock()
		n.after(64*n.cfg.Timers.T1, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.undone, key)
		})
		n.tx.Request(m, route, func(transaction.Result) {})
	case *sip.Response:
		n.tap.Send(m, route, nil)
		// If it was answered at the last moment, the failure comes too late.
		state, err := dialog.ParseState(d.State)
		if err != nil {
			return fmt.Errorf("call %s: %w", callID, err)
		}
		n.revive(callID, state).hangUp(state)
	}
	return nil
}

// left is the CANCEL that this process sent for one that died.
type left struct {
	cancel *sip.Request
	route  tap.Route
}

// hangUp sends BYE in a dialog that is nobody's call.
func (c *liveCall) hangUp(state dialog.State) {
	c.resume(state)
	c.step(func(m *dialog.Machine) []dialog.Effect { return m.End(call.CauseShutdown) })
}

// Stray responses have no transaction any more.
func (h *handler) Stray(in tap.Inbound, res *sip.Response) {
	n := (*Network)(h)
	if res.CSeq().MethodName == sip.INVITE {
		switch {
		case res.StatusCode/100 == 2 && n.strayAnswer(in, res):
			return
		case res.StatusCode >= 300 && n.strayFailure(res):
			return
		}
	}
	n.metrics.rejected.WithLabelValues("stray_response").Inc()
	n.pass(in, guard.Garbage, n.set().ByPeer(in.Remote.Addr(), in.Names, nil) != nil)
}

// strayAnswer takes a 2xx: a repetition whose ACK was lost, or the answer to a
// process that has died.
func (n *Network) strayAnswer(in tap.Inbound, res *sip.Response) bool {
	sipID, local, remote := res.CallID().Value(), header.Tag(res.From().Params), header.Tag(res.To().Params)
	if c := n.byLocal(sipID, local); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d := c.m.Dialog(); d.RemoteTag == remote {
			c.sendACK(dialog.SendACK{Dialog: d, Seq: res.CSeq().SeqNo})
			return true
		}
	}
	t := n.set().ByPeer(in.Remote.Addr(), in.Names, nil)
	if t == nil || sipID == "" || local == "" || remote == "" {
		return false
	}
	key := sipID + "|" + local + "|" + remote
	n.mu.Lock()
	_, busy := n.finding[key]
	busy = busy || len(n.finding) >= maxFinding
	if !busy {
		n.finding[key] = nil
	}
	n.mu.Unlock()
	if busy {
		return true // it comes again
	}
	found := n.spawn(func() {
		n.settle(t, in.Network, res)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.finding, key)
	})
	return found
}

// settle acknowledges a 2xx whose call another process had, and ends the dialog
// unless the call goes on.
func (n *Network) settle(t *trunk.Trunk, network string, res *sip.Response) {
	r, from, to := response(res), res.From(), res.To()
	d := dialog.State{
		CallID: res.CallID().Value(), LocalTag: header.Tag(from.Params), RemoteTag: header.Tag(to.Params),
		LocalURI:  trunk.NameAddr(header.Unescape(from.DisplayName), from.Address.String()),
		RemoteURI: trunk.NameAddr(header.Unescape(to.DisplayName), to.Address.String()),
		LocalSeq:  res.CSeq().SeqNo, Target: r.Contact, Routes: slices.Clone(r.RecordRoute), Initiator: true,
		Trunk: t.Name, Network: network, Secure: strings.HasPrefix(r.Contact, "sips:"),
	}
	slices.Reverse(d.Routes)
	if d.Target == "" {
		d.Target = to.Address.String()
	}
	id, known, err := n.events.FindDialog(n.ctx, d.CallID, d.LocalTag)
	switch {
	case err == nil && known.RemoteTag == d.RemoteTag:
		c, err := n.restore(id, known)
		if err != nil {
			n.log.Warn("sip: an answer was repeated and its dialog cannot be taken over", "call", id, "sip_call_id", d.CallID, "error", err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sendACK(dialog.SendACK{Dialog: c.m.Dialog(), Seq: res.CSeq().SeqNo})
		return
	case err != nil && !errors.Is(err, gateway.ErrNoDialog):
		n.log.Warn("sip: an answer to a call that this process does not hold", "sip_call_id", d.CallID, "error", err)
		return // it comes again
	}
	n.log.Info("sip: a call was answered that the gateway does not have any more", "sip_call_id", d.CallID, "trunk", t.Name)
	c := n.revive("", d)
	c.mu.Lock()
	c.sendACK(dialog.SendACK{Dialog: d, Seq: res.CSeq().SeqNo})
	c.mu.Unlock()
	c.hangUp(d)
}

// strayFailure acknowledges the refusal of an INVITE that was cancelled for a
// process that died.
func (n *Network) strayFailure(res *sip.Response) bool {
	n.mu.Lock()
	l, ok := n.undone[res.CallID().Value()+"|"+header.Tag(res.From().Params)]
	n.mu.Unlock()
	if ok {
		n.tap.Send(transaction.FailureACK(l.cancel, res), l.route, nil)
	}
	return ok
}
