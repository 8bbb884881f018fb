package dialog

import (
	"fmt"
	"strings"
)

// refer takes a REFER (RFC 3515), where the trunk's policy follows them: one at a
// time, in a confirmed dialog. What becomes of it is told by Notify.
func (m *Machine) refer(r Request) {
	switch {
	case !m.cfg.FollowRefer:
		m.add(Refuse(r.ID, r.Method))
	case m.phase != ConfirmedPhase || m.referring:
		m.add(Respond{Req: r.ID, Code: 491, Phrase: "Request Pending"})
	case r.ReferTo == "":
		m.add(Respond{Req: r.ID, Code: 400, Phrase: "Missing or double Refer-To"})
	default:
		m.referring = true
		m.add(Respond{Req: r.ID, Code: 202, Phrase: "Accepted"})
		m.notify(100, "Trying", false)
		m.tell(Referred{To: r.ReferTo, By: r.ReferredBy})
	}
}

// Notify tells the far end how the call that it asked for by REFER goes: a response
// to it, of which a final one is the last.
func (m *Machine) Notify(code int, phrase string) []Effect {
	if !m.referring || m.phase != ConfirmedPhase {
		return m.take()
	}
	m.referring = code < 200
	m.notify(code, phrase, code >= 200)
	return m.take()
}

func (m *Machine) notify(code int, phrase string, last bool) {
	state := "active;expires=180"
	if last {
		state = "terminated;reason=noresource"
	}
	phrase = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, phrase)
	m.send(kNotify, &m.d, Send{Method: "NOTIFY",
		Fields: []Field{{"Event", "refer"}, {"Subscription-State", state}},
		Body:   Body{Type: "message/sipfrag;version=2.0", Content: fmt.Sprintf("SIP/2.0 %d %s\r\n", code, phrase)}}, 0)
}
