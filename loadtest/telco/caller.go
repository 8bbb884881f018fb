package telco

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"
)

// CallRequest describes a call that the network makes to a subscriber.
type CallRequest struct {
	// From is the calling number, E.164 with a plus sign.
	From string
	// To is the number called.
	To string
	// DisplayName is shown beside From; optional.
	DisplayName string
	// Anonymous withholds the caller's number (RFC 3323).
	Anonymous bool
	// Scenario is what the caller does once the call is answered: echo, tone,
	// hang-up, hold or dtmf. Empty is tone.
	Scenario Scenario
	// Talk, when set, runs in place of the scenario; the call ends when it
	// returns.
	Talk func(ctx context.Context, c *Call)
	// Ring is how long to ring before giving up with a CANCEL; 0 takes the
	// network's ring_timeout.
	Ring time.Duration
	// DelayedOffer sends the INVITE without a session description.
	DelayedOffer bool
	// Headers are added to the INVITE.
	Headers []sip.Header
}

// Call rings a subscriber, at its registered contact or else at the gateway's
// trunk. It returns once the call has begun; the Call tells how it goes on.
// ctx bounds only the beginning.
func (n *Network) Call(ctx context.Context, r CallRequest) (*Call, error) {
	if !isE164(r.From) || !isE164(r.To) {
		return nil, fmt.Errorf("call from %q to %q: both must be E.164 numbers with a plus sign", r.From, r.To)
	}
	talk := r.Talk
	if talk == nil {
		if r.Scenario == "" {
			r.Scenario = ScenarioTone
		}
		var ok bool
		if talk, ok = talks[r.Scenario]; !ok {
			return nil, fmt.Errorf("call to %s: a caller cannot play the scenario %q", r.To, r.Scenario)
		}
	}
	d, err := n.route(r.To)
	if err != nil {
		return nil, fmt.Errorf("call to %s: %w", r.To, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("call to %s: %w", r.To, err)
	}
	identity := n.numberURI(r.From)
	from := party{quotedText(r.DisplayName), identity}
	d.headers = append(d.headers, sip.NewHeader("P-Asserted-Identity", nameAddr(r.DisplayName, &identity)))
	if r.Anonymous {
		from = party{"Anonymous", sip.Uri{Scheme: "sip", User: "anonymous", Host: "anonymous.invalid"}}
		d.headers = append(d.headers, sip.NewHeader("Privacy", "id"))
	}
	d.headers = append(d.headers, r.Headers...)

	l := n.newLeg(uuid.NewString()+"@"+n.host, from, party{uri: n.numberURI(r.To)})
	c := n.newCall(l, r.From, r.To)
	if !r.DelayedOffer {
		c.mu.Lock()
		m, err := c.openLocked()
		c.mu.Unlock()
		if err != nil {
			l.end(cause{Code: 503, Text: statusText(503)})
			return nil, fmt.Errorf("call to %s: %w", r.To, err)
		}
		d.body = m.offer(toneCodecs, sendRecv)
	}
	c.limitCodecs(toneCodecs)
	d.progress, d.answered = c.progressed, c.accepted
	ring := r.Ring
	if ring <= 0 {
		ring = n.cfg.RingTimeout
	}
	if err := l.enter(); err != nil {
		return nil, err
	}
	if !n.goWork(func() { c.makeCall(d, ring, talk) }) {
		return nil, errClosed
	}
	return c, nil
}

func (c *Call) makeCall(d dialRequest, ring time.Duration, talk func(context.Context, *Call)) {
	ctx, cancel := context.WithTimeoutCause(c.n.ctx, ring, cause{Code: 480, Text: "No answer", Q850: 19})
	err := c.leg.dial(ctx, d)
	cancel()
	if err != nil {
		c.leg.log.Info("call failed", "from", c.number, "to", c.peer, "error", err)
		return
	}
	c.answeredOnce.Do(func() { close(c.answered) })
	talk(c.leg.ctx, c)
	c.leg.hangUp(c.n.ctx, normalClearing)
}

// progressed takes in a provisional response: early media are listened to.
func (c *Call) progressed(res *sip.Response) {
	c.mu.Lock()
	c.ringing = res.StatusCode
	m := c.media
	c.mu.Unlock()
	if body, ok := sessionDescription(res); ok && len(body) > 0 && m != nil {
		if err := m.answered(body); err != nil {
			c.leg.log.Warn("early answer is unusable", "error", err)
		}
	}
}

// accepted takes in the 200 and returns the body of the ACK.
func (c *Call) accepted(res *sip.Response) []byte {
	body, _ := sessionDescription(res)
	m := c.stream()
	var err error
	var answer []byte
	switch {
	case m == nil: // our INVITE had no offer, so this is one
		c.mu.Lock()
		m, err = c.openLocked()
		c.mu.Unlock()
		if err == nil {
			answer, err = m.answer(body, toneCodecs, sendRecv)
		}
	case len(body) > 0:
		err = m.answered(body)
	case !m.isAgreed():
		err = errors.New("the 200 has no session description")
	}
	if err != nil {
		c.leg.log.Warn("answer is unusable", "error", err)
		c.n.goWork(func() { c.leg.hangUp(c.n.ctx, cause{Code: 488, Text: statusText(488), Q850: 88}) })
	}
	return answer
}

func (m *media) isAgreed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agreed
}

// route finds the way to a subscriber: the newest registered contact, or the
// gateway's trunk.
func (n *Network) route(number string) (dialRequest, error) {
	d := dialRequest{maxForwards: 70}
	if bindings := n.registrar.contacts(number); len(bindings) > 0 {
		b := bindings[len(bindings)-1]
		d.target, d.routes = b.contact, b.path
		next := &d.target
		if len(d.routes) > 0 {
			next = &d.routes[0]
		}
		d.hostPort, d.transport = hop(next, b.transport)
		return d, nil
	}
	gateway, transport := n.gateway()
	switch {
	case n.cfg.RequireRegistration:
		return d, errors.New("the subscriber is not registered")
	case gateway == "":
		return d, errors.New("the subscriber is not registered and no gateway is configured (key gateway)")
	}
	host, port, err := splitHostPort(gateway)
	if err != nil {
		return d, err
	}
	d.target = n.numberURI(number)
	d.target.Host, d.target.Port = host, port
	if transport == "TCP" {
		d.target.UriParams.Add("transport", "tcp")
	}
	d.hostPort, d.transport = gateway, transport
	return d, nil
}

// numberURI is a number as a SIP URI of the network (RFC 3261 section 19.1.6).
func (n *Network) numberURI(number string) sip.Uri {
	uri := sip.Uri{Scheme: "sip", User: number, Host: n.cfg.Domain, UriParams: sip.NewParams()}
	uri.UriParams.Add("user", "phone")
	return uri
}

// nameAddr renders an address with an optional display name.
func nameAddr(display string, uri *sip.Uri) string {
	if display == "" {
		return "<" + uri.String() + ">"
	}
	return `"` + quotedText(display) + `" <` + uri.String() + ">"
}

// quotedText escapes a display name and drops control characters, which must
// never reach a header.
func quotedText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s))
}
