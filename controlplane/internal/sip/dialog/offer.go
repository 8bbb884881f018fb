package dialog

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// localOffer is a change that this side wants: a Reoffer of the gateway, or a
// session refresh (token 0).
type localOffer struct {
	token   Token
	sdp     string
	tx      Tx
	update  bool
	retries int
	// provisional: a 1xx came, so the re-INVITE may be cancelled.
	provisional bool
	expired     bool
	interval    uint32
	minSE       uint32
}

// maxGlare bounds the repetitions after 491.
const maxGlare = 6

// Reoffer changes the session. A Done with the token brings the outcome.
func (m *Machine) Reoffer(token Token, sdp string) ([]Effect, error) {
	switch m.phase {
	case Over, Leaving:
		return nil, gateway.ErrNoDialog
	case Calling:
		if m.updatable() == nil {
			return nil, gateway.ErrTooEarly
		}
	}
	m.waiting = append(m.waiting, &localOffer{token: token, sdp: sdp, interval: m.sessionInterval(), minSE: m.cfg.MinSE})
	m.startNext()
	return m.take(), nil
}

// Forget gives up on a Reoffer whose caller does not wait any longer. One that has
// been sent runs to its end all the same.
func (m *Machine) Forget(token Token) []Effect {
	m.waiting = slices.DeleteFunc(m.waiting, func(l *localOffer) bool { return l.token == token })
	if m.local != nil && m.local.token == token {
		if m.local.tx == 0 {
			m.local = nil
			m.add(Stop{TimerGlare})
			m.startNext()
		}
	}
	return m.take()
}

func (m *Machine) sessionInterval() uint32 {
	if m.d.Session != nil {
		return m.d.Session.Interval
	}
	return m.cfg.SessionExpires
}

// startNext sends the next waiting offer if nothing else is under way.
func (m *Machine) startNext() {
	if m.local != nil || m.remote != nil || len(m.waiting) == 0 {
		return
	}
	next := m.waiting[0]
	switch m.phase {
	case ConfirmedPhase:
	case Calling:
		// Before the answer only UPDATE can do it, in a dialog whose offer was
		// answered reliably (RFC 3311 5.1).
		if e := m.updatable(); e == nil || m.caller.cancelled {
			return
		}
	default:
		return
	}
	m.waiting = m.waiting[1:]
	m.local = next
	m.sendOffer()
}

func (m *Machine) updatable() *earlyDialog {
	for _, e := range slices.Backward(m.caller.early) {
		if e.answered && e.PeerUpdate {
			return e
		}
	}
	return nil
}

func (m *Machine) sendOffer() {
	l := m.local
	d := &m.d
	s := Send{Method: "INVITE", Body: SDP(l.sdp)}
	if m.phase == Calling {
		e := m.updatable()
		if e == nil {
			m.waiting = append([]*localOffer{l}, m.waiting...)
			m.local = nil
			return
		}
		d = &e.State
		s.Method = "UPDATE"
	} else if l.token == 0 && m.d.PeerUpdate {
		// RFC 4028 7.4: a refresh by UPDATE needs no description.
		s = Send{Method: "UPDATE"}
	}
	l.update = s.Method == "UPDATE"
	if l.interval > 0 && m.phase == ConfirmedPhase {
		refresher := "uac"
		if m.d.Session != nil && !m.d.Session.Refresher {
			refresher = "uas"
		}
		s.Fields = append(s.Fields,
			Field{"Session-Expires", fmt.Sprintf("%d;refresher=%s", l.interval, refresher)},
			Field{"Min-SE", fmt.Sprint(l.minSE)})
	}
	k := kOffer
	if l.token == 0 {
		k = kRefresh
	}
	l.provisional, l.expired = false, false
	l.tx = m.send(k, d, s, l.token)
	if !l.update {
		m.add(Start{TimerReinvite, m.cfg.long()})
	}
}

func (m *Machine) offerResponse(tx Tx, t *clientTx, r Response) {
	invite := t.send.Method == "INVITE"
	mine := m.local != nil && m.local.tx == tx
	if r.Code < 200 {
		if mine && invite && !m.local.provisional {
			m.local.provisional = true
			if m.local.expired {
				m.add(SendCANCEL{Tx: tx})
			}
		}
		return
	}
	if r.Code < 300 && invite {
		// Always, also when the call is over: the peer repeats it otherwise.
		d := m.dialogOf(t.send)
		m.add(SendACK{Dialog: d.clone(), Seq: t.send.Seq})
	} else {
		delete(m.txs, tx)
	}
	if !mine {
		return
	}
	if invite {
		m.add(Stop{TimerReinvite})
	}
	l := m.local
	l.tx = 0
	switch {
	case r.Code < 300:
		d := m.dialogOf(t.send)
		if d == nil {
			d = &t.send.Dialog // it ended meanwhile
		}
		d.learn(r)
		if t.send.Body.Content != "" {
			d.LocalSDP = t.send.Body.Content
		}
		if e := m.caller.find(d.RemoteTag); e != nil && r.SDP != "" {
			e.sdp = r.SDP
		}
		if m.phase == ConfirmedPhase {
			m.session(r.SessionExpires, r.Refresher, true)
			m.dirty = true
		}
		m.settle(Done{Token: l.token, Answer: r.SDP})
	case r.Code == 491 && l.retries < maxGlare && m.phase != Leaving:
		l.retries++
		m.add(Start{TimerGlare, m.glareDelay()})
	case r.Code == 422 && r.MinSE > l.interval && l.retries < maxGlare && m.phase == ConfirmedPhase:
		l.retries++
		l.interval, l.minSE = r.MinSE, r.MinSE
		m.sendOffer()
	case r.Code == 481 || r.Code == 408:
		m.gone(l.token, &gateway.RejectedError{Signal: r.Signal}, r.Signal)
	case l.token == 0 && l.update && m.phase == ConfirmedPhase && m.d.LocalSDP != "":
		// A peer that does not like the UPDATE gets a re-INVITE.
		m.d.PeerUpdate = false
		l.sdp = m.d.LocalSDP
		m.sendOffer()
	default:
		if l.expired {
			m.settle(Done{Token: l.token, Err: gateway.ErrNetworkTimeout})
			return
		}
		m.settle(Done{Token: l.token, Err: &gateway.RejectedError{Signal: r.Signal}})
	}
}

// glareDelay is RFC 3261 14.1, scaled with T1.
func (m *Machine) glareDelay() time.Duration {
	unit := 10 * time.Millisecond * time.Duration(m.cfg.T1) / (500 * time.Millisecond)
	if m.d.Initiator {
		return unit * time.Duration(210+m.cfg.Rand(191))
	}
	return unit * time.Duration(m.cfg.Rand(201))
}

func (m *Machine) glareOver() {
	if m.local == nil || m.local.tx != 0 {
		return
	}
	if m.remote != nil {
		// Theirs came first; try again when it is done.
		m.waiting = append([]*localOffer{m.local}, m.waiting...)
		m.local = nil
		return
	}
	m.sendOffer()
}

func (m *Machine) offerFailed(tx Tx, t *clientTx) {
	if m.local == nil || m.local.tx != tx {
		return
	}
	m.add(Stop{TimerReinvite})
	m.gone(t.token, gateway.ErrNetworkTimeout, call.Signal{Code: 408, Phrase: "The far end does not answer any more"})
}

// gone settles an offer whose outcome is that the dialog is no more.
func (m *Machine) gone(token Token, err error, s call.Signal) {
	m.local = nil
	if token != 0 {
		m.add(Done{Token: token, Err: err})
	}
	m.lost(s)
	m.startNext()
}

func (m *Machine) reinviteTimer() {
	l := m.local
	if l == nil || l.tx == 0 || l.expired {
		return
	}
	l.expired = true
	if l.provisional {
		m.add(SendCANCEL{Tx: l.tx})
	}
	m.add(Start{TimerReinvite, m.cfg.long()})
}

// settle ends the local offer.
func (m *Machine) settle(d Done) {
	m.local = nil
	if d.Token != 0 {
		m.add(d)
	}
	m.startNext()
}
