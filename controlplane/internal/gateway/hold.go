package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// inDialogLimit bounds a re-INVITE with its retries: 64*T1 and the glare rule.
const inDialogLimit = 40 * time.Second

// hold puts the far end on hold or takes it off, by a re-INVITE. When the far
// end takes long to answer, the request is answered as if it had agreed, and an
// event tells how it went.
func (g *Gateway) hold(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest) (call.MediaSession, error) {
	type outcome struct {
		shown call.MediaSession
		err   error
	}
	done := make(chan outcome, 1)
	// answered, under the call's lock: the device was told that it went well.
	answered := false
	g.later(inDialogLimit, func(ctx context.Context) {
		shown, err := g.renegotiate(ctx, lc, m, r, &answered)
		done <- outcome{shown, err}
	})
	patience := time.NewTimer(g.config.HoldWait)
	defer patience.Stop()
	select {
	case o := <-done:
		return o.shown, o.err
	case <-ctx.Done():
		return call.MediaSession{}, ctx.Err()
	case <-patience.C:
		lc.mu.Lock()
		defer lc.mu.Unlock()
		select {
		case o := <-done:
			return o.shown, o.err
		default:
		}
		answered = true
		shown := *m
		if !shown.Status.Final() {
			shown.Status = r.Status
		}
		return shown, nil
	}
}

// renegotiate changes the direction of a session toward the network.
func (g *Gateway) renegotiate(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest, answered *bool) (call.MediaSession, error) {
	holds := r.Status == call.Hold
	text, before, err := g.startChange(ctx, lc, m, r)
	if err != nil {
		return call.MediaSession{}, err
	}
	var answer string
	if text != "" {
		answer, err = g.network.Reoffer(ctx, lc.ID, text)
	}
	lc.mu.Lock()
	defer lc.mu.Unlock()
	lc.changing = false
	if lc.over || lc.leaving {
		return call.MediaSession{}, call.Errorf(call.IncompatibleState, "the session is over: %s", m.Status)
	}
	if err == nil && text != "" {
		err = g.takeCoreAnswer(ctx, lc, answer)
	}
	if err != nil {
		g.log.Info("the far end refused to hold or resume", "call", lc.ID, "error", err)
		lc.LocalHold = before
		if *answered {
			g.save(ctx, lc, statusNotice(m, m.Status, ""))
		}
		return call.MediaSession{}, refusedChange(err)
	}
	if r.Location != nil {
		m.Location = r.Location
	}
	// The far end has agreed, so the session moves even if the device's offer
	// comes to nothing.
	fresh, offerErr := "", error(nil)
	if r.Offer != "" {
		fresh, offerErr = g.answerOffer(ctx, lc, m, r.Offer)
	}
	if remote, err := lc.Media.Core.parse(answer); err == nil && !holds {
		lc.RemoteHold = remote.Direction.Holds()
	}
	n := g.moveHold(lc, m, r.Status, "requested by the device")
	n.change.Answer = fresh
	if err := errors.Join(offerErr, g.save(ctx, lc, n)); err != nil {
		return call.MediaSession{}, err
	}
	shown := *m
	shown.Status = r.Status
	return shown, nil
}

func refusedChange(err error) error {
	var rejected *RejectedError
	switch {
	case errors.As(err, &rejected):
		return &call.Error{Code: call.IncompatibleState, Message: "the far end refused: " + rejected.Reason(), Err: err}
	case errors.Is(err, ErrNoDialog):
		return &call.Error{Code: call.IncompatibleState, Message: "the call is not connected", Err: err}
	}
	return networkError(err)
}

// startChange checks and claims a change, and writes the offer for the network.
// It is empty when nothing changes for the network.
func (g *Gateway) startChange(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest) (text string, before bool, err error) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	holds := r.Status == call.Hold
	switch {
	case lc.over || lc.leaving || !m.Status.Answered():
		return "", false, call.Errorf(call.IncompatibleState, "a session that is %s cannot become %s", m.Status, r.Status)
	case lc.changing || lc.awaiting:
		return "", false, call.Errorf(call.IncompatibleState, "another change of the session is under way")
	case r.Answer != "":
		return "", false, call.Errorf(call.InvalidArgument, "answer must not be given: no offer is open")
	}
	if r.Offer != "" {
		if _, _, err := lc.usable(r.Offer); err != nil {
			return "", false, err
		}
	}
	before = lc.LocalHold
	if before == holds {
		if !holds {
			return "", before, call.Errorf(call.IncompatibleState, "the device does not keep the session on hold")
		}
		lc.changing = true
		return "", before, nil
	}
	lc.changing = true
	lc.LocalHold = holds
	core := lc.Media.Core
	core.Offered = keepVoice(sdp.OfferToCore(lc.leg(m.ID).Codecs, g.policy(core)), core.Codecs)
	if text, err = lc.coreOffer(); err != nil {
		lc.changing, lc.LocalHold = false, before
	}
	return text, before, err
}

// renew gives a connected session a new browser description: after a change of
// network, or from a page that was loaded again.
func (g *Gateway) renew(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest) error {
	if m.Status == call.Hold {
		return call.Errorf(call.IncompatibleState, "the session is on hold: request Hold with an offer to renew its description, or Resume")
	}
	if r.Offer == "" {
		if r.Answer != "" {
			return call.Errorf(call.InvalidArgument, "answer must not be given: no offer is open")
		}
		return g.save(ctx, lc)
	}
	fresh, err := g.answerOffer(ctx, lc, m, r.Offer)
	if err != nil {
		return err
	}
	return g.save(ctx, lc, statusNotice(m, m.Status, fresh))
}

// answerOffer answers a browser's new offer with the codecs in force. Another
// peer connection (other ICE credentials and certificate) gets a leg of its own.
func (g *Gateway) answerOffer(ctx context.Context, lc *liveCall, m *call.MediaSession, text string) (string, error) {
	offer, codecs, err := lc.usable(text)
	if err != nil {
		return "", err
	}
	leg := lc.leg(m.ID)
	legBefore, talkingBefore := *leg, lc.Media.Talking
	talking := lc.Media.Talking == leg.ID
	switch {
	case !sameFingerprints(offer.Fingerprints, leg.RemoteFingerprints):
		if leg, err = g.replaceLeg(lc, m); err != nil {
			return "", err
		}
	case offer.Ufrag != leg.RemoteUfrag || offer.Password != leg.RemotePassword:
		leg.Ufrag, leg.Password = newCredentials()
	}
	leg.Offered, leg.Able, leg.Codecs = offer.Codecs, offer.Codecs, codecs
	leg.describedBy(offer, text)
	if talking {
		lc.Media.Talking = leg.ID
	}
	if err := g.apply(ctx, lc); err != nil {
		*leg, lc.Media.Talking = legBefore, talkingBefore
		return "", &call.Error{Code: call.Unavailable, Message: "the media node cannot take the offer", Err: err}
	}
	answer, err := lc.browserAnswer(leg, offer)
	if err != nil {
		return "", call.Errorf(call.InvalidArgument, "offer.sdp: %w", err)
	}
	m.Offer, m.Answer = text, answer
	lc.Reoffered = false
	return answer, nil
}

// usable reads a browser's offer in a running call and answers the codecs of it
// that are in force.
func (lc *liveCall) usable(text string) (*sdp.WebRTC, []sdp.Codec, error) {
	offer, err := parseOffer(text)
	if err != nil {
		return nil, nil, err
	}
	codecs := withEvents(sdp.AnswerFor(offer.Codecs, lc.Media.Core.Codecs), offer.Codecs)
	if len(codecs) == 0 {
		return nil, nil, call.Errorf(call.InvalidArgument, "offer.sdp: the call uses %s, which the offer has not", codecNames(lc.Media.Core.Codecs))
	}
	return offer, codecs, nil
}

// replaceLeg gives a session a new leg in place of the one it has.
func (g *Gateway) replaceLeg(lc *liveCall, m *call.MediaSession) (*BrowserLeg, error) {
	old := lc.leg(m.ID)
	fresh, err := g.newBrowserLeg(m)
	if err != nil {
		return nil, err
	}
	fresh.ID = fmt.Sprintf("%s.%d", m.ID, lc.Media.Generation+1)
	fresh.SDP = Descriptions{SessionID: old.SDP.SessionID, Version: old.SDP.Version, Local: old.SDP.Local}
	*old = fresh
	return old, nil
}

func sameFingerprints(a, b []sdp.Fingerprint) bool {
	for _, x := range a {
		for _, y := range b {
			if x.String() == y.String() {
				return true
			}
		}
	}
	return false
}
