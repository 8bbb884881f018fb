package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Network is the operator's SIP network. Calls are named by the gateway's own
// call id. What happens to them is told to NetworkEvents. Operations on a call
// that the network does not know, or no longer, answer ErrNoDialog.
type Network interface {
	// Register makes the number reachable (SIP REGISTER) where its trunk wants
	// that, and keeps it so until Deregister. It returns after the registrar's
	// answer. Errors: *RejectedError, ErrNetworkTimeout, ErrNetworkDown.
	// It is a no-op for numbers that are routed to the gateway anyway.
	Register(ctx context.Context, a Account) error
	Deregister(ctx context.Context, registrationID string) error
	// Keep goes on with what an earlier process made by Register. It returns at
	// once; a number that cannot be kept is told as BindingLost.
	Keep(accounts []Account)

	// MediaPolicy is that of the trunk which would take a call, whose SDP is
	// not written yet; the zero value when none would.
	MediaPolicy(ctx context.Context, in Invite) MediaPolicy
	// Invite starts a call. It returns once the INVITE was handed to a
	// transport; everything after that is an event. The dialog is not confirmed:
	// it is what Abandon needs. Errors: ErrNetworkDown, *RejectedError when no
	// trunk takes such a call.
	Invite(ctx context.Context, in Invite) (Dialog, error)
	// Progress sends a provisional response to an incoming call, with SDP or
	// without.
	Progress(ctx context.Context, callID string, code int, sdp string) error
	// CallWaiting says with the next 180 of an incoming call that the called
	// party is in another call (RFC 7462).
	CallWaiting(ctx context.Context, callID string) error
	// Accept answers an incoming call with 200.
	Accept(ctx context.Context, callID, sdp string) error
	// Reoffer changes the session by re-INVITE or UPDATE and returns the far
	// end's answer. Errors: *RejectedError (the old session stays),
	// ErrNetworkTimeout, ErrTooEarly. Glare (491) is retried inside.
	Reoffer(ctx context.Context, callID, sdp string) (answer string, err error)
	// SendDTMF tells a digit by INFO, for peers without telephone-event.
	SendDTMF(ctx context.Context, callID, digit string, durationMs int) error
	// End ends a call by what its state asks for: CANCEL, BYE or a final
	// response with the cause. The end itself is told by NetworkEvents.Ended.
	End(ctx context.Context, callID string, cause call.Cause) error
	// Restore takes a confirmed dialog over from its stored form.
	Restore(ctx context.Context, callID string, d Dialog) error
	// Abandon ends at the far end, as far as can be known, a call that a process
	// had in set-up when it died. It waits for no answer.
	Abandon(ctx context.Context, callID string, d Dialog) error
}

// Errors of Network that the use cases decide on.
var (
	ErrNoDialog       = fmt.Errorf("no such dialog")
	ErrNetworkDown    = fmt.Errorf("no SIP target can be reached")
	ErrNetworkTimeout = fmt.Errorf("the SIP network did not answer in time")
	// ErrTooEarly: a call in set-up cannot be changed yet. It can after a later
	// Provisional, or Answered.
	ErrTooEarly = fmt.Errorf("the far end cannot take an offer yet")
)

// RejectedError is a final SIP failure response.
type RejectedError struct {
	call.Signal
}

func (e *RejectedError) Error() string { return "rejected by the network: " + e.Reason() }

// networkError is what the device is told of a failed REGISTER or INVITE.
func networkError(err error) error {
	var rejected *RejectedError
	switch {
	case errors.As(err, &rejected):
		switch rejected.Code {
		case 401, 403, 404, 407:
			return &call.Error{Code: call.PermissionDenied, Message: "the operator's network does not admit this phone number", Err: err}
		case 408, 504:
			return &call.Error{Code: call.Timeout, Message: "the operator's network did not answer in time", Err: err}
		}
		return &call.Error{Code: call.Unavailable, Message: "the operator's network refused: " + rejected.Reason(), Err: err}
	case errors.Is(err, ErrNetworkTimeout):
		return &call.Error{Code: call.Timeout, Message: "the operator's network did not answer in time", Err: err}
	case errors.Is(err, ErrNetworkDown):
		return &call.Error{Code: call.Unavailable, Message: "the operator's network cannot be reached", Err: err}
	}
	return err
}

// Account is a registered number, as the network sees it.
type Account struct {
	RegistrationID string
	Tenant         string
	Number         call.Number
}

// Invite is an outgoing call.
type Invite struct {
	CallID string
	// Tenant whose trunks may be used.
	Tenant string
	// Registration whose account or trunk is used.
	RegistrationID string
	// Number of the subscriber: From and P-Asserted-Identity.
	Number call.Number
	// Anonymous withholds it (RFC 3323).
	Anonymous bool
	// DisplayName of the caller, empty for none; any Unicode text.
	DisplayName string
	Receiver    call.Address
	// ReceiverName is shown in To; empty for none.
	ReceiverName string
	Emergency    bool
	Location     *call.Location
	// SDP offer; empty for a call without.
	SDP string
}

// IncomingCall is a new INVITE.
type IncomingCall struct {
	CallID string
	// Tenant that the trunk belongs to.
	Tenant string
	// Caller is the asserted identity, or AnonymousAddress when that is withheld.
	Caller     call.Address
	CallerName string
	// Callee is the called party as the Request-URI names it.
	Callee     call.Address
	CalleeName string
	// Media is the policy of the trunk.
	Media MediaPolicy
	// SDP offer; empty for an offerless INVITE.
	SDP      string
	Location *call.Location
	// Signaling is what else the network told.
	Signaling call.Signaling
	// Emergency: an emergency service calls back (RFC 7090).
	Emergency bool
	// AnswerFirst: the caller reserves resources for what was agreed on, and its
	// preconditions (RFC 3312) forbid to ring before Ready is told. The answer to
	// the offer goes out with 183 at once.
	AnswerFirst bool
	// Dialog that an answer makes, so that nothing has to be learnt after it.
	Dialog Dialog
}

// Dialog is the stored form of a confirmed SIP dialog. The identifiers find it;
// State is everything else, written and read by the SIP adapter only, with a
// version of its own inside.
type Dialog struct {
	SIPCallID string
	LocalTag  string
	RemoteTag string
	State     []byte
	// Undo is what Abandon sends, in a form of the SIP adapter's own; empty once
	// there is nothing to undo.
	Undo []byte
}

// IsZero reports whether there is no dialog.
func (d Dialog) IsZero() bool { return d.SIPCallID == "" }

// Answer is what a response or a request brings about the far end's session.
type Answer struct {
	call.Signal
	// SDP of the far end; empty when the message had none.
	SDP string
	// EarlyMedia of a provisional response.
	EarlyMedia EarlyMedia
	// Dialog after this message, when it is confirmed.
	Dialog Dialog
}

// EarlyMedia is what media may pass before the answer, seen from the far end (RFC
// 5009): a trusted network says so by P-Early-Media.
type EarlyMedia string

// Early media, as far as it is restricted; empty says nothing about it.
const (
	EarlyMediaSendRecv EarlyMedia = "sendrecv"
	EarlyMediaSendOnly EarlyMedia = "sendonly"
	EarlyMediaRecvOnly EarlyMedia = "recvonly"
	EarlyMediaInactive EarlyMedia = "inactive"
)

// NetworkEvents is told what the network does. The events of one call come in
// the order in which they were on the wire, one at a time; Ended comes exactly
// once for every call that was invited, restored or announced by Incoming, and
// nothing comes after it. The adapter may deliver events while an operation of
// the same call is waiting, but never from within an operation, for which the
// call may be locked.
type NetworkEvents interface {
	// Incoming is told of a new call; the adapter has answered 100.
	Incoming(ctx context.Context, in IncomingCall)
	// Ready: a call that had to be answered first may ring now.
	Ready(ctx context.Context, callID string)
	// Provisional: a 1xx response to our INVITE. 100 is not told, 199 only to
	// say that the branch that was heard has gone and a.SDP is another's.
	Provisional(ctx context.Context, callID string, a Answer)
	// Answered: our INVITE was accepted. The ACK, with no SDP, is sent when it
	// returns, so that the far end repeats an answer that was not stored.
	Answered(ctx context.Context, callID string, a Answer)
	// Acknowledged: the far end answered the offer of our reliable provisional
	// response to an INVITE that had none.
	Acknowledged(ctx context.Context, callID, sdp string)
	// Confirmed: our 200 was acknowledged. a.SDP is set when the ACK had SDP.
	Confirmed(ctx context.Context, callID string, a Answer)
	// Offered: the far end changes the session (re-INVITE, UPDATE). An empty
	// sdp asks for our offer, to which the answer comes with Confirmed. The
	// error, a *RejectedError, refuses; the old session stays.
	Offered(ctx context.Context, callID, sdp string) (answer string, err error)
	// Referred: the far end wants the call to go on with somebody else (REFER).
	// The Invite is what to send them, in place of a call of its own. The error,
	// a *RejectedError, refuses.
	Referred(ctx context.Context, callID string, to call.Address) (Invite, error)
	// Transferred: they answered; when it is no error, a.Dialog is the call's
	// from now on. TransferFailed: the call goes on as it was.
	Transferred(ctx context.Context, callID string, a Answer) error
	TransferFailed(ctx context.Context, callID string)
	// DialogChanged: CSeq, target or timers are new and are to be stored, or
	// before the answer what Abandon needs.
	DialogChanged(ctx context.Context, callID string, d Dialog)
	// Digit arrived by INFO.
	Digit(ctx context.Context, callID, digit string, durationMs int)
	// Ended: the call is over.
	Ended(ctx context.Context, callID string, e Ending)
	// BindingLost: a number's SIP registration is gone and cannot be restored.
	BindingLost(ctx context.Context, a Account, description string)
	// FindDialog looks for a call by a dialog's identifiers, when a request
	// arrives for a dialog that the adapter does not hold. A call that is found
	// was given to the adapter by Restore before FindDialog returns.
	FindDialog(ctx context.Context, sipCallID, localTag string) (callID string, d Dialog, err error)
}

// EndKind tells how a call ended.
type EndKind int

// Ways in which a call ends.
const (
	// EndedRejected: the far end refused our INVITE, Signal says how.
	EndedRejected EndKind = iota + 1
	// EndedCancelled: the caller withdrew an incoming call.
	EndedCancelled
	// EndedBye: BYE in either direction.
	EndedBye
	// EndedFailed: no answer to a request that needed one, transport lost, timer.
	EndedFailed
	// EndedRefused: we answered an incoming call with a final failure.
	EndedRefused
)

// Ending is the end of a call as SIP saw it.
type Ending struct {
	Kind EndKind
	call.Signal
	// Local is set when this side asked for the end.
	Local bool
}
