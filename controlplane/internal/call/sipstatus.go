package call

import (
	"fmt"
	"strings"
)

// Signal is what the operator's network said about a call: a SIP response or
// request, reduced to what the state of a call depends on.
type Signal struct {
	// Code is a SIP status code, 100 to 699; 0 for none (a request, a transport
	// failure).
	Code int
	// Phrase of the response, or a short description when there was none.
	Phrase string
	// Q850 is the cause in a Reason header (RFC 3326), 1 to 127; 0 for none.
	Q850 int
}

// Reason is the text that sessions and events show for a signal.
func (s Signal) Reason() string {
	text := s.Phrase
	if s.Code != 0 {
		text = strings.TrimSpace(fmt.Sprintf("SIP %d %s", s.Code, s.Phrase))
	}
	if s.Q850 != 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s; Q.850 %d", text, s.Q850), "; ")
	}
	return text
}

// ProvisionalStatus is the status that a 1xx response brings an outgoing session
// to. ok is false for those without an event: 100 and 199.
func ProvisionalStatus(code int) (status Status, ok bool) {
	switch code {
	case 100, 199:
		return "", false
	case 180:
		return Ringing, true
	case 182:
		return Waiting, true
	case 183:
		return InProgress, true
	}
	return Proceeding, code > 100 && code < 200
}

// FinalStatus is how a failure response ends an outgoing session. rang: a 180 was
// received; cancelled: the device asked for the end. A Q.850 cause outranks
// the status code, as it comes from the far network itself.
func FinalStatus(s Signal, rang, cancelled bool) Status {
	if cancelled && s.Code == 487 {
		return SessionCancelled
	}
	switch s.Q850 {
	case 17:
		return Busy
	case 18, 19:
		return NoAnswer
	case 1, 3, 20, 22, 28:
		return NotReachable
	case 21:
		return Declined
	case 34, 38, 41, 42, 47:
		return Failed
	}
	switch s.Code {
	case 486, 600:
		return Busy
	case 603, 607:
		return Declined
	case 404, 410, 484, 604:
		return NotReachable
	case 408:
		return NoAnswer
	case 480:
		if rang {
			return NoAnswer
		}
		return NotReachable
	case 487:
		return SessionCancelled
	}
	return Failed
}

// Cause is why this side ends or refuses a call, as SIP tells it: the status of
// a final response before the answer, the Reason header (RFC 3326) always.
type Cause struct {
	// Code of the final response, 400 to 699.
	Code int
	// Q850 cause, 0 for none.
	Q850 int
	// SIPCause is used instead of Q850 when set: 200 means that another device
	// has answered (RFC 3326).
	SIPCause int
	// Text explains it to people; one line.
	Text string
}

// Causes with which the gateway ends calls.
var (
	CauseNormal            = Cause{Code: 487, Q850: 16, Text: "Normal call clearing"}
	CauseDeclined          = Cause{Code: 603, Q850: 21, Text: "Call rejected"}
	CauseBusy              = Cause{Code: 486, Q850: 17, Text: "User busy"}
	CauseNoAnswer          = Cause{Code: 480, Q850: 19, Text: "No answer from user"}
	CauseNobody            = Cause{Code: 480, Q850: 20, Text: "Subscriber absent"}
	CauseUnknownNumber     = Cause{Code: 404, Q850: 1, Text: "Unallocated number"}
	CauseMediaFailed       = Cause{Code: 500, Q850: 41, Text: "Media failure"}
	CauseIncompatibleMedia = Cause{Code: 488, Q850: 88, Text: "No common codec"}
	CauseNoCapacity        = Cause{Code: 503, Q850: 34, Text: "No media node can take the call"}
	CauseShutdown          = Cause{Code: 503, Q850: 41, Text: "Gateway is shutting down"}
)
