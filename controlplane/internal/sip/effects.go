package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/precondition"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// run carries out effects in their order. The caller holds the call's lock.
func (c *liveCall) run(effects []dialog.Effect) {
	events := c.told
	for i, e := range effects {
		switch e := e.(type) {
		case dialog.Send:
			c.send(e)
		case dialog.SendACK:
			if c.ack == nil && slices.ContainsFunc(effects[i:], isAnswered) {
				c.ack = &e
				continue
			}
			c.sendACK(e)
		case dialog.SendCANCEL:
			c.sendCANCEL(e)
		case dialog.Respond:
			c.respond(e)
		case dialog.Start:
			c.start(e)
		case dialog.Stop:
			c.stopTimer(e.Timer)
		case dialog.StopAll:
			for t := range c.timers {
				c.stopTimer(t)
			}
		case dialog.Provisional:
			c.tell(func(ctx context.Context) {
				events.Provisional(ctx, c.id, gateway.Answer{Signal: e.Signal, SDP: e.SDP, EarlyMedia: c.authorized(e.EarlyMedia)})
			})
		case dialog.Acknowledged:
			c.tell(func(ctx context.Context) { events.Acknowledged(ctx, c.id, e.SDP) })
		case dialog.Answered:
			c.tell(func(ctx context.Context) {
				events.Answered(ctx, c.id, gateway.Answer{Signal: e.Signal, SDP: e.SDP, Dialog: c.stored(e.Dialog)})
				c.mu.Lock()
				defer c.mu.Unlock()
				c.releaseACK()
			})
		case dialog.Confirmed:
			c.tell(func(ctx context.Context) {
				events.Confirmed(ctx, c.id, gateway.Answer{SDP: e.SDP, Dialog: c.stored(e.Dialog)})
			})
		case dialog.Changed:
			c.tell(func(ctx context.Context) { events.DialogChanged(ctx, c.id, c.stored(e.Dialog)) })
		case dialog.Digit:
			c.tell(func(ctx context.Context) { events.Digit(ctx, c.id, e.Digit, e.Ms) })
		case dialog.Referred:
			c.tell(func(ctx context.Context) { c.referred(ctx, e) })
		case dialog.Offered:
			c.tell(func(ctx context.Context) { c.offered(ctx, e) })
		case dialog.Ended:
			c.ended(e.Ending)
		case dialog.Done:
			if w := c.waiters[e.Token]; w != nil {
				delete(c.waiters, e.Token)
				w <- e
			}
		}
	}
}

// offered asks the gateway for the answer to the peer's offer.
func (c *liveCall) offered(ctx context.Context, e dialog.Offered) {
	c.mu.Lock()
	over := c.m.Phase() == dialog.Over
	c.mu.Unlock()
	if over {
		return
	}
	answer, err := c.told.Offered(ctx, c.id, e.SDP)
	var refusal *call.Signal
	if err != nil {
		refusal = &call.Signal{Code: 500, Phrase: "Server Internal Error"}
		if r := (*gateway.RejectedError)(nil); errors.As(err, &r) {
			s := r.Signal
			s.Phrase = phrase(s.Phrase)
			refusal = &s
		} else {
			c.n.log.Warn("sip: an offer of the far end could not be answered", "call", c.id, "sip_call_id", c.sipID, "error", err)
		}
	}
	c.step(func(m *dialog.Machine) []dialog.Effect { return m.Answer(e.Req, answer, refusal) })
}

func isAnswered(e dialog.Effect) bool {
	_, is := e.(dialog.Answered)
	return is
}

// releaseACK sends the ACK that was held back, with the lock held.
func (c *liveCall) releaseACK() {
	if held := c.ack; held != nil {
		c.ack = nil
		c.sendACK(*held)
	}
}

func (c *liveCall) send(e dialog.Send) {
	c.releaseACK() // nothing may overtake it
	n := c.n
	initial := e.Method == "INVITE" && e.Dialog.RemoteTag == ""
	var to leg
	if initial {
		var err error
		if to, err = c.turn(e.Target); err != nil {
			c.unsent(e.Tx, err)
			return
		}
		if e.Redirect != "" {
			e.Dialog.Target = e.Redirect
		}
	}
	out, err := n.build(e.Method, e.Seq, e.Dialog)
	var query locate.Query
	if err == nil && !initial {
		query, err = out.query(n)
	}
	if err != nil {
		c.unsent(e.Tx, err)
		return
	}
	req := out.req
	if initial {
		for _, f := range to.fields {
			req.AppendHeader(sip.NewHeader(f.Name, f.Value))
		}
		if meetsPreconditions(to.trunk) && e.Body.Type == typeSDP {
			e.Body.Content = precondition.Offer(e.Body.Content)
		}
		e.Body = to.location.enclose(e.Body)
	}
	if e.Method == "INVITE" || e.Method == "UPDATE" {
		req.AppendHeader(sip.NewHeader("Supported", c.supported()))
		req.ReplaceHeader(sip.NewHeader("Allow", c.allowed()))
	}
	for _, f := range e.Fields {
		req.AppendHeader(sip.NewHeader(f.Name, f.Value))
	}
	authorization := c.auth.Fields(e.Method, req.Recipient.String())
	for _, h := range authorization {
		req.AppendHeader(h)
	}
	if e.Method == "INVITE" {
		c.ackAuth = authorization
		req.AppendHeader(sip.NewHeader("Accept", typeSDP+", multipart/mixed"))
	}
	setBody(req, e.Body)
	result := func(r transaction.Result) { c.result(e.Tx, r) }
	if initial {
		// The machine itself goes from leg to leg: an INVITE that was given up must
		// be cancelled.
		c.last = n.launch(c.trunk, out, []locate.Target{to.target}, result)
		c.txs[e.Tx] = c.last
		c.invited()
		return
	}
	c.txs[e.Tx] = n.launchTo(c.trunk, out, query, result)
}

// turn takes the call to a leg, which may be on another trunk.
func (c *liveCall) turn(target int) (leg, error) {
	l := c.legs[min(target, len(c.legs)-1)]
	if before := c.legs[c.leg]; target > c.leg && c.last != nil && !c.last.answered() {
		c.n.targetFailed(before.trunk, before.target, "no answer in time")
	}
	c.leg = target
	if l.trunk == c.trunk {
		return l, nil
	}
	if err := c.count(l.trunk, "out"); err != nil {
		return leg{}, err
	}
	c.n.log.Info("sip: a call goes on over another trunk", "call", c.id, "sip_call_id", c.sipID, "from", c.trunk.Name, "trunk", l.trunk.Name)
	c.trunk, c.auth = l.trunk, c.n.session(l.trunk, c.number)
	return l, nil
}

// unsent tells the machine that a request could not be made: later, as it would
// learn it from the transport, not within its own step.
func (c *liveCall) unsent(tx dialog.Tx, err error) {
	c.n.spawn(func() { c.result(tx, transaction.Result{Err: fmt.Errorf("%w: %w", transaction.ErrTransport, err)}) })
}

// allowed are the methods that the call's trunk may use.
func (c *liveCall) allowed() string {
	if c.trunk.FollowRefer {
		return allowed + ", REFER"
	}
	return allowed
}

func (c *liveCall) supported() string {
	s := "timer"
	if c.trunk.SessionExpires == 0 {
		s = ""
	}
	if c.trunk.Reliable != "off" {
		if s != "" {
			s = ", " + s
		}
		s = "100rel" + s
	}
	if meetsPreconditions(c.trunk) {
		if s != "" {
			s += ", "
		}
		s += precondition.Tag
	}
	return s
}

func (c *liveCall) sendACK(e dialog.SendACK) {
	if h := c.ack; h != nil && h.Seq == e.Seq && h.Dialog.RemoteTag == e.Dialog.RemoteTag {
		return // the 2xx again, while its ACK is held back
	}
	out, err := c.n.build("ACK", e.Seq, e.Dialog)
	var query locate.Query
	if err == nil {
		query, err = out.query(c.n)
	}
	if err != nil {
		c.n.log.Warn("sip: cannot acknowledge", "call", c.id, "sip_call_id", c.sipID, "error", err)
		return
	}
	out.branch = ackBranch(e.Dialog, e.Seq)
	for _, h := range c.ackAuth {
		out.req.AppendHeader(h)
	}
	out.req.SetBody(nil)
	t := c.trunk
	if hops, ok := c.n.locator.Literal(query); ok {
		c.acknowledge(t, out, hops[0])
		return
	}
	c.n.spawn(func() {
		hops, err := c.n.lookup(c.n.ctx, query)
		if err != nil {
			c.n.log.Warn("sip: cannot acknowledge", "call", c.id, "sip_call_id", c.sipID, "error", err)
			return
		}
		c.acknowledge(t, out, hops[0])
	})
}

func (c *liveCall) acknowledge(t *trunk.Trunk, out outbound, hop locate.Target) {
	route := c.n.route(t, hop)
	req, err := out.request(c.n, &route, true)
	if err != nil {
		c.n.log.Warn("sip: cannot acknowledge", "call", c.id, "sip_call_id", c.sipID, "error", err)
		return
	}
	c.n.tap.Send(req, route, nil)
}

func (c *liveCall) sendCANCEL(e dialog.SendCANCEL) {
	tx := c.txs[e.Tx]
	if tx == nil {
		return
	}
	var fields []sip.Header
	for _, f := range e.Fields {
		fields = append(fields, sip.NewHeader(f.Name, f.Value))
	}
	tx.cancel(fields...)
}

func (c *liveCall) respond(e dialog.Respond) {
	tx := c.reqs[e.Req]
	if tx == nil {
		return
	}
	res := c.n.reply(tx.Request, e.Code, e.Phrase, c.localTag)
	method := tx.Request.Method
	if (method == sip.INVITE || method == sip.UPDATE) && e.Code > 100 && e.Code < 300 {
		res.AppendHeader(sip.NewHeader("Contact", "<"+c.n.contact(c.m.Dialog().Contact, c.m.Dialog().Secure, tx.Back())+">"))
		res.AppendHeader(sip.NewHeader("Allow", c.allowed()))
		if s := c.supported(); s != "" && e.Code >= 200 {
			res.AppendHeader(sip.NewHeader("Supported", s))
		}
	} else if e.Code == 405 || e.Code == 501 || method == sip.OPTIONS {
		res.AppendHeader(sip.NewHeader("Allow", c.allowed()))
	}
	for _, f := range e.Fields {
		res.AppendHeader(sip.NewHeader(f.Name, f.Value))
	}
	if method == sip.INVITE && e.Code > 100 && e.Code < 200 {
		c.alert(res, tx.Request, e)
	}
	setBody(res, c.reserve(res, tx.Request, e.Body))
	tx.Respond(res)
	if e.Code >= 200 && (method != sip.INVITE || e.Code >= 300) {
		delete(c.reqs, e.Req)
	}
}

// alert adds to a provisional response what it says about ringing: that no early
// media comes (RFC 5009), so that the caller's network makes the ring-back tone, and
// that the call waits (RFC 7462).
func (c *liveCall) alert(res *sip.Response, invite *sip.Request, e dialog.Respond) {
	if e.Body.Type == typeSDP && c.trunk.Trusted && header.Has(invite, "P-Early-Media", "supported") {
		res.AppendHeader(sip.NewHeader("P-Early-Media", string(gateway.EarlyMediaInactive)))
	}
	if e.Code == 180 && c.waits {
		res.AppendHeader(sip.NewHeader("Alert-Info", "<urn:alert:service:call-waiting>"))
	}
}

func (c *liveCall) start(e dialog.Start) {
	c.stopTimer(e.Timer)
	var t *time.Timer
	t = c.n.after(e.After, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timers[e.Timer] != t {
			return // stopped or restarted meanwhile
		}
		delete(c.timers, e.Timer)
		c.run(c.m.Fired(e.Timer))
	})
	c.timers[e.Timer] = t
}

func (c *liveCall) stopTimer(name dialog.Timer) {
	if t := c.timers[name]; t != nil {
		delete(c.timers, name)
		c.n.cancelTimer(t)
	}
}
