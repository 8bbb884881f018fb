package gateway

import (
	"context"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// A far end may hand its part of a call over to another party (REFER, RFC 3515). The
// device keeps its session; only the network's side of the media moves, once the
// other party has answered.

// Referred is told that the far end wants the device to talk to somebody else, and
// answers the call to make for that. The error, a *RejectedError, refuses.
func (g *Gateway) Referred(_ context.Context, callID string, to call.Address) (Invite, error) {
	lc, ok := g.lock(callID)
	if !ok {
		return Invite{}, &RejectedError{call.Signal{Code: 481, Phrase: "Call Does Not Exist"}}
	}
	defer lc.mu.Unlock()
	m, leg := lc.talkingSession(), lc.talkingLeg()
	switch {
	case lc.leaving || m == nil || !m.Status.Answered():
		return Invite{}, &RejectedError{call.Signal{Code: 480, Phrase: "Temporarily Unavailable"}}
	case lc.changing || lc.awaiting || lc.Reoffered:
		return Invite{}, &RejectedError{call.Signal{Code: 491, Phrase: "Request Pending"}}
	case isEmergency(m.CallType, m.Receiver) || to.Kind() == call.EmergencyService || to.Kind() == call.Anonymous:
		return Invite{}, &RejectedError{call.Signal{Code: 603, Phrase: "Decline"}}
	}
	core := lc.Media.Core
	before := *core
	core.SDP, core.Offered = Descriptions{}, keepVoice(sdp.OfferToCore(leg.Codecs, g.config.policy()), core.Codecs)
	text, err := lc.coreOffer()
	next := *core
	*core = before
	if err != nil {
		g.log.Error("describe a call to the party that another one is handed over to", "call", callID, "error", err)
		return Invite{}, &RejectedError{call.Signal{Code: 500, Phrase: "Server Internal Error"}}
	}
	lc.changing, lc.next = true, &next
	g.log.Info("the far end hands a call over", "call", callID, "to", to.Canonical())
	return Invite{
		CallID: lc.ID, Tenant: lc.Tenant, RegistrationID: m.RegistrationID, Number: m.Owner.Subject,
		Receiver: to, SDP: text,
	}, nil
}

// Transferred is told that the other party has answered. An error keeps the call
// with the one that handed it over.
func (g *Gateway) Transferred(ctx context.Context, callID string, a Answer) error {
	lc, ok := g.lock(callID)
	if !ok {
		return ErrNoDialog
	}
	defer lc.mu.Unlock()
	next := lc.next
	lc.changing, lc.next = false, nil
	m := lc.talkingSession()
	if lc.leaving || next == nil || m == nil {
		return ErrNoDialog
	}
	core := lc.Media.Core
	before := *core
	*core = *next
	err := core.takeAnswer(a.SDP, lc.holdDirection())
	if err == nil {
		err = g.apply(ctx, lc)
	}
	if err != nil {
		*core = before
		g.log.Warn("a call cannot be handed over", "call", callID, "error", err)
		return err
	}
	lc.Dialog = a.Dialog
	notices := g.remoteHold(lc, false)
	m.Reason = "handed over by the far end"
	g.save(ctx, lc, append(notices, statusNotice(m, m.Status, ""))...)
	return nil
}

// TransferFailed is told that the other party does not take the call.
func (g *Gateway) TransferFailed(_ context.Context, callID string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	if lc.next != nil {
		lc.changing, lc.next = false, nil
	}
}
