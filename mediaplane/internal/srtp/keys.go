package srtp

import (
	"crypto/subtle"
	"fmt"

	"github.com/pion/srtp/v3"
)

// Profile is an SRTP protection profile (RFC 5764 section 4.1.2, RFC 7714
// section 14.2), which SDES calls a crypto suite (RFC 4568 section 6.2).
type Profile uint8

// Profiles.
const (
	AES128CMSHA1 Profile = iota + 1
	AES128GCM
	AES256GCM
	// AES128CMSHA1Tag32 has an RTP tag of 32 bits, too short for more than
	// voice. It is for SDES only.
	AES128CMSHA1Tag32
)

func (p Profile) String() string {
	switch p {
	case AES128CMSHA1:
		return "AES_CM_128_HMAC_SHA1_80"
	case AES128CMSHA1Tag32:
		return "AES_CM_128_HMAC_SHA1_32"
	case AES128GCM:
		return "AEAD_AES_128_GCM"
	case AES256GCM:
		return "AEAD_AES_256_GCM"
	}
	return fmt.Sprintf("profile(%d)", uint8(p))
}

func (p Profile) context() srtp.ProtectionProfile {
	switch p {
	case AES128GCM:
		return srtp.ProtectionProfileAeadAes128Gcm
	case AES256GCM:
		return srtp.ProtectionProfileAeadAes256Gcm
	case AES128CMSHA1Tag32:
		return srtp.ProtectionProfileAes128CmHmacSha1_32
	default:
		return srtp.ProtectionProfileAes128CmHmacSha1_80
	}
}

// keyLen and saltLen are the sizes of RFC 5764 and RFC 7714 in bytes.
func (p Profile) keyLen() int {
	if p == AES256GCM {
		return 32
	}
	return 16
}

func (p Profile) saltLen() int {
	if p == AES128GCM || p == AES256GCM {
		return 12
	}
	return 14
}

// TagLen is the size in bytes of the authentication tag of an SRTP packet.
func (p Profile) TagLen() int {
	switch p {
	case AES128GCM, AES256GCM:
		return 16
	case AES128CMSHA1Tag32:
		return 4
	}
	return 10
}

// MasterLen is the size in bytes of a master key followed by its salt.
func (p Profile) MasterLen() int { return p.keyLen() + p.saltLen() }

// Keys of an association: master key followed by master salt, each way.
type Keys struct {
	Profile       Profile
	Local, Remote []byte
}

// String hides the keys: they must not reach a log.
func (k Keys) String() string { return k.Profile.String() + " keys" }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// Equal says whether both are the same, in constant time.
func (k Keys) Equal(o Keys) bool {
	return k.Profile == o.Profile && subtle.ConstantTimeCompare(k.Local, o.Local)&subtle.ConstantTimeCompare(k.Remote, o.Remote) == 1
}

// Validate checks the sizes.
func (k Keys) Validate() error {
	if k.Profile < AES128CMSHA1 || k.Profile > AES128CMSHA1Tag32 {
		return fmt.Errorf("unknown SRTP protection profile %d", uint8(k.Profile))
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
