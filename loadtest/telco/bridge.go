package telco

import (
	"context"
	"time"

	"github.com/emiago/sipgo/sip"
)

// half is one side of a call between two subscribers: what its leg receives is
// passed on to the other leg, session descriptions untouched, so that media
// flow between the two ends without the network.
type half struct {
	own, other *leg
	acked      chan []byte // bodies of ACKs that own received
}

func newHalf(own, other *leg) *half {
	h := &half{own: own, other: other, acked: make(chan []byte, 1)}
	own.mu.Lock()
	own.user = h
	own.mu.Unlock()
	return h
}

// bridge calls another subscriber on behalf of the leg a.
func (n *Network) bridge(a *leg, called, caller string) {
	d, err := n.route(called)
	if err != nil {
		n.log.Info("subscriber cannot be reached", "to", called, "error", err)
		a.invite.reject(cause{Code: 480, Text: statusText(480), Q850: 20})
		return
	}
	req := a.invite.req
	offer, _ := sessionDescription(req)
	d.body = offer
	d.maxForwards = 69
	if m := req.MaxForwards(); m != nil && m.Val() > 0 {
		d.maxForwards = m.Val() - 1
	}
	for _, name := range []string{"P-Asserted-Identity", "Privacy", "Alert-Info", "Subject"} {
		for _, h := range req.GetHeaders(name) {
			d.headers = append(d.headers, sip.NewHeader(h.Name(), h.Value()))
		}
	}
	if caller != "" && len(req.GetHeaders("P-Asserted-Identity")) == 0 {
		identity := n.numberURI(caller)
		d.headers = append(d.headers, sip.NewHeader("P-Asserted-Identity", nameAddr("", &identity)))
	}
	b := n.newLeg(sip.GenerateTagN(24)+"@"+n.host, a.remote, party{uri: n.numberURI(called)})
	fromA := newHalf(a, b)
	newHalf(b, a)
	if err := b.enter(); err != nil {
		a.invite.reject(cause{Code: 503, Text: statusText(503)})
		return
	}
	var early []byte
	d.progress = func(res *sip.Response) {
		body, _ := sessionDescription(res)
		if len(offer) == 0 {
			body = nil // an offer in a provisional response waits for the 200
		}
		if len(body) > 0 {
			early = body
		}
		a.invite.progress(res.StatusCode, body, copied(res, "P-Early-Media", "Alert-Info")...)
	}
	d.answered = func(res *sip.Response) []byte {
		body, _ := sessionDescription(res)
		if len(body) == 0 {
			body = early // the answer came in a reliable response
		}
		if !a.invite.accept(body, copied(res, "P-Asserted-Identity")...) || len(offer) > 0 {
			return nil
		}
		return fromA.awaitAck() // its answer to the offer in the 200
	}

	ctx, cancel := context.WithTimeoutCause(n.ctx, n.cfg.RingTimeout, cause{Code: 480, Text: "No answer", Q850: 19})
	defer cancel()
	ctx, cancelDial := context.WithCancelCause(ctx)
	defer cancelDial(nil)
	stop := context.AfterFunc(a.ctx, func() { cancelDial(passedOn(a.why())) })
	err = b.dial(ctx, d)
	stop()
	if err != nil {
		a.invite.reject(passedOn(b.why()))
		return
	}
	// Whichever leg ends first takes the other with it.
	select {
	case <-a.ctx.Done():
		b.hangUp(n.ctx, passedOn(a.why()))
	case <-b.ctx.Done():
		a.hangUp(n.ctx, passedOn(b.why()))
	}
}

// passedOn is a cause as the other leg is told it.
func passedOn(why cause) cause {
	why.Remote = false
	if why.Code >= 300 && why.Code < 400 {
		why.Code, why.Text = 480, statusText(480)
	}
	return why
}

func copied(m sip.Message, names ...string) []sip.Header {
	var headers []sip.Header
	for _, name := range names {
		for _, h := range m.GetHeaders(name) {
			headers = append(headers, sip.NewHeader(h.Name(), h.Value()))
		}
	}
	return headers
}

// awaitAck returns the body of the next ACK that the own leg receives.
func (h *half) awaitAck() []byte {
	timer := time.NewTimer(64 * h.own.n.t1)
	defer timer.Stop()
	select {
	case body := <-h.acked:
		return body
	case <-h.own.ctx.Done():
	case <-h.other.ctx.Done():
	case <-timer.C:
	}
	return nil
}

// acknowledged implements legUser.
func (h *half) acknowledged(body []byte) {
	select {
	case <-h.acked: // nobody waited for an earlier one
	default:
	}
	h.acked <- body
}

// info implements legUser.
func (h *half) info(contentType string, body []byte) {
	h.own.n.goWork(func() {
		if err := h.other.info(h.other.ctx, contentType, body); err != nil {
			h.other.log.Debug("INFO was not passed on", "error", err)
		}
	})
}

// offer implements legUser: the other side is asked and its answer returned.
func (h *half) offer(ctx context.Context, method sip.RequestMethod, body []byte) ([]byte, *cause) {
	type outcome struct {
		answer  []byte
		refusal *cause
	}
	done := make(chan outcome, 2)
	select {
	case <-h.acked:
	default:
	}
	h.other.mu.Lock()
	update := method == sip.UPDATE && h.other.canUpdate
	h.other.mu.Unlock()
	ask := func() (*sip.Response, error) {
		if update {
			req := h.other.request(sip.UPDATE)
			setBody(req, body)
			return h.other.send(h.other.ctx, req)
		}
		return h.other.reinvite(h.other.ctx, body, func(res *sip.Response) []byte {
			if len(body) > 0 {
				return nil
			}
			theirs, _ := sessionDescription(res)
			done <- outcome{answer: theirs}
			return h.awaitAck()
		})
	}
	if !h.own.n.goWork(func() {
		res, err := ask()
		switch {
		case err != nil:
			done <- outcome{refusal: &cause{Code: 500, Text: statusText(500), Q850: 41}}
		case res.StatusCode >= 300:
			why := passedOn(remoteCause(res, res.StatusCode, res.Reason))
			done <- outcome{refusal: &why}
		default:
			answer, _ := sessionDescription(res)
			done <- outcome{answer: answer}
		}
	}) {
		return nil, &cause{Code: 503, Text: statusText(503)}
	}
	select {
	case o := <-done:
		return o.answer, o.refusal
	case <-ctx.Done():
		return nil, &cause{Code: 487, Text: statusText(487)}
	}
}
