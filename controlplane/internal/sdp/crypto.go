package sdp

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// SRTP says whether the media toward a peer of the core network is protected by
// keys in its descriptions (RFC 4568).
type SRTP string

// SRTP policies.
const (
	// SRTPOff: RTP/AVP in the clear only.
	SRTPOff SRTP = "off"
	// SRTPOptional is opportunistic (RFC 8643): offers are RTP/AVP with keys
	// that a peer may ignore; what a peer offers is taken, RTP/SAVP first.
	SRTPOptional SRTP = "optional"
	// SRTPRequired: RTP/SAVP only, in both directions; nothing in the clear.
	SRTPRequired SRTP = "required"
)

// Valid reports whether p is one of the policies; the empty one is SRTPOff.
func (p SRTP) Valid() bool {
	return p == "" || p == SRTPOff || p == SRTPOptional || p == SRTPRequired
}

func (p SRTP) on() bool { return p == SRTPOptional || p == SRTPRequired }

// Suites are the crypto suites that the media plane knows, best first
// (RFC 4568 6.2, RFC 7714 14.2).
func Suites() []string {
	names := make([]string, len(suites))
	for i, s := range suites {
		names[i] = s.name
	}
	return names
}

// suite is a crypto suite and the length of its master key and master salt
// together, in bytes.
type suite struct {
	name   string
	master int
}

var suites = []suite{
	{"AEAD_AES_256_GCM", 44},
	{"AEAD_AES_128_GCM", 28},
	{"AES_CM_128_HMAC_SHA1_80", 30},
	{"AES_CM_128_HMAC_SHA1_32", 30},
}

// MasterLength of a suite in bytes; 0 for one that is not known.
func MasterLength(suite string) int {
	for _, s := range suites {
		if strings.EqualFold(s.name, suite) {
			return s.master
		}
	}
	return 0
}

const (
	// minLifetime in packets. The gateway does not change keys by itself, so
	// that a key has to last for a call: this many are six hours of voice.
	minLifetime = 1 << 20
	// maxLifetime is what SRTP permits (RFC 3711 9.2).
	maxLifetime = 1 << 48
	// maxTag has nine digits (RFC 4568 9.1).
	maxTag = 999999999
	// maxCrypto lines of one m-line are looked at.
	maxCrypto = 32
)

// Crypto is one a=crypto line: a suite and the key that its writer sends with.
type Crypto struct {
	// Tag identifies the line; an answer repeats that of the line it accepts.
	Tag int
	// Suite is spelt as in Suites.
	Suite string
	// Master is the master key followed by the master salt. It is secret.
	Master []byte
}

// IsZero reports whether there is no key.
func (c Crypto) IsZero() bool { return len(c.Master) == 0 }

// String hides the key.
func (c Crypto) String() string { return strconv.Itoa(c.Tag) + " " + c.Suite }

// GoString is String.
func (c Crypto) GoString() string { return c.String() }

// line is the value of the attribute.
func (c Crypto) line() string {
	return strconv.Itoa(c.Tag) + " " + c.Suite + " inline:" + base64.StdEncoding.EncodeToString(c.Master)
}

func (c Crypto) validate() error {
	switch {
	case c.Tag < 0 || c.Tag > maxTag:
		return malformed("crypto tag %d is not from 0 to %d", c.Tag, maxTag)
	case MasterLength(c.Suite) == 0:
		return malformed("crypto suite %s is not known", clip(c.Suite))
	case len(c.Master) != MasterLength(c.Suite):
		return malformed("key and salt of %s have %d bytes, not %d", c.Suite, len(c.Master), MasterLength(c.Suite))
	}
	return nil
}

// parseCrypto reads "<tag> <suite> inline:<key||salt>[|lifetime][|MKI:length]
// [session parameters]". A line that the gateway cannot do as it stands is an
// error: parameters weaken or change what goes over the wire, so none is passed
// over but those that RFC 4568 6.3 lets a receiver ignore.
func parseCrypto(value string) (Crypto, error) {
	fields := strings.Fields(value)
	if len(fields) < 3 {
		return Crypto{}, malformed("a=crypto has no tag, suite and key")
	}
	var c Crypto
	tag, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || tag > maxTag || len(fields[0]) > 9 {
		return Crypto{}, malformed("a=crypto has the tag %s, not up to nine digits", clip(fields[0]))
	}
	c.Tag = int(tag)
	i := slices.IndexFunc(suites, func(s suite) bool { return strings.EqualFold(s.name, fields[1]) })
	if i < 0 {
		return Crypto{}, unacceptable("crypto suite %s is not known", clip(fields[1]))
	}
	c.Suite = suites[i].name
	if c.Master, err = parseKey(fields[2], suites[i].master); err != nil {
		return Crypto{}, err
	}
	for _, p := range fields[3:] {
		if err := sessionParameter(p); err != nil {
			return Crypto{}, err
		}
	}
	return c, nil
}

// parseKey reads the key parameters (RFC 4568 6.1). Its errors never show them.
func parseKey(text string, length int) ([]byte, error) {
	text, ok := cutPrefixFold(text, "inline:")
	if !ok {
		return nil, malformed("the key of a=crypto is not inline")
	}
	if strings.Contains(text, ";") {
		return nil, unacceptable("a=crypto with several master keys is not supported")
	}
	parts := strings.Split(text, "|")
	// Some peers leave out the padding.
	master, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "="))
	if err != nil {
		return nil, malformed("the key of a=crypto is not base64")
	}
	if len(master) != length {
		return nil, malformed("key and salt of a=crypto have %d bytes, the suite needs %d", len(master), length)
	}
	for _, p := range parts[1:] {
		if strings.Contains(p, ":") {
			return nil, unacceptable("a=crypto with a master key index (MKI) is not supported")
		}
		if err := lifetime(p); err != nil {
			return nil, err
		}
	}
	return master, nil
}

// lifetime of a key in packets: a number, or 2^ and its exponent.
func lifetime(text string) error {
	var n uint64
	var err error
	if exponent, power := strings.CutPrefix(text, "2^"); power {
		var e uint64
		if e, err = strconv.ParseUint(exponent, 10, 8); err == nil && e < 64 {
			n = 1 << e
		}
	} else {
		n, err = strconv.ParseUint(text, 10, 64)
	}
	switch {
	case err != nil || n == 0 || n > maxLifetime:
		return malformed("a=crypto has a lifetime that is not a number of packets up to 2^48")
	case n < minLifetime:
		return unacceptable("a=crypto has a key lifetime of %d packets; at least 2^20 are needed", n)
	}
	return nil
}

// sessionParameter refuses what changes the protection (RFC 4568 6.3).
func sessionParameter(p string) error {
	name, value, _ := strings.Cut(p, "=")
	switch name = strings.ToUpper(name); {
	case strings.HasPrefix(name, "-"): // its writer lets it be ignored (6.3.7)
	case name == "WSH": // a hint for the replay window, of which ours is larger
	case name == "KDR" && strings.Trim(value, "0") == "" && value != "": // the default
	default:
		return unacceptable("a=crypto with the session parameter %s is not supported", clip(name))
	}
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// cryptos reads the a=crypto lines of a section that can be used, in its order. If
// there is none, why says what was wrong with the last one.
func (s *section) cryptos() (out []Crypto, why error) {
	lines := 0
	for _, a := range s.attributes {
		if a.key != "crypto" {
			continue
		}
		if lines++; lines > maxCrypto {
			break
		}
		c, err := parseCrypto(a.value)
		if err != nil {
			why = err
			continue
		}
		// RFC 4568 5.1.1: tags are unique in a media description.
		if !slices.ContainsFunc(out, func(o Crypto) bool { return o.Tag == c.Tag }) {
			out = append(out, c)
		}
	}
	return out, why
}

// PickCrypto returns the first of the offered lines whose suite is allowed: the
// offerer's order counts (RFC 4568 5.1.2).
func PickCrypto(offered []Crypto, allowed []string) (Crypto, bool) {
	for _, c := range offered {
		if slices.ContainsFunc(allowed, func(s string) bool { return strings.EqualFold(s, c.Suite) }) {
			return c, true
		}
	}
	return Crypto{}, false
}

// AnsweredCrypto finds the offered line that an answer accepts: it has its tag and
// its suite (RFC 4568 5.1.3).
func AnsweredCrypto(offered, answered []Crypto) (local, remote Crypto, err error) {
	for _, a := range answered {
		for _, o := range offered {
			if o.Tag == a.Tag && o.Suite == a.Suite {
				return o, a, nil
			}
		}
	}
	if len(answered) == 0 {
		return Crypto{}, Crypto{}, unacceptable("the answer has no a=crypto that can be used")
	}
	return Crypto{}, Crypto{}, malformed("the answer's a=crypto %s was not offered", answered[0])
}

// Redact hides the keys in a description, or in a message with one, for those who
// read traces and logs. Everything else stays as it is.
func Redact(text string) string {
	const mark = "inline:"
	var b strings.Builder
	for {
		i := indexFold(text, mark)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		i += len(mark)
		b.WriteString(text[:i])
		b.WriteString("…")
		text = text[i:]
		end := strings.IndexAny(text, "|; \t\r\n")
		if end < 0 {
			return b.String()
		}
		text = text[end:]
	}
}

func indexFold(s, mark string) int {
	for i := 0; i+len(mark) <= len(s); i++ {
		if (s[i]|0x20) == mark[0] && strings.EqualFold(s[i:i+len(mark)], mark) {
			return i
		}
	}
	return -1
}
