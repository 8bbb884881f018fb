package telco

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
)

// dialRequest describes an INVITE to send on a fresh leg.
type dialRequest struct {
	target      sip.Uri
	hostPort    string // next hop
	transport   string // UDP or TCP
	routes      []sip.Uri
	maxForwards uint32
	body        []byte
	headers     []sip.Header
	// progress is called for every provisional response above 100, in order.
	progress func(res *sip.Response)
	// answered is called once with the 2xx and returns the body of the ACK.
	answered func(res *sip.Response) []byte
}

// dial sends the INVITE of a leg and returns nil when it is confirmed. When ctx
// ends before that, the call is cancelled with ctx's cause. The error is a
// Cause, with which the leg has ended.
func (l *leg) dial(ctx context.Context, d dialRequest) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.mu.Lock()
	if l.state == ended { // hung up before it began
		l.mu.Unlock()
		return l.why()
	}
	l.outgoing = true
	l.cancelDial = cancel
	l.target, l.routes, l.transport = d.target, d.routes, d.transport
	l.mu.Unlock()
	x, why := l.try(ctx, d, nil)
	if x != nil && x.challenge != nil && l.n.authorize != nil {
		// Once more with credentials, as the next request of the same call.
		credentials, err := l.n.authorize(x.challenge, sip.INVITE, x.req.Recipient.String())
		if err == nil {
			l.mu.Lock()
			l.remoteTag, l.target, l.routes = "", d.target, d.routes
			l.mu.Unlock()
			_, why = l.try(ctx, d, credentials)
		} else {
			l.log.Info("challenge cannot be answered", "error", err)
		}
	}
	if why != nil {
		return l.failed(*why)
	}
	return nil
}

// try sends one INVITE and awaits its outcome.
func (l *leg) try(ctx context.Context, d dialRequest, credentials sip.Header) (*exchange, *cause) {
	l.mu.Lock()
	l.localSeq++
	req := l.requestLocked(sip.INVITE, l.localSeq)
	l.mu.Unlock()
	*req.MaxForwards() = sip.MaxForwardsHeader(d.maxForwards)
	if credentials != nil {
		req.AppendHeader(credentials)
	}
	for _, h := range d.headers {
		req.AppendHeader(sip.HeaderClone(h))
	}
	setBody(req, d.body)

	setUp, stopSetUp := context.WithTimeout(ctx, 5*time.Second)
	x, err := l.n.start(setUp, req, d.hostPort, d.transport)
	stopSetUp()
	if err != nil {
		l.log.Warn("INVITE was not sent", "error", err)
		return nil, &cause{Code: 503, Text: statusText(503), Q850: 38}
	}
	why := l.awaitAnswer(ctx, x, d)
	if why != nil {
		x.forget()
	}
	return x, why
}

func (l *leg) failed(why cause) error {
	l.finish(why)
	return why
}

// awaitAnswer runs the INVITE transaction to its final response.
func (l *leg) awaitAnswer(ctx context.Context, x *exchange, d dialRequest) *cause {
	var (
		provisional, cancelSent bool
		cancelled               *cause
		done                    = ctx.Done()
		giveUp                  <-chan time.Time
		lastRSeq                uint32
	)
	for {
		if cancelled != nil && provisional && !cancelSent {
			cancelSent = true
			l.sendCancel(x, *cancelled)
			giveUp = time.After(64 * l.n.t1)
		}
		var res *sip.Response
		select {
		case res = <-x.responses:
		case <-x.tx.Done():
			select {
			case res = <-x.responses:
			default:
				if cancelled != nil {
					return cancelled
				}
				return &cause{Code: 408, Text: statusText(408), Q850: 102}
			}
		case <-done:
			done = nil
			cancelled = cancelCause(ctx)
			continue
		case <-giveUp:
			x.tx.Terminate()
			return cancelled
		}
		switch code := res.StatusCode; {
		case code == 100:
			provisional = true
		case code < 200:
			provisional = true
			if !l.provisional(res, &lastRSeq) || cancelled != nil {
				continue
			}
			if d.progress != nil {
				d.progress(res)
			}
		case code < 300:
			l.confirm(res)
			var body []byte
			if d.answered != nil && cancelled == nil {
				body = d.answered(res)
			}
			ack := l.acknowledge(x.req.CSeq().SeqNo, body)
			l.n.goWork(func() { l.absorb(x, res, ack) })
			if cancelled != nil { // the 200 crossed the CANCEL
				l.bye(l.n.ctx, *cancelled)
				return cancelled
			}
			l.watchSessionTimer(res)
			return nil
		default:
			if cancelled != nil {
				return cancelled
			}
			if code == 401 || code == 407 {
				x.challenge = res
			}
			why := remoteCause(res, code, res.Reason)
			return &why
		}
	}
}

func cancelCause(ctx context.Context) *cause {
	err := context.Cause(ctx)
	if why := (cause{}); errors.As(err, &why) {
		return &why
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &cause{Code: 480, Text: "No answer", Q850: 19}
	}
	return &cause{Code: 487, Text: statusText(487), Q850: 16}
}

// provisional takes in an 18x: it makes the early dialog known and sends the
// PRACK of a reliable one. It returns false for a repetition.
func (l *leg) provisional(res *sip.Response, lastRSeq *uint32) bool {
	tag, _ := res.To().Params.Get("tag")
	l.mu.Lock()
	if tag != "" && tag != l.remoteTag {
		l.remoteTag = tag
		l.routes = routeSet(res, true)
		if contact, ok := firstContact(res); ok {
			l.target = *contact.Address.Clone()
		}
		*lastRSeq = 0
	}
	l.mu.Unlock()
	if !contains(headerValues(res, "Require"), "100rel") {
		return true
	}
	rseq64, err := strconv.ParseUint(headerValue(res, "RSeq"), 10, 32)
	rseq := uint32(rseq64)
	if err != nil || *lastRSeq != 0 && rseq <= *lastRSeq {
		return false
	}
	*lastRSeq = rseq
	prack := l.request(sip.PRACK)
	prack.AppendHeader(sip.NewHeader("RAck", strconv.FormatUint(uint64(rseq), 10)+" "+res.CSeq().Value()))
	l.n.goWork(func() {
		if _, err := l.send(l.ctx, prack); err != nil && l.ctx.Err() == nil {
			l.log.Warn("PRACK was not answered", "error", err)
		}
	})
	return true
}

// confirm makes the dialog of a 2xx the leg's.
func (l *leg) confirm(res *sip.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remoteTag, _ = res.To().Params.Get("tag")
	l.routes = routeSet(res, true)
	if contact, ok := firstContact(res); ok {
		l.target = *contact.Address.Clone()
	}
	l.canUpdate = contains(headerValues(res, "Allow"), "update")
	if l.state == early {
		l.state = confirmed
	}
}

// acknowledge sends the ACK of a 2xx and returns it, ready to be sent again.
func (l *leg) acknowledge(seq uint32, body []byte) *sip.Request {
	l.mu.Lock()
	ack := l.requestLocked(sip.ACK, seq)
	l.mu.Unlock()
	setBody(ack, body)
	hostPort, transport := l.nextHop()
	ctx, cancel := context.WithTimeout(l.n.ctx, 5*time.Second)
	defer cancel()
	err := l.n.address(ctx, ack, hostPort, transport)
	if err == nil {
		err = l.n.transport.WriteMsg(ack)
	}
	if err != nil {
		l.log.Warn("ACK was not sent", "to", hostPort, "error", err)
	}
	return ack
}

// absorb answers repetitions of a 2xx with the same ACK, and ends dialogs that
// another branch of a forked INVITE opened (RFC 3261 section 13.2.2.4).
func (l *leg) absorb(x *exchange, first *sip.Response, ack *sip.Request) {
	defer x.forget()
	winner, _ := first.To().Params.Get("tag")
	losers := map[string]bool{}
	for {
		res, err := x.next(l.n.ctx)
		if err != nil {
			return
		}
		tag, _ := res.To().Params.Get("tag")
		switch {
		case res.StatusCode < 200 || res.StatusCode >= 300:
		case tag == winner:
			if err := l.n.transport.WriteMsg(ack); err != nil {
				l.log.Warn("ACK was not sent again", "error", err)
			}
		default:
			l.endBranch(x, res, !losers[tag])
			losers[tag] = true
		}
	}
}

// endBranch acknowledges a second answer to a forked INVITE and hangs up.
func (l *leg) endBranch(x *exchange, res *sip.Response, first bool) {
	other := &leg{
		n: l.n, log: l.log, callID: l.callID, localTag: l.localTag, local: l.local, remote: l.remote,
		transport: l.transport, localSeq: x.req.CSeq().SeqNo, ctx: l.n.ctx,
	}
	other.confirm(res)
	other.acknowledge(x.req.CSeq().SeqNo, nil)
	if !first {
		return
	}
	l.n.goWork(func() {
		bye := other.request(sip.BYE)
		bye.AppendHeader(sip.NewHeader("Reason", `SIP;cause=200;text="Call completed elsewhere"`))
		if _, err := other.send(l.n.ctx, bye); err != nil {
			l.log.Debug("BYE to a forked answer was not answered", "error", err)
		}
	})
}

// sendCancel cancels the INVITE of x (RFC 3261 section 9.1).
func (l *leg) sendCancel(x *exchange, why cause) {
	req := sip.NewRequest(sip.CANCEL, *x.req.Recipient.Clone())
	req.AppendHeader(x.req.Via().Clone())
	for _, name := range []string{"Route", "From", "To", "Call-ID"} {
		for _, h := range x.req.GetHeaders(name) {
			req.AppendHeader(sip.HeaderClone(h))
		}
	}
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: x.req.CSeq().SeqNo, MethodName: sip.CANCEL})
	if h := why.reason(); h != nil {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
	l.n.point(req, x.req.Destination(), x.req.Transport())
	l.n.goWork(func() {
		tx, err := l.n.txs.Request(l.n.ctx, req)
		if err != nil {
			l.log.Warn("CANCEL was not sent", "error", err)
			return
		}
		defer tx.Terminate()
		for {
			select {
			case res := <-tx.Responses():
				if res.StatusCode >= 200 {
					return
				}
			case <-tx.Done():
				return
			case <-l.n.ctx.Done():
				return
			}
		}
	})
}

// reinvite sends a re-INVITE with a body and returns its final response.
// answered gets a 2xx and returns the body of the ACK; it may be nil.
func (l *leg) reinvite(ctx context.Context, body []byte, answered func(*sip.Response) []byte, headers ...sip.Header) (*sip.Response, error) {
	l.mu.Lock()
	if l.state != confirmed || l.busyOffer || l.busyAnswer {
		state := l.state
		l.mu.Unlock()
		if state != confirmed {
			return nil, l.why()
		}
		return sip.NewResponse(491, statusText(491)), nil
	}
	l.busyOffer = true
	l.localSeq++
	req := l.requestLocked(sip.INVITE, l.localSeq)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.busyOffer = false
		l.mu.Unlock()
	}()
	for _, h := range headers {
		req.AppendHeader(h)
	}
	setBody(req, body)
	hostPort, transport := l.nextHop()
	x, err := l.n.start(ctx, req, hostPort, transport)
	if err != nil {
		return nil, err
	}
	for {
		res, err := x.next(ctx)
		if err != nil {
			x.forget()
			x.tx.Terminate()
			return nil, err
		}
		switch {
		case res.StatusCode < 200:
		case res.StatusCode < 300:
			l.refreshTarget(res)
			var ackBody []byte
			if answered != nil {
				ackBody = answered(res)
			}
			ack := l.acknowledge(req.CSeq().SeqNo, ackBody)
			l.n.goWork(func() { l.absorb(x, res, ack) })
			return res, nil
		default:
			x.forget()
			// The peer has no such dialog any more (RFC 3261 section 12.2.1.2).
			if res.StatusCode == 481 || res.StatusCode == 408 {
				l.n.goWork(func() { l.bye(l.n.ctx, remoteCause(res, res.StatusCode, res.Reason)) })
			}
			return res, nil
		}
	}
}
