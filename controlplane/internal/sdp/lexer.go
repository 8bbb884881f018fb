package sdp

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxLength is the longest description accepted, in characters.
const MaxLength = 65536

// attribute is one a= line.
type attribute struct{ key, value string }

// section is an m-line and the lines below it.
type section struct {
	Media
	connection string // the c= line without "c=", empty if none
	attributes []attribute
}

// description is a session description cut into lines, not yet interpreted.
type description struct {
	sessionID, version uint64
	connection         string
	attributes         []attribute
	sections           []*section
}

// Media is one m-line of a description, kept so that an answer can have the
// same lines in the same order.
type Media struct {
	// Kind is "audio", "video", "image", "application" and the like.
	Kind string
	// Port is 0 when the m-line is refused or its stream has ended.
	Port uint16
	// Profile is the transport protocol, "RTP/AVP" for instance.
	Profile string
	// Mid is the identification tag (RFC 5888); empty if none.
	Mid string

	formats []string
}

// lex cuts text into lines. Line ends may be CRLF or LF. Lines of types that do
// not matter for a negotiation, known or unknown, are passed over.
func lex(text string) (*description, error) {
	if n := utf8.RuneCountInString(text); n > MaxLength {
		return nil, malformed("it has %d characters, more than the %d allowed", n, MaxLength)
	}
	if strings.TrimSpace(text) == "" {
		return nil, malformed("it is empty")
	}
	d := &description{}
	var current *section
	var version, origin bool
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if !isText(line) {
			return nil, malformed("line %d contains a control character", number)
		}
		if len(line) < 2 || line[1] != '=' {
			return nil, malformed("line %d, %s, is not of the form <letter>=<value>", number, clip(line))
		}
		kind, value := line[0], line[2:]
		if !version && (kind != 'v' || strings.TrimSpace(value) != "0") {
			return nil, malformed("it does not begin with v=0")
		}
		version = true
		var err error
		switch kind {
		case 'o':
			if origin {
				return nil, malformed("line %d is a second o= line", number)
			}
			origin = true
			err = d.origin(value)
		case 'c':
			if current != nil {
				current.connection = value
			} else {
				d.connection = value
			}
		case 'a':
			key, val, _ := strings.Cut(value, ":")
			a := attribute{strings.TrimSpace(key), strings.TrimSpace(val)}
			if current != nil {
				current.attributes = append(current.attributes, a)
			} else {
				d.attributes = append(d.attributes, a)
			}
		case 'm':
			current, err = parseMedia(value)
			d.sections = append(d.sections, current)
		}
		if err != nil {
			return nil, err
		}
	}
	if !origin {
		return nil, malformed("it has no o= line")
	}
	if len(d.sections) == 0 {
		return nil, malformed("it has no m= line")
	}
	for _, s := range d.sections {
		s.Mid, _ = s.attribute("mid")
		if s.Mid != "" && !isToken(s.Mid) {
			return nil, malformed("a=mid:%s is not a token", clip(s.Mid))
		}
	}
	return d, nil
}

// origin reads "<user> <session id> <version> IN IP4|IP6 <address>".
func (d *description) origin(value string) error {
	fields := strings.Fields(value)
	if len(fields) != 6 {
		return malformed("o=%s does not have six fields", clip(value))
	}
	var err error
	if d.sessionID, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return malformed("the session id %s in the o= line is not a number below 2^64", clip(fields[1]))
	}
	if d.version, err = strconv.ParseUint(fields[2], 10, 64); err != nil {
		return malformed("the version %s in the o= line is not a number below 2^64", clip(fields[2]))
	}
	return nil
}

// parseMedia reads "<kind> <port>[/<count>] <profile> <format>...".
func parseMedia(value string) (*section, error) {
	fields := strings.Fields(value)
	if len(fields) < 4 {
		return nil, malformed("m=%s does not have a kind, a port, a profile and a format", clip(value))
	}
	portText, _, _ := strings.Cut(fields[1], "/")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, malformed("m=%s has no port from 0 to 65535", clip(value))
	}
	if !isToken(fields[0]) {
		return nil, malformed("m=%s does not begin with a kind of media", clip(value))
	}
	for part := range strings.SplitSeq(fields[2], "/") {
		if !isToken(part) {
			return nil, malformed("m=%s has no valid profile", clip(value))
		}
	}
	return &section{Media: Media{
		Kind: fields[0], Port: uint16(port), Profile: fields[2], formats: fields[3:],
	}}, nil
}

// attribute returns the value of the first attribute with this key.
func (s *section) attribute(key string) (string, bool) { return find(s.attributes, key) }

func find(list []attribute, key string) (string, bool) {
	for _, a := range list {
		if a.key == key {
			return a.value, true
		}
	}
	return "", false
}

// direction of a section: its own attribute, else the session's, else sendrecv.
func (d *description) direction(s *section) Direction {
	for _, list := range [][]attribute{s.attributes, d.attributes} {
		for _, a := range list {
			if dir := Direction(a.key); dir != "" && dir.Valid() {
				return dir
			}
		}
	}
	return SendRecv
}

// connectionAddress reads "IN IP4|IP6 <address>[/...]". A host name in the
// domain "invalid", which RFC 3264 8.4 lets IPv6 users write for "no address",
// gives the unspecified address.
func connectionAddress(value string) (netip.Addr, error) {
	fields := strings.Fields(value)
	if len(fields) != 3 || fields[0] != "IN" || (fields[1] != "IP4" && fields[1] != "IP6") {
		return netip.Addr{}, malformed("c=%s is not an Internet address", clip(value))
	}
	text, _, _ := strings.Cut(fields[2], "/")
	if strings.HasSuffix(strings.ToLower(text), ".invalid") {
		if fields[1] == "IP4" {
			return netip.IPv4Unspecified(), nil
		}
		return netip.IPv6Unspecified(), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, unacceptable("the c= line gives %s, not an IP address; names are not looked up", clip(text))
	}
	addr = addr.Unmap()
	if addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, unacceptable("the c= line gives the multicast or broadcast address %s", addr)
	}
	return addr, nil
}

// isToken reports whether s is a token of RFC 8866 9.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= '^' && c <= '~':
		case strings.IndexByte("!#$%&'*+-.", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// isVisible reports whether s has only printable ASCII characters and spaces.
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isText reports whether s has no control characters other than tabs.
func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}
