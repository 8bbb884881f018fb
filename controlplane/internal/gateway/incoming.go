package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Incoming rings every device that is registered for the called number and has
// a subscription by which it can hear of the call.
func (g *Gateway) Incoming(ctx context.Context, in IncomingCall) {
	log := g.log.With("call", in.CallID)
	refuse := func(cause call.Cause, why string) {
		log.Info("incoming call refused", "callee", in.Callee.Canonical(), "reason", why)
		if err := g.network.End(ctx, in.CallID, cause); err != nil && !errors.Is(err, ErrNoDialog) {
			log.Error("refuse an incoming call", "error", err)
		}
	}
	number, isNumber := in.Callee.Number()
	switch {
	case g.stopping():
		refuse(call.CauseShutdown, "shutting down")
		return
	case !isNumber || !g.config.serves(number):
		refuse(call.CauseUnknownNumber, "the number is not served here")
		return
	}
	devices, err := g.reachable(ctx, in.Tenant, number)
	if err != nil {
		log.Error("look for the devices of a called number", "error", err)
		refuse(call.CauseMediaFailed, "the store failed")
		return
	}
	if len(devices) == 0 {
		refuse(call.CauseNobody, "no device can be told of the call")
		return
	}
	lc, err := g.prepareIncoming(in, devices)
	if err != nil {
		log.Warn("the offer of an incoming call cannot be used", "error", err)
		refuse(call.CauseIncompatibleMedia, err.Error())
		return
	}
	lc.mu.Lock()
	defer lc.mu.Unlock()
	if err := g.apply(ctx, lc); err != nil {
		refuse(call.CauseNoCapacity, err.Error())
		return
	}
	var notices []notice
	for _, m := range lc.sessions {
		if m.Offer, err = lc.browserOffer(lc.leg(m.ID)); err != nil {
			log.Error("describe an incoming call to a device", "error", err)
			g.media.Remove(ctx, lc.Media)
			refuse(call.CauseMediaFailed, err.Error())
			return
		}
		change := m.Change(call.Initial)
		change.Offer = m.Offer
		notices = append(notices, notice{m, call.SessionInvitation, change})
	}
	if err := g.save(ctx, lc, notices...); err != nil {
		g.media.Remove(ctx, lc.Media)
		refuse(call.CauseMediaFailed, "the store failed")
		return
	}
	g.keep(lc)
	g.metrics.calls.WithLabelValues(string(call.Termination)).Inc()
	log.Info("call started", "direction", call.Termination, "devices", len(lc.sessions))
	lc.await(g.config.RingTimeout, func() {
		g.giveUp(lc.ID, call.NoAnswer, "no answer")
	})
}

// reachable lists the registrations of a number whose devices can hear of a call.
func (g *Gateway) reachable(ctx context.Context, tenant string, number call.Number) ([]call.Registration, error) {
	all, err := g.store.RegistrationsByNumber(ctx, tenant, number, g.now())
	if err != nil {
		return nil, err
	}
	var out []call.Registration
	for _, r := range all {
		subscriptions, err := g.store.SubscriptionsFor(ctx, r.Owner, r.DeviceID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(subscriptions, func(s call.Subscription) bool {
			return s.Wants(call.SessionInvitation, r.DeviceID, r.Owner, r.ID, "")
		}) {
			out = append(out, r)
		}
	}
	return out, nil
}

// prepareIncoming makes a session and a browser leg for each device.
func (g *Gateway) prepareIncoming(in IncomingCall, devices []call.Registration) (*liveCall, error) {
	core := &CoreLeg{SSRC: randomSSRC(), Direction: sdp.SendRecv}
	offered := sdp.OfferToBrowser(sdp.Relayed(), g.config.policy())
	if in.SDP != "" {
		remote, err := sdp.ParseCore(in.SDP)
		if err != nil {
			return nil, err
		}
		if remote.Rejected {
			return nil, errors.New("the offer has no audio")
		}
		offered = sdp.OfferToBrowser(remote.Codecs, g.config.policy())
		if len(offered) == 0 {
			return nil, fmt.Errorf("none of the offered codecs may pass: %s", codecNames(remote.Codecs))
		}
		core.reach(remote)
		core.SDP.Remote = in.SDP
		core.IPv6 = remote.Remote.Addr().Is6() && !remote.Remote.Addr().Is4In6()
	}
	now := g.now()
	lc := &liveCall{
		Call: Call{
			ID: in.CallID, Tenant: in.Tenant, Epoch: g.epoch, Direction: call.Termination, CreatedAt: now,
			Media: MediaPlan{CallID: in.CallID, Core: core},
		},
		stored: map[string]call.MediaSession{},
	}
	for _, r := range devices {
		m := &call.MediaSession{
			ID: newID(), CallID: in.CallID, Owner: r.Owner, RegistrationID: r.ID, DeviceID: r.DeviceID,
			Direction: call.Termination, Originator: in.Caller, OriginatorName: in.CallerName,
			Receiver: r.Number().Address(), ReceiverName: in.CalleeName, CallType: call.Regular,
			Location: in.Location, ServerCorrelator: newID(), Status: call.Initial, CreatedAt: now,
		}
		leg, err := g.newBrowserLeg(m)
		if err != nil {
			return nil, err
		}
		leg.Offered = offered
		lc.sessions = append(lc.sessions, m)
		lc.Media.Browsers = append(lc.Media.Browsers, leg)
	}
	return lc, nil
}

// progressIncoming does what a device asks for before it is connected.
func (g *Gateway) progressIncoming(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest) error {
	if r.Offer != "" {
		return call.Errorf(call.InvalidArgument, "the session awaits an answer to the gateway's offer, not an offer")
	}
	if !call.CanFollow(m.Direction, m.Status, r.Status) || r.Status == call.Hold || r.Status == call.Resume {
		return call.Errorf(call.IncompatibleState, "a session that is %s cannot become %s", m.Status, r.Status)
	}
	if r.Answer != "" && r.Answer != m.Answer {
		if err := g.takeDeviceAnswer(lc, m, r.Answer); err != nil {
			return err
		}
	}
	if r.Status == call.Connected {
		return g.connectIncoming(ctx, lc, m)
	}
	if r.Answer != "" {
		// ICE and DTLS can be finished before the user answers.
		if err := g.apply(ctx, lc); err != nil {
			return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the answer", Err: err}
		}
	}
	code, text := 180, ""
	if r.Status == call.InProgress {
		code = 183
		if m.Answer != "" {
			var err error
			if text, err = lc.answerCore(lc.leg(m.ID)); err != nil {
				return err
			}
		}
	}
	if err := g.network.Progress(ctx, lc.ID, code, text); err != nil {
		return networkError(err)
	}
	if err := m.Move(r.Status, "", g.now()); err != nil {
		return err
	}
	return g.save(ctx, lc, statusNotice(m, r.Status, ""))
}

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
func (lc *liveCall) answerCore(b *BrowserLeg) (string, error) {
	core := lc.Media.Core
	if core.SDP.Local != "" {
		return core.SDP.Local, nil
	}
	if core.SDP.Remote == "" {
		core.Offered = sdp.OneVoice(b.Codecs)
		lc.awaiting = true
		return lc.coreOffer()
	}
	remote, err := sdp.ParseCore(core.SDP.Remote)
	if err != nil {
		return "", err
	}
	core.Codecs = sdp.OneVoice(sdp.AnswerFor(remote.Codecs, b.Codecs))
	core.Receive = core.Codecs
	core.Direction = remote.Direction.Answer(sdp.SendRecv)
	return core.SDP.describe(func(id, version uint64) (string, error) {
		return remote.Answer(core.endpoint(id, version, core.Codecs, sdp.SendRecv))
	})
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
	lc.Media.Talking = lc.leg(m.ID).ID
	if err := g.apply(ctx, lc); err != nil {
		g.end(ctx, lc, call.CauseMediaFailed, call.Failed, "the media node cannot take the answer: "+err.Error())
		return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the answer", Err: err}
	}
	if err := g.network.Accept(ctx, lc.ID, text); err != nil {
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
	g.metrics.setup.WithLabelValues(string(m.Direction)).Observe(m.AnsweredAt.Sub(m.CreatedAt).Seconds())
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
func (g *Gateway) declineIncoming(ctx context.Context, lc *liveCall, m *call.MediaSession) error {
	n := g.endOne(lc, m, call.Declined, "declined by the device")
	others := slices.ContainsFunc(lc.sessions, func(o *call.MediaSession) bool { return !o.Status.Final() })
	lc.Media.Browsers = slices.DeleteFunc(lc.Media.Browsers, func(b BrowserLeg) bool { return b.SessionID == m.ID })
	if err := g.save(ctx, lc, n); err != nil {
		return err
	}
	if others {
		return nil
	}
	cause := call.CauseDeclined
	if g.config.DeclineBusy {
		cause = call.CauseBusy
		cause.Q850 = call.CauseDeclined.Q850
	}
	g.end(ctx, lc, cause, call.Declined, "declined by the device")
	return nil
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
	if lc.awaiting {
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
