package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Originate places a call. It answers as soon as the INVITE is on its way; what
// the far end does is told by events.
func (g *Gateway) Originate(ctx context.Context, p Principal, r OriginateRequest) (call.MediaSession, error) {
	if g.stopping() {
		return call.MediaSession{}, call.Errorf(call.Unavailable, "the gateway is shutting down")
	}
	reg, err := g.originator(ctx, p, r)
	if err != nil {
		return call.MediaSession{}, err
	}
	if same, err := g.repeated(ctx, reg, r); same != nil || err != nil {
		return *cmpOr(same, &call.MediaSession{}), err
	}
	now := g.now()
	callID := newID()
	m := &call.MediaSession{
		ID: newID(), CallID: callID, Owner: reg.Owner, RegistrationID: reg.ID, DeviceID: reg.DeviceID,
		Direction: call.Origination, Originator: r.Originator, OriginatorName: r.OriginatorName,
		Receiver: r.Receiver, ReceiverName: r.ReceiverName, CallType: r.CallType, Location: r.Location,
		ClientCorrelator: r.ClientCorrelator, ServerCorrelator: newID(),
		Status: call.Initial, Offer: r.Offer, CreatedAt: now,
	}
	lc := &liveCall{
		Call: Call{
			ID: callID, Tenant: reg.Owner.Tenant, Epoch: g.epoch, Direction: call.Origination, CreatedAt: now,
			Media: MediaPlan{CallID: callID},
		},
		sessions: []*call.MediaSession{m},
		stored:   map[string]call.MediaSession{},
	}
	var offer *sdp.WebRTC
	if r.Offer != "" {
		if offer, err = parseOffer(r.Offer); err != nil {
			return call.MediaSession{}, err
		}
	} else if !r.LateOffer {
		return call.MediaSession{}, call.Errorf(call.InvalidArgument, "offer.sdp must not be empty")
	}

	lc.mu.Lock()
	defer lc.mu.Unlock()
	if err := g.save(ctx, lc); err != nil {
		return call.MediaSession{}, err
	}
	g.keep(lc)
	g.metrics.calls.WithLabelValues(string(call.Origination)).Inc()
	g.log.Info("call started", "call", callID, "session", m.ID, "registration", reg.ID, "direction", call.Origination)
	if offer == nil {
		lc.await(g.config.LateOfferWait, func() {
			g.giveUp(callID, call.Failed, "no offer came")
		})
		return *m, nil
	}
	shown := *m
	if err := g.invite(ctx, lc, m, offer); err != nil {
		return call.MediaSession{}, err
	}
	shown.Version = m.Version
	return shown, nil
}

// cmpOr is the first pointer that is not nil.
func cmpOr[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// originator checks who calls whom.
func (g *Gateway) originator(ctx context.Context, p Principal, r OriginateRequest) (call.Registration, error) {
	reg, err := g.store.Registration(ctx, p.Owner.Tenant, r.RegistrationID)
	if errors.Is(err, ErrNotFound) || err == nil && (!p.Owner.MayUse(reg.Owner) || reg.Expired(g.now())) {
		return reg, call.Errorf(call.InvalidTokenContext, "the registrationId header names no registration of this access token")
	}
	if err != nil {
		return reg, err
	}
	if r.Originator.Kind() != call.Anonymous && !r.Originator.Equal(reg.Number().Address()) {
		return reg, call.Errorf(call.InvalidTokenContext, "originatorAddress is not the phone number of the access token")
	}
	switch {
	case r.Receiver.Kind() == call.Anonymous:
		return reg, call.Errorf(call.InvalidArgument, "receiverAddress must not be anonymous")
	case r.emergency() && !g.config.Emergency:
		return reg, call.Errorf(call.EmergencyNotSupported, "emergency calls are not supported here")
	}
	return reg, nil
}

func (r OriginateRequest) emergency() bool {
	return r.CallType == call.Emergency || r.Receiver.Kind() == call.EmergencyService
}

// repeated finds the live session that an identical request made before.
func (g *Gateway) repeated(ctx context.Context, reg call.Registration, r OriginateRequest) (*call.MediaSession, error) {
	if r.ClientCorrelator == "" {
		return nil, nil
	}
	m, err := g.store.SessionByCorrelator(ctx, reg.Owner, reg.ID, r.ClientCorrelator)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Status.Final() || m.Released || m.Offer != r.Offer || !m.Originator.Equal(r.Originator) || !m.Receiver.Equal(r.Receiver) {
		return nil, nil
	}
	return &m, nil
}

func parseOffer(text string) (*sdp.WebRTC, error) {
	offer, err := sdp.ParseWebRTC(text)
	if err != nil {
		return nil, call.Errorf(call.InvalidArgument, "offer.sdp: %w", err)
	}
	if offer.ICELite {
		return nil, call.Errorf(call.InvalidArgument, "offer.sdp: an ICE-lite client cannot connect to this gateway, which is ICE-lite itself")
	}
	return offer, nil
}

// invite prepares the media of an outgoing call and sends the INVITE. When that
// fails at once the session is gone and its owner never hears of it again.
func (g *Gateway) invite(ctx context.Context, lc *liveCall, m *call.MediaSession, offer *sdp.WebRTC) error {
	leg, err := g.newBrowserLeg(m)
	if err != nil {
		return err
	}
	leg.Offered = offer.Codecs
	leg.describedBy(offer, m.Offer)
	lc.Media.Browsers = []BrowserLeg{leg}
	lc.Media.Core = &CoreLeg{SSRC: randomSSRC(), Direction: sdp.SendRecv, Offered: sdp.OfferToCore(offer.Codecs, g.config.policy())}
	if len(lc.Media.Core.Offered) == 0 {
		// Answered as created: the device learns why by an event, like of
		// every other call that comes to nothing.
		g.finish(ctx, lc, call.Failed, "none of the offered codecs may pass: "+codecNames(offer.Codecs))
		return nil
	}
	fail := func(err error) error {
		m.Released = true
		g.finish(ctx, lc, call.Failed, err.Error())
		return err
	}
	if err := g.apply(ctx, lc); err != nil {
		return fail(&call.Error{Code: call.Unavailable, Message: "no media node can take the call", Err: err})
	}
	text, err := lc.coreOffer()
	if err != nil {
		return fail(fmt.Errorf("describe the call to the network: %w", err))
	}
	if err := g.save(ctx, lc); err != nil {
		return fail(err)
	}
	lc.stopWaiting()
	err = g.network.Invite(ctx, Invite{
		CallID: lc.ID, Tenant: lc.Tenant, RegistrationID: m.RegistrationID, Number: m.Owner.Subject,
		Anonymous: m.Originator.Kind() == call.Anonymous, DisplayName: m.OriginatorName,
		Receiver: m.Receiver, ReceiverName: m.ReceiverName,
		Emergency: m.CallType == call.Emergency || m.Receiver.Kind() == call.EmergencyService,
		Location:  m.Location, SDP: text,
	})
	if err != nil {
		return fail(networkError(err))
	}
	return nil
}

// giveUp ends a call that waited in vain.
func (g *Gateway) giveUp(callID string, status call.Status, reason string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	g.end(g.life, lc, call.CauseNoAnswer, status, reason)
}

// Provisional is told of a 1xx response.
func (g *Gateway) Provisional(ctx context.Context, callID string, a Answer) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	m := lc.sessions[0]
	status, ok := call.ProvisionalStatus(a.Code)
	if !ok || lc.cancelled || !m.Status.SettingUp() {
		return
	}
	lc.rang = lc.rang || status == call.Ringing
	answer := ""
	if a.SDP != "" {
		fresh, err := g.answerBrowser(ctx, lc, m, a.SDP)
		if err != nil {
			// The final response decides; early media is a courtesy.
			g.log.Warn("early media cannot be passed", "call", callID, "error", err)
		}
		answer = fresh
	}
	if err := m.Move(status, a.Reason(), g.now()); err != nil {
		g.log.Error("take a provisional response", "call", callID, "error", err)
		return
	}
	g.save(ctx, lc, statusNotice(m, status, answer))
}

// Answered is told of the 2xx to our INVITE.
func (g *Gateway) Answered(ctx context.Context, callID string, a Answer) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	m := lc.sessions[0]
	lc.Dialog = a.Dialog
	text := a.SDP
	if text == "" {
		text = lc.Media.Core.SDP.Remote
	}
	if lc.cancelled {
		// The answer crossed our CANCEL: the adapter ends the dialog.
		return
	}
	answer, err := g.answerBrowser(ctx, lc, m, text)
	if err != nil {
		cause := call.CauseMediaFailed
		if errors.Is(err, sdp.ErrNoCommonCodec) {
			cause = call.CauseIncompatibleMedia
		}
		g.end(ctx, lc, cause, call.Failed, "the answer cannot be used: "+err.Error())
		return
	}
	if answer == "" {
		// Told once more, since it is in force only now.
		answer = m.Answer
	}
	if err := m.Move(call.Connected, a.Reason(), g.now()); err != nil {
		g.log.Error("take the answer to a call", "call", callID, "error", err)
		return
	}
	g.metrics.setup.WithLabelValues(string(m.Direction)).Observe(m.AnsweredAt.Sub(m.CreatedAt).Seconds())
	g.save(ctx, lc, statusNotice(m, call.Connected, answer))
}

// answerBrowser takes the network's answer over to the browser. The result is
// empty when the browser's answer stays as it was.
func (g *Gateway) answerBrowser(ctx context.Context, lc *liveCall, m *call.MediaSession, text string) (string, error) {
	leg, core := lc.leg(m.ID), lc.Media.Core
	if text == "" {
		return "", errors.New("the network sent no session description")
	}
	if text == core.SDP.Remote && lc.Media.Talking == leg.ID && m.Answer != "" {
		return "", nil
	}
	offer, err := sdp.ParseWebRTC(leg.SDP.Remote)
	if err != nil {
		return "", err
	}
	if err := core.takeAnswer(text, sdp.SendRecv); err != nil {
		return "", err
	}
	leg.Codecs = withEvents(sdp.AnswerFor(offer.Codecs, core.Codecs), offer.Codecs)
	lc.Media.Talking = leg.ID
	if err := g.apply(ctx, lc); err != nil {
		return "", err
	}
	answer, err := lc.browserAnswer(leg, offer)
	if err != nil || answer == m.Answer {
		return "", err
	}
	m.Answer = answer
	return answer, nil
}
