package dialog

import (
	"fmt"
	"slices"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// caller is the state of an INVITE that this side sent.
type caller struct {
	tx     Tx
	offer  Send
	target int
	// any response came, one above 100 came.
	responded, progressed bool
	cancelled, cancelSent bool
	// timedOut: the cancellation is the gateway's own, by the set-up timer.
	timedOut bool
	cause    call.Cause
	early    []*earlyDialog
	// heard is the early dialog whose session was told last.
	heard *earlyDialog
	// foreign lists the To tags of dialogs that were ended at once.
	foreign   []string
	redirects []target
	followed  int
	history   history
	interval  uint32
	minSE     uint32
	smaller   int
}

// earlyDialog is one branch of a forked call (RFC 3261 13.2.2.4).
type earlyDialog struct {
	State
	rseq uint32
	// answered: our offer has been answered reliably, so UPDATE may follow.
	answered bool
	// sdp is the last session description that came in it.
	sdp string
}

func (c *caller) find(tag string) *earlyDialog {
	for _, e := range c.early {
		if e.RemoteTag == tag {
			return e
		}
	}
	return nil
}

// NewCaller is a call to be made; d has everything but what the peer decides.
func NewCaller(cfg Config, d State, sdp string) *Machine {
	d.Initiator = true
	d.LocalSDP = sdp
	m := &Machine{cfg: cfg, phase: Calling, d: d, txs: map[Tx]*clientTx{}}
	m.caller.interval, m.caller.minSE = cfg.SessionExpires, cfg.MinSE
	m.caller.offer = Send{Method: "INVITE", Body: SDP(sdp)}
	return m
}

// Invite sends the first INVITE.
func (m *Machine) Invite() []Effect {
	m.add(Start{TimerInvite, m.cfg.Invite})
	m.attempt()
	return m.take()
}

func (m *Machine) attempt() {
	c := &m.caller
	m.retarget()
	s := c.offer
	s.Target = c.target
	if c.interval > 0 {
		s.Fields = append(s.Fields, Field{"Session-Expires", fmt.Sprint(c.interval)}, Field{"Min-SE", fmt.Sprint(c.minSE)})
	}
	if m.cfg.Reliable == "required" {
		s.Fields = append(s.Fields, Field{"Require", "100rel"})
	}
	s.Fields = append(s.Fields, c.history.fields()...)
	m.restart()
	c.tx = m.send(kInvite, &m.d, s, 0)
	if c.target+1 < m.cfg.Targets {
		m.add(Start{TimerAttempt, m.cfg.Attempt})
	}
}

// retarget takes over what the present target needs.
func (m *Machine) retarget() {
	if m.cfg.Retarget == nil {
		return
	}
	before := m.d.Trunk
	m.cfg.Retarget(m.caller.target, &m.d, &m.cfg)
	if m.d.Trunk != before {
		m.caller.interval, m.caller.minSE = m.cfg.SessionExpires, m.cfg.MinSE
	}
}

// restart forgets what the last INVITE brought, before the next one.
func (m *Machine) restart() {
	m.caller.responded, m.caller.progressed, m.caller.early, m.caller.heard = false, false, nil, nil
	if m.remote != nil {
		m.add(Respond{Req: m.remote.req, Code: 481, Phrase: "Call/Transaction Does Not Exist"})
		m.remote = nil
	}
}

// next tries the next target and reports whether there is one.
func (m *Machine) next() bool {
	c := &m.caller
	if c.cancelled || c.progressed || c.target+1 >= m.cfg.Targets || c.followed > 0 {
		return false
	}
	c.target++
	m.attempt()
	return true
}

func (m *Machine) inviteResponse(tx Tx, t *clientTx, r Response) {
	c := &m.caller
	switch {
	case r.Code >= 200 && r.Code < 300:
		m.accepted(tx, t, r)
	case m.phase != Calling || tx != c.tx:
		// A target that was given up: it must not ring on.
		if r.Code < 200 && r.Code > 100 && !t.cancelled {
			t.cancelled = true
			m.add(SendCANCEL{Tx: tx, Fields: m.elsewhere()})
		} else if r.Code >= 300 {
			delete(m.txs, tx)
		}
	case r.Code < 200:
		m.provisional(t, r)
	default:
		delete(m.txs, tx)
		m.add(Stop{TimerAttempt})
		m.failed(r)
	}
}

func (m *Machine) provisional(t *clientTx, r Response) {
	c := &m.caller
	first := !c.responded
	c.responded = true
	if first {
		m.add(Stop{TimerAttempt})
	}
	if c.cancelled && !c.cancelSent {
		m.sendCancel()
	}
	if r.Code == 100 {
		return
	}
	c.progressed = true
	e := c.find(r.ToTag)
	if e == nil {
		if r.Code == 199 && !r.Reliable {
			return
		}
		e = &earlyDialog{State: m.fork(t, r)}
		c.early = append(c.early, e)
	}
	e.learn(r)
	if r.Reliable {
		if e.rseq != 0 && r.RSeq != e.rseq+1 {
			return // a repetition, or out of order: not acknowledged (RFC 3262 4)
		}
		e.rseq = r.RSeq
		m.send(kPRACK, &e.State, Send{Method: "PRACK", Fields: []Field{
			{"RAck", fmt.Sprintf("%d %d INVITE", r.RSeq, t.send.Seq)}}}, 0)
		if r.SDP != "" {
			e.answered = true
		}
	}
	if r.Code == 199 {
		m.dropped(e, r)
		return
	}
	if r.SDP != "" {
		e.sdp, c.heard = r.SDP, e
	}
	if !c.cancelled {
		m.tell(Provisional{Signal: r.Signal, SDP: r.SDP, EarlyMedia: r.EarlyMedia})
		m.startNext()
	}
}

// dropped forgets the session of an early dialog that a 199 ended (RFC 6228). When
// it is the one that is heard, the latest of the others takes its place.
func (m *Machine) dropped(e *earlyDialog, r Response) {
	c := &m.caller
	e.answered, e.sdp = false, "" // nothing more is sent in it, but its CSeq stays known
	if c.heard != e {
		return
	}
	c.heard = nil
	for _, other := range slices.Backward(c.early) {
		if other.sdp == "" {
			continue
		}
		c.heard = other
		if !c.cancelled {
			m.tell(Provisional{Signal: r.Signal, SDP: other.sdp})
		}
		return
	}
}

// elsewhere is why a branch is ended that was too late.
func (m *Machine) elsewhere() []Field {
	if m.phase != ConfirmedPhase {
		return nil
	}
	return ReasonFields(call.Cause{SIPCause: 200, Text: "Call completed elsewhere"})
}

// fork makes the dialog that a response opens (RFC 3261 12.1.2).
func (m *Machine) fork(t *clientTx, r Response) State {
	d := t.send.Dialog.clone() // not m.d: that may be on another trunk by now
	d.RemoteTag = r.ToTag
	d.LocalSeq = t.send.Seq
	if t.send.Redirect != "" {
		d.Target = t.send.Redirect
	}
	d.Routes = slices.Clone(r.RecordRoute)
	slices.Reverse(d.Routes)
	d.RemoteSeq = 0
	return d
}

// learn takes over what a response says about the peer.
func (s *State) learn(r Response) (changed bool) {
	if r.Contact != "" && r.Contact != s.Target {
		s.Target = r.Contact
		changed = true
	}
	if r.HasAllow {
		s.PeerUpdate = r.AllowsUpdate
	}
	if r.SupportsTimer {
		s.PeerTimer = true
	}
	return changed
}

// accepted handles every 2xx, the first and all others.
func (m *Machine) accepted(tx Tx, t *clientTx, r Response) {
	c := &m.caller
	if m.phase != Calling {
		if r.ToTag == m.d.RemoteTag && tx == c.tx {
			m.add(SendACK{Dialog: m.d.clone(), Seq: t.send.Seq})
			return
		}
		m.foreign(t, r)
		return
	}
	if tx != c.tx {
		m.foreign(t, r)
		return
	}
	d := m.fork(t, r)
	if e := c.find(r.ToTag); e != nil {
		// The route set is computed anew from the 2xx, the CSeq goes on
		// (RFC 3261 13.2.2.4).
		d.LocalSeq, d.RemoteSeq = e.LocalSeq, e.RemoteSeq
		d.PeerUpdate, d.PeerTimer = e.PeerUpdate, e.PeerTimer
		d.Target = e.Target
		d.LocalSDP = e.LocalSDP
		if r.SDP == "" {
			// Answered in this branch before; another may have been told since.
			r.SDP = e.sdp
		}
	}
	d.learn(r)
	seq := t.send.Seq
	m.d = d
	m.add(Stop{TimerAttempt})
	m.add(Stop{TimerInvite})
	m.add(Stop{TimerCancel})
	m.add(SendACK{Dialog: d.clone(), Seq: seq})
	m.phase = ConfirmedPhase
	if c.cancelled {
		if c.timedOut {
			m.bye(c.cause)
			m.unanswered()
			return
		}
		m.leave(c.cause)
		return
	}
	m.session(r.SessionExpires, r.Refresher, true)
	m.tell(Answered{Signal: r.Signal, SDP: r.SDP, Dialog: m.stored()})
	m.startNext()
}

// foreign acknowledges a 2xx of another branch and ends that dialog at once.
func (m *Machine) foreign(t *clientTx, r Response) {
	d := m.fork(t, r)
	if e := m.caller.find(r.ToTag); e != nil {
		d.LocalSeq = e.LocalSeq // a PRACK may have gone before
	}
	d.learn(r)
	m.add(SendACK{Dialog: d.clone(), Seq: t.send.Seq})
	if slices.Contains(m.caller.foreign, r.ToTag) {
		return // the 2xx again: its BYE has been sent
	}
	m.caller.foreign = append(m.caller.foreign, r.ToTag)
	m.lastTx++
	d.LocalSeq++
	s := Send{Tx: m.lastTx, Method: "BYE", Seq: d.LocalSeq, Dialog: d,
		Fields: ReasonFields(call.Cause{SIPCause: 200, Text: "Call completed elsewhere"})}
	m.txs[s.Tx] = &clientTx{kind: kForeign, send: s}
	m.add(s)
}

// failed handles 3xx to 6xx of the current INVITE.
func (m *Machine) failed(r Response) {
	c := &m.caller
	if c.cancelled {
		m.cancelledBy(r.Signal)
		return
	}
	switch {
	case r.Code == 422 && r.MinSE > c.interval && c.interval > 0 && c.smaller < 3:
		c.smaller++
		c.interval, c.minSE = r.MinSE, r.MinSE
		m.attempt()
		return
	case r.Code < 400 && m.cfg.FollowRedirects && c.followed < 5:
		if c.followed == 0 {
			c.redirects = nil
		}
		c.moved(m.d.Target, r)
		if m.redirect() {
			return
		}
	case r.Code == 503 || r.Code == 500 || r.Code == 408:
		if m.next() {
			return
		}
	}
	if c.followed > 0 && r.Code < 600 {
		c.history[len(c.history)-1].code = r.Code
		if m.redirect() {
			return
		}
	}
	m.over(gateway.Ending{Kind: gateway.EndedRejected, Signal: r.Signal})
}

// redirect follows the next Contact of a 3xx.
func (m *Machine) redirect() bool {
	c := &m.caller
	if len(c.redirects) <= c.followed {
		return false
	}
	next := c.redirects[c.followed]
	c.offer.Redirect = next.uri
	c.history.follow(next)
	c.followed++
	m.attempt()
	return true
}

// unanswered ends a call that was cancelled because nobody answered: for the
// device it is as if the network had given up.
func (m *Machine) unanswered() {
	m.over(gateway.Ending{Kind: gateway.EndedRejected, Signal: call.Signal{Code: 408, Phrase: "The call was not answered in time"}, Local: true})
}

func (m *Machine) cancelledBy(s call.Signal) {
	if m.caller.timedOut {
		m.unanswered()
		return
	}
	m.over(gateway.Ending{Kind: gateway.EndedRejected, Signal: s, Local: true})
}

func (m *Machine) inviteFailed(tx Tx, err error, timeout bool) {
	c := &m.caller
	if m.phase != Calling || tx != c.tx {
		return
	}
	m.add(Stop{TimerAttempt})
	if c.cancelled {
		m.cancelledBy(call.Signal{Code: 487, Phrase: "Request Terminated"})
		return
	}
	if m.next() || c.followed > 0 && m.redirect() {
		return
	}
	phrase := err.Error()
	if timeout {
		phrase = "The SIP network did not answer in time"
	}
	m.over(gateway.Ending{Kind: gateway.EndedFailed, Signal: call.Signal{Phrase: phrase}})
}

// cancel withdraws the call. CANCEL must not be sent before a provisional
// response (RFC 3261 9.1), so it may have to wait for one.
func (m *Machine) cancel(cause call.Cause) {
	c := &m.caller
	if c.cancelled {
		return
	}
	c.cancelled, c.cause = true, cause
	m.add(Stop{TimerAttempt})
	if c.responded {
		m.sendCancel()
	}
}

func (m *Machine) sendCancel() {
	m.caller.cancelSent = true
	if t := m.txs[m.caller.tx]; t != nil {
		t.cancelled = true
	}
	m.add(SendCANCEL{Tx: m.caller.tx, Fields: ReasonFields(m.caller.cause)})
	m.add(Start{TimerCancel, m.cfg.long()})
}

func (m *Machine) callerTimer(t Timer) {
	c := &m.caller
	if m.phase != Calling {
		return
	}
	switch t {
	case TimerAttempt:
		if !c.responded {
			m.next()
		}
	case TimerInvite:
		if !c.cancelled {
			c.timedOut = true
			m.cancel(call.Cause{Q850: 19, Text: "No answer in time"})
		}
	case TimerCancel:
		m.cancelledBy(call.Signal{Code: 487, Phrase: "Request Terminated"})
	}
}
