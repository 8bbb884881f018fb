package dialog

import (
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Config of a machine; every duration above 0.
type Config struct {
	T1, T2 time.Duration
	// Invite bounds the set-up of a call, Attempt the wait for any response from
	// one target while there are others, Ringing the time between repeated 18x.
	Invite, Attempt, Ringing time.Duration
	// Targets is the number of places that the first INVITE may be sent to.
	Targets int
	// Retarget changes what the place of a number (from 0) needs otherwise than
	// the one before: it may be on another trunk, with other URIs and policy. nil
	// changes nothing.
	Retarget func(target int, d *State, cfg *Config)
	// FollowRedirects of 3xx, FollowRefer of REFER.
	FollowRedirects, FollowRefer bool
	// Reliable provisional responses: "off", "supported" or "required".
	Reliable string
	// SessionExpires proposed, in seconds, 0 for no session timers; MinSE is the
	// least that is accepted.
	SessionExpires, MinSE uint32
	// DigitType is the INFO body to write: "application/dtmf-relay" or
	// "application/dtmf".
	DigitType string
	// Now and Rand (0 ≤ n < limit) come from outside.
	Now  func() time.Time
	Rand func(limit int) int
}

func (c Config) long() time.Duration { return 64 * c.T1 }

// Phase of a call.
type Phase int

// Phases, see the package comment.
const (
	Calling Phase = iota + 1
	Ringing
	Accepted
	ConfirmedPhase
	Leaving
	Over
)

// ErrState answers a wish that does not fit the phase.
var ErrState = errors.New("the call is not in a state for that")

// Machine is one call. It is not safe for concurrent use.
type Machine struct {
	cfg   Config
	phase Phase
	d     State
	out   []Effect

	lastTx Tx
	txs    map[Tx]*clientTx

	caller  caller
	callee  callee
	remote  *remoteOffer
	local   *localOffer
	waiting []*localOffer
	// endAfterACK is set by End while the ACK to our 200 is due.
	endAfterACK *call.Cause
	// referring: a REFER was accepted whose outcome is not known yet.
	referring bool
	// ending is what Ended will say once the BYE is answered.
	ending    gateway.Ending
	dirty     bool
	storedSeq uint32
}

type kind int

const (
	kInvite kind = iota + 1
	kPRACK
	kBYE
	kOffer   // re-INVITE or UPDATE of ours
	kRefresh // session refresh
	kINFO
	kNotify  // the progress of a REFER
	kForeign // BYE of a dialog that is not the call's
)

// clientTx remembers what was sent, for digest and for glare.
type clientTx struct {
	kind  kind
	send  Send
	token Token
	// cancelled: a CANCEL for it was sent.
	cancelled bool
}

// Phase is where the call stands.
func (m *Machine) Phase() Phase { return m.phase }

// Dialog is the confirmed dialog.
func (m *Machine) Dialog() State { return m.d.clone() }

func (m *Machine) add(e Effect) { m.out = append(m.out, e) }

// tell adds an event unless the call is over.
func (m *Machine) tell(e Effect) {
	if m.phase != Over {
		m.add(e)
	}
}

func (m *Machine) take() []Effect {
	if m.dirty && m.phase == ConfirmedPhase {
		m.dirty = false
		m.storedSeq = m.d.LocalSeq
		m.add(Changed{Dialog: m.d.clone()})
	}
	out := m.out
	m.out = nil
	return out
}

// stored marks the dialog as told with an event.
func (m *Machine) stored() State {
	m.dirty = false
	m.storedSeq = m.d.LocalSeq
	return m.d.clone()
}

// send starts a client transaction in dialog d.
func (m *Machine) send(k kind, d *State, s Send, token Token) Tx {
	m.lastTx++
	d.LocalSeq++
	s.Tx, s.Seq, s.Dialog = m.lastTx, d.LocalSeq, d.clone()
	m.txs[s.Tx] = &clientTx{kind: k, send: s, token: token}
	m.add(s)
	if d == &m.d && m.d.LocalSeq-m.storedSeq >= storeEvery {
		m.dirty = true
	}
	return s.Tx
}

// dialogOf finds the dialog whose CSeq a transaction uses; nil for an early dialog
// that is no more.
func (m *Machine) dialogOf(s Send) *State {
	if m.phase == Calling {
		if s.Method == "INVITE" {
			return &m.d
		}
		if e := m.caller.find(s.Dialog.RemoteTag); e != nil {
			return &e.State
		}
		return nil
	}
	if s.Dialog.RemoteTag == m.d.RemoteTag {
		return &m.d
	}
	return &s.Dialog
}

// Challenged sends a request again because its credentials were refused; the
// caller adds new ones to the message.
func (m *Machine) Challenged(tx Tx) []Effect {
	t := m.txs[tx]
	if t == nil {
		return m.take()
	}
	delete(m.txs, tx)
	switch {
	case t.kind == kInvite && (m.phase != Calling || m.caller.tx != tx):
	case t.kind == kInvite && m.caller.cancelled:
		m.cancelledBy(call.Signal{Code: 487, Phrase: "Request Terminated"})
	case (t.kind == kOffer || t.kind == kRefresh) && (m.phase == Leaving || m.phase == Over):
		if m.local != nil && m.local.tx == tx {
			m.drop(m.local)
			m.local = nil
		}
	case t.kind == kPRACK && m.phase != Calling && t.send.Dialog.RemoteTag != m.d.RemoteTag:
		// The call was answered in another branch.
	case m.dialogOf(t.send) == nil:
		if m.local != nil && m.local.tx == tx {
			m.waiting = append([]*localOffer{m.local}, m.waiting...)
			m.local = nil
			m.startNext()
		}
	default:
		if t.kind == kInvite {
			m.restart()
		}
		n := m.send(t.kind, m.dialogOf(t.send), t.send, t.token)
		switch t.kind {
		case kInvite:
			m.caller.tx = n
		case kOffer, kRefresh:
			if m.local != nil && m.local.tx == tx {
				m.local.tx, m.local.provisional = n, false
			}
		}
	}
	return m.take()
}

// Response of a client transaction.
func (m *Machine) Response(tx Tx, r Response) []Effect {
	t := m.txs[tx]
	if t == nil {
		return m.take()
	}
	switch t.kind {
	case kInvite:
		m.inviteResponse(tx, t, r)
	case kOffer, kRefresh:
		m.offerResponse(tx, t, r)
	default:
		if r.Code < 200 {
			break
		}
		delete(m.txs, tx)
		m.finished(t, r.Signal, nil)
	}
	return m.take()
}

// Failed is a client transaction that got no final response.
func (m *Machine) Failed(tx Tx, err error, timeout bool) []Effect {
	t := m.txs[tx]
	if t == nil {
		return m.take()
	}
	delete(m.txs, tx)
	switch t.kind {
	case kInvite:
		m.inviteFailed(tx, err, timeout)
	case kOffer, kRefresh:
		m.offerFailed(tx, t)
	default:
		m.finished(t, call.Signal{Phrase: err.Error()}, err)
	}
	return m.take()
}

// finished ends PRACK, BYE and INFO.
func (m *Machine) finished(t *clientTx, s call.Signal, err error) {
	switch t.kind {
	case kBYE:
		m.over(m.ending)
	case kINFO:
		switch {
		case err != nil:
			m.add(Done{Token: t.token, Err: gateway.ErrNetworkTimeout})
		case s.Code >= 300:
			m.add(Done{Token: t.token, Err: &gateway.RejectedError{Signal: s}})
		default:
			m.add(Done{Token: t.token})
		}
		if s.Code == 481 || s.Code == 408 {
			m.lost(s)
		}
	}
}

// lost ends a call whose dialog is gone at the peer (RFC 3261 12.2.1.2).
func (m *Machine) lost(s call.Signal) {
	if m.phase != ConfirmedPhase {
		return
	}
	m.bye(call.Cause{SIPCause: 408, Text: "Dialog lost"})
	m.over(gateway.Ending{Kind: gateway.EndedFailed, Signal: s})
}

// over ends the call, once.
func (m *Machine) over(e gateway.Ending) {
	if m.phase == Over {
		return
	}
	m.add(StopAll{})
	if m.remote != nil {
		if !m.remote.answered {
			m.add(Respond{Req: m.remote.req, Code: 487, Phrase: "Request Terminated"})
		}
		m.remote = nil
	}
	if m.local != nil {
		m.drop(m.local)
		m.local = nil
	}
	for _, l := range m.waiting {
		m.drop(l)
	}
	m.waiting = nil
	for _, t := range m.txs {
		if t.kind == kINFO {
			m.add(Done{Token: t.token, Err: gateway.ErrNoDialog})
			t.token = 0
			t.kind = kForeign
		}
	}
	m.dirty = false
	m.add(Ended{e})
	m.phase = Over
}

func (m *Machine) drop(l *localOffer) {
	if l.token != 0 {
		m.add(Done{Token: l.token, Err: gateway.ErrNoDialog})
	}
}

// bye sends BYE in the confirmed dialog.
func (m *Machine) bye(c call.Cause) {
	m.send(kBYE, &m.d, Send{Method: "BYE", Fields: ReasonFields(c)}, 0)
}

// End ends the call by what its phase asks for.
func (m *Machine) End(c call.Cause) []Effect {
	switch m.phase {
	case Calling:
		m.cancel(c)
	case Ringing:
		m.refuse(c)
	case Accepted:
		if m.endAfterACK == nil {
			m.endAfterACK = &c
		}
	case ConfirmedPhase:
		m.leave(c)
	}
	return m.take()
}

// leave sends BYE and waits for its answer.
func (m *Machine) leave(c call.Cause) {
	m.bye(c)
	m.ending = gateway.Ending{Kind: gateway.EndedBye, Local: true, Signal: call.Signal{Phrase: c.Text, Q850: c.Q850}}
	m.phase = Leaving
	for _, t := range []Timer{TimerGlare, TimerRefresh, TimerExpire} {
		m.add(Stop{t})
	}
}

// Fired is a timer that was started and has run out.
func (m *Machine) Fired(t Timer) []Effect {
	if m.phase == Over {
		return m.take()
	}
	switch t {
	case TimerInvite, TimerAttempt, TimerCancel:
		m.callerTimer(t)
	case TimerReliable, TimerPRACK, TimerRinging:
		m.calleeTimer(t)
	case TimerOK, TimerACK:
		m.okTimer(t)
	case TimerGlare:
		m.glareOver()
	case TimerReinvite:
		m.reinviteTimer()
	case TimerRefresh:
		m.refresh()
	case TimerExpire:
		m.expired()
	}
	return m.take()
}

// ReasonFields is the Reason header (RFC 3326) of a cause.
func ReasonFields(c call.Cause) []Field {
	text := ""
	if c.Text != "" {
		text = ";text=" + quoteReason(c.Text)
	}
	switch {
	case c.SIPCause != 0:
		return []Field{{"Reason", fmt.Sprintf("SIP;cause=%d%s", c.SIPCause, text)}}
	case c.Q850 != 0:
		return []Field{{"Reason", fmt.Sprintf("Q.850;cause=%d%s", c.Q850, text)}}
	}
	return nil
}

func quoteReason(s string) string {
	b := make([]rune, 0, len(s)+2)
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', r)
		case r < ' ' || r == 0x7f:
			b = append(b, ' ')
		default:
			b = append(b, r)
		}
	}
	return string(append(b, '"'))
}
