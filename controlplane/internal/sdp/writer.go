package sdp

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// writer composes a description. The first error sticks and is returned by
// finish, so that the composing code reads as the description does.
type writer struct {
	b   strings.Builder
	err error
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// line writes one line. Control characters in it are an error, whatever was
// checked before: nothing from outside may begin a line of its own.
func (w *writer) line(kind byte, parts ...string) {
	for _, p := range parts {
		if !isText(p) {
			w.fail(malformed("%s cannot be written: it contains a control character", clip(p)))
			return
		}
	}
	w.b.WriteByte(kind)
	w.b.WriteByte('=')
	for _, p := range parts {
		w.b.WriteString(p)
	}
	w.b.WriteString("\r\n")
}

func (w *writer) attribute(key string)    { w.line('a', key) }
func (w *writer) value(key, value string) { w.line('a', key, ":", value) }

// head writes the session lines common to all descriptions.
func (w *writer) head(id, version uint64, addr netip.Addr) {
	w.line('v', "0")
	w.line('o', "- ", strconv.FormatUint(id, 10), " ", strconv.FormatUint(version, 10), " ", inet(addr))
	w.line('s', "-")
}

// media writes an m-line.
func (w *writer) media(kind string, port uint16, profile string, formats []string) {
	w.line('m', kind, " ", strconv.Itoa(int(port)), " ", profile, " ", strings.Join(formats, " "))
}

// refuse writes the m-line of a stream that is not accepted (RFC 3264 6); its
// formats do not matter, but there must be one.
func (w *writer) refuse(m Media, formats []string) {
	formats = slices.DeleteFunc(slices.Clone(formats), func(f string) bool { return !isToken(f) })
	if len(formats) == 0 {
		formats = []string{"0"}
	}
	w.media(m.Kind, 0, m.Profile, formats)
	if m.Mid != "" {
		w.value("mid", m.Mid)
	}
}

// formats checks the list and returns the formats of the m-line.
func (w *writer) formats(codecs []Codec) []string {
	var out []string
	if !hasVoice(codecs) {
		w.fail(ErrNoCommonCodec)
	}
	for i, c := range codecs {
		if err := c.validate(); err != nil {
			w.fail(err)
		}
		if slices.ContainsFunc(codecs[:i], func(o Codec) bool { return o.PayloadType == c.PayloadType }) {
			w.fail(malformed("payload type %d is used twice", c.PayloadType))
		}
		out = append(out, strconv.Itoa(int(c.PayloadType)))
	}
	return out
}

// codecs writes what the payload types mean.
func (w *writer) codecs(codecs []Codec) {
	for _, c := range codecs {
		w.value("rtpmap", c.String())
		if c.Fmtp != "" {
			w.value("fmtp", strconv.Itoa(int(c.PayloadType))+" "+c.Fmtp)
		}
	}
}

// direction writes a direction attribute.
func (w *writer) direction(d Direction) {
	if !d.Valid() {
		w.fail(malformed("%s is not a direction", clip(string(d))))
	}
	w.attribute(string(d.And(SendRecv)))
}

// ptime writes the packet time in milliseconds; 0 writes nothing.
func (w *writer) ptime(ms int) {
	if ms < 0 || ms > maxPtime {
		w.fail(malformed("the packet time %d ms is not between 1 and %d", ms, maxPtime))
	}
	if ms > 0 {
		w.value("ptime", strconv.Itoa(ms))
	}
}

func (w *writer) finish() (string, error) {
	if w.err != nil {
		return "", w.err
	}
	return w.b.String(), nil
}

// inet returns "IN IP4 192.0.2.1" or the like.
func inet(addr netip.Addr) string {
	if addr = addr.Unmap(); addr.Is4() {
		return "IN IP4 " + addr.String()
	}
	return "IN IP6 " + addr.WithZone("").String()
}
