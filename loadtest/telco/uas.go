package telco

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// serverInvite is an INVITE that was received: the initial one of a leg, or a
// re-INVITE.
type serverInvite struct {
	l         *leg
	req       *sip.Request
	tx        *sip.ServerTx
	cancelled atomic.Bool
	answered  atomic.Bool
	// settled closes when a 2xx was acknowledged or given up.
	settled    chan struct{}
	settleOnce sync.Once
	// interval of the session timer granted, in seconds; 0 for none.
	interval int
	// answerInAck tells that our 2xx to a re-INVITE carries an offer, so that
	// the exchange is over only with the ACK.
	answerInAck bool
}

// acceptInvite makes the leg for an initial INVITE. From here on every
// response carries the leg's tag, also those the library makes.
func (n *Network) acceptInvite(req *sip.Request, tx *sip.ServerTx) (*leg, error) {
	from, to := req.From(), req.To()
	l := n.newLeg(req.CallID().Value(),
		party{to.DisplayName, *to.Address.Clone()}, party{from.DisplayName, *from.Address.Clone()})
	to.Params.Add("tag", l.localTag)
	l.remoteTag, _ = from.Params.Get("tag")
	l.remoteSeq = req.CSeq().SeqNo
	l.routes = routeSet(req, false)
	l.transport = req.Transport()
	if contact, ok := firstContact(req); ok {
		l.target = *contact.Address.Clone()
	}
	l.canUpdate = contains(headerValues(req, "Allow"), "update")
	invite := l.newServerInvite(req, tx)
	l.invite = invite
	if err := l.enter(); err != nil {
		return nil, err
	}
	cancelled := func(r *sip.Request) {
		invite.cancelled.Store(true)
		why := cause{Code: 487, Text: statusText(487), Remote: true}
		if r != nil {
			why = remoteCause(r, 487, statusText(487))
		}
		l.finish(why)
	}
	if !tx.OnCancel(cancelled) {
		cancelled(nil)
	}
	return l, nil
}

func (l *leg) newServerInvite(req *sip.Request, tx *sip.ServerTx) *serverInvite {
	return &serverInvite{l: l, req: req, tx: tx, settled: make(chan struct{}), interval: sessionInterval(req)}
}

// response builds a response of the dialog.
func (s *serverInvite) response(code int, body []byte) *sip.Response {
	res := sip.NewResponseFromRequest(s.req, code, statusText(code), nil)
	if code > 100 && code < 300 {
		res.AppendHeader(s.l.n.contact(s.l.transport, s.l.local.uri.User))
		res.AppendHeader(sip.NewHeader("Allow", allowed))
	}
	if code >= 200 && code < 300 {
		res.AppendHeader(sip.NewHeader("Supported", supported))
		if s.interval > 0 {
			s.grantSessionTimer(res)
		}
	}
	setBody(res, body)
	return res
}

// progress sends a provisional response, reliably when the caller demands it
// or both sides want it (RFC 3262). It returns false when the call has ended.
func (s *serverInvite) progress(code int, body []byte, headers ...sip.Header) bool {
	if s.cancelled.Load() || s.l.ctx.Err() != nil {
		return false
	}
	res := s.response(code, body)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	required := contains(headerValues(s.req, "Require"), "100rel")
	offered := contains(headerValues(s.req, "Supported", "k"), "100rel")
	if code == 100 || !required && !(offered && s.l.n.cfg.ReliableProvisional) {
		if err := s.tx.Respond(res); err != nil {
			s.l.log.Warn("provisional response was not sent", "status", code, "error", err)
		}
		return s.l.ctx.Err() == nil
	}
	return s.progressReliably(res)
}

// progressReliably repeats a provisional response until its PRACK comes.
func (s *serverInvite) progressReliably(res *sip.Response) bool {
	l := s.l
	acknowledged := make(chan *sip.Request, 1)
	l.mu.Lock()
	if l.rseq == 0 {
		l.rseq = uint32(time.Now().UnixNano()&0xffff) + 1
	}
	l.rseq++
	rseq := l.rseq
	l.pracks[rseq] = acknowledged
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.pracks, rseq)
		l.mu.Unlock()
	}()
	res.AppendHeader(sip.NewHeader("Require", "100rel"))
	res.AppendHeader(sip.NewHeader("RSeq", strconv.FormatUint(uint64(rseq), 10)))

	giveUp := time.NewTimer(64 * l.n.t1)
	defer giveUp.Stop()
	for interval := l.n.t1; ; interval *= 2 {
		if s.cancelled.Load() {
			return false
		}
		if err := s.tx.Respond(res); err != nil {
			l.log.Warn("reliable provisional response was not sent", "error", err)
		}
		again := time.NewTimer(interval)
		select {
		case <-acknowledged:
			again.Stop()
			return true
		case <-again.C:
		case <-giveUp.C:
			again.Stop()
			s.reject(cause{Code: 504, Text: "No PRACK received", Q850: 102})
			return false
		case <-l.ctx.Done():
			again.Stop()
			return false
		}
	}
}

// accept sends the 200 and keeps sending it until the ACK comes. It returns
// at once, and false when the call has ended meanwhile.
func (s *serverInvite) accept(body []byte, headers ...sip.Header) bool {
	l := s.l
	if s.cancelled.Load() || l.ctx.Err() != nil || s.answered.Swap(true) {
		return false
	}
	res := s.response(200, body)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	seq := s.req.CSeq().SeqNo
	acks := make(chan *sip.Request, 1)
	l.mu.Lock()
	l.acks[seq] = acks
	if l.state == early {
		l.state = confirmed
	}
	l.mu.Unlock()
	err := s.tx.Respond(res)
	if s.cancelled.Load() { // the CANCEL was quicker and has its 487
		return false
	}
	if err != nil {
		l.log.Warn("200 was not sent", "error", err)
	}
	s.startSessionTimer()
	return l.n.goWork(func() { s.repeat(res, seq, acks) })
}

// repeat sends the 2xx again until the ACK comes (RFC 3261 section 13.3.1.4).
func (s *serverInvite) repeat(res *sip.Response, seq uint32, acks chan *sip.Request) {
	l := s.l
	defer s.settleOnce.Do(func() { close(s.settled) })
	defer func() {
		l.mu.Lock()
		delete(l.acks, seq)
		if s.answerInAck {
			l.busyAnswer = false
		}
		l.mu.Unlock()
	}()
	giveUp := time.NewTimer(64 * l.n.t1)
	defer giveUp.Stop()
	for interval := l.n.t1; ; interval = min(2*interval, l.n.t2) {
		again := time.NewTimer(interval)
		var ack *sip.Request
		select {
		case ack = <-acks:
		case ack = <-s.tx.Acks():
		case <-again.C:
			s.tx.Respond(res)
			continue
		case <-giveUp.C:
			again.Stop()
			s.settleOnce.Do(func() { close(s.settled) })
			l.bye(l.ctx, cause{Code: 408, Text: "ACK was not received", Q850: 102})
			return
		case <-l.ctx.Done():
			again.Stop()
			return
		}
		again.Stop()
		body, _ := sessionDescription(ack)
		l.mu.Lock()
		user := l.user
		l.mu.Unlock()
		if user != nil {
			user.acknowledged(body)
		}
		return
	}
}

// reject sends a final refusal and, for an initial INVITE, ends the leg.
func (s *serverInvite) reject(why cause, headers ...sip.Header) {
	l := s.l
	code := why.Code
	if code < 300 || code > 699 {
		code = 480
	}
	initial := s == l.invite
	if !s.cancelled.Load() && !s.answered.Swap(true) {
		res := s.response(code, nil)
		if why.Text != "" {
			res.Reason = why.Text
		}
		if why.Q850 != 0 {
			res.AppendHeader(why.reason())
		}
		for _, h := range headers {
			res.AppendHeader(h)
		}
		if err := s.tx.Respond(res); err != nil && !s.cancelled.Load() {
			l.log.Warn("refusal was not sent", "status", code, "error", err)
		}
	}
	s.settleOnce.Do(func() { close(s.settled) })
	if initial {
		l.finish(why)
	}
}

func contains(values []string, wanted string) bool {
	for _, v := range values {
		if v == wanted {
			return true
		}
	}
	return false
}
