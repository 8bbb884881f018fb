// Package dtlssrtp turns a DTLS handshake into SRTP keys (RFC 5764), and keys
// into the two transforms of an association.
//
// A Handshake lives until its keys are known and the peer is known to have
// finished too; after that the DTLS state is thrown away without an alert, since
// media needs only the keys. DTLS state is never restored on another node (its
// nonces would repeat): SRTP keys are.
package dtlssrtp

import (
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
)

// Profile is an SRTP protection profile (RFC 5764 section 4.1.2, RFC 7714
// section 14.2).
type Profile uint8

// Profiles.
const (
	AES128CMSHA1 Profile = iota + 1
	AES128GCM
	AES256GCM
)

// Profiles lists every profile in the order that a node prefers.
func Profiles() []Profile { return []Profile{AES128GCM, AES256GCM, AES128CMSHA1} }

func (p Profile) String() string {
	switch p {
	case AES128CMSHA1:
		return "AES_CM_128_HMAC_SHA1_80"
	case AES128GCM:
		return "AEAD_AES_128_GCM"
	case AES256GCM:
		return "AEAD_AES_256_GCM"
	}
	return fmt.Sprintf("profile(%d)", uint8(p))
}

func (p Profile) srtp() srtp.ProtectionProfile {
	switch p {
	case AES128GCM:
		return srtp.ProtectionProfileAeadAes128Gcm
	case AES256GCM:
		return srtp.ProtectionProfileAeadAes256Gcm
	default:
		return srtp.ProtectionProfileAes128CmHmacSha1_80
	}
}

func (p Profile) dtls() dtls.SRTPProtectionProfile {
	switch p {
	case AES128GCM:
		return dtls.SRTP_AEAD_AES_128_GCM
	case AES256GCM:
		return dtls.SRTP_AEAD_AES_256_GCM
	default:
		return dtls.SRTP_AES128_CM_HMAC_SHA1_80
	}
}

func profileOf(p dtls.SRTPProtectionProfile) (Profile, bool) {
	for _, known := range Profiles() {
		if known.dtls() == p {
			return known, true
		}
	}
	return 0, false
}

// keyLen and saltLen are the sizes of RFC 5764 and RFC 7714 in bytes.
func (p Profile) keyLen() int {
	if p == AES256GCM {
		return 32
	}
	return 16
}

func (p Profile) saltLen() int {
	if p == AES128CMSHA1 {
		return 14
	}
	return 12
}

// MasterLen is the size in bytes of a master key followed by its salt.
func (p Profile) MasterLen() int { return p.keyLen() + p.saltLen() }

// Keys of an association: master key followed by master salt, each way.
type Keys struct {
	Profile       Profile
	Local, Remote []byte
}

// Validate checks the sizes.
func (k Keys) Validate() error {
	if k.Profile < AES128CMSHA1 || k.Profile > AES256GCM {
		return fmt.Errorf("unknown SRTP protection profile %d", k.Profile)
	}
	want := k.Profile.MasterLen()
	if len(k.Local) != want {
		return fmt.Errorf("local master key and salt are %d bytes, %s needs %d", len(k.Local), k.Profile, want)
	}
	if len(k.Remote) != want {
		return fmt.Errorf("remote master key and salt are %d bytes, %s needs %d", len(k.Remote), k.Profile, want)
	}
	return nil
}
