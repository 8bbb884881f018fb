// Package dtlssrtp turns a DTLS handshake into SRTP keys (RFC 5764).
//
// A Handshake lives until its keys are known and the peer is known to have
// finished too; after that the DTLS state is thrown away without an alert, since
// media needs only the keys. DTLS state is never restored on another node (its
// nonces would repeat): SRTP keys are.
package dtlssrtp

import (
	"github.com/pion/dtls/v3"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

// Profiles lists every profile that browsers and the node agree on, in the order
// that a node prefers.
func Profiles() []srtp.Profile {
	return []srtp.Profile{srtp.AES128GCM, srtp.AES256GCM, srtp.AES128CMSHA1}
}

func useSRTP(p srtp.Profile) dtls.SRTPProtectionProfile {
	switch p {
	case srtp.AES128GCM:
		return dtls.SRTP_AEAD_AES_128_GCM
	case srtp.AES256GCM:
		return dtls.SRTP_AEAD_AES_256_GCM
	default:
		return dtls.SRTP_AES128_CM_HMAC_SHA1_80
	}
}

func profileOf(p dtls.SRTPProtectionProfile) (srtp.Profile, bool) {
	for _, known := range Profiles() {
		if useSRTP(known) == p {
			return known, true
		}
	}
	return 0, false
}
