package sdp

import (
	"cmp"
	"crypto"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Fingerprint is the hash of a DTLS certificate (RFC 8122).
type Fingerprint struct {
	// Algorithm is the hash function in SDP's spelling, "sha-256".
	Algorithm string
	Value     []byte
}

// String returns the form of a=fingerprint: "sha-256 0A:1B:…".
func (f Fingerprint) String() string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString(f.Algorithm)
	for i, v := range f.Value {
		b.WriteByte(" :"[min(i, 1)])
		b.WriteByte(digits[v>>4])
		b.WriteByte(digits[v&15])
	}
	return b.String()
}

// hashes are the functions accepted for fingerprints. SHA-1 and MD5 are no
// proof of identity any more.
var hashes = map[string]crypto.Hash{
	"sha-224": crypto.SHA224, "sha-256": crypto.SHA256,
	"sha-384": crypto.SHA384, "sha-512": crypto.SHA512,
}

func (f Fingerprint) valid() bool {
	h, ok := hashes[f.Algorithm]
	return ok && len(f.Value) == h.Size()
}

// Values of a=setup (RFC 8842 5).
const (
	SetupActpass = "actpass"
	SetupActive  = "active"
	SetupPassive = "passive"
)

// WebRTC is a description from a browser or another WebRTC client.
type WebRTC struct {
	// SessionID and Version are those of the o= line.
	SessionID, Version uint64
	// Ufrag and Password are the ICE credentials (RFC 8839 5.4).
	Ufrag, Password string
	// ICELite says that the client never starts checks. The gateway does not
	// either, so that no call with such a client can connect (RFC 8445 6.1.1):
	// refuse it.
	ICELite bool
	// Fingerprints of the DTLS certificate; the certificate must match one.
	Fingerprints []Fingerprint
	// Setup is actpass, active or passive. When the client does not say it is
	// actpass, which in an answer means: whoever comes first.
	Setup string
	// Candidates are the UDP candidates of any type for RTP that have a literal
	// address. Others (.local names, TCP) are left out; none is no error,
	// since the client's checks show where it is (peer-reflexive).
	Candidates []netip.AddrPort
	// Direction is as the client sees it.
	Direction Direction
	// Mid is the identification tag of the audio m-line; empty if none.
	Mid string
	// Codecs are the client's formats in its order of preference.
	Codecs []Codec
	// Ptime is the packet time that the client asks for in milliseconds, or 0.
	Ptime int
	// SSRC and CNAME are of the client's audio; 0 and empty if it does not say.
	SSRC  uint32
	CNAME string
	// RTCPMux is always set: a description without it is refused.
	RTCPMux bool
	// Bundled says that the audio m-line is in a BUNDLE group (RFC 9143).
	Bundled bool
	// Profile is UDP/TLS/RTP/SAVPF or UDP/TLS/RTP/SAVP.
	Profile string
	// Media are all m-lines in order.
	Media []Media
	// Audio is the index in Media of the m-line that the rest describes.
	Audio int
}

// ParseWebRTC reads an offer or answer of a WebRTC client, complete with its
// ICE credentials, DTLS fingerprint and multiplexed RTCP. Of several audio
// m-lines it takes the first with DTLS-SRTP that is not refused. Errors are of
// type *Error.
func ParseWebRTC(text string) (*WebRTC, error) {
	d, err := lex(text)
	if err != nil {
		return nil, err
	}
	o := &WebRTC{SessionID: d.sessionID, Version: d.version, Audio: -1}
	_, o.ICELite = find(d.attributes, "ice-lite")
	var unusable string
	for i, s := range d.sections {
		o.Media = append(o.Media, s.Media)
		if s.Kind != "audio" {
			continue
		}
		_, bundleOnly := s.attribute("bundle-only")
		switch {
		case s.Port == 0 && !bundleOnly:
			unusable = cmp.Or(unusable, "its audio m-line is refused (port 0)")
		case s.Profile != "UDP/TLS/RTP/SAVPF" && s.Profile != "UDP/TLS/RTP/SAVP":
			unusable = cmp.Or(unusable, "the audio m-line has profile "+clip(s.Profile)+"; DTLS-SRTP (UDP/TLS/RTP/SAVPF) is required")
		case o.Audio < 0:
			o.Audio = i
		}
	}
	if o.Audio < 0 {
		return nil, unacceptable("%s", cmp.Or(unusable, "it has no audio m-line"))
	}
	s := d.sections[o.Audio]
	o.Profile, o.Mid = s.Profile, s.Mid
	group := d.bundle(s.Mid)
	o.Bundled = len(group) > 0
	o.Direction = d.direction(s)
	o.Ptime = s.milliseconds("ptime")
	if o.Codecs, err = s.codecs(); err != nil {
		return nil, err
	}
	o.source(s)
	return o, o.transport(d, s, group)
}

// transport reads what describes ICE, DTLS and multiplexing. It is looked for
// in the audio section, in the section that carries the transport of its
// bundle (RFC 9143 7.1.3), and at session level.
func (o *WebRTC) transport(d *description, s *section, group []string) error {
	levels := [][]attribute{s.attributes}
	if o.Bundled {
		for _, tagged := range d.sections {
			if tagged.Mid == group[0] {
				levels = append(levels, tagged.attributes)
				break
			}
		}
	}
	levels = append(levels, d.attributes)
	get := func(key string) string {
		for _, l := range levels {
			if v, ok := find(l, key); ok {
				return v
			}
		}
		return ""
	}
	o.Ufrag, o.Password = get("ice-ufrag"), get("ice-pwd")
	if err := credentials(o.Ufrag, o.Password); err != nil {
		return err
	}
	for _, l := range levels {
		if err := o.fingerprints(l); err != nil {
			return err
		}
		if len(o.Fingerprints) > 0 {
			break
		}
	}
	if len(o.Fingerprints) == 0 {
		return malformed("it has no a=fingerprint with sha-256 or stronger; DTLS-SRTP is required")
	}
	switch o.Setup = strings.ToLower(get("setup")); o.Setup {
	case SetupActpass, SetupActive, SetupPassive:
	case "":
		o.Setup = SetupActpass
	default:
		return unacceptable("a=setup:%s is not actpass, active or passive", clip(o.Setup))
	}
	for _, l := range levels {
		if _, ok := find(l, "rtcp-mux"); ok {
			o.RTCPMux = true
		}
	}
	if !o.RTCPMux {
		return unacceptable("it has no a=rtcp-mux; RTP and RTCP must share a port")
	}
	for _, l := range levels[:len(levels)-1] {
		if o.candidates(l); len(o.Candidates) > 0 {
			break
		}
	}
	return nil
}

// fingerprints reads the a=fingerprint lines of one level. Those with hash
// functions that are unknown or too weak are passed over.
func (o *WebRTC) fingerprints(list []attribute) error {
	for _, a := range list {
		if a.key != "fingerprint" {
			continue
		}
		algorithm, text, _ := strings.Cut(a.value, " ")
		f := Fingerprint{Algorithm: strings.ToLower(algorithm)}
		if _, ok := hashes[f.Algorithm]; !ok {
			continue
		}
		for octet := range strings.SplitSeq(strings.TrimSpace(text), ":") {
			b, err := hex.DecodeString(octet)
			if err != nil || len(b) != 1 {
				return malformed("a=fingerprint:%s is not made of octets in hexadecimal", clip(a.value))
			}
			f.Value = append(f.Value, b[0])
		}
		if !f.valid() {
			return malformed("a=fingerprint:%s has %d octets, not those of %s", clip(a.value), len(f.Value), f.Algorithm)
		}
		o.Fingerprints = append(o.Fingerprints, f)
	}
	return nil
}

// candidates reads the a=candidate lines of one level (RFC 8839 5.1).
func (o *WebRTC) candidates(list []attribute) {
	for _, a := range list {
		fields := strings.Fields(a.value)
		if a.key != "candidate" || len(fields) < 6 || fields[1] != "1" || !strings.EqualFold(fields[2], "udp") {
			continue
		}
		addr, err := netip.ParseAddr(fields[4])
		port, perr := strconv.ParseUint(fields[5], 10, 16)
		if err != nil || perr != nil || addr.Zone() != "" {
			continue
		}
		o.Candidates = append(o.Candidates, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
}

// source reads the first a=ssrc line (RFC 5576) with a canonical name.
func (o *WebRTC) source(s *section) {
	for _, a := range s.attributes {
		if a.key != "ssrc" {
			continue
		}
		id, rest, _ := strings.Cut(a.value, " ")
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil || (o.SSRC != 0 && uint32(n) != o.SSRC) {
			continue
		}
		o.SSRC = uint32(n)
		if name, ok := strings.CutPrefix(rest, "cname:"); ok {
			o.CNAME = name
		}
	}
}

// bundle returns the tags of the BUNDLE group that mid is in.
func (d *description) bundle(mid string) []string {
	for _, a := range d.attributes {
		if a.key != "group" || mid == "" {
			continue
		}
		if fields := strings.Fields(a.value); len(fields) > 1 && fields[0] == "BUNDLE" && slices.Contains(fields[1:], mid) {
			return fields[1:]
		}
	}
	return nil
}

// credentials checks the grammar of RFC 8839 5.4.
func credentials(ufrag, password string) error {
	switch {
	case ufrag == "" || password == "":
		return malformed("it has no ICE credentials (a=ice-ufrag and a=ice-pwd)")
	case len(ufrag) < 4 || len(ufrag) > 256 || !isICE(ufrag):
		return malformed("a=ice-ufrag is not made of 4 to 256 letters, digits, + and /")
	case len(password) < 22 || len(password) > 256 || !isICE(password):
		return malformed("a=ice-pwd is not made of 22 to 256 letters, digits, + and /")
	}
	return nil
}

func isICE(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}

// RestartsICE reports whether o asks for an ICE restart after prev, the last
// description of the same client: its credentials changed (RFC 8839 4.4.1.1.1).
func (o *WebRTC) RestartsICE(prev *WebRTC) bool {
	return o.Ufrag != prev.Ufrag || o.Password != prev.Password
}

// LocalSetup returns the gateway's side of a=setup. For an offer o it is what
// the answer says: preferred (active or passive; empty means passive) if the
// offer leaves the choice, else the one left. For an answer o to an offer of
// the gateway it is the role that the answer leaves: clients choose either (an
// answer of passive to an ICE-lite offer is common), so the media node must be
// able to be the DTLS client (active) as well as the server.
func (o *WebRTC) LocalSetup(preferred string) string {
	switch o.Setup {
	case SetupActive:
		return SetupPassive
	case SetupPassive:
		return SetupActive
	}
	if preferred == SetupActive {
		return SetupActive
	}
	return SetupPassive
}
