// Package header reads SIP header fields the way RFC 3261 7.3 means them: names
// in any case and in compact form, lists spread over lines and commas, parameters
// with spaces around them. It sits on top of the parser's message types and
// changes nothing.
package header

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// compact forms of RFC 3261 7.3.3 and the extensions that define one.
var compact = map[string]string{
	"a": "accept-contact", "b": "referred-by", "c": "content-type",
	"d": "request-disposition", "e": "content-encoding", "f": "from",
	"i": "call-id", "j": "reject-contact", "k": "supported",
	"l": "content-length", "m": "contact", "n": "identity-info",
	"o": "event", "r": "refer-to", "s": "subject", "t": "to",
	"u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}

// Canonical is the lower-case long form of a field name.
func Canonical(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if long, ok := compact[name]; ok {
		return long
	}
	return name
}

type fielder interface{ Headers() []sip.Header }

// Values lists the values of every field of that name, one per line of the message
// (one per element for the fields that the parser splits).
func Values(m sip.Message, name string) []string {
	want := Canonical(name)
	var out []string
	f, ok := m.(fielder)
	if !ok {
		return nil
	}
	for _, h := range f.Headers() {
		if Canonical(h.Name()) == want {
			out = append(out, h.Value())
		}
	}
	return out
}

// First is the first value of a field, empty when there is none.
func First(m sip.Message, name string) string {
	if v := Values(m, name); len(v) > 0 {
		return strings.TrimSpace(v[0])
	}
	return ""
}

// List splits comma-separated fields into their elements.
func List(m sip.Message, name string) []string {
	var out []string
	for _, v := range Values(m, name) {
		out = append(out, Split(v, ',')...)
	}
	return out
}

// Has reports whether a list field holds a token, in any case.
func Has(m sip.Message, name, token string) bool {
	for _, v := range List(m, name) {
		if strings.EqualFold(v, token) {
			return true
		}
	}
	return false
}

// Split cuts s at sep, but not inside quoted strings or angle brackets, trims the
// parts and drops empty ones.
func Split(s string, sep byte) []string {
	var out []string
	quoted, angle, start := false, 0, 0
	add := func(part string) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '<':
			angle++
		case c == '>' && angle > 0:
			angle--
		case c == sep && angle == 0:
			add(s[start:i])
			start = i + 1
		}
	}
	add(s[start:])
	return out
}

// Params parses "value;name=v;flag" into the leading value and its parameters,
// names in lower case, quotes removed.
func Params(s string) (value string, params map[string]string) {
	params = map[string]string{}
	for i, part := range Split(s, ';') {
		if i == 0 {
			value = part
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		params[strings.ToLower(strings.TrimSpace(k))] = Unquote(strings.TrimSpace(v))
	}
	return value, params
}

// Param finds a parameter of a parsed field, in any case.
func Param(hp sip.HeaderParams, key string) (string, bool) {
	for _, kv := range hp {
		if strings.EqualFold(strings.TrimSpace(kv.K), key) {
			return strings.TrimSpace(kv.V), true
		}
	}
	return "", false
}

// Tag of a From or To field's parameters, empty when there is none.
func Tag(hp sip.HeaderParams) string {
	v, _ := Param(hp, "tag")
	return v
}

// Number parses a decimal field value that may carry parameters or a comment.
func Number(s string) (uint32, bool) {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, ";( \t"); i >= 0 {
		s = s[:i]
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// Quote makes a quoted-string (RFC 3261 25.1) of any text: UTF-8 is kept, control
// characters become spaces, so that nothing can end the field.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	b.WriteString(Escape(s))
	b.WriteByte('"')
	return b.String()
}

// Escape is the inside of Quote.
func Escape(s string) string {
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(Printable(s))
}

// Printable makes control characters and line separators spaces, and drops spaces
// at the ends.
func Printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " ")))
}

// Unquote undoes Quote; text without quotes is returned as it is.
func Unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	return Unescape(s[1 : len(s)-1])
}

// Unescape removes the backslashes of quoted pairs.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// NameAddr splits a From-like value into display name, URI and parameters
// (RFC 3261 20.10). ok is false when there is no URI.
func NameAddr(s string) (name, uri string, params map[string]string, ok bool) {
	s = strings.TrimSpace(s)
	open := -1
	quoted := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if quoted {
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
			continue
		}
		if c == '"' {
			quoted = true
		}
		if c == '<' {
			open = i
			break
		}
	}
	if open < 0 {
		uri, params = Params(s)
		return "", uri, params, uri != ""
	}
	end := strings.IndexByte(s[open:], '>')
	if end < 0 {
		return "", "", nil, false
	}
	_, params = Params("x" + s[open+end+1:])
	return Unquote(s[:open]), s[open+1 : open+end], params, end > 1
}

// Q850 is the cause that the Reason fields (RFC 3326) of a message give, 0 for
// none.
func Q850(m sip.Message) int { return cause(m, "q.850") }

// SIPCause is the cause of the SIP protocol in Reason, 0 for none.
func SIPCause(m sip.Message) int { return cause(m, "sip") }

func cause(m sip.Message, protocol string) int {
	for _, v := range List(m, "Reason") {
		p, params := Params(v)
		if !strings.EqualFold(p, protocol) {
			continue
		}
		if n, err := strconv.Atoi(params["cause"]); err == nil && n > 0 && n < 1000 {
			if protocol == "q.850" && n > 127 {
				continue
			}
			return n
		}
	}
	return 0
}
