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
	g.keep(lc)
	if err := g.apply(ctx, lc); err != nil {
		g.abandon(ctx, lc)
		refuse(call.CauseNoCapacity, err.Error())
		return
	}
	if in.AnswerFirst {
		err = g.answerFirst(ctx, lc, in)
	} else {
		err = g.inviteDevices(ctx, lc)
	}
	if err != nil {
		log.Error("prepare an incoming call", "error", err)
		g.abandon(ctx, lc)
		refuse(call.CauseMediaFailed, err.Error())
		return
	}
	g.metrics.calls.WithLabelValues(string(call.Termination)).Inc()
	log.Info("call started", "direction", call.Termination, "number", number, "peer", in.Caller.Canonical(), "devices", len(lc.sessions), "about", in.Signaling.Reason(), "icid", in.Signaling.ChargingID)
	lc.await(g.config.RingTimeout, func() {
		g.end(g.life, lc, call.CauseNoAnswer, call.NoAnswer, "no answer")
	})
}

// inviteDevices offers the call to every device that it may ring.
func (g *Gateway) inviteDevices(ctx context.Context, lc *liveCall) (err error) {
	var notices []notice
	for _, m := range lc.sessions {
		if m.Offer, err = lc.browserOffer(lc.leg(m.ID)); err != nil {
			return fmt.Errorf("describe the call to a device: %w", err)
		}
		change := m.Change(call.Initial)
		change.Offer = m.Offer
		change.Reason = lc.Signaling.Reason()
		notices = append(notices, notice{m, call.SessionInvitation, change})
	}
	return g.save(ctx, lc, notices...)
}

// answerFirst answers the network's offer before any device has, with one codec that
// all are then held to. The devices are invited when the caller is Ready.
func (g *Gateway) answerFirst(ctx context.Context, lc *liveCall, in IncomingCall) error {
	for i := range lc.Media.Browsers {
		leg := &lc.Media.Browsers[i]
		leg.Offered = sdp.OneVoice(leg.Offered)
		leg.Codecs = leg.Offered // as good as accepted: every browser has them
	}
	text, err := lc.answerCoreWith(lc.Media.Browsers[0].Offered)
	if err != nil {
		return err
	}
	if err := g.apply(ctx, lc); err != nil {
		return err
	}
	if err := g.save(ctx, lc); err != nil {
		return err
	}
	lc.uninvited = true
	return g.network.Progress(ctx, in.CallID, 183, text)
}

// Ready is told when a call that was answered first may ring.
func (g *Gateway) Ready(ctx context.Context, callID string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	if !lc.uninvited || lc.leaving {
		return
	}
	lc.uninvited = false
	if err := g.inviteDevices(ctx, lc); err != nil {
		g.end(ctx, lc, call.CauseMediaFailed, call.Failed, err.Error())
	}
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
	core := newCoreLeg(in.Media)
	offered := sdp.OfferToBrowser(sdp.Relayed(), g.policy(core))
	if in.SDP != "" {
		remote, err := core.parse(in.SDP)
		if err != nil {
			return nil, err
		}
		if remote.Rejected {
			return nil, errors.New("the offer has no audio")
		}
		offered = sdp.OfferToBrowser(remote.Codecs, g.policy(core))
		if len(offered) == 0 {
			return nil, fmt.Errorf("none of the offered codecs may pass: %s", codecNames(remote.Codecs))
		}
		if _, ok := sdp.PickCrypto(remote.Crypto, core.Policy.suites()); !ok && (remote.Secured() || core.Policy.SRTP == sdp.SRTPRequired) {
			return nil, fmt.Errorf("no crypto suite in common: offered %v", remote.Crypto)
		}
		core.reach(remote)
		core.packets(remote)
		core.SDP.Remote = in.SDP
		core.IPv6 = remote.Remote.Addr().Is6() && !remote.Remote.Addr().Is4In6()
	}
	now := g.now()
	lc := &liveCall{
		Call: Call{
			ID: in.CallID, Tenant: in.Tenant, Epoch: g.epoch, Direction: call.Termination, CreatedAt: now,
			Media: MediaPlan{CallID: in.CallID, Core: core}, Dialog: in.Dialog, Signaling: in.Signaling,
		},
		stored: map[string]call.MediaSession{},
	}
	kind := call.Regular
	if in.Emergency {
		kind = call.Emergency // it is not cut when the registration ends
	}
	for _, r := range devices {
		m := &call.MediaSession{
			ID: newID(), CallID: in.CallID, Owner: r.Owner, RegistrationID: r.ID, DeviceID: r.DeviceID,
			Direction: call.Termination, Originator: in.Caller, OriginatorName: in.CallerName,
			Receiver: r.Number().Address(), ReceiverName: in.CalleeName, CallType: kind,
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
	leg := lc.leg(m.ID)
	legBefore, answerBefore := *leg, m.Answer
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
			*leg, m.Answer = legBefore, answerBefore
			return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the answer", Err: err}
		}
	}
	code, text := 180, ""
	if r.Status == call.InProgress {
		code = 183
		if m.Answer != "" {
			var err error
			if text, err = lc.answerCore(leg); err != nil {
				return err
			}
		}
	}
	if code == 180 && g.talks(ctx, m.RegistrationID) {
		if err := g.network.CallWaiting(ctx, lc.ID); err != nil && !errors.Is(err, ErrNoDialog) {
			g.log.Warn("tell a caller that the called party is in another call", "call", lc.ID, "error", err)
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

// talks reports whether the device of a registration is in a call.
func (g *Gateway) talks(ctx context.Context, registrationID string) bool {
	sessions, err := g.store.LiveSessionsByRegistration(ctx, registrationID)
	if err != nil {
		g.log.Error("list the sessions of a registration", "registration", registrationID, "error", err)
	}
	return slices.ContainsFunc(sessions, func(m call.MediaSession) bool { return m.Status.Answered() })
}
