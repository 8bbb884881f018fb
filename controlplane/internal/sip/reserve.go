package sip

import (
	"context"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/precondition"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Preconditions (RFC 3312) of a call, by the trunk's policy. The gateway's
// descriptions know nothing of them: they are added on the way out.
//
//	INVITE, mandatory, caller not ready ──► 183 with the answer ──► UPDATE, caller
//	ready ──► the devices ring

// meetsPreconditions reports whether a trunk's calls take part in them.
func meetsPreconditions(t *trunk.Trunk) bool { return t.Preconditions == trunk.PreconditionsMet }

// refusesPreconditions answers an INVITE whose preconditions cannot be met, and
// reports whether it did.
func (n *Network) refusesPreconditions(t *trunk.Trunk, r dialog.Request) (table precondition.Table, refuse bool) {
	table = precondition.Parse(r.Body.Content)
	switch {
	case !meetsPreconditions(t):
		return precondition.Table{}, table.Mandatory()
	case !table.Met():
		// The caller can tell of its reservation only if our answer is reliable.
		return table, !r.Supports100rel && !r.Requires100rel || t.Reliable == "off" && !r.Requires100rel
	}
	return table, false
}

// reserved takes over the preconditions of the peer's newest description, and tells
// the gateway when the call may ring at last. The caller holds the call's lock; what
// is told comes after what the machine tells about the description itself.
func (c *liveCall) reserved(r dialog.Request) (told func()) {
	if !meetsPreconditions(c.trunk) || r.Body.Type != typeSDP || r.Method == "ACK" {
		return func() {}
	}
	c.qos = precondition.Parse(r.Body.Content)
	if !c.unready || !c.qos.Met() {
		return func() {}
	}
	c.unready = false
	return func() {
		c.tell(func(ctx context.Context) { c.told.Ready(ctx, c.id) })
	}
}

// reserve adds this side's preconditions to an answer, and the option tag that the
// peer required.
func (c *liveCall) reserve(res *sip.Response, req *sip.Request, b dialog.Body) dialog.Body {
	if b.Type != typeSDP || !c.qos.Present() {
		return b
	}
	if header.Has(req, "Require", precondition.Tag) {
		res.AppendHeader(sip.NewHeader("Require", precondition.Tag))
	}
	b.Content = c.qos.Answer(b.Content)
	return b
}
