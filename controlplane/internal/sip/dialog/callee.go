package dialog

import (
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// callee is the state of an INVITE that this side received.
type callee struct {
	req    Request
	rseq   uint32
	unack  *Respond // reliable 1xx that waits for its PRACK
	every  int      // its repetitions
	queue  []Respond
	last   *Respond // last unreliable 18x
	accept *string  // SDP of a 200 that waits for a PRACK
	// answered: our answer went out in a reliable 1xx that was acknowledged.
	answered bool
	// offered: an offerless INVITE got our offer in a reliable 1xx, early is the
	// answer to it that came with the PRACK.
	offered bool
	early   string
	ok      Respond
	okFor   Req
	okSeq   uint32
	okN     int
}

func (c *callee) offerless() bool { return c.req.Body.Content == "" }

// NewCallee is a call that was received with req; d is the dialog that a response
// with our tag makes.
func NewCallee(cfg Config, d State, req Request) *Machine {
	d.RemoteSeq = req.Seq
	d.PeerUpdate = req.HasAllow && req.AllowsUpdate
	d.PeerTimer = req.SupportsTimer
	m := &Machine{cfg: cfg, phase: Ringing, d: d, txs: map[Tx]*clientTx{}}
	m.callee.req = req
	// RFC 3262 3: the first RSeq is random, in the lower half.
	m.callee.rseq = uint32(cfg.Rand(1 << 30))
	return m
}

// TooSmall reports whether the INVITE proposes a session interval below ours, to
// be answered with 422 (RFC 4028 9).
func TooSmall(cfg Config, req Request) bool {
	return cfg.SessionExpires > 0 && req.SessionExpires > 0 && req.SupportsTimer && req.SessionExpires < cfg.MinSE
}

// Progress sends a provisional response.
func (m *Machine) Progress(code int, phrase, sdp string) ([]Effect, error) {
	c := &m.callee
	if m.phase != Ringing || c.accept != nil || code < 101 || code > 199 {
		return nil, ErrState
	}
	r := Respond{Req: c.req.ID, Code: code, Phrase: phrase, Body: SDP(sdp)}
	if c.answered {
		r.Body = Body{} // the answer has been given (RFC 6337 2.2)
	}
	reliable := c.req.Requires100rel || c.req.Supports100rel && m.cfg.Reliable != "off"
	if c.offerless() && !c.offered {
		// The first reliable message must have our offer (RFC 3262 5), so what
		// comes before it is unreliable, if the caller lets it be.
		reliable = reliable && (sdp != "" || c.req.Requires100rel)
		if !reliable {
			r.Body = Body{}
		}
		c.offered = r.Body.Content != ""
	} else if c.offerless() {
		r.Body = Body{} // one offer is enough
	}
	if r.Body.Content != "" {
		m.d.LocalSDP = sdp
	}
	if !reliable {
		c.last = &r
		m.add(r)
		m.add(Start{TimerRinging, m.cfg.Ringing})
		return m.take(), nil
	}
	if c.unack != nil {
		c.queue = append(c.queue, r)
		return m.take(), nil
	}
	m.reliable(r)
	return m.take(), nil
}

func (m *Machine) reliable(r Respond) {
	c := &m.callee
	c.rseq++
	r.Fields = []Field{{"Require", "100rel"}, {"RSeq", fmt.Sprint(c.rseq)}}
	c.unack, c.every = &r, 0
	m.add(r)
	m.add(Start{TimerReliable, m.cfg.T1})
	m.add(Start{TimerPRACK, m.cfg.long()})
}

// prack takes a PRACK (RFC 3262 3).
func (m *Machine) prack(r Request) {
	c := &m.callee
	if m.phase != Ringing || c.unack == nil || r.RAckRSeq != c.rseq || r.RAckSeq != c.req.Seq || r.RAckMethod != "INVITE" {
		m.add(Respond{Req: r.ID, Code: 481, Phrase: "Call/Transaction Does Not Exist"})
		return
	}
	sdp := c.unack.Body.Content
	c.unack = nil
	m.add(Stop{TimerReliable})
	m.add(Stop{TimerPRACK})
	switch {
	case sdp != "" && c.offerless():
		c.early = r.Body.Content
		c.answered = true
		m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
		m.tell(Acknowledged{SDP: c.early})
	case sdp != "" || c.answered:
		c.answered = true
		switch {
		case r.Body.Content != "" && m.remote != nil:
			m.add(Respond{Req: r.ID, Code: 500, Phrase: "Request Pending", Fields: []Field{{"Retry-After", fmt.Sprint(m.cfg.Rand(11))}}})
		case r.Body.Content != "":
			// A new offer (RFC 3262 5): answered in the PRACK's 200.
			m.offered(&m.d, r, false)
		default:
			m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
		}
	default:
		m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
	}
	switch {
	case c.accept != nil:
		m.accept()
	case len(c.queue) > 0:
		next := c.queue[0]
		c.queue = c.queue[1:]
		if c.answered {
			next.Body = Body{}
		}
		m.reliable(next)
	}
}

// Accept answers the call.
func (m *Machine) Accept(sdp string) ([]Effect, error) {
	c := &m.callee
	if m.phase != Ringing || c.accept != nil {
		return nil, ErrState
	}
	c.accept = &sdp
	c.queue = nil
	m.add(Stop{TimerRinging})
	if c.unack != nil && c.unack.Body.Content != "" {
		return m.take(), nil // RFC 3262 3: not before its PRACK
	}
	m.accept()
	return m.take(), nil
}

func (m *Machine) accept() {
	c := &m.callee
	sdp := *c.accept
	c.unack = nil
	m.add(Stop{TimerReliable})
	m.add(Stop{TimerPRACK})
	r := Respond{Req: c.req.ID, Code: 200, Phrase: "OK"}
	if !c.answered {
		r.Body = SDP(sdp)
		m.d.LocalSDP = sdp
	}
	r.Fields = m.sessionAnswer(c.req)
	m.phase = Accepted
	m.sendOK(r, c.req.Seq)
}

// sendOK sends a 2xx to an INVITE and repeats it until the ACK (RFC 3261
// 13.3.1.4).
func (m *Machine) sendOK(r Respond, seq uint32) {
	c := &m.callee
	c.ok, c.okFor, c.okSeq, c.okN = r, r.Req, seq, 0
	m.add(r)
	m.add(Start{TimerOK, m.cfg.T1})
	m.add(Start{TimerACK, m.cfg.long()})
}

// ack takes an ACK to a 2xx.
func (m *Machine) ack(r Request) {
	c := &m.callee
	if c.okFor == 0 || r.Seq != c.okSeq {
		return
	}
	c.okFor = 0
	m.add(Stop{TimerOK})
	m.add(Stop{TimerACK})
	if m.phase == Accepted {
		m.phase = ConfirmedPhase
		sdp := ""
		if c.offerless() {
			sdp = r.Body.Content
			if sdp == "" {
				sdp = c.early
			}
		}
		m.tell(Confirmed{SDP: sdp, Dialog: m.stored()})
		if m.endAfterACK != nil {
			m.leave(*m.endAfterACK)
			return
		}
		m.startNext()
		return
	}
	if m.remote != nil && m.remote.answered {
		offerless := m.remote.offerless
		m.remote = nil
		if m.phase != ConfirmedPhase {
			return
		}
		if offerless {
			m.tell(Confirmed{SDP: r.Body.Content, Dialog: m.stored()})
		}
		m.startNext()
	}
}

func (m *Machine) okTimer(t Timer) {
	c := &m.callee
	if c.okFor == 0 {
		return
	}
	switch t {
	case TimerOK:
		m.add(c.ok)
		c.okN++
		m.add(Start{TimerOK, min(m.cfg.T1<<min(c.okN, 10), m.cfg.T2)})
	case TimerACK:
		c.okFor = 0
		m.add(Stop{TimerOK})
		if m.phase == Leaving {
			return
		}
		m.bye(call.Cause{SIPCause: 408, Text: "No ACK"})
		m.over(gateway.Ending{Kind: gateway.EndedFailed, Local: m.endAfterACK != nil,
			Signal: call.Signal{Phrase: "The caller did not confirm the answer in time"}})
	}
}

// refuse answers the INVITE with a failure.
func (m *Machine) refuse(cause call.Cause) {
	code := cause.Code
	if code < 300 || code > 699 {
		code = 480
	}
	m.add(Respond{Req: m.callee.req.ID, Code: code, Fields: append(ReasonFields(cause), refusalFields(code)...)})
	m.over(gateway.Ending{Kind: gateway.EndedRefused, Local: true, Signal: call.Signal{Code: code, Phrase: cause.Text, Q850: cause.Q850}})
}

// refusalFields explain a failure: a Warning when no media fits (RFC 3261 20.43),
// Retry-After when there is no room.
func refusalFields(code int) []Field {
	switch code {
	case 488, 606:
		return []Field{{"Warning", `305 gateway "Incompatible media format"`}}
	case 503:
		return []Field{{"Retry-After", "5"}}
	}
	return nil
}

// Cancel is a CANCEL of the INVITE. Its own 200 is sent by the machine as well.
func (m *Machine) Cancel(r Request) []Effect {
	m.add(Respond{Req: r.ID, Code: 200, Phrase: "OK"})
	if m.phase == Ringing {
		m.withdrawn(r)
	}
	return m.take()
}

// withdrawn ends a call whose caller gave up.
func (m *Machine) withdrawn(r Request) {
	m.add(Respond{Req: m.callee.req.ID, Code: 487, Phrase: "Request Terminated"})
	s := call.Signal{Code: 487, Phrase: "Request Terminated", Q850: r.Q850}
	if r.SIPCause == 200 {
		s.Phrase = "Call completed elsewhere"
	}
	m.over(gateway.Ending{Kind: gateway.EndedCancelled, Signal: s})
}

func (m *Machine) calleeTimer(t Timer) {
	c := &m.callee
	if m.phase != Ringing {
		return
	}
	switch t {
	case TimerReliable:
		if c.unack != nil {
			c.every++
			m.add(*c.unack)
			m.add(Start{TimerReliable, m.cfg.T1 << min(c.every, 10)})
		}
	case TimerPRACK:
		if c.unack != nil {
			m.add(Respond{Req: c.req.ID, Code: 504, Phrase: "Server Time-out"})
			m.over(gateway.Ending{Kind: gateway.EndedFailed, Signal: call.Signal{Code: 504, Phrase: "No PRACK for a reliable response"}})
		}
	case TimerRinging:
		if c.last != nil && c.accept == nil {
			r := *c.last
			m.add(r)
			m.add(Start{TimerRinging, m.cfg.Ringing})
		}
	}
}
