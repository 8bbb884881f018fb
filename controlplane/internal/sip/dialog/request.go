package dialog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// remoteOffer is the peer's offer under way.
type remoteOffer struct {
	req       Req
	invite    bool
	seq       uint32
	offerless bool
	answered  bool
	fields    []Field
	dialog    *State
	sdp       string
}

// Request received in the dialog. early names the dialog of a call that is still
// being set up, by its To tag as the peer's From tag.
func (m *Machine) Request(r Request, remoteTag string) []Effect {
	switch {
	case r.Method == "ACK":
		m.ack(r)
		return m.take()
	case m.phase == Over:
		m.add(Respond{Req: r.ID, Code: 481, Phrase: "Call/Transaction Does Not Exist"})
		return m.take()
	}
	d := &m.d
	if m.phase == Calling {
		e := m.caller.find(remoteTag)
		if e == nil {
			m.add(Respond{Req: r.ID, Code: 481, Phrase: "Call/Transaction Does Not Exist"})
			return m.take()
		}
		d = &e.State
	}
	if d.RemoteSeq != 0 && r.Seq < d.RemoteSeq {
		// RFC 3261 12.2.2
		m.add(Respond{Req: r.ID, Code: 500, Phrase: "Request Out Of Order"})
		return m.take()
	}
	d.RemoteSeq = r.Seq
	switch r.Method {
	case "BYE":
		m.byeReceived(r)
	case "PRACK":
		m.prack(r)
	case "INVITE", "UPDATE":
		m.offerReceived(d, r)
	case "INFO":
		m.info(r)
	case "REFER":
		m.refer(r)
	case "OPTIONS":
		m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK", Fields: []Field{{"Accept", "application/sdp, application/pidf+xml, multipart/mixed, application/dtmf-relay, application/dtmf"}}})
	default:
		m.add(Refuse(r.ID, r.Method))
	}
	return m.take()
}

// Refuse answers a method that calls have no use for.
func Refuse(id Req, method string) Respond {
	switch method {
	case "SUBSCRIBE", "NOTIFY":
		return Respond{Req: id, Code: 489, Phrase: "Bad Event"}
	case "REFER", "MESSAGE", "PUBLISH", "REGISTER":
		return Respond{Req: id, Code: 405, Phrase: "Method Not Allowed"}
	}
	return Respond{Req: id, Code: 501, Phrase: "Not Implemented"}
}

func (m *Machine) byeReceived(r Request) {
	m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
	s := call.Signal{Phrase: "BYE", Q850: r.Q850}
	if r.ReasonText != "" {
		s.Phrase = r.ReasonText
	}
	switch m.phase {
	case Calling:
		// An early dialog that ends itself; the INVITE gets its final response.
	case Ringing:
		m.withdrawn(r)
	case Leaving:
		m.over(m.ending)
	default:
		m.over(gateway.Ending{Kind: gateway.EndedBye, Signal: s})
	}
}

// offerReceived is a re-INVITE or UPDATE.
func (m *Machine) offerReceived(d *State, r Request) {
	invite := r.Method == "INVITE"
	offer := r.Body.Content != "" || invite
	respond := func(code int, phrase string, fields ...Field) {
		m.add(Respond{Req: r.ID, Code: code, Phrase: phrase, Fields: fields})
	}
	switch {
	case m.phase == Leaving:
		respond(487, "Request Terminated")
		return
	case TooSmall(m.cfg, r):
		respond(422, "Session Interval Too Small", Field{"Min-SE", fmt.Sprint(m.cfg.MinSE)})
		return
	case invite && (m.phase == Accepted || m.remote != nil):
		// RFC 3261 14.2: one INVITE at a time, and ours is not acknowledged yet.
		respond(500, "Request Pending", Field{"Retry-After", strconv.Itoa(m.cfg.Rand(11))})
		return
	case invite && m.phase != ConfirmedPhase:
		respond(500, "Request Pending", Field{"Retry-After", strconv.Itoa(m.cfg.Rand(11))})
		return
	case invite && m.local != nil && m.local.tx != 0:
		respond(491, "Request Pending")
		return
	case !invite && offer && m.local != nil && m.local.tx != 0:
		respond(491, "Request Pending")
		return
	case !invite && offer && m.remote != nil:
		respond(500, "Request Pending", Field{"Retry-After", strconv.Itoa(m.cfg.Rand(11))})
		return
	case !invite && offer && m.phase == Calling:
		// Our offer in the INVITE is answered only when a reliable response
		// said so (RFC 3311 5.2).
		if e := m.caller.find(d.RemoteTag); e == nil || !e.answered || m.caller.cancelled {
			respond(491, "Request Pending")
			return
		}
	case !invite && offer && m.phase == Ringing && !m.callee.answered:
		respond(500, "Request Pending", Field{"Retry-After", strconv.Itoa(m.cfg.Rand(11))})
		return
	}
	if r.Contact != "" && r.Contact != d.Target {
		d.Target = r.Contact
		m.dirty = true
	}
	if r.HasAllow {
		d.PeerUpdate = r.AllowsUpdate
	}
	d.PeerTimer = r.SupportsTimer
	if !offer {
		respond(200, "OK", m.refreshed(r)...)
		return
	}
	m.offered(d, r, invite)
}

// refreshed answers a session refresh; before the call is answered there is no
// session yet.
func (m *Machine) refreshed(r Request) []Field {
	if r.Method == "PRACK" || m.phase != ConfirmedPhase && m.phase != Accepted {
		return nil
	}
	return m.sessionAnswer(r)
}

func (m *Machine) offered(d *State, r Request, invite bool) {
	m.remote = &remoteOffer{req: r.ID, invite: invite, seq: r.Seq, offerless: r.Body.Content == "", fields: m.refreshed(r), dialog: d, sdp: r.Body.Content}
	m.tell(Offered{Req: r.ID, SDP: r.Body.Content})
}

// Answer to an Offered: the answer, or why it is refused.
func (m *Machine) Answer(req Req, sdp string, refusal *call.Signal) []Effect {
	o := m.remote
	if o == nil || o.req != req || o.answered {
		return m.take()
	}
	if refusal != nil {
		m.remote = nil
		code := refusal.Code
		if code < 300 || code > 699 {
			code = 488
		}
		m.add(Respond{Req: req, Code: code, Phrase: refusal.Phrase, Fields: refusalFields(code)})
		m.startNext()
		return m.take()
	}
	if m.phase == Calling {
		o.dialog.LocalSDP = sdp
		if e := m.caller.find(o.dialog.RemoteTag); e != nil {
			e.sdp = o.sdp
		}
	} else {
		m.d.LocalSDP = sdp
		m.dirty = true
	}
	r := Respond{Req: req, Code: 200, Phrase: "OK", Body: SDP(sdp), Fields: o.fields}
	o.answered = true
	if o.invite {
		m.sendOK(r, o.seq)
		return m.take()
	}
	m.remote = nil
	m.add(r)
	m.startNext()
	return m.take()
}

// info takes digits (application/dtmf-relay, application/dtmf).
func (m *Machine) info(r Request) {
	if r.InfoPackage != "" {
		// None was agreed on (RFC 6086 4.2.2).
		m.add(Respond{Req: r.ID, Code: 469, Phrase: "Bad Info Package", Fields: []Field{{"Recv-Info", "nil"}}})
		return
	}
	kind, _, _ := strings.Cut(strings.ToLower(r.Body.Type), ";")
	switch strings.TrimSpace(kind) {
	case "application/dtmf-relay":
		digit, ms := "", 160
		for line := range strings.Lines(r.Body.Content) {
			k, v, _ := strings.Cut(line, "=")
			switch strings.ToLower(strings.TrimSpace(k)) {
			case "signal":
				digit = strings.TrimSpace(v)
			case "duration":
				if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && n > 0 && n <= 60000 {
					ms = n
				}
			}
		}
		m.digit(r, digit, ms)
	case "application/dtmf":
		m.digit(r, strings.TrimSpace(r.Body.Content), 160)
	case "":
		m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
	default:
		m.add(Respond{Req: r.ID, Code: 415, Phrase: "Unsupported Media Type",
			Fields: []Field{{"Accept", "application/dtmf-relay, application/dtmf"}}})
	}
}

func (m *Machine) digit(r Request, digit string, ms int) {
	digit, ok := NormalDigit(digit)
	if !ok {
		m.add(Respond{Req: r.ID, Code: 400, Phrase: "Not a digit"})
		return
	}
	m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
	m.tell(Digit{Digit: digit, Ms: ms})
}

// NormalDigit is one of 0-9, *, #, A-D; 10 and 11 are also written for * and #.
func NormalDigit(s string) (string, bool) {
	switch s = strings.ToUpper(s); s {
	case "10":
		return "*", true
	case "11":
		return "#", true
	}
	return s, len(s) == 1 && strings.Contains("0123456789*#ABCD", s)
}

// SendDigit by INFO.
func (m *Machine) SendDigit(token Token, digit string, ms int) ([]Effect, error) {
	digit, ok := NormalDigit(digit)
	if m.phase != ConfirmedPhase || !ok {
		return nil, ErrState
	}
	body := Body{Type: "application/dtmf-relay", Content: fmt.Sprintf("Signal=%s\r\nDuration=%d\r\n", digit, ms)}
	if m.cfg.DigitType == "application/dtmf" {
		body = Body{Type: m.cfg.DigitType, Content: digit}
	}
	m.send(kINFO, &m.d, Send{Method: "INFO", Body: body}, token)
	return m.take(), nil
}
