package sip

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/pidf"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// retention is how long a recipient may keep a location (RFC 4119 2.2.2).
const retention = 24 * time.Hour

// attachment is the location that an outgoing INVITE carries.
type attachment struct{ text, id, boundary string }

// enclose puts the location beside the session description, if there is both.
func (a *attachment) enclose(b dialog.Body) dialog.Body {
	if a == nil || b.Type != typeSDP {
		return b
	}
	return enclose(b.Content, a.text, a.id, a.boundary)
}

// locate makes the attachment and fields that tell where the caller is; nil when
// the trunk is not to know or there are no coordinates. A location that cannot be
// written is left out: it does not hinder the call.
func (n *Network) locate(t *trunk.Trunk, in gateway.Invite, emergency, anonymous bool) (*attachment, []dialog.Field) {
	if in.Location == nil || !t.Locates(emergency) {
		return nil, nil
	}
	_, aor, _ := strings.Cut(t.AOR(in.Number), ":")
	entity := "pres:" + aor
	if anonymous {
		entity = "pres:anonymous@anonymous.invalid"
	}
	// For an emergency call the location goes on, to those who help, and on the
	// way it finds the right ones.
	text, err := pidf.Document{Entity: entity, Location: *in.Location, Retransmit: emergency, Expires: n.now().Add(retention).Truncate(time.Second)}.Marshal()
	if err != nil {
		n.log.Info("sip: a call goes without its location", "call", in.CallID, "trunk", t.Name, "error", err)
		return nil, nil
	}
	host := t.Domain
	if strings.ContainsAny(host, "[]:%") {
		host = "gateway.invalid" // an identifier, not an address (RFC 2392)
	}
	a := &attachment{text: text, id: n.random(20) + "@" + host, boundary: "isthmus-" + n.random(20)}
	routing := "no"
	if emergency {
		routing = "yes"
	}
	return a, []dialog.Field{{Name: "Geolocation", Value: "<cid:" + a.id + ">"}, {Name: "Geolocation-Routing", Value: routing}}
}

var errExpired = errors.New("the location must not be used any more")

// callerLocation is where the sender of a message is; nil when it does not say, or
// not in a form that is understood, which err then explains. The Geolocation field
// names the parts and their order; a sender that forgot it is understood, too.
func callerLocation(m sip.Message, c *content, now time.Time) (*call.Location, error) {
	parts := c.locations
	if named := header.List(m, "Geolocation"); len(named) > 0 {
		parts = nil
		for _, v := range named {
			if p, ok := c.location(v); ok {
				parts = append(parts, p)
			}
		}
		if len(parts) == 0 {
			return nil, errors.New("the Geolocation field names no location in the body")
		}
	}
	var errs []error
	for _, p := range parts {
		d, err := pidf.Parse([]byte(p.text))
		if err == nil && !d.Expires.IsZero() && now.After(d.Expires) {
			err = errExpired
		}
		if err == nil {
			return &d.Location, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// location finds the part that a Geolocation value names (RFC 2392).
func (c *content) location(value string) (locationPart, bool) {
	_, uri, _, _ := header.NameAddr(value)
	scheme, id, _ := strings.Cut(uri, ":")
	if !strings.EqualFold(scheme, "cid") {
		return locationPart{}, false
	}
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain
	}
	for _, p := range c.locations {
		if p.id == id {
			return p, true
		}
	}
	return locationPart{}, false
}
