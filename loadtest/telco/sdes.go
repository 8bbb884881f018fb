package telco

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
)

// suite is a crypto suite of SDES (RFC 4568 section 6.2, RFC 7714 section 14.2).
type suite struct {
	name      string
	profile   srtp.ProtectionProfile
	key, salt int
}

var suites = []suite{
	{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
	{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	{"AES_CM_128_HMAC_SHA1_32", srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
}

// keying is one a=crypto line: who wrote it sends with its key. The zero value is
// media in the clear.
type keying struct {
	tag    string
	suite  suite
	master []byte
}

func (k keying) none() bool { return len(k.master) == 0 }

// parseKeying reads the first a=crypto line of a stream that it understands.
func parseKeying(m *sdp.MediaDescription) keying {
	for _, a := range m.Attributes {
		fields := strings.Fields(a.Value)
		if a.Key != "crypto" || len(fields) != 3 {
			continue
		}
		key, inline := strings.CutPrefix(fields[2], "inline:")
		key, _, _ = strings.Cut(key, "|")
		master, err := base64.StdEncoding.DecodeString(key)
		if !inline || err != nil {
			continue
		}
		for _, s := range suites {
			if s.name == fields[1] && len(master) == s.key+s.salt {
				return keying{fields[0], s, master}
			}
		}
	}
	return keying{}
}

func (k keying) line() string {
	return fmt.Sprintf("a=crypto:%s %s inline:%s\r\n", k.tag, k.suite.name, base64.StdEncoding.EncodeToString(k.master))
}

func (k keying) context() (*srtp.Context, error) {
	return srtp.CreateContext(k.master[:k.suite.key], k.master[k.suite.key:], k.suite.profile)
}

// protection is the SRTP of a call; in the clear nothing of it is set.
type protection struct {
	ours, theirs keying
	out, in      *srtp.Context
}

// answer takes the keys of an offer, and chooses own ones unless those of the same
// suite are there already.
func (p *protection) answer(theirs keying) error {
	if theirs.none() {
		*p = protection{}
		return nil
	}
	ours := keying{theirs.tag, theirs.suite, p.ours.master}
	if p.ours.suite.name != theirs.suite.name {
		ours.master = make([]byte, theirs.suite.key+theirs.suite.salt)
		_, _ = rand.Read(ours.master) // never fails (crypto/rand)
	}
	var err error
	if !bytes.Equal(ours.master, p.ours.master) {
		if p.out, err = ours.context(); err != nil {
			return err
		}
	}
	if !bytes.Equal(theirs.master, p.theirs.master) {
		if p.in, err = theirs.context(); err != nil {
			return err
		}
	}
	p.ours, p.theirs = ours, theirs
	return nil
}

// seal protects a packet before it leaves; nil when it cannot.
func (p *protection) seal(raw []byte, control bool) []byte {
	var err error
	switch {
	case p.out == nil:
	case control:
		raw, err = p.out.EncryptRTCP(nil, raw, nil)
	default:
		raw, err = p.out.EncryptRTP(nil, raw, nil)
	}
	if err != nil {
		return nil
	}
	return raw
}

// open undoes what the peer has done; nil for what does not authenticate.
func (p *protection) open(raw []byte, control bool) []byte {
	var err error
	switch {
	case p.in == nil:
	case control:
		raw, err = p.in.DecryptRTCP(nil, raw, nil)
	default:
		raw, err = p.in.DecryptRTP(nil, raw, nil)
	}
	if err != nil {
		return nil
	}
	return raw
}
