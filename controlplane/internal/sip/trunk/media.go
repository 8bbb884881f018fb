package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// MediaConfig is what a trunk wants of the media of its calls.
type MediaConfig struct {
	Codecs  []string `yaml:"codecs" help:"codecs that may pass on this trunk, in order of preference; empty: calls.codecs. An answer holds the first in common"`
	Silence bool     `yaml:"comfort_noise" help:"let comfort noise (RFC 3389) pass where both ends have it, so that they may send nothing else while nobody speaks"`
	// Ptime in milliseconds.
	Ptime         int      `yaml:"ptime" help:"packet time to ask for in milliseconds, 10 to 60; 0 asks for none"`
	SRTP          string   `yaml:"srtp" help:"keys in SDP (RFC 4568): off; optional (offers RTP/AVP with keys that the peer may ignore, RFC 8643, and takes what it offers); required (RTP/SAVP only). Keys are as secret as the SIP that carries them: use TLS, or a network of your own"`
	Suites        []string `yaml:"srtp_suites" help:"crypto suites, in order of preference; empty: AEAD_AES_256_GCM, AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32"`
	RTCP          string   `yaml:"rtcp" help:"RTCP: separate (a port of its own), mux (on the port of RTP if the peer agrees, RFC 5761) or off (RFC 3556)"`
	Ringback      string   `yaml:"ringback" help:"ringing tone of the media node's own for callers whose far end sends no early media: off, request (when the application asks for it) or always (unless the application asks for none)"`
	RingbackTone  string   `yaml:"ringback_tone" help:"that tone: itu, us, uk, fr, au, jp, or frequencies and milliseconds as in 440+480/2000,0/4000"`
	AddressFamily string   `yaml:"address_family" help:"address that media is offered at: auto (the family of the first target when that is an address, else ipv4), ipv4 or ipv6. Incoming calls are answered in the family that they offer"`
}

// validate checks a completed section.
func (m MediaConfig) validate(bad func(name, format string, args ...any) error) error {
	if len(m.Codecs) > 0 {
		if err := (sdp.Policy{Encodings: m.Codecs}).Validate(); err != nil {
			return bad("media.codecs", "%v", err)
		}
	}
	if m.Ptime != 0 && (m.Ptime < 10 || m.Ptime > 60 || m.Ptime%10 != 0) {
		return bad("media.ptime", "must be 0 or 10 to 60 in steps of 10, is %d", m.Ptime)
	}
	if !sdp.SRTP(m.SRTP).Valid() || m.SRTP == "" {
		return bad("media.srtp", "%q is not one of off, optional, required", m.SRTP)
	}
	for i, s := range m.Suites {
		if !slices.Contains(sdp.Suites(), s) || slices.Contains(m.Suites[:i], s) {
			return bad(fmt.Sprintf("media.srtp_suites[%d]", i), "%q is named twice or not one of %s", s, strings.Join(sdp.Suites(), ", "))
		}
	}
	if !slices.Contains([]string{"separate", "mux", "off"}, m.RTCP) {
		return bad("media.rtcp", "%q is not one of separate, mux, off", m.RTCP)
	}
	if !slices.Contains([]string{"off", "request", "always"}, m.Ringback) {
		return bad("media.ringback", "%q is not one of off, request, always", m.Ringback)
	}
	if _, err := gateway.ParseTone(m.RingbackTone); err != nil {
		return bad("media.ringback_tone", "%v", err)
	}
	if !slices.Contains([]string{"auto", "ipv4", "ipv6"}, m.AddressFamily) {
		return bad("media.address_family", "%q is not one of auto, ipv4, ipv6", m.AddressFamily)
	}
	return nil
}

func defaultMedia() MediaConfig {
	return MediaConfig{Silence: true, SRTP: string(sdp.SRTPOff), RTCP: string(gateway.RTCPSeparate), Ringback: string(gateway.RingbackOnRequest), RingbackTone: gateway.DefaultTone, AddressFamily: "auto"}
}

// MediaPolicy is the trunk's, as the gateway needs it.
func (t *Trunk) MediaPolicy() gateway.MediaPolicy {
	m := t.Media
	p := gateway.MediaPolicy{
		Codecs: m.Codecs, NoSilence: !m.Silence, Ptime: m.Ptime, SRTP: sdp.SRTP(m.SRTP), Suites: m.Suites, RTCP: gateway.RTCPPolicy(m.RTCP),
		IPv6: m.AddressFamily == "ipv6",
	}
	p.Ringback = gateway.Ringback(m.Ringback)
	p.RingbackTone, _ = gateway.ParseTone(m.RingbackTone) // validated
	if m.AddressFamily == "auto" && len(t.Targets) > 0 {
		host, _, err := net.SplitHostPort(t.Targets[0])
		if err != nil {
			host = t.Targets[0]
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		p.IPv6 = err == nil && addr.Is6() && !addr.Is4In6()
	}
	return p
}

// Alike keeps of the trunks for one call those with the media policy of the first:
// the offer was made for it, and one in the clear must not meet a trunk that
// requires SRTP, nor the other way round.
func Alike(trunks []*Trunk) []*Trunk {
	var out []*Trunk
	for _, t := range trunks {
		if t.MediaPolicy().Equal(trunks[0].MediaPolicy()) {
			out = append(out, t)
		}
	}
	return out
}
