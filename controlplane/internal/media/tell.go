package media

import (
	"context"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// tell passes on what a node saw.
func (n *node) tell(ctx context.Context, e *mediav1.SessionEvent) {
	to, id := n.registry.events, e.Session
	switch v := e.Event.(type) {
	case *mediav1.SessionEvent_IceConnected:
		if at, err := parseAddress(v.IceConnected.Remote); err == nil {
			to.ICEConnected(ctx, id, v.IceConnected.Leg, at)
		}
	case *mediav1.SessionEvent_DtlsConnected:
		to.DTLSConnected(ctx, id, v.DtlsConnected.Leg, profileName(v.DtlsConnected.Profile))
	case *mediav1.SessionEvent_LegFailed:
		to.LegFailed(ctx, id, v.LegFailed.Leg, v.LegFailed.Reason)
	case *mediav1.SessionEvent_FirstPacket:
		if at, err := parseAddress(v.FirstPacket.Source); err == nil {
			to.FirstPacket(ctx, id, v.FirstPacket.Stream, at)
		}
	case *mediav1.SessionEvent_SourceLatched:
		if at, err := parseAddress(v.SourceLatched.Remote); err == nil {
			to.Latched(ctx, id, at)
		}
	case *mediav1.SessionEvent_MediaTimeout:
		to.MediaTimeout(ctx, id, v.MediaTimeout.Stream, v.MediaTimeout.SilentFor.AsDuration())
	case *mediav1.SessionEvent_Dtmf:
		to.MediaDigit(ctx, id, v.Dtmf.Stream, v.Dtmf.Digit, v.Dtmf.Duration.AsDuration())
	case *mediav1.SessionEvent_Removed:
		if v.Removed.Reason != "requested" {
			to.SessionLost(ctx, id, "media node "+n.name+" ended the session: "+v.Removed.Reason)
		}
	}
}

// profileName is the name in the IANA registry of SRTP protection profiles.
func profileName(p mediav1.SRTPProfile) string {
	switch p {
	case mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80:
		return "SRTP_AES128_CM_HMAC_SHA1_80"
	case mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM:
		return "SRTP_AEAD_AES_128_GCM"
	case mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM:
		return "SRTP_AEAD_AES_256_GCM"
	}
	return "unknown"
}
