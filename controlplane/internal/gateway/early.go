package gateway

import (
	"context"
	"errors"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// A device that is calling may offer anew before it is answered: after a change of
// network, or from a page that was loaded again. It is answered from the gateway's
// own media, without waiting for the far end; the far end is offered the codecs
// that are in force then, by UPDATE if it can take one already and by re-INVITE
// after its answer otherwise.

// reofferEarly takes a new offer of a device that is still calling.
func (g *Gateway) reofferEarly(ctx context.Context, lc *liveCall, m *call.MediaSession, r StatusRequest) error {
	offer, err := parseOffer(r.Offer)
	if err != nil {
		return err
	}
	if len(lc.Media.Browsers) == 0 {
		m.Offer = r.Offer
		if err := g.invite(ctx, lc, m, offer); err != nil {
			g.finish(ctx, lc, call.Failed, err.Error())
			return err
		}
		return nil
	}
	if lc.Media.Talking == "" {
		leg := lc.leg(m.ID)
		legBefore := *leg
		if offer.Ufrag != leg.RemoteUfrag || !sameFingerprints(offer.Fingerprints, leg.RemoteFingerprints) {
			if leg, err = g.replaceLeg(lc, m); err != nil {
				return err
			}
		}
		leg.Offered, leg.Able = offer.Codecs, offer.Codecs
		leg.describedBy(offer, r.Offer)
		if err := g.apply(ctx, lc); err != nil {
			*leg = legBefore
			return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the offer", Err: err}
		}
		m.Offer = r.Offer
		lc.owed = true
		return g.save(ctx, lc)
	}
	fresh, err := g.answerOffer(ctx, lc, m, r.Offer)
	if err != nil {
		return err
	}
	lc.owed = true
	err = g.save(ctx, lc, statusNotice(m, m.Status, fresh))
	g.passOn(lc)
	return err
}

// passOn offers the far end what a device's early offer has brought, if that is
// still owed and nothing else is under way.
func (g *Gateway) passOn(lc *liveCall) {
	leg := lc.talkingLeg()
	if !lc.owed || leg == nil || lc.changing || lc.awaiting || lc.leaving || lc.over {
		return
	}
	core := lc.Media.Core
	before, described := core.Offered, core.SDP
	core.Offered = keepVoice(sdp.OfferToCore(leg.Codecs, g.policy(core)), core.Codecs)
	text, err := lc.coreOffer()
	if err != nil {
		g.log.Error("describe a device's new offer to the network", "call", lc.ID, "error", err)
		lc.owed, core.Offered = false, before
		return
	}
	lc.owed, lc.changing = false, true
	g.later(inDialogLimit, func(ctx context.Context) {
		answer, err := g.network.Reoffer(ctx, lc.ID, text)
		lc.mu.Lock()
		defer lc.mu.Unlock()
		lc.changing = false
		switch {
		case lc.over || lc.leaving:
			return
		case errors.Is(err, ErrTooEarly):
			// It never left: the next chance writes it anew.
			lc.owed, core.Offered = true, before
			if core.SDP.Local == text {
				core.SDP.Local, core.SDP.Version = described.Local, described.Version
			}
			if lc.confirmed() {
				g.passOn(lc) // answered meanwhile
			}
			return
		case err == nil:
			err = g.takeCoreAnswer(ctx, lc, answer)
		default:
			core.Offered = before
		}
		if err != nil {
			g.log.Info("the far end did not take a device's new offer, the session stays as it is", "call", lc.ID, "error", err)
		}
		g.save(ctx, lc)
	})
}

// authorize restricts media before the answer to what the network allows (RFC
// 5009). The answer itself lifts it.
func (c *CoreLeg) authorize(e EarlyMedia) {
	switch e {
	case EarlyMediaSendRecv:
		c.Gate = ""
	case EarlyMediaSendOnly, EarlyMediaRecvOnly, EarlyMediaInactive:
		c.Gate = e
	}
}

// Passing is the direction in which media passes now: what was negotiated, as far
// as the gate of early media lets it.
func (c *CoreLeg) Passing() sdp.Direction {
	switch c.Gate {
	case EarlyMediaSendOnly:
		return c.Direction.And(sdp.RecvOnly)
	case EarlyMediaRecvOnly:
		return c.Direction.And(sdp.SendOnly)
	case EarlyMediaInactive:
		return sdp.Inactive
	}
	return c.Direction
}
