package gateway

import (
	"context"
	"errors"
	"slices"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// takeDeviceAnswer takes a device's answer to the gateway's offer.
func (g *Gateway) takeDeviceAnswer(lc *liveCall, m *call.MediaSession, text string) error {
	leg := lc.leg(m.ID)
	answer, err := sdp.ParseWebRTC(text)
	if err != nil {
		return call.Errorf(call.InvalidArgument, "answer.sdp: %w", err)
	}
	codecs, err := sdp.Negotiate(leg.Offered, answer.Codecs)
	if err != nil {
		return call.Errorf(call.InvalidArgument, "answer.sdp: offered %s, answered %s: %w", codecNames(leg.Offered), codecNames(answer.Codecs), err)
	}
	leg.Codecs = codecs
	leg.describedBy(answer, text)
	m.Answer = text
	return nil
}

// answerCore answers the network's offer, or makes the offer that an offerless
// INVITE asks for, with what a device has accepted. Once said it stays.
func (lc *liveCall) answerCore(b *BrowserLeg) (string, error) { return lc.answerCoreWith(b.Codecs) }

func (lc *liveCall) answerCoreWith(accepted []sdp.Codec) (string, error) {
	core := lc.Media.Core
	if core.SDP.Local != "" {
		return core.SDP.Local, nil
	}
	if core.SDP.Remote == "" {
		core.Offered = sdp.OneVoice(accepted)
		lc.awaiting = true
		return lc.coreOffer()
	}
	remote, err := core.parse(core.SDP.Remote)
	if err != nil {
		return "", err
	}
	if err := core.takeOfferedKeys(remote); err != nil {
		return "", err
	}
	core.Codecs = sdp.OneVoice(sdp.AnswerFor(remote.Codecs, accepted))
	core.Receive = core.Codecs
	core.Direction = remote.Direction.Answer(sdp.SendRecv)
	return core.coreAnswer(remote, sdp.SendRecv)
}

// connectIncoming gives the call to the device that answered first.
func (g *Gateway) connectIncoming(ctx context.Context, lc *liveCall, m *call.MediaSession) error {
	switch {
	case m.Answer == "":
		return call.Errorf(call.InvalidArgument, "answer must be given: the session has none yet")
	case lc.accepted:
		return call.Errorf(call.IncompatibleState, "another device has answered the call")
	}
	text, err := lc.answerCore(lc.leg(m.ID))
	if err != nil {
		return err
	}
	leg := lc.leg(m.ID)
	if codecs := lc.Media.Core.Codecs; len(codecs) > 0 && len(sdp.AnswerFor(leg.Codecs, codecs)) == 0 {
		return call.Errorf(call.InvalidArgument, "answer.sdp: the caller was told %s already, which the answer has not", codecNames(codecs))
	}
	lc.Media.Talking = leg.ID
	if err := g.apply(ctx, lc); err != nil {
		g.end(ctx, lc, call.CauseMediaFailed, call.Failed, "the media node cannot take the answer: "+err.Error())
		return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the answer", Err: err}
	}
	if err := g.network.Accept(ctx, lc.ID, text); err != nil {
		lc.Media.Talking = ""
		if errors.Is(err, ErrNoDialog) {
			return call.Errorf(call.IncompatibleState, "the caller has hung up")
		}
		return networkError(err)
	}
	lc.accepted = true
	lc.stopWaiting()
	if err := m.Move(call.Connected, "", g.now()); err != nil {
		return err
	}
	g.answered(lc, m)
	notices := []notice{statusNotice(m, call.Connected, "")}
	for _, other := range lc.sessions {
		if other != m && !other.Status.Final() {
			notices = append(notices, g.endOne(lc, other, call.SessionCancelled, "answered elsewhere"))
		}
	}
	lc.Media.Browsers = slices.DeleteFunc(lc.Media.Browsers, func(b BrowserLeg) bool { return b.SessionID != m.ID })
	if len(notices) > 1 {
		if err := g.apply(ctx, lc); err != nil {
			g.log.Warn("take the other devices off a call", "call", lc.ID, "error", err)
		}
	}
	return g.save(ctx, lc, notices...)
}

// declineIncoming ends one device's ringing; the call goes on while others ring.
func (g *Gateway) declineIncoming(ctx context.Context, lc *liveCall, m *call.MediaSession) {
	n := g.endOne(lc, m, call.Declined, "declined by the device")
	lc.Media.Browsers = slices.DeleteFunc(lc.Media.Browsers, func(b BrowserLeg) bool { return b.SessionID == m.ID })
	g.save(ctx, lc, n)
	if lc.othersThan(m) {
		return
	}
	cause := call.CauseDeclined
	if g.config.DeclineBusy {
		cause = call.CauseBusy
		cause.Q850 = call.CauseDeclined.Q850
	}
	g.end(ctx, lc, cause, call.Declined, "declined by the device")
}

// Acknowledged is told of the answer to the offer that our 183 made to an INVITE
// without one.
func (g *Gateway) Acknowledged(ctx context.Context, callID, text string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	if !lc.awaiting || lc.leaving {
		return
	}
	lc.awaiting = false
	if err := g.takeCoreAnswer(ctx, lc, text); err != nil {
		g.end(ctx, lc, call.CauseIncompatibleMedia, call.Failed, "the answer cannot be used: "+err.Error())
		return
	}
	g.save(ctx, lc)
}

// Confirmed is told of the ACK to our 2xx: to an incoming call, or to a
// re-INVITE that asked for our offer.
func (g *Gateway) Confirmed(ctx context.Context, callID string, a Answer) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	lc.Dialog = a.Dialog
	if lc.awaiting && !lc.leaving {
		lc.awaiting = false
		if err := g.takeCoreAnswer(ctx, lc, a.SDP); err != nil {
			g.end(ctx, lc, call.CauseIncompatibleMedia, call.Failed, "the answer cannot be used: "+err.Error())
			return
		}
	}
	g.save(ctx, lc)
}

// takeCoreAnswer takes the network's answer to an offer of ours in a dialog.
func (g *Gateway) takeCoreAnswer(ctx context.Context, lc *liveCall, text string) error {
	if text == "" {
		return errors.New("the network sent no session description")
	}
	if err := lc.Media.Core.takeAnswer(text, lc.holdDirection()); err != nil {
		return err
	}
	return g.apply(ctx, lc)
}
