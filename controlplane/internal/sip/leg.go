package sip

import (
	"context"
	"fmt"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// offering is how an outgoing call looks on one trunk.
type offering struct {
	trunk *trunk.Trunk
	// dialog has what the trunk decides: URIs, routes, contact.
	dialog   dialog.State
	fields   []dialog.Field
	location *attachment
}

// leg is one place that the INVITE of a call may be sent to.
type leg struct {
	*offering
	target locate.Target
}

// offering of a call on a trunk; an error tells why the trunk cannot carry it.
func (n *Network) offering(t *trunk.Trunk, in gateway.Invite, emergency bool) (*offering, error) {
	anonymous := in.Anonymous && !emergency // an emergency call hides nothing: it must be called back
	if anonymous && t.Privacy == "none" {
		return nil, &gateway.RejectedError{Signal: call.Signal{Code: 433, Phrase: "Anonymity Disallowed"}}
	}
	from, fields := t.Caller(in.Number, in.DisplayName, anonymous)
	target := t.RequestURI(in.Receiver)
	if emergency {
		from, fields = t.EmergencyCaller(in.Number, in.DisplayName)
		target = trunk.EmergencyURI(in.Receiver)
	}
	contact := strings.TrimPrefix(string(in.Number), "+")
	if t.Mode == trunk.ModeRegister {
		contact = string(in.Number)
	}
	if anonymous {
		contact = "anonymous"
	}
	o := &offering{trunk: t, dialog: dialog.State{
		LocalURI: from, RemoteURI: trunk.NameAddr(in.ReceiverName, target), Target: target,
		Trunk: t.Name, Number: string(in.Number), Contact: contact, Secure: t.SIPS,
	}}
	if t.Mode == trunk.ModeRegister {
		profile := n.registrar.Profile(t.Name, in.Number)
		o.dialog.Routes, o.dialog.Flow = profile.ServiceRoute, profile.Outbound
		fields = t.Associate(fields, in.Number, profile.Associated)
	}
	for _, f := range fields {
		o.fields = append(o.fields, dialog.Field{Name: f[0], Value: f[1]})
	}
	location, geolocation := n.locate(t, in, emergency, anonymous)
	o.location, o.fields = location, append(o.fields, geolocation...)
	o.fields = append(o.fields, n.boundary(t)...)
	if t.Trusted {
		o.fields = append(o.fields, dialog.Field{Name: "P-Early-Media", Value: "supported"})
	}
	return o, nil
}

// dress puts on what the leg's trunk decides.
func (l leg) dress(d *dialog.State) {
	d.LocalURI, d.RemoteURI, d.Target, d.Routes = l.dialog.LocalURI, l.dialog.RemoteURI, l.dialog.Target, l.dialog.Routes
	d.Trunk, d.Number, d.Contact, d.Secure, d.Flow = l.dialog.Trunk, l.dialog.Number, l.dialog.Contact, l.dialog.Secure, l.dialog.Flow
	d.Network = l.target.Network
}

// legs lists the places for a call, trunk after trunk, those that are up first
// within each. The error is that of the first trunk when there is no place at all.
func (n *Network) legs(ctx context.Context, trunks []*trunk.Trunk, in gateway.Invite, emergency bool) ([]leg, error) {
	var out []leg
	var first error
	fail := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, t := range trunks {
		o, err := n.offering(t, in, emergency)
		if err != nil {
			fail(err)
			continue
		}
		targets, err := n.targets(ctx, t)
		if err != nil {
			fail(fmt.Errorf("%w: trunk %s: %w", gateway.ErrNetworkDown, t.Name, err))
			continue
		}
		for _, target := range targets {
			if n.health.Refusing(target) && !emergency {
				fail(&gateway.RejectedError{Signal: call.Signal{Code: 503, Phrase: "The trunk is overloaded and asked for a pause", Q850: 42}})
				continue
			}
			out = append(out, leg{o, target})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, first
}

// targets of a trunk, resolved, in the order in which to try them.
func (n *Network) targets(ctx context.Context, t *trunk.Trunk) ([]locate.Target, error) {
	var out []locate.Target
	var last error
	for _, h := range t.Targets {
		p, err := trunk.ParseTarget(h)
		if err != nil {
			return nil, err // validated
		}
		found, err := n.lookup(ctx, placeQuery(t, p))
		if err != nil {
			last = err
			n.log.Debug("sip: a target cannot be resolved", "trunk", t.Name, "target", h, "error", err)
			continue
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, last
	}
	return n.health.Order(out), nil
}

// count makes a call count for a trunk, in place of the one before; the error says
// why it may not.
func (c *liveCall) count(t *trunk.Trunk, direction string) error {
	if c.counted == t {
		return nil
	}
	if reason, ok := t.Take(c.n.now(), c.priority); !ok {
		c.n.metrics.limited.WithLabelValues(t.Name, direction, reason).Inc()
		return fmt.Errorf("trunk %s has as many calls as it may (limits.%s)", t.Name, reason)
	}
	if c.counted != nil {
		c.counted.Release()
	}
	c.counted = t
	return nil
}

// release makes the call count no more.
func (c *liveCall) release() {
	if c.counted != nil {
		c.counted.Release()
		c.counted = nil
	}
}
