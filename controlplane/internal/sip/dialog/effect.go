package dialog

import (
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Tx names a client transaction of one machine, Req a request that it received,
// Token a wish of the gateway that gets a Done.
type (
	Tx    int
	Req   int
	Token int
)

// Body of a message.
type Body struct{ Type, Content string }

// SDP makes a body; empty for none.
func SDP(s string) Body {
	if s == "" {
		return Body{}
	}
	return Body{Type: "application/sdp", Content: s}
}

// Field of a message.
type Field struct{ Name, Value string }

// Response is what a machine sees of a response.
type Response struct {
	call.Signal
	ToTag string
	// Contact is the URI, RecordRoute as in the message.
	Contact     string
	RecordRoute []string
	// Reliable: it requires 100rel and has an RSeq.
	Reliable bool
	RSeq     uint32
	// Allow was present; it lists UPDATE.
	HasAllow, AllowsUpdate bool
	SupportsTimer          bool
	SDP                    string
	// SessionExpires in seconds, 0 for none; Refresher is "uac", "uas" or empty.
	SessionExpires uint32
	Refresher      string
	MinSE          uint32
	// Redirects are the Contact URIs of a 3xx.
	Redirects []string
	// EarlyMedia is the direction that P-Early-Media authorizes (RFC 5009): empty
	// when the field is missing.
	EarlyMedia string
}

// Request is what a machine sees of a request.
type Request struct {
	ID     Req
	Method string
	Seq    uint32
	Body   Body
	// Contact is the URI, empty for none.
	Contact                string
	HasAllow, AllowsUpdate bool
	Supports100rel         bool
	Requires100rel         bool
	SupportsTimer          bool
	SessionExpires         uint32
	Refresher              string
	MinSE                  uint32
	// RAck of a PRACK.
	RAckRSeq, RAckSeq uint32
	RAckMethod        string
	// Cause from Reason: Q.850 and SIP, 0 for none; ReasonText for people.
	Q850, SIPCause int
	ReasonText     string
	// ReferTo and ReferredBy of a REFER.
	ReferTo, ReferredBy string
	// InfoPackage of an INFO (RFC 6086), empty for the INFO of old.
	InfoPackage string
}

// An Effect is one of the types below.
type Effect any

type (
	// Send a request. A zero Dialog.RemoteTag is that of the first INVITE.
	Send struct {
		Tx     Tx
		Method string
		Seq    uint32
		Dialog State
		// Target chooses among the trunk's targets, for the first INVITE.
		Target int
		// Redirect replaces the Request-URI of the first INVITE.
		Redirect string
		Body     Body
		Fields   []Field
	}
	// SendACK to a 2xx.
	SendACK struct {
		Dialog State
		Seq    uint32
	}
	// SendCANCEL for a pending INVITE.
	SendCANCEL struct {
		Tx     Tx
		Fields []Field
	}
	// Respond to a request.
	Respond struct {
		Req    Req
		Code   int
		Phrase string
		Body   Body
		Fields []Field
	}
	// Start (or restart) and Stop a timer.
	Start struct {
		Timer Timer
		After time.Duration
	}
	Stop    struct{ Timer Timer }
	StopAll struct{}

	// Provisional, Answered, Confirmed, Offered, Changed, Digit and Ended are
	// told to the gateway in their order.
	//
	// A Provisional of 199 is told only when the branch that is heard has gone and
	// another one's session takes its place.
	Provisional struct {
		Signal     call.Signal
		SDP        string
		EarlyMedia string
	}
	// Acknowledged is the answer to an offer of ours that went out in a reliable
	// provisional response; it came in the PRACK.
	Acknowledged struct{ SDP string }
	Answered     struct {
		Signal call.Signal
		SDP    string
		Dialog State
	}
	Confirmed struct {
		SDP    string
		Dialog State
	}
	Offered struct {
		Req Req
		SDP string
	}
	// Referred is a REFER that was accepted; its outcome is due by Notify.
	Referred struct{ To, By string }
	Changed  struct{ Dialog State }
	Digit    struct {
		Digit string
		Ms    int
	}
	Ended struct{ Ending gateway.Ending }

	// Done answers a wish.
	Done struct {
		Token  Token
		Answer string
		Err    error
	}
)

// Timer names.
type Timer string

// Timers of a machine.
const (
	TimerInvite   Timer = "invite"   // the whole set-up
	TimerAttempt  Timer = "attempt"  // first response from one target
	TimerCancel   Timer = "cancel"   // final response after CANCEL
	TimerReliable Timer = "reliable" // retransmission of a reliable 1xx
	TimerPRACK    Timer = "prack"    // 64·T1 without PRACK
	TimerRinging  Timer = "ringing"  // 18x again before proxies give up
	TimerOK       Timer = "ok"       // retransmission of a 2xx
	TimerACK      Timer = "ack"      // 64·T1 without ACK
	TimerGlare    Timer = "glare"    // after 491
	TimerReinvite Timer = "reinvite" // a re-INVITE that gets no final response
	TimerRefresh  Timer = "refresh"  // session timer: refresh now
	TimerExpire   Timer = "expire"   // session timer: expired
)
