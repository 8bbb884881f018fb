package dialog

import (
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// session starts the timer that a 2xx agreed on (RFC 4028 7.2, 10). mine: this
// side sent the request that was answered.
func (m *Machine) session(interval uint32, refresher string, mine bool) {
	m.add(Stop{TimerRefresh})
	m.add(Stop{TimerExpire})
	if interval == 0 || m.cfg.SessionExpires == 0 {
		if m.d.Session != nil {
			m.dirty = true
		}
		m.d.Session = nil
		return
	}
	we := refresher == "uas"
	if mine {
		we = refresher != "uas"
	}
	m.d.Session = &Session{Interval: interval, Refresher: we, Expires: m.cfg.Now().Add(time.Duration(interval) * time.Second)}
	m.dirty = true
	m.sessionTimers()
}

// sessionTimers sets the timers for what is left of the session.
func (m *Machine) sessionTimers() {
	s := m.d.Session
	if s == nil {
		return
	}
	whole := time.Duration(s.Interval) * time.Second
	left := max(s.Expires.Sub(m.cfg.Now()), 0)
	if s.Refresher {
		m.add(Start{TimerRefresh, max(left-whole/2, 0)})
		return
	}
	// RFC 4028 10: BYE a little before the end.
	m.add(Start{TimerExpire, max(left-min(32*time.Second, whole/3), 0)})
}

// sessionAnswer agrees to a session timer as UAS and is the fields of the 2xx
// (RFC 4028 9).
func (m *Machine) sessionAnswer(r Request) []Field {
	if m.cfg.SessionExpires == 0 {
		return nil
	}
	interval, refresher := r.SessionExpires, r.Refresher
	if interval == 0 || interval > m.cfg.SessionExpires && r.SupportsTimer {
		interval = max(m.cfg.SessionExpires, r.MinSE)
	}
	switch {
	case !r.SupportsTimer:
		// It neither refreshes nor complains: this side keeps the session
		// alive, which also finds out that the peer is gone.
		refresher = "uas"
		if r.SessionExpires == 0 && m.d.Session != nil && m.d.Session.Refresher {
			interval = m.d.Session.Interval
		}
	case refresher == "":
		refresher = "uac"
		if r.SessionExpires == 0 {
			refresher = "uas"
		}
	}
	m.session(interval, refresher, false)
	fields := []Field{{"Session-Expires", fmt.Sprintf("%d;refresher=%s", interval, refresher)}}
	if refresher == "uac" {
		fields = append(fields, Field{"Require", "timer"})
	}
	return fields
}

func (m *Machine) refresh() {
	if m.phase != ConfirmedPhase {
		if m.phase == Accepted {
			m.add(Start{TimerRefresh, m.cfg.T2})
		}
		return
	}
	if m.local != nil || m.remote != nil {
		m.add(Start{TimerRefresh, m.cfg.T2})
		return
	}
	m.waiting = append(m.waiting, &localOffer{sdp: m.d.LocalSDP, interval: m.sessionInterval(), minSE: m.cfg.MinSE})
	m.startNext()
}

func (m *Machine) expired() {
	if m.phase == Accepted {
		m.add(Start{TimerExpire, m.cfg.T2}) // no BYE before the ACK
	}
	if m.phase != ConfirmedPhase {
		return
	}
	m.bye(call.Cause{SIPCause: 408, Text: "Session timer expired"})
	m.over(gateway.Ending{Kind: gateway.EndedFailed, Signal: call.Signal{Phrase: "The session timer expired without a refresh"}})
}

// Restore goes on with a stored dialog.
func Restore(cfg Config, d State) (*Machine, []Effect) {
	d = d.clone()
	d.LocalSeq += skip
	m := &Machine{cfg: cfg, phase: ConfirmedPhase, d: d, txs: map[Tx]*clientTx{}}
	m.sessionTimers()
	m.dirty = true
	return m, m.take()
}
