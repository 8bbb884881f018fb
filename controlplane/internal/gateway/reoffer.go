package gateway

import (
	"context"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// When the far end changes to a codec that the browser does not send, the gateway
// takes the change and offers the browser the new codec by an event. Until the
// device puts its answer, nothing is heard: there is no transcoding.

// otherCodecs is what to answer an offer with that lacks the codec in force: a
// codec that may pass and that the browser has, as far as it has said. It is
// empty when there is none, or while the call is not answered.
func (g *Gateway) otherCodecs(lc *liveCall, leg *BrowserLeg, remote *sdp.Core) []sdp.Codec {
	m := lc.session(leg.SessionID)
	if m == nil || !m.Status.Answered() {
		return nil
	}
	offerable := sdp.OfferToBrowser(remote.Codecs, g.policy(lc.Media.Core))
	if len(leg.Able) > 0 {
		offerable = sdp.AnswerFor(leg.Able, offerable)
	}
	offerable = sdp.OneVoice(offerable)
	if len(offerable) == 0 {
		return nil
	}
	leg.Offered = offerable
	return sdp.OneVoice(sdp.AnswerFor(remote.Codecs, offerable))
}

// reofferBrowser offers a browser leg.Offered in its running session.
func (lc *liveCall) reofferBrowser(b *BrowserLeg) (string, error) {
	mid := ""
	if remote, err := sdp.ParseWebRTC(b.SDP.Remote); err == nil {
		mid = remote.Mid
	}
	return b.SDP.describe(func(id, version uint64) (string, error) {
		e := lc.endpoint(b, b.Offered)
		e.SessionID, e.Version, e.Mid = id, version, mid
		return sdp.WebRTCOffer(e)
	})
}

// tellOffer puts a new offer into the event that tells of the far end's hold or,
// when there is none, into one of its own.
func (lc *liveCall) tellOffer(notices []notice, offer string) []notice {
	m := lc.talkingSession()
	m.Offer, m.Answer = offer, ""
	lc.Reoffered = true
	if len(notices) == 0 {
		notices = []notice{statusNotice(m, m.Status, "")}
	}
	notices[0].change.Offer = offer
	return notices
}

// takeReofferAnswer takes a device's answer to the offer of an event.
func (g *Gateway) takeReofferAnswer(ctx context.Context, lc *liveCall, m *call.MediaSession, text string) error {
	leg := lc.leg(m.ID)
	before, answer := *leg, m.Answer
	if err := g.takeDeviceAnswer(lc, m, text); err != nil {
		return err
	}
	// A later offer keeps the DTLS association that there is (RFC 8842 5.5).
	leg.Active = before.Active
	if err := g.apply(ctx, lc); err != nil {
		*leg, m.Answer = before, answer
		return &call.Error{Code: call.Unavailable, Message: "the media node cannot take the answer", Err: err}
	}
	lc.Reoffered = false
	return g.save(ctx, lc)
}
