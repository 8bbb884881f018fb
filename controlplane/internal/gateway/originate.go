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
			Media: MediaPlan{CallID: callID}, Ringback: r.Ringback,
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
	g.keep(lc)
	var same *call.MediaSession
	err = g.saveIf(ctx, lc, func(ctx context.Context, tx Tx) (err error) {
		if _, err := g.registered(ctx, tx, p, r.RegistrationID); err != nil {
			return err
		}
		if same, err = repeated(ctx, tx, reg, r); same != nil {
			err = errRepeated
		}
		return err
	})
	if err != nil {
		g.abandon(ctx, lc)
		if errors.Is(err, errRepeated) {
			return *same, nil
		}
		return call.MediaSession{}, err
	}
	g.metrics.calls.WithLabelValues(string(call.Origination)).Inc()
	g.log.Info("call started", "call", callID, "session", m.ID, "registration", reg.ID,
		"direction", call.Origination, "number", reg.Number(), "peer", r.Receiver.Canonical())
	if offer == nil {
		lc.await(g.config.LateOfferWait, func() {
			g.end(g.life, lc, call.CauseNoAnswer, call.Failed, "no offer came")
		})
		return *m, nil
	}
	shown := *m
	if err := g.invite(ctx, lc, m, offer); err != nil {
		// The response says it; the session was never seen.
		m.Released, lc.silent = true, true
		g.finish(ctx, lc, call.Failed, err.Error())
		return call.MediaSession{}, err
	}
	return shown, nil
}

// errRepeated rolls back what an identical request has done before.
var errRepeated = errors.New("the request was made before")

// originator checks who calls whom.
func (g *Gateway) originator(ctx context.Context, p Principal, r OriginateRequest) (call.Registration, error) {
	reg, err := g.registered(ctx, g.store, p, r.RegistrationID)
	if err != nil {
		return reg, err
	}
	if r.Originator.Kind() != call.Anonymous && !r.Originator.Equal(reg.Number().Address()) {
		return reg, call.Errorf(call.InvalidTokenContext, "originatorAddress is not the phone number of the access token")
	}
	switch {
	case r.Receiver.Kind() == call.Anonymous:
		return reg, call.Errorf(call.InvalidArgument, "receiverAddress must not be anonymous")
	case isEmergency(r.CallType, r.Receiver) && !g.config.Emergency:
		return reg, call.Errorf(call.EmergencyNotSupported, "emergency calls are not supported here")
	}
	return reg, nil
}

// registered answers the registration that p calls with.
func (g *Gateway) registered(ctx context.Context, from Reader, p Principal, id string) (call.Registration, error) {
	reg, err := from.Registration(ctx, p.Owner.Tenant, id)
	if errors.Is(err, ErrNotFound) || err == nil && (!p.Owner.MayUse(reg.Owner) || reg.Expired(g.now())) {
		return reg, call.Errorf(call.InvalidTokenContext, "the registrationId header names no registration of this access token")
	}
	return reg, err
}

func isEmergency(t call.CallType, receiver call.Address) bool {
	return t == call.Emergency || receiver.Kind() == call.EmergencyService
}

// repeated finds the live session that an identical request made before. Requests
// of one owner wait for each other, so that of two at once one is the first.
func repeated(ctx context.Context, tx Tx, reg call.Registration, r OriginateRequest) (*call.MediaSession, error) {
	if r.ClientCorrelator == "" {
		return nil, nil
	}
	if err := tx.LockOwner(ctx, reg.Owner); err != nil {
		return nil, err
	}
	m, err := tx.SessionByCorrelator(ctx, reg.Owner, reg.ID, r.ClientCorrelator)
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

// invite prepares the media of an outgoing call and sends the INVITE. After an
// error the call can only be finished.
func (g *Gateway) invite(ctx context.Context, lc *liveCall, m *call.MediaSession, offer *sdp.WebRTC) error {
	leg, err := g.newBrowserLeg(m)
	if err != nil {
		return err
	}
	leg.Offered, leg.Able = offer.Codecs, offer.Codecs
	leg.describedBy(offer, m.Offer)
	lc.Media.Browsers = []BrowserLeg{leg}
	invite := Invite{
		CallID: lc.ID, Tenant: lc.Tenant, RegistrationID: m.RegistrationID, Number: m.Owner.Subject,
		Anonymous: m.Originator.Kind() == call.Anonymous, DisplayName: m.OriginatorName,
		Receiver: m.Receiver, ReceiverName: m.ReceiverName,
		Emergency: isEmergency(m.CallType, m.Receiver), Location: m.Location,
	}
	core := newCoreLeg(g.network.MediaPolicy(ctx, invite))
	core.Offered = sdp.OfferToCore(offer.Codecs, g.policy(core))
	lc.Media.Core = core
	if len(core.Offered) == 0 {
		// Answered as created: the device learns why by an event, like of
		// every other call that comes to nothing.
		g.finish(ctx, lc, call.Failed, "none of the offered codecs may pass: "+codecNames(offer.Codecs))
		return nil
	}
	if err := g.apply(ctx, lc); err != nil {
		return &call.Error{Code: call.Unavailable, Message: "no media node can take the call", Err: err}
	}
	text, err := lc.coreOffer()
	if err != nil {
		return fmt.Errorf("describe the call to the network: %w", err)
	}
	lc.stopWaiting()
	invite.SDP = text
	if lc.Dialog, err = g.network.Invite(ctx, invite); err != nil {
		return networkError(err)
	}
	// What the store does not take now goes with the next change.
	g.save(ctx, lc)
	return nil
}
