package media

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/srtp/v3"
)

// Codec says what the packets of a load look like.
type Codec struct {
	Name        string
	PayloadType uint8
	// Clock of the RTP time stamps, in Hz.
	Clock uint32
	// Interval between two packets of a stream.
	Interval time.Duration
	// Payload in bytes, MinPayload to MaxPayload.
	Payload int
}

// Bounds of Codec.Payload: the stamp, and what fits into a frame of the kernel
// generator with IPv6 and SRTP.
const (
	MinPayload = stampSize
	MaxPayload = 224
)

// Codecs by name: G.711 at 64 kbit/s and Opus at 32 kbit/s, 20 ms a packet.
var codecs = []Codec{
	{Name: "pcmu", PayloadType: 0, Clock: 8000, Interval: 20 * time.Millisecond, Payload: 160},
	{Name: "pcma", PayloadType: 8, Clock: 8000, Interval: 20 * time.Millisecond, Payload: 160},
	{Name: "opus", PayloadType: 111, Clock: 48000, Interval: 20 * time.Millisecond, Payload: 80},
}

// CodecNamed is one of pcmu, pcma and opus.
func CodecNamed(name string) (Codec, error) {
	for _, c := range codecs {
		if c.Name == name {
			return c, nil
		}
	}
	return Codec{}, fmt.Errorf("codec %q: must be pcmu, pcma or opus", name)
}

func (c Codec) validate() error {
	switch {
	case c.PayloadType > 127 || c.PayloadType >= 64 && c.PayloadType < 96:
		// 64 to 95 look like RTCP where both share a port (RFC 5761).
		return fmt.Errorf("payload type %d: must be 0 to 63 or 96 to 127", c.PayloadType)
	case c.Clock < 1000 || c.Clock > 192000:
		return fmt.Errorf("clock rate %d Hz: must be 1000 to 192000", c.Clock)
	case c.Interval < time.Millisecond || c.Interval > time.Second:
		return fmt.Errorf("packet time %s: must be 1ms to 1s", c.Interval)
	case c.Payload < MinPayload || c.Payload > MaxPayload:
		return fmt.Errorf("payload of %d bytes: must be %d to %d", c.Payload, MinPayload, MaxPayload)
	}
	return nil
}

// Keys of one endpoint (RFC 3711), a master key followed by its salt for each
// direction.
type Keys struct {
	Profile       srtp.ProtectionProfile
	Send, Receive []byte
}

// profiles by the names of RFC 4568 and RFC 7714.
var profiles = []struct {
	name    string
	profile srtp.ProtectionProfile
}{
	{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80},
	{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm},
	{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm},
}

// ProfileNamed is the protection profile with a name as in SDP.
func ProfileNamed(name string) (srtp.ProtectionProfile, error) {
	for _, p := range profiles {
		if p.name == name {
			return p.profile, nil
		}
	}
	return 0, fmt.Errorf("SRTP profile %q: must be AES_CM_128_HMAC_SHA1_80, AEAD_AES_128_GCM or AEAD_AES_256_GCM", name)
}

// ProfileName is the inverse of ProfileNamed.
func ProfileName(profile srtp.ProtectionProfile) string {
	for _, p := range profiles {
		if p.profile == profile {
			return p.name
		}
	}
	return fmt.Sprintf("profile %#04x", uint16(profile))
}

// MasterLength is that of a master key and its salt, in bytes.
func MasterLength(profile srtp.ProtectionProfile) int {
	key, _ := profile.KeyLen()
	salt, _ := profile.SaltLen()
	return key + salt
}

func (k *Keys) validate() error {
	want := MasterLength(k.Profile)
	if len(k.Send) != want || len(k.Receive) != want {
		return fmt.Errorf("%s: keys of %d and %d bytes, must be %d each (master key and salt)", ProfileName(k.Profile), len(k.Send), len(k.Receive), want)
	}
	return nil
}

// Endpoint is one socket of the load tester and its peer.
type Endpoint struct {
	Name          string
	Local, Remote netip.AddrPort
	// Keys of SRTP; nil is plain RTP, or what the handshake gives.
	Keys *Keys
	// ICE, when there is, checks connectivity and keeps consent.
	ICE *ICE
	// DTLS, when there is, gives the keys.
	DTLS *DTLS
}

// Stream goes from an endpoint through the target to an endpoint.
type Stream struct {
	Name string
	// From and To are indices of Load.Endpoints. To is -1 when nothing comes back.
	From, To int
	// SSRC and first sequence number that are sent.
	SSRC     uint32
	Sequence uint16
}

// Load is everything that a run needs to know: it is what a plan file, or a node
// that was programmed, comes down to.
type Load struct {
	Codec     Codec
	Endpoints []Endpoint
	Streams   []Stream
}

// Validate names what is wrong first.
func (l *Load) Validate() error {
	if err := l.Codec.validate(); err != nil {
		return err
	}
	if len(l.Streams) == 0 {
		return fmt.Errorf("no streams")
	}
	names, locals := map[string]bool{}, map[netip.AddrPort]string{}
	for i := range l.Endpoints {
		e := &l.Endpoints[i]
		if e.Name == "" || names[e.Name] {
			return fmt.Errorf("endpoint %d: the name %q is empty or taken", i, e.Name)
		}
		names[e.Name] = true
		if err := e.validate(); err != nil {
			return fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
		if other := locals[e.Local]; other != "" && e.Local.Port() != 0 {
			return fmt.Errorf("endpoints %s and %s have the same local address %s", other, e.Name, e.Local)
		}
		locals[e.Local] = e.Name
	}
	type source struct {
		from int
		ssrc uint32
	}
	sources, into := map[source]string{}, map[int]string{}
	for _, s := range l.Streams {
		if s.From < 0 || s.From >= len(l.Endpoints) || s.To < -1 || s.To >= len(l.Endpoints) {
			return fmt.Errorf("stream %s: there is no such endpoint", s.Name)
		}
		key := source{s.From, s.SSRC}
		if other, taken := sources[key]; taken {
			return fmt.Errorf("streams %s and %s leave %s with the same SSRC", other, s.Name, l.Endpoints[s.From].Name)
		}
		sources[key] = s.Name
		if s.To < 0 {
			continue
		}
		if other, taken := into[s.To]; taken {
			return fmt.Errorf("streams %s and %s both arrive at %s: an endpoint receives one", other, s.Name, l.Endpoints[s.To].Name)
		}
		into[s.To] = s.Name
	}
	return nil
}

func (e *Endpoint) validate() error {
	switch {
	case !e.Local.IsValid() || e.Local.Addr().IsUnspecified():
		return fmt.Errorf("local: %s is no address to send from", e.Local)
	case !e.Remote.IsValid() || e.Remote.Addr().IsUnspecified() || e.Remote.Port() == 0:
		return fmt.Errorf("remote: %s is no address to send to", e.Remote)
	case e.Local.Addr().Is4() != e.Remote.Addr().Is4():
		return fmt.Errorf("local %s and remote %s are not of one family", e.Local, e.Remote)
	case e.Keys != nil && e.DTLS != nil:
		return fmt.Errorf("keys and dtls: only one of them can say what SRTP uses")
	}
	if e.Keys != nil {
		return e.Keys.validate()
	}
	return nil
}
