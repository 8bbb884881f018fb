package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Offered is told of a re-INVITE or UPDATE. The gateway answers from its own
// media. The browser hears whether it is on hold and, only when the codec in force
// is no longer offered, gets a new offer.
func (g *Gateway) Offered(ctx context.Context, callID, text string) (string, error) {
	lc, ok := g.lock(callID)
	if !ok {
		return "", &RejectedError{call.Signal{Code: 481, Phrase: "Call Does Not Exist"}}
	}
	defer lc.mu.Unlock()
	switch {
	case lc.leaving:
		return "", &RejectedError{call.Signal{Code: 481, Phrase: "Call Does Not Exist"}}
	case lc.changing || lc.awaiting:
		return "", &RejectedError{call.Signal{Code: 491, Phrase: "Request Pending"}}
	}
	core := lc.Media.Core
	leg := lc.answeringLeg()
	if core == nil || leg == nil {
		return "", &RejectedError{call.Signal{Code: 500, Phrase: "Session Not Ready"}}
	}
	if text == "" {
		core.Offered = keepVoice(sdp.OfferToCore(leg.Codecs, g.policy(core)), core.Codecs)
		offer, err := lc.coreOffer()
		lc.awaiting = err == nil
		return offer, err
	}
	incompatible := &RejectedError{call.Signal{Code: 488, Phrase: "Not Acceptable Here"}}
	remote, err := core.parse(text)
	if err != nil || remote.Rejected {
		g.log.Info("an offer in the dialog was refused", "call", callID, "error", err)
		return "", incompatible
	}
	legBefore, before := *leg, *core
	codecs := sdp.OneVoice(keepVoice(sdp.AnswerFor(remote.Codecs, leg.Codecs), core.Codecs))
	reoffer := len(codecs) == 0 || !codecs[0].Same(leg.Codecs[0])
	if reoffer {
		// The browser would go on sending the codec that it sends.
		if codecs = g.otherCodecs(lc, leg, remote); len(codecs) == 0 {
			g.log.Info("an offer in the dialog has no usable codec", "call", callID, "offered", codecNames(remote.Codecs), "have", codecNames(leg.Codecs))
			return "", incompatible
		}
	}
	if err := core.takeOfferedKeys(remote); err != nil {
		g.log.Info("an offer in the dialog was refused", "call", callID, "error", err)
		*leg, *core = legBefore, before
		return "", incompatible
	}
	core.Codecs, core.Receive = codecs, codecs
	wanted := lc.holdDirection()
	core.Direction = remote.Direction.Answer(wanted)
	core.reach(remote)
	core.SDP.Remote = text
	core.packets(remote)
	answer, err := core.coreAnswer(remote, wanted)
	browser := ""
	if err == nil && reoffer {
		browser, err = lc.reofferBrowser(leg)
	}
	if err == nil {
		err = g.apply(ctx, lc)
	}
	if err != nil {
		g.log.Error("take an offer in the dialog", "call", callID, "error", err)
		*leg, *core = legBefore, before
		return "", &RejectedError{call.Signal{Code: 500, Phrase: "Media Failure"}}
	}
	notices := g.remoteHold(lc, remote.Direction.Holds())
	if browser != "" {
		notices = lc.tellOffer(notices, browser)
	}
	g.save(ctx, lc, notices...)
	return answer, nil
}

// remoteHold notes whether the far end keeps the device on hold, and tells of a
// change.
func (g *Gateway) remoteHold(lc *liveCall, holds bool) []notice {
	changed := holds != lc.RemoteHold
	lc.RemoteHold = holds
	m := lc.talkingSession()
	if !changed || m == nil || !m.Status.Answered() {
		return nil
	}
	status, reason := call.Hold, "held by the far end"
	if !holds {
		status, reason = call.Resume, "resumed by the far end"
	}
	return []notice{g.moveHold(lc, m, status, reason)}
}

// moveHold moves an answered session to Hold or, for Resume, back to Connected
// once neither side holds. What is told is what was done.
func (g *Gateway) moveHold(lc *liveCall, m *call.MediaSession, status call.Status, reason string) notice {
	to := status
	if lc.LocalHold || lc.RemoteHold {
		to = call.Hold
	}
	if err := m.Move(to, reason, g.now()); err != nil {
		g.log.Error("hold or resume a session", "session", m.ID, "error", err)
	}
	return statusNotice(m, status, "")
}

// keepVoice puts the voice codec in force first, so that an offer that still has
// it changes nothing.
func keepVoice(codecs, inForce []sdp.Codec) []sdp.Codec {
	if len(inForce) == 0 {
		return codecs
	}
	for i, c := range codecs {
		if c.Same(inForce[0]) {
			out := append([]sdp.Codec{c}, codecs[:i]...)
			return append(out, codecs[i+1:]...)
		}
	}
	return codecs
}

func (lc *liveCall) talkingLeg() *BrowserLeg {
	for i := range lc.Media.Browsers {
		if lc.Media.Browsers[i].ID == lc.Media.Talking {
			return &lc.Media.Browsers[i]
		}
	}
	return nil
}

// answeringLeg is the leg that speaks for this side: the one that talks or,
// before the answer to an incoming call, the first one with an answer.
func (lc *liveCall) answeringLeg() *BrowserLeg {
	if leg := lc.talkingLeg(); leg != nil || lc.Media.Core == nil || lc.Media.Core.SDP.Local == "" {
		return leg
	}
	for i := range lc.Media.Browsers {
		if len(lc.Media.Browsers[i].Codecs) > 0 {
			return &lc.Media.Browsers[i]
		}
	}
	return nil
}

func (lc *liveCall) talkingSession() *call.MediaSession {
	if leg := lc.talkingLeg(); leg != nil {
		return lc.session(leg.SessionID)
	}
	return nil
}

// DialogChanged stores what a dialog needs to be continued elsewhere.
func (g *Gateway) DialogChanged(ctx context.Context, callID string, d Dialog) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	lc.Dialog = d
	g.save(ctx, lc)
}

// Digit is told of a digit by INFO. A far end that has no telephone-event sends it
// so; the browser gets it as telephone-event from the media node.
func (g *Gateway) Digit(ctx context.Context, callID, digit string, durationMs int) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	g.trace(lc, ActorNetwork, ActorGateway, "DTMF "+digit, "by INFO")
	leg := lc.talkingLeg()
	if leg == nil || lc.leaving || hasEvents(lc.Media.Core.Codecs) || !hasEvents(leg.Codecs) {
		return
	}
	if err := g.media.SendDTMF(ctx, lc.Media, leg.ID, digit, time.Duration(durationMs)*time.Millisecond); err != nil {
		g.log.Warn("pass a digit of the far end on", "call", callID, "error", err)
	}
}

// Ended is told of a call's end.
func (g *Gateway) Ended(ctx context.Context, callID string, e Ending) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	v := lc.judge(e)
	g.finish(ctx, lc, v.status, v.reason)
}

// judge is what the end of a call makes of its sessions.
func (lc *liveCall) judge(e Ending) verdict {
	reason := e.Reason()
	switch {
	case lc.verdict != nil:
		return *lc.verdict
	case e.Kind == EndedCancelled:
		if e.Q850 == 0 && reason == "" {
			reason = "cancelled by the caller"
		}
		return verdict{call.SessionCancelled, reason}
	case e.Kind == EndedRejected:
		return verdict{call.FinalStatus(e.Signal, lc.rang, lc.cancelled), reason}
	case lc.cancelled && e.Kind == EndedFailed:
		return verdict{call.SessionCancelled, reason}
	case e.Kind == EndedBye:
		// Also when an answer crossed our CANCEL: the call was connected.
		return verdict{call.Terminated, reason}
	case lc.confirmed():
		return verdict{call.Terminated, reason}
	}
	return verdict{call.Failed, reason}
}

// FindDialog looks for the call of a dialog that the SIP adapter does not hold,
// and takes the call over.
func (g *Gateway) FindDialog(ctx context.Context, sipCallID, localTag string) (string, Dialog, error) {
	c, err := g.store.CallByDialog(ctx, sipCallID, localTag)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			err = ErrNoDialog
		}
		return "", Dialog{}, err
	}
	lc, err := g.adopt(ctx, c.ID)
	if err != nil {
		return "", Dialog{}, err
	}
	if lc == nil {
		return "", Dialog{}, ErrNoDialog
	}
	return c.ID, c.Dialog, nil
}
