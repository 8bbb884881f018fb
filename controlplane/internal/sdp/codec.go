package sdp

import (
	"cmp"
	"strconv"
	"strings"
)

// telephoneEvent and comfortNoise are the encoding names of RFC 4733 and RFC 3389.
const (
	telephoneEvent = "telephone-event"
	comfortNoise   = "CN"
)

// allDigits are the events of the sixteen DTMF keys (RFC 4733 3.2), which every
// side that names no events supports.
const allDigits = "0-15"

// maxFmtp is the longest format parameter string that is carried from one side
// to the other, in bytes; a longer one is read as none.
const maxFmtp = 512

// Codec is one format of an audio stream: a payload type and what it means.
type Codec struct {
	// PayloadType is 0 to 127. It belongs to the description that it was read
	// from and has no meaning on the other side of the gateway.
	PayloadType uint8
	// Encoding is the name in a=rtpmap; names are compared without regard to case.
	Encoding string
	// ClockRate is the RTP clock in Hz: 8000 for G722 (RFC 3551 4.5.2).
	ClockRate uint32
	// Channels is 0 when a=rtpmap names none or one, else at least 2.
	Channels uint8
	// Fmtp holds the format parameters as the peer wrote them; empty if none.
	Fmtp string
}

// IsTelephoneEvent reports whether c carries DTMF as RFC 4733 events.
func (c Codec) IsTelephoneEvent() bool { return strings.EqualFold(c.Encoding, telephoneEvent) }

// IsComfortNoise reports whether c describes silence (RFC 3389).
func (c Codec) IsComfortNoise() bool { return strings.EqualFold(c.Encoding, comfortNoise) }

// isVoice reports whether c carries speech: neither events nor silence.
func (c Codec) isVoice() bool { return !c.IsTelephoneEvent() && !c.IsComfortNoise() }

// silent reports whether c leaves silence to comfort noise; others have their own
// way, or send on.
func (c Codec) silent() bool {
	return strings.EqualFold(c.Encoding, "PCMU") || strings.EqualFold(c.Encoding, "PCMA")
}

// Same reports whether c and d are the same format, whatever payload types they
// have. Format parameters do not matter for the encodings that a Policy may
// pass: those of Opus only state preferences (RFC 7587 7.1).
func (c Codec) Same(d Codec) bool {
	return strings.EqualFold(c.Encoding, d.Encoding) && c.ClockRate == d.ClockRate &&
		c.channels() == d.channels()
}

// String returns the codec as in "111 opus/48000/2".
func (c Codec) String() string {
	return strconv.Itoa(int(c.PayloadType)) + " " + c.rtpmap()
}

// channels makes the channel count comparable. Opus is always said to have two
// (RFC 7587 7); peers that forget so mean the same.
func (c Codec) channels() uint8 {
	if strings.EqualFold(c.Encoding, "opus") {
		return 2
	}
	return max(c.Channels, 1)
}

func (c Codec) rtpmap() string {
	s := c.Encoding + "/" + strconv.FormatUint(uint64(c.ClockRate), 10)
	if c.Channels > 1 {
		s += "/" + strconv.Itoa(int(c.Channels))
	}
	return s
}

// validate checks that c can be written.
func (c Codec) validate() error {
	switch {
	case c.PayloadType > 127:
		return malformed("payload type %d is above 127", c.PayloadType)
	case !isToken(c.Encoding):
		return malformed("encoding name %s is not a token", clip(c.Encoding))
	case c.ClockRate == 0:
		return malformed("encoding %s has no clock rate", clip(c.Encoding))
	case len(c.Fmtp) > maxFmtp || !isVisible(c.Fmtp):
		return malformed("format parameters %s are too long or contain characters other than printable ASCII", clip(c.Fmtp))
	}
	return nil
}

// static are the payload types that need no a=rtpmap (RFC 3551 6).
var static = map[uint8]Codec{
	0:  {0, "PCMU", 8000, 0, ""},
	3:  {3, "GSM", 8000, 0, ""},
	4:  {4, "G723", 8000, 0, ""},
	5:  {5, "DVI4", 8000, 0, ""},
	6:  {6, "DVI4", 16000, 0, ""},
	7:  {7, "LPC", 8000, 0, ""},
	8:  {8, "PCMA", 8000, 0, ""},
	9:  {9, "G722", 8000, 0, ""},
	10: {10, "L16", 44100, 2, ""},
	11: {11, "L16", 44100, 0, ""},
	12: {12, "QCELP", 8000, 0, ""},
	13: {13, "CN", 8000, 0, ""},
	14: {14, "MPA", 90000, 0, ""},
	15: {15, "G728", 8000, 0, ""},
	16: {16, "DVI4", 11025, 0, ""},
	17: {17, "DVI4", 22050, 0, ""},
	18: {18, "G729", 8000, 0, ""},
}

// firstDynamic is the lowest payload type of the dynamic range (RFC 3551 3).
const firstDynamic = 96

// keepsNumber reports whether the payload type of c may also be used in a
// description of the gateway: dynamic, or the static one of this encoding.
// 35 to 63, which browsers use when they run out, and 64 to 95, which collide
// with RTCP on a shared port (RFC 5761 4), are renumbered.
func (c Codec) keepsNumber() bool {
	if c.PayloadType >= firstDynamic {
		return c.PayloadType <= 127
	}
	s, ok := static[c.PayloadType]
	return ok && s.Same(c)
}

// codecs reads the formats of an audio section in their order of preference.
// Formats that have neither a rtpmap nor a static meaning are left out, and so
// are parameters that could not be written again.
func (s *section) codecs() ([]Codec, error) {
	rtpmap := map[uint8]Codec{}
	fmtp := map[uint8]string{}
	for _, a := range s.attributes {
		switch a.key {
		case "rtpmap":
			c, err := parseRtpmap(a.value)
			if err != nil {
				return nil, err
			}
			if _, ok := rtpmap[c.PayloadType]; !ok {
				rtpmap[c.PayloadType] = c
			}
		case "fmtp":
			number, params, _ := strings.Cut(a.value, " ")
			params = strings.TrimSpace(params)
			pt, err := parsePayloadType(number)
			if _, ok := fmtp[pt]; err == nil && !ok && len(params) <= maxFmtp && isVisible(params) {
				fmtp[pt] = params
			}
		}
	}
	var out []Codec
	seen := map[uint8]bool{}
	for _, format := range s.formats {
		pt, err := parsePayloadType(format)
		if err != nil {
			return nil, err
		}
		c, ok := rtpmap[pt]
		if !ok {
			c, ok = static[pt]
		}
		if !ok || seen[pt] {
			continue
		}
		seen[pt] = true
		c.Fmtp = fmtp[pt]
		out = append(out, c)
	}
	return out, nil
}

func parsePayloadType(s string) (uint8, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > 127 {
		return 0, malformed("%s is not a payload type from 0 to 127", clip(s))
	}
	return uint8(n), nil
}

// parseRtpmap reads "<payload type> <encoding>/<clock rate>[/<channels>]".
func parseRtpmap(value string) (Codec, error) {
	number, rest, _ := strings.Cut(value, " ")
	pt, err := parsePayloadType(number)
	if err != nil {
		return Codec{}, err
	}
	parts := strings.Split(strings.TrimSpace(rest), "/")
	if len(parts) < 2 || !isToken(parts[0]) {
		return Codec{}, malformed("a=rtpmap:%s has no encoding name and clock rate", clip(value))
	}
	rate, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || rate == 0 {
		return Codec{}, malformed("a=rtpmap:%s has no valid clock rate", clip(value))
	}
	c := Codec{PayloadType: pt, Encoding: parts[0], ClockRate: uint32(rate)}
	if len(parts) > 2 {
		// Some encodings put other parameters here; only a count counts.
		if n, err := strconv.ParseUint(parts[2], 10, 8); err == nil && n > 1 {
			c.Channels = uint8(n)
		}
	}
	return c, nil
}

// normalEvents returns the events parameter of a telephone-event codec as the
// gateway writes it: the sixteen keys when they are all there, whatever else
// the peer names, because browsers know no more; another list unchanged.
func normalEvents(fmtp string) string {
	var have [16]bool
	list := cmp.Or(strings.TrimPrefix(strings.TrimSpace(fmtp), "events="), allDigits)
	for item := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(item), "-")
		if !ranged {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 8)
		last, err2 := strconv.ParseUint(to, 10, 8)
		if err1 != nil || err2 != nil || first > last {
			return allDigits
		}
		for e := first; e <= last && e < uint64(len(have)); e++ {
			have[e] = true
		}
	}
	for _, h := range have {
		if !h {
			return list
		}
	}
	return allDigits
}
