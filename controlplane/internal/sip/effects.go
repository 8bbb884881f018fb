package sip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
)

// run carries out effects in their order. The caller holds the call's lock.
func (c *liveCall) run(effects []dialog.Effect) {
	events := c.n.events
	for _, e := range effects {
		switch e := e.(type) {
		case dialog.Send:
			c.send(e)
		case dialog.SendACK:
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
			})
		case dialog.Confirmed:
			c.tell(func(ctx context.Context) {
				events.Confirmed(ctx, c.id, gateway.Answer{SDP: e.SDP, Dialog: c.stored(e.Dialog)})
			})
		case dialog.Changed:
			c.tell(func(ctx context.Context) { events.DialogChanged(ctx, c.id, c.stored(e.Dialog)) })
		case dialog.Digit:
			c.tell(func(ctx context.Context) { events.Digit(ctx, c.id, e.Digit, e.Ms) })
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
	answer, err := c.n.events.Offered(ctx, c.id, e.SDP)
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

func (c *liveCall) send(e dialog.Send) {
	n := c.n
	initial := e.Method == "INVITE" && e.Dialog.RemoteTag == ""
	target := ""
	if initial {
		target = c.targets[min(e.Target, len(c.targets)-1)]
		if e.Redirect != "" {
			e.Dialog.Target = e.Redirect
		}
	}
	req, route, err := n.build(e.Method, e.Seq, e.Dialog, target, n.branch())
	if err != nil {
		// The machine learns it as it would from the transport, not within its
		// own step.
		n.spawn(func() {
			c.result(e.Tx, transaction.Result{Err: fmt.Errorf("%w: %w", transaction.ErrTransport, err)})
		})
		return
	}
	if initial {
		for _, f := range c.fields {
			req.AppendHeader(sip.NewHeader(f.Name, f.Value))
		}
		e.Body = c.location.enclose(e.Body)
	}
	if e.Method == "INVITE" || e.Method == "UPDATE" {
		req.AppendHeader(sip.NewHeader("Supported", c.supported()))
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
	tx := e.Tx
	c.txs[tx] = n.tx.Request(req, route, func(r transaction.Result) { c.result(tx, r) })
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
	return s
}

func (c *liveCall) sendACK(e dialog.SendACK) {
	req, route, err := c.n.build("ACK", e.Seq, e.Dialog, "", ackBranch(e.Dialog, e.Seq))
	if err != nil {
		c.n.log.Warn("sip: cannot acknowledge", "call", c.id, "sip_call_id", c.sipID, "error", err)
		return
	}
	for _, h := range c.ackAuth {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
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
	req, route := tx.Cancel(fields...)
	c.n.tx.Request(req, route, func(transaction.Result) {})
}

func (c *liveCall) respond(e dialog.Respond) {
	tx := c.reqs[e.Req]
	if tx == nil {
		return
	}
	res := c.n.reply(tx.Request, e.Code, e.Phrase, c.localTag)
	method := tx.Request.Method
	if (method == sip.INVITE || method == sip.UPDATE) && e.Code > 100 && e.Code < 300 {
		res.AppendHeader(sip.NewHeader("Contact", "<"+c.n.contact(c.m.Dialog().Contact, tx.Back())+">"))
		res.AppendHeader(sip.NewHeader("Allow", allowed))
		if s := c.supported(); s != "" && e.Code >= 200 {
			res.AppendHeader(sip.NewHeader("Supported", s))
		}
	} else if e.Code == 405 || e.Code == 501 || method == sip.OPTIONS {
		res.AppendHeader(sip.NewHeader("Allow", allowed))
	}
	for _, f := range e.Fields {
		res.AppendHeader(sip.NewHeader(f.Name, f.Value))
	}
	setBody(res, e.Body)
	tx.Respond(res)
	if e.Code >= 200 && (method != sip.INVITE || e.Code >= 300) {
		delete(c.reqs, e.Req)
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
