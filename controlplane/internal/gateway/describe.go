package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// newBrowserLeg makes the gateway's half of a device's association.
func (g *Gateway) newBrowserLeg(m *call.MediaSession) (BrowserLeg, error) {
	identity, err := newIdentity(g.now())
	if err != nil {
		return BrowserLeg{}, err
	}
	ufrag, password := newCredentials()
	return BrowserLeg{
		ID: m.ID, SessionID: m.ID, Identity: identity, Ufrag: ufrag, Password: password,
		SSRC: randomSSRC(), Direction: sdp.SendRecv,
	}, nil
}

// describedBy takes over what the browser said of itself.
func (b *BrowserLeg) describedBy(remote *sdp.WebRTC, text string) {
	b.RemoteUfrag, b.RemotePassword = remote.Ufrag, remote.Password
	b.RemoteFingerprints = remote.Fingerprints
	b.Direction = remote.Direction.Reverse()
	b.Active = remote.LocalSetup(b.setup()) == sdp.SetupActive
	b.SDP.Remote = text
}

// setup is the gateway's part in the DTLS association as it is, which a later
// offer keeps where it leaves the choice (RFC 8842 5.3).
func (b *BrowserLeg) setup() string {
	if b.Active {
		return sdp.SetupActive
	}
	return sdp.SetupPassive
}

// endpoint is the gateway's side of a leg as descriptions show it.
func (lc *liveCall) endpoint(b *BrowserLeg, codecs []sdp.Codec) sdp.Endpoint {
	ptime := 0
	if lc.Media.Core != nil {
		ptime = lc.Media.Core.Ptime
	}
	return sdp.Endpoint{
		Ufrag: b.Ufrag, Password: b.Password, Fingerprint: b.Identity.fingerprint(),
		Candidates: lc.candidates.Candidates, SSRC: b.SSRC, CNAME: lc.ID,
		Direction: sdp.SendRecv, Codecs: codecs, Ptime: ptime,
	}
}

// browserAnswer answers a browser's offer with the codecs in force.
func (lc *liveCall) browserAnswer(b *BrowserLeg, offer *sdp.WebRTC) (string, error) {
	return b.SDP.describe(func(id, version uint64) (string, error) {
		e := lc.endpoint(b, b.Codecs)
		e.SessionID, e.Version, e.Setup = id, version, b.setup()
		return offer.Answer(e)
	})
}

// browserOffer offers a device what the network can take.
func (lc *liveCall) browserOffer(b *BrowserLeg) (string, error) {
	return b.SDP.describe(func(id, version uint64) (string, error) {
		e := lc.endpoint(b, b.Offered)
		e.SessionID, e.Version = id, version
		return sdp.WebRTCOffer(e)
	})
}

// coreOffer offers the network what core.Offered says. An offer in a running
// session keeps the m-lines that it has (RFC 3264 8).
func (lc *liveCall) coreOffer() (string, error) {
	core := lc.Media.Core
	offer := sdp.CoreOffer
	if core.SDP.Remote != "" {
		remote, err := core.parse(core.SDP.Remote)
		if err != nil {
			return "", err
		}
		offer = remote.Reoffer
	}
	keys := core.offerKeys()
	mux := core.RTCPMux || core.SDP.Remote == "" && core.Policy.RTCP == RTCPMux
	return core.SDP.describe(func(id, version uint64) (string, error) {
		e := core.endpoint(id, version, core.Offered, lc.holdDirection(), mux)
		e.Crypto, e.Secure, e.Ptime = keys, core.Policy.SRTP == sdp.SRTPRequired, core.Policy.Ptime
		return offer(e)
	})
}

// coreAnswer answers the network's offer with the codecs and keys in force.
func (c *CoreLeg) coreAnswer(offer *sdp.Core, d sdp.Direction) (string, error) {
	return c.SDP.describe(func(id, version uint64) (string, error) {
		e := c.endpoint(id, version, c.Codecs, d, c.RTCPMux)
		e.Crypto = c.answerKeys()
		if e.Ptime = c.Policy.Ptime; offer.MaxPtime > 0 {
			e.Ptime = min(e.Ptime, offer.MaxPtime)
		}
		return offer.Answer(e)
	})
}

// parse reads a description of the far end.
func (c *CoreLeg) parse(text string) (*sdp.Core, error) {
	return sdp.ParseCoreSRTP(text, c.Policy.SRTP)
}

func (c *CoreLeg) endpoint(id, version uint64, codecs []sdp.Codec, d sdp.Direction, mux bool) sdp.CoreEndpoint {
	e := sdp.CoreEndpoint{
		SessionID: id, Version: version, Address: c.Local, RTCP: c.LocalRTCP, Direction: d, Codecs: codecs,
		NoRTCP: c.Policy.RTCP == RTCPOff,
	}
	switch {
	case mux:
		e.RTCP = c.Local
	case e.RTCP == c.Local:
		e.RTCP = netip.AddrPort{} // muxed until now: the next port
	}
	return e
}

// takeAnswer takes the network's answer to core.Offered, made in the given
// direction.
func (c *CoreLeg) takeAnswer(text string, offered sdp.Direction) error {
	remote, err := c.parse(text)
	if err != nil {
		return err
	}
	if remote.Rejected {
		return sdp.ErrNoCommonCodec
	}
	codecs, err := sdp.Negotiate(c.Offered, remote.Codecs)
	if err != nil {
		return fmt.Errorf("offered %s, answered %s: %w", codecNames(c.Offered), codecNames(remote.Codecs), err)
	}
	if err := c.takeAnsweredKeys(remote); err != nil {
		return err
	}
	c.Codecs, c.Receive = codecs, sdp.AnswerFor(c.Offered, codecs)
	c.Direction = offered.And(remote.Direction.Reverse())
	c.reach(remote)
	c.packets(remote)
	c.SDP.Remote = text
	return nil
}

// reach sends to where the far end says it receives. An unspecified address is
// the old way of hold and keeps the last one.
func (c *CoreLeg) reach(remote *sdp.Core) {
	if !remote.Remote.IsValid() || remote.Remote.Addr().IsUnspecified() {
		return
	}
	c.Remote, c.RemoteRTCP = remote.Remote, remote.RTCP
}

// packets notes how the far end wants its packets.
func (c *CoreLeg) packets(remote *sdp.Core) {
	c.RTCPMux = c.Policy.RTCP == RTCPMux && remote.RTCPMux
	c.Ptime = cmp.Or(remote.Ptime, c.Policy.Ptime)
	if remote.MaxPtime > 0 {
		c.Ptime = min(c.Ptime, remote.MaxPtime)
	}
}

// withEvents adds the offered telephone-events to an answer that has none: the
// media node then still hears the digits, for a far end that takes them by INFO.
func withEvents(answer, offered []sdp.Codec) []sdp.Codec {
	for _, c := range answer {
		if c.IsTelephoneEvent() {
			return answer
		}
	}
	for _, c := range offered {
		if c.IsTelephoneEvent() && len(answer) > 0 {
			answer = append(answer, c)
		}
	}
	return answer
}

func hasEvents(codecs []sdp.Codec) bool {
	for _, c := range codecs {
		if c.IsTelephoneEvent() {
			return true
		}
	}
	return false
}

func codecNames(codecs []sdp.Codec) string {
	if len(codecs) == 0 {
		return "nothing"
	}
	names := make([]string, len(codecs))
	for i, c := range codecs {
		names[i] = c.String()
	}
	return strings.Join(names, ", ")
}
