package media

import (
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// specOf turns a plan into what nodes understand. Each leg has one stream of the
// same id.
func specOf(p gateway.MediaPlan) *mediav1.SessionSpec {
	spec := &mediav1.SessionSpec{
		Id: p.CallID, OwnerEpoch: p.Epoch, Generation: p.Generation,
		OrphanAfter: durationpb.New(p.OrphanAfter), MediaTimeout: durationpb.New(p.SilenceLimit),
	}
	for _, b := range p.Browsers {
		spec.Legs = append(spec.Legs, browserLeg(b))
		s := stream(p, b.ID, b.Direction, b.SSRC, b.Offered, b.Codecs)
		s.Tone = tone(b.Tone)
		spec.Streams = append(spec.Streams, s)
		if p.Core != nil && p.Talking == b.ID {
			spec.Rules = append(spec.Rules,
				rule(b.ID, gateway.CoreLegID, sdp.Mappings(b.Codecs, p.Core.Codecs)),
				rule(gateway.CoreLegID, b.ID, bothNumbers(p.Core, b.Codecs)))
		}
	}
	if c := p.Core; c != nil {
		spec.Legs = append(spec.Legs, coreLeg(c))
		spec.Streams = append(spec.Streams, stream(p, gateway.CoreLegID, c.Passing(), c.SSRC, c.Offered, c.Receive, c.Codecs))
	}
	return spec
}

// bothNumbers maps what the far end sends, under the numbers that it should use
// and under those that it announced for itself.
func bothNumbers(c *gateway.CoreLeg, to []sdp.Codec) []sdp.Mapping {
	out := sdp.Mappings(c.Receive, to)
	for _, m := range sdp.Mappings(c.Codecs, to) {
		if !slices.ContainsFunc(out, func(have sdp.Mapping) bool { return have.From == m.From }) {
			out = append(out, m)
		}
	}
	return out
}

func browserLeg(b gateway.BrowserLeg) *mediav1.Leg {
	t := &mediav1.WebRTCTransport{
		LocalIce:  &mediav1.ICECredentials{Ufrag: b.Ufrag, Password: b.Password},
		LocalDtls: &mediav1.DTLSIdentity{Certificate: b.Identity.Certificate, PrivateKey: b.Identity.PrivateKey},
		DtlsRole:  mediav1.DTLSRole_DTLS_ROLE_SERVER,
		Remote:    address(b.Remote),
	}
	if b.Active {
		t.DtlsRole = mediav1.DTLSRole_DTLS_ROLE_CLIENT
	}
	if b.RemoteUfrag != "" {
		t.RemoteIce = &mediav1.ICECredentials{Ufrag: b.RemoteUfrag, Password: b.RemotePassword}
	}
	for _, f := range b.RemoteFingerprints {
		t.RemoteFingerprints = append(t.RemoteFingerprints, &mediav1.Fingerprint{Algorithm: f.Algorithm, Value: f.Value})
	}
	return &mediav1.Leg{Id: b.ID, Transport: &mediav1.Leg_Webrtc{Webrtc: t}}
}

func coreLeg(c *gateway.CoreLeg) *mediav1.Leg {
	t := &mediav1.RTPTransport{
		Local: address(c.Local), Remote: address(c.Remote), RemoteRtcp: address(c.RemoteRTCP), RtcpMux: c.RTCPMux,
	}
	t.NoRtcp = c.Policy.RTCP == gateway.RTCPOff
	if c.Secured() {
		t.Srtp = &mediav1.SRTPState{Profile: profile(c.LocalKey.Suite), LocalMaster: c.LocalKey.Master, RemoteMaster: c.RemoteKey.Master}
	}
	if c.IPv6 && t.Local == nil {
		t.Local = &mediav1.SocketAddress{Ip: "::"}
	}
	return &mediav1.Leg{Id: gateway.CoreLegID, Transport: &mediav1.Leg_Rtp{Rtp: t}}
}

func tone(t *gateway.Tone) *mediav1.Tone {
	if t == nil {
		return nil
	}
	out := &mediav1.Tone{PayloadType: uint32(t.PayloadType)}
	for _, s := range t.Segments {
		out.Segments = append(out.Segments, &mediav1.ToneSegment{Frequencies: s.Hz, Duration: durationpb.New(s.Duration)})
	}
	return out
}

// profile of a crypto suite.
func profile(suite string) mediav1.SRTPProfile {
	switch suite {
	case "AES_CM_128_HMAC_SHA1_80":
		return mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80
	case "AES_CM_128_HMAC_SHA1_32":
		return mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32
	case "AEAD_AES_128_GCM":
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM
	case "AEAD_AES_256_GCM":
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM
	}
	return mediav1.SRTPProfile_SRTP_PROFILE_UNSPECIFIED
}

// stream lists every format that any of the codec lists names, each payload type
// once, the later lists first: they are the ones in force.
func stream(p gateway.MediaPlan, id string, d sdp.Direction, ssrc uint32, lists ...[]sdp.Codec) *mediav1.Stream {
	s := &mediav1.Stream{Id: id, Leg: id, Direction: direction(d), Ssrc: ssrc, Cname: p.CallID}
	for _, list := range slices.Backward(lists) {
		for _, c := range list {
			if slices.ContainsFunc(s.Formats, func(f *mediav1.Format) bool { return f.PayloadType == uint32(c.PayloadType) }) {
				continue
			}
			s.Formats = append(s.Formats, &mediav1.Format{
				PayloadType: uint32(c.PayloadType), Encoding: c.Encoding, ClockRate: c.ClockRate, Channels: uint32(max(1, c.Channels)),
			})
		}
	}
	return s
}

func rule(from, to string, mappings []sdp.Mapping) *mediav1.Rule {
	out := &mediav1.Output{Stream: to}
	for _, m := range mappings {
		out.Payloads = append(out.Payloads, &mediav1.PayloadMapping{From: uint32(m.From), To: uint32(m.To)})
	}
	return &mediav1.Rule{Input: from, Outputs: []*mediav1.Output{out}}
}

func direction(d sdp.Direction) mediav1.Direction {
	switch d {
	case sdp.SendOnly:
		return mediav1.Direction_DIRECTION_SENDONLY
	case sdp.RecvOnly:
		return mediav1.Direction_DIRECTION_RECVONLY
	case sdp.Inactive:
		return mediav1.Direction_DIRECTION_INACTIVE
	}
	return mediav1.Direction_DIRECTION_SENDRECV
}

func address(a netip.AddrPort) *mediav1.SocketAddress {
	if !a.IsValid() {
		return nil
	}
	return &mediav1.SocketAddress{Ip: a.Addr().Unmap().String(), Port: uint32(a.Port())}
}

func parseAddress(a *mediav1.SocketAddress) (netip.AddrPort, error) {
	if a == nil {
		return netip.AddrPort{}, nil
	}
	ip, err := netip.ParseAddr(a.Ip)
	if err != nil || a.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("the node answered the address %q port %d", a.Ip, a.Port)
	}
	return netip.AddrPortFrom(ip, uint16(a.Port)), nil
}

// stateOf reads what a node answered.
func stateOf(name string, s *mediav1.SessionState) (gateway.MediaState, error) {
	state := gateway.MediaState{Node: name}
	for _, l := range s.GetLegs() {
		for _, a := range l.Local {
			at, err := parseAddress(a)
			if err != nil {
				return state, err
			}
			if l.Id == gateway.CoreLegID {
				state.Core = at
			} else if !slices.Contains(state.Candidates, at) {
				state.Candidates = append(state.Candidates, at)
			}
		}
		if l.Id == gateway.CoreLegID {
			at, err := parseAddress(l.LocalRtcp)
			if err != nil {
				return state, err
			}
			state.CoreRTCP = at
		}
	}
	return state, nil
}
