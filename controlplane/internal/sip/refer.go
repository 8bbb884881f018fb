package sip

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// transfer is a call on its way from one far end to another (REFER, RFC 3515, RFC
// 5589). The INVITE to the new one is a dialog of its own beside that of the call,
// under the same id, and this is who hears of it until it is answered:
//
//	REFER: 202, NOTIFY 100 ──► INVITE ──1xx: NOTIFY──► 2xx: NOTIFY 200, the new
//	dialog takes the place of the old one, BYE in that
//	                             └── refused: NOTIFY with the status, all as before
//
// An old far end that leaves in the meantime leaves the call to the new one; a
// gateway that ends it ends both.
type transfer struct {
	gateway.NetworkEvents
	n          *Network
	old, fresh *liveCall
	// done: the call is the new dialog's. Events come one at a time.
	done bool
	// left is how the old dialog ended before; hungUp: the gateway ended it, and
	// has been told so. The old call's lock guards them.
	left   *gateway.Ending
	hungUp bool
}

// leave takes the end of the old dialog, and reports whether the gateway is not to
// hear of it yet. The caller holds the old call's lock.
func (t *transfer) leave(e gateway.Ending) bool {
	if e.Local {
		t.hungUp = true
		t.n.after(0, func() { t.fresh.step(func(m *dialog.Machine) []dialog.Effect { return m.End(call.CauseNormal) }) })
		return false
	}
	t.left = &e
	t.n.mu.Lock()
	t.n.calls[t.fresh.id] = t.fresh
	t.n.mu.Unlock()
	return true
}

// settle ends the transfer and answers how the old dialog has ended, if it has.
func (t *transfer) settle() (left *gateway.Ending, hungUp bool) {
	t.old.mu.Lock()
	defer t.old.mu.Unlock()
	t.old.handing = nil
	return t.left, t.hungUp
}

// referred asks the gateway what to make of a REFER, and calls.
func (c *liveCall) referred(ctx context.Context, e dialog.Referred) {
	to, replaces := referTo(c.trunk, e.To)
	if to.IsZero() {
		c.notify(404, "Not Found")
		return
	}
	in, err := c.told.Referred(ctx, c.id, to)
	if err != nil {
		s := call.Signal{Code: 500, Phrase: "Server Internal Error"}
		if r := (*gateway.RejectedError)(nil); errors.As(err, &r) {
			s = r.Signal
		}
		c.notify(s.Code, s.Phrase)
		return
	}
	if err := c.n.transfer(ctx, c, in, e.By, replaces); err != nil {
		c.n.log.Info("sip: a call cannot be handed over", "call", c.id, "sip_call_id", c.sipID, "error", err)
		c.told.TransferFailed(ctx, c.id)
		code := 503
		if r := (*gateway.RejectedError)(nil); errors.As(err, &r) {
			code = r.Code
		}
		c.notify(code, statusText(code))
	}
}

func (c *liveCall) notify(code int, phrase string) {
	c.step(func(m *dialog.Machine) []dialog.Effect { return m.Notify(code, phrase) })
}

// referTo is whom to call, and the dialog that the call is to replace there (RFC
// 3891), if any.
func referTo(t *trunk.Trunk, uri string) (to call.Address, replaces string) {
	base, headers, _ := strings.Cut(uri, "?")
	to = t.Address(base)
	for _, h := range strings.Split(headers, "&") {
		name, value, _ := strings.Cut(h, "=")
		if plain, err := url.PathUnescape(value); err == nil && strings.EqualFold(name, "Replaces") && plain == header.Printable(plain) {
			replaces = plain
		}
	}
	return to, replaces
}

// transfer sends the INVITE to the new far end.
func (n *Network) transfer(ctx context.Context, old *liveCall, in gateway.Invite, by, replaces string) error {
	legs, err := n.legs(ctx, trunk.Alike(n.set().Route(in.Tenant, in.Number, in.Receiver, false)), in, false)
	if err != nil {
		return err
	}
	if len(legs) == 0 {
		return &gateway.RejectedError{Signal: call.Signal{Code: 404, Phrase: "No trunk takes calls to this address"}}
	}
	for i := range legs {
		if by != "" {
			legs[i].offering.fields = append(legs[i].offering.fields, dialog.Field{Name: "Referred-By", Value: header.Printable(by)})
			by = ""
		}
		if replaces != "" {
			legs[i].offering.fields = append(legs[i].offering.fields, dialog.Field{Name: "Replaces", Value: replaces})
			replaces = ""
		}
	}
	fresh, d, err := n.caller(in, legs[:1], false)
	if err != nil {
		return err
	}
	fresh.handedOver()
	t := &transfer{NetworkEvents: n.events, n: n, old: old, fresh: fresh}
	fresh.told = t
	cfg := n.machineConfig(fresh.trunk, 1)
	fresh.m = dialog.NewCaller(cfg, d, in.SDP)
	old.mu.Lock()
	gone := old.m.Phase() == dialog.Over
	if !gone {
		old.handing = t
	}
	old.mu.Unlock()
	if gone {
		fresh.release()
		return gateway.ErrNoDialog
	}
	n.mu.Lock()
	n.local[fresh.sipID+"|"+fresh.localTag] = fresh
	n.mu.Unlock()
	fresh.step(func(m *dialog.Machine) []dialog.Effect { return m.Invite() })
	return nil
}

func (t *transfer) Provisional(_ context.Context, _ string, a gateway.Answer) {
	t.old.notify(a.Code, a.Phrase)
}

func (t *transfer) Answered(ctx context.Context, id string, a gateway.Answer) {
	left, hungUp := t.settle()
	holder := t.n.byID(id)
	if hungUp || holder != t.old && holder != t.fresh || t.n.events.Transferred(ctx, id, a) != nil {
		t.old.notify(500, "Server Internal Error")
		t.fresh.step(func(m *dialog.Machine) []dialog.Effect { return m.End(call.CauseMediaFailed) })
		if left != nil {
			t.n.events.Ended(ctx, id, *left)
		}
		t.old = nil
		return
	}
	t.done = true
	t.old.events.mu.Lock()
	t.old.muted = true
	t.old.events.mu.Unlock()
	t.n.mu.Lock()
	t.n.calls[id] = t.fresh
	t.n.mu.Unlock()
	t.old.notify(200, "OK")
	t.old.step(func(m *dialog.Machine) []dialog.Effect { return m.End(call.CauseNormal) })
}

// DialogChanged of a dialog that is not the call's yet is nobody's business.
func (t *transfer) DialogChanged(ctx context.Context, id string, d gateway.Dialog) {
	if t.done {
		t.n.events.DialogChanged(ctx, id, d)
	}
}

func (t *transfer) Ended(ctx context.Context, id string, e gateway.Ending) {
	switch {
	case t.done:
		t.n.events.Ended(ctx, id, e)
		return
	case t.old == nil:
		return // settled before
	}
	left, hungUp := t.settle()
	if hungUp {
		return
	}
	code := e.Code
	if code < 300 {
		code = 503
	}
	t.old.notify(code, statusText(code))
	t.n.events.TransferFailed(ctx, id)
	if left != nil {
		// There is nobody to go back to.
		t.n.events.Ended(ctx, id, *left)
	}
}
