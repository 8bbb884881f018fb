package gateway

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// MediaPolicy is what a trunk wants of the media of its calls. The zero value is
// that of a trunk that wants nothing in particular.
type MediaPolicy struct {
	// Codecs that may pass, in order of preference; empty: those of Config.
	Codecs []string `json:",omitempty"`
	// NoSilence keeps comfort noise out of descriptions.
	NoSilence bool `json:",omitempty"`
	// Ptime is the packet time asked for in milliseconds; 0 asks for none.
	Ptime int `json:",omitempty"`
	// SRTP toward the trunk; empty is sdp.SRTPOff. Suites that may protect it,
	// in order of preference; empty: sdp.Suites.
	SRTP   sdp.SRTP `json:",omitempty"`
	Suites []string `json:",omitempty"`
	// RTCP toward the trunk.
	RTCP RTCPPolicy `json:",omitempty"`
	// Ringback says who plays ringing tone to callers, RingbackTone which; empty:
	// DefaultTone.
	Ringback     Ringback      `json:",omitempty"`
	RingbackTone []ToneSegment `json:",omitempty"`
	// IPv6 asks for a media address of that family in offers.
	IPv6 bool `json:",omitempty"`
}

// RTCPPolicy says how RTCP goes to a trunk.
type RTCPPolicy string

// RTCP policies; the empty one is RTCPSeparate.
const (
	// RTCPSeparate has a port of its own (RFC 3550 11).
	RTCPSeparate RTCPPolicy = "separate"
	// RTCPMux shares the port of RTP with a peer that agrees (RFC 5761).
	RTCPMux RTCPPolicy = "mux"
	// RTCPOff sends none and says so (RFC 3556).
	RTCPOff RTCPPolicy = "off"
)

// Equal reports whether an offer made for p fits o.
func (p MediaPolicy) Equal(o MediaPolicy) bool {
	return slices.Equal(p.Codecs, o.Codecs) && slices.Equal(p.Suites, o.Suites) && p.Ptime == o.Ptime && p.NoSilence == o.NoSilence &&
		cmp.Or(p.SRTP, sdp.SRTPOff) == cmp.Or(o.SRTP, sdp.SRTPOff) && cmp.Or(p.RTCP, RTCPSeparate) == cmp.Or(o.RTCP, RTCPSeparate) && p.IPv6 == o.IPv6
}

func (p MediaPolicy) suites() []string {
	if len(p.Suites) == 0 {
		return sdp.Suites()
	}
	return p.Suites
}

// policy is which codecs may pass on a core leg.
func (g *Gateway) policy(c *CoreLeg) sdp.Policy {
	p := g.config.policy()
	if c != nil && len(c.Policy.Codecs) > 0 {
		p.Encodings = c.Policy.Codecs
	}
	p.NoSilence = c != nil && c.Policy.NoSilence
	return p
}

// newCoreLeg makes the gateway's half of the association with a trunk.
func newCoreLeg(p MediaPolicy) *CoreLeg {
	return &CoreLeg{SSRC: randomSSRC(), Direction: sdp.SendRecv, Policy: p, IPv6: p.IPv6}
}

// newMaster makes the master key and salt of a crypto suite.
func newMaster(suite string) []byte {
	master := make([]byte, sdp.MasterLength(suite))
	_, _ = rand.Read(master) // never fails (crypto/rand)
	return master
}

// offerKeys is what an offer says of SRTP: a choice of suites in the first one,
// after that the key in force, so that a change of something else changes no key.
func (c *CoreLeg) offerKeys() []sdp.Crypto {
	switch {
	case !c.LocalKey.IsZero():
		c.OfferedKeys = []sdp.Crypto{c.LocalKey}
	case c.SDP.Remote != "" || c.Policy.SRTP != sdp.SRTPOptional && c.Policy.SRTP != sdp.SRTPRequired:
		c.OfferedKeys = nil
	case len(c.OfferedKeys) == 0:
		for i, suite := range c.Policy.suites() {
			c.OfferedKeys = append(c.OfferedKeys, sdp.Crypto{Tag: i + 1, Suite: suite, Master: newMaster(suite)})
		}
	}
	return c.OfferedKeys
}

// takeAnsweredKeys takes what an answer to OfferedKeys says of SRTP. An answer
// in the clear is refused where the policy requires protection.
func (c *CoreLeg) takeAnsweredKeys(remote *sdp.Core) error {
	switch {
	case len(c.OfferedKeys) > 0 && len(remote.Crypto) > 0:
		local, theirs, err := sdp.AnsweredCrypto(c.OfferedKeys, remote.Crypto)
		if err != nil {
			return err
		}
		c.LocalKey, c.RemoteKey = local, theirs
	case c.Policy.SRTP == sdp.SRTPRequired || remote.Secured():
		return fmt.Errorf("the far end answered without an SRTP key, which is required")
	default:
		c.LocalKey, c.RemoteKey = sdp.Crypto{}, sdp.Crypto{}
	}
	return nil
}

// takeOfferedKeys chooses from what an offer says of SRTP. The own key stays as
// long as its suite does.
func (c *CoreLeg) takeOfferedKeys(remote *sdp.Core) error {
	picked, ok := sdp.PickCrypto(remote.Crypto, c.Policy.suites())
	switch {
	case ok:
		own := sdp.Crypto{Tag: picked.Tag, Suite: picked.Suite, Master: c.LocalKey.Master}
		if c.LocalKey.Suite != picked.Suite {
			own.Master = newMaster(picked.Suite)
		}
		c.LocalKey, c.RemoteKey = own, picked
	case c.Policy.SRTP == sdp.SRTPRequired || remote.Secured():
		return fmt.Errorf("no crypto suite in common: offered %v, allowed %s", remote.Crypto, strings.Join(c.Policy.suites(), ", "))
	default:
		c.LocalKey, c.RemoteKey = sdp.Crypto{}, sdp.Crypto{}
	}
	return nil
}

// Secured reports whether the leg carries SRTP.
func (c *CoreLeg) Secured() bool { return !c.LocalKey.IsZero() && !c.RemoteKey.IsZero() }

// answerKeys is what an answer says of SRTP.
func (c *CoreLeg) answerKeys() []sdp.Crypto {
	if !c.Secured() {
		return nil
	}
	return []sdp.Crypto{c.LocalKey}
}
