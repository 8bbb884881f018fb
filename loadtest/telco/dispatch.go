package telco

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// handleRequest is called by the transaction layer, on a goroutine of its own,
// for every request that is no repetition.
func (n *Network) handleRequest(req *sip.Request, tx *sip.ServerTx) {
	if req.IsAck() {
		tx.Terminate() // an ACK is answered by nobody
	}
	if req.CallID() == nil || req.From() == nil || req.To() == nil || req.CSeq() == nil ||
		req.CSeq().MethodName != req.Method {
		n.refuse(req, tx, 400)
		return
	}
	if _, ok := req.From().Params.Get("tag"); !ok && req.Method != sip.ACK {
		n.refuse(req, tx, 400)
		return
	}
	if m := req.MaxForwards(); m != nil && m.Val() == 0 && req.Method != sip.ACK {
		n.refuse(req, tx, 483)
		return
	}
	if req.Method != sip.ACK && req.Method != sip.CANCEL {
		if unknown := unsupported(req); len(unknown) > 0 {
			n.refuse(req, tx, 420, sip.NewHeader("Unsupported", strings.Join(unknown, ", ")))
			return
		}
	}
	if req.To().Params.Has("tag") {
		n.handleInDialog(req, tx)
		return
	}
	switch req.Method {
	case sip.INVITE:
		n.handleInvite(req, tx)
	case sip.REGISTER:
		n.registrar.handle(req, tx)
	case sip.OPTIONS:
		res := sip.NewResponseFromRequest(req, 200, "OK", nil)
		res.AppendHeader(sip.NewHeader("Allow", allowed+", REGISTER"))
		res.AppendHeader(sip.NewHeader("Accept", "application/sdp"))
		res.AppendHeader(sip.NewHeader("Supported", supported+", path"))
		n.respond(tx, res)
	case sip.ACK:
	case sip.CANCEL, sip.BYE, sip.PRACK, sip.UPDATE, sip.INFO:
		n.refuse(req, tx, 481)
	case sip.SUBSCRIBE, sip.NOTIFY, sip.PUBLISH:
		n.refuse(req, tx, 489)
	default:
		n.refuse(req, tx, 405, sip.NewHeader("Allow", allowed+", REGISTER"))
	}
}

func (n *Network) respond(tx *sip.ServerTx, res *sip.Response) {
	if err := tx.Respond(res); err != nil {
		n.log.Debug("response was not sent", "status", res.StatusCode, "error", err)
	}
}

func (n *Network) refuse(req *sip.Request, tx *sip.ServerTx, code int, headers ...sip.Header) {
	if req.IsAck() {
		return
	}
	res := sip.NewResponseFromRequest(req, code, statusText(code), nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	n.respond(tx, res)
}

// unsupported lists the required extensions that the network lacks.
func unsupported(req *sip.Request) []string {
	var unknown []string
	for _, option := range headerValues(req, "Require") {
		switch option {
		case "100rel", "timer", "path":
		default:
			unknown = append(unknown, option)
		}
	}
	return unknown
}

// handleInDialog passes a request to its leg.
func (n *Network) handleInDialog(req *sip.Request, tx *sip.ServerTx) {
	l := n.findLeg(req)
	if l == nil {
		n.refuse(req, tx, 481)
		return
	}
	seq := req.CSeq().SeqNo
	switch req.Method {
	case sip.ACK:
		l.mu.Lock()
		acks := l.acks[seq]
		l.mu.Unlock()
		select {
		case acks <- req:
		default:
		}
		return
	case sip.CANCEL: // of a re-INVITE that is answered already
		n.refuse(req, tx, 481)
		return
	}
	l.mu.Lock()
	old := l.remoteSeq != 0 && seq <= l.remoteSeq
	if !old {
		l.remoteSeq = seq
	}
	user := l.user
	l.mu.Unlock()
	if old { // RFC 3261 section 12.2.2
		n.refuse(req, tx, 500)
		return
	}
	switch req.Method {
	case sip.BYE:
		why := remoteCause(req, normalClearing.Code, normalClearing.Text)
		if invite := l.invite; invite != nil && l.currentState() == early {
			why.Code = 487
			invite.reject(why)
		}
		l.finish(why)
		n.respond(tx, sip.NewResponseFromRequest(req, 200, "OK", nil))
	case sip.INVITE:
		l.handleReinvite(req, tx, user)
	case sip.UPDATE:
		l.handleUpdate(req, tx, user)
	case sip.PRACK:
		l.handlePrack(req, tx)
	case sip.INFO:
		if user != nil {
			contentType := ""
			if h := req.ContentType(); h != nil {
				contentType = h.Value()
			}
			user.info(contentType, req.Body())
		}
		n.respond(tx, sip.NewResponseFromRequest(req, 200, "OK", nil))
	case sip.OPTIONS:
		res := sip.NewResponseFromRequest(req, 200, "OK", nil)
		res.AppendHeader(sip.NewHeader("Allow", allowed))
		n.respond(tx, res)
	case sip.REFER:
		n.refuse(req, tx, 603)
	case sip.SUBSCRIBE, sip.NOTIFY:
		n.refuse(req, tx, 489)
	default:
		n.refuse(req, tx, 405, sip.NewHeader("Allow", allowed))
	}
}

// claimAnswer notes that an offer of the peer waits for its answer. A code
// other than 0 refuses it: 491 when our own offer is out, 500 when an earlier
// one of the peer is (RFC 3261 section 14.2).
func (l *leg) claimAnswer() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.busyOffer:
		return 491
	case l.busyAnswer, l.state == early && !l.outgoing:
		return 500
	}
	l.busyAnswer = true
	return 0
}

func (l *leg) releaseAnswer() {
	l.mu.Lock()
	l.busyAnswer = false
	l.mu.Unlock()
}

func (l *leg) handleReinvite(req *sip.Request, tx *sip.ServerTx, user legUser) {
	if code := l.claimAnswer(); code != 0 {
		var headers []sip.Header
		if code == 500 {
			headers = append(headers, sip.NewHeader("Retry-After", strconv.Itoa(int(req.CSeq().SeqNo%10))))
		}
		l.n.refuse(req, tx, code, headers...)
		return
	}
	s := l.newServerInvite(req, tx)
	body, ok := sessionDescription(req)
	if !ok || user == nil {
		s.reject(cause{Code: 415, Text: statusText(415)}, sip.NewHeader("Accept", "application/sdp"))
		l.releaseAnswer()
		return
	}
	if !tx.OnCancel(func(*sip.Request) { s.cancelled.Store(true) }) {
		s.cancelled.Store(true)
	}
	s.progress(100, nil)
	answer, refusal := user.offer(l.ctx, sip.INVITE, body)
	if refusal != nil {
		s.reject(*refusal)
		l.releaseAnswer()
		return
	}
	l.refreshTarget(req)
	if s.answerInAck = len(body) == 0; !s.answerInAck {
		l.releaseAnswer()
	}
	if !s.accept(answer) && s.answerInAck { // repeat releases it otherwise
		l.releaseAnswer()
	}
}

func (l *leg) handleUpdate(req *sip.Request, tx *sip.ServerTx, user legUser) {
	body, ok := sessionDescription(req)
	if !ok || user == nil {
		l.n.refuse(req, tx, 415, sip.NewHeader("Accept", "application/sdp"))
		return
	}
	s := l.newServerInvite(req, tx)
	var answer []byte
	if len(body) > 0 {
		if code := l.claimAnswer(); code != 0 {
			l.n.refuse(req, tx, code)
			return
		}
		defer l.releaseAnswer()
		var refusal *cause
		if answer, refusal = user.offer(l.ctx, sip.UPDATE, body); refusal != nil {
			s.reject(*refusal)
			return
		}
	}
	l.refreshTarget(req)
	l.n.respond(tx, s.response(200, answer))
	s.startSessionTimer()
}

func (l *leg) handlePrack(req *sip.Request, tx *sip.ServerTx) {
	rseq, rest, _ := strings.Cut(headerValue(req, "RAck"), " ")
	number, err := strconv.ParseUint(rseq, 10, 32)
	l.mu.Lock()
	waiting := l.pracks[uint32(number)]
	invite := l.invite
	l.mu.Unlock()
	if err != nil || waiting == nil || invite == nil || strings.Join(strings.Fields(rest), " ") != invite.req.CSeq().Value() {
		l.n.refuse(req, tx, 481)
		return
	}
	l.n.respond(tx, sip.NewResponseFromRequest(req, 200, "OK", nil))
	select {
	case waiting <- req:
	default:
	}
}

// sessionDescription returns the session description in a message: none, the
// body, or a part of a multipart body. It returns false when there is a body
// of another type only.
func sessionDescription(m sip.Message) ([]byte, bool) {
	if m == nil || len(m.Body()) == 0 {
		return nil, true
	}
	contentType := headerValue(m, "Content-Type", "c")
	kind, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return nil, false
	case kind == "application/sdp":
		return m.Body(), true
	case !strings.HasPrefix(kind, "multipart/"):
		return nil, false
	}
	parts := multipart.NewReader(bytes.NewReader(m.Body()), params["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			return nil, false
		}
		if kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type")); err == nil && kind == "application/sdp" {
			body, err := io.ReadAll(part)
			return body, err == nil
		}
	}
}
