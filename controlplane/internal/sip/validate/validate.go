// Package validate judges messages before the transaction layer sees them,
// stricter than the parser, which lets many of the invalid messages of RFC 4475
// through. A message passes only when everything that transactions and dialogs
// build on is there once and well formed. What fails is answered with 400 (or the
// status that RFC 3261 names) when it is a request whose answer can be routed,
// and dropped when it is not; the reason is a short label for a counter.
package validate

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// MaxSize bounds a message in octets.
const MaxSize = 65535

// Problem is why a message was not accepted.
type Problem struct {
	// Reason is a label: "start_line", "missing_header", "duplicate_header",
	// "content_length", "cseq", "via", "uri", "scheme", "header", "version", "size".
	Reason string
	// Code to answer a request with, 0 to drop.
	Code   int
	Phrase string
	// Detail is for the log.
	Detail string
}

func (p *Problem) Error() string { return p.Reason + ": " + p.Detail }

func bad(reason, format string, args ...any) *Problem {
	return &Problem{Reason: reason, Code: 400, Phrase: "Bad Request", Detail: fmt.Sprintf(format, args...)}
}

// Parser turns the octets of one message into a checked message. It has no state
// and may be used by many goroutines.
type Parser struct{ p *sip.Parser }

// New makes a Parser.
func New() *Parser { return &Parser{p: sip.NewParser()} }

// Datagram parses one UDP payload: octets after Content-Length are ignored, too
// few are an error (RFC 3261 18.3).
func (v *Parser) Datagram(raw []byte) (sip.Message, *Problem) {
	if len(raw) > MaxSize {
		return nil, bad("size", "%d octets", len(raw))
	}
	raw = bytes.TrimLeft(raw, "\r\n")
	head, found := headLength(raw)
	if !found {
		return nil, bad("header", "no empty line after the header fields")
	}
	length, present, problem := contentLength(raw[:head])
	if problem != nil {
		return nil, problem
	}
	if present {
		if length > len(raw)-head {
			return nil, bad("content_length", "Content-Length is %d, the body has %d octets", length, len(raw)-head)
		}
		raw = raw[:head+length]
	}
	return v.Message(raw)
}

// Frame finds the end of the first message in a stream: 0 means that more octets
// are needed. A Problem means that the stream cannot be followed any further.
func Frame(buf []byte) (n int, problem *Problem) {
	head, found := headLength(buf)
	if !found {
		if len(buf) > MaxSize {
			return 0, bad("size", "header fields of more than %d octets", MaxSize)
		}
		return 0, nil
	}
	length, present, problem := contentLength(buf[:head])
	if problem != nil {
		return 0, problem
	}
	if !present {
		return 0, bad("content_length", "Content-Length is missing on a stream")
	}
	if head+length > MaxSize {
		return 0, bad("size", "%d octets", head+length)
	}
	if len(buf) < head+length {
		return 0, nil
	}
	return head + length, nil
}

// headLength is the number of octets up to and with the empty line.
func headLength(b []byte) (int, bool) {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	return i + 4, i >= 0
}

// contentLength reads the field from the raw header block, where the parser would
// accept the last of several.
func contentLength(head []byte) (n int, present bool, problem *Problem) {
	for name, value := range fields(head) {
		if header.Canonical(name) != "content-length" {
			continue
		}
		v, ok := header.Number(value)
		if !ok || v > MaxSize || strings.ContainsAny(value, ";(") {
			return 0, false, bad("content_length", "Content-Length %q", clip(value))
		}
		if present && int(v) != n {
			return 0, false, bad("content_length", "two different Content-Length fields")
		}
		n, present = int(v), true
	}
	return n, present, nil
}

// fields iterates over the unfolded header fields of a raw message.
func fields(head []byte) func(yield func(name, value string) bool) {
	return func(yield func(string, string) bool) {
		text := strings.TrimSuffix(string(head), "\r\n\r\n")
		lines := strings.Split(text, "\r\n")
		for i := 1; i < len(lines); i++ {
			line := lines[i]
			for i+1 < len(lines) && lines[i+1] != "" && (lines[i+1][0] == ' ' || lines[i+1][0] == '\t') {
				i++
				line += " " + strings.TrimSpace(lines[i])
			}
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if !yield(strings.TrimSpace(name), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// Message parses exactly one message, without octets around it. A response never
// gets a Problem with a Code.
func (v *Parser) Message(raw []byte) (m sip.Message, problem *Problem) {
	defer func() {
		// The parser is fed by anybody on the network: a fault in it must cost
		// one message, not the process.
		if r := recover(); r != nil {
			m, problem = nil, bad("header", "parser fault: %v", r)
		}
		if problem != nil && (bytes.HasPrefix(raw, []byte("SIP/")) || bytes.HasPrefix(raw, []byte("ACK "))) {
			problem.Code = 0
		}
	}()
	if problem := startLine(raw); problem != nil {
		return nil, problem
	}
	if i := bytes.IndexFunc(raw[:headEnd(raw)], func(r rune) bool { return r == 0 }); i >= 0 {
		return nil, bad("header", "NUL in the header fields")
	}
	m, _, err := v.p.Parse(raw, false)
	if err != nil {
		return nil, bad("header", "%v", err)
	}
	if problem := counts(m); problem != nil {
		return nil, problem
	}
	tidy(m)
	if problem := bareContact(raw[:headEnd(raw)]); problem != nil {
		return nil, problem
	}
	if problem := common(m); problem != nil {
		return nil, problem
	}
	if req, ok := m.(*sip.Request); ok {
		return m, request(req)
	}
	return m, nil
}

// bareContact finds a Contact whose URI has a question mark but no angle brackets
// (RFC 3261 20), which the parser reads as if it had them.
func bareContact(head []byte) *Problem {
	if bytes.IndexByte(head, '?') < 0 {
		return nil
	}
	for name, value := range fields(head) {
		if header.Canonical(name) == "contact" && strings.Contains(value, "?") && !strings.Contains(value, "<") {
			return bad("uri", "Contact %q", clip(value))
		}
	}
	return nil
}

func headEnd(raw []byte) int {
	n, ok := headLength(raw)
	if !ok {
		return len(raw)
	}
	return n
}

// startLine checks what the parser is lenient about (RFC 3261 7.1, 7.2).
func startLine(raw []byte) *Problem {
	line, _, _ := bytes.Cut(raw, []byte("\r\n"))
	parts := strings.SplitN(string(line), " ", 3)
	if len(parts) != 3 {
		return bad("start_line", "%q", clip(string(line)))
	}
	if strings.HasPrefix(parts[0], "SIP/") {
		if parts[0] != "SIP/2.0" {
			return bad("version", "%q", clip(parts[0]))
		}
		if len(parts[1]) != 3 || parts[1][0] < '1' || parts[1][0] > '6' || !digits(parts[1]) {
			return bad("start_line", "status code %q", clip(parts[1]))
		}
		return nil
	}
	if !token(parts[0]) || parts[0] != strings.ToUpper(parts[0]) && known[strings.ToUpper(parts[0])] {
		return bad("start_line", "method %q", clip(parts[0]))
	}
	if parts[2] != "SIP/2.0" {
		if strings.HasPrefix(strings.ToUpper(parts[2]), "SIP/") && !strings.Contains(parts[2], " ") {
			return &Problem{Reason: "version", Code: 505, Phrase: "Version Not Supported", Detail: clip(parts[2])}
		}
		return bad("start_line", "%q", clip(string(line)))
	}
	return requestURI(parts[1])
}

// schemes of the URIs that requests may be sent to.
var schemes = map[string]bool{"sip": true, "sips": true, "tel": true, "urn": true}

func requestURI(s string) *Problem {
	if problem := uriSyntax("Request-URI", s); problem != nil {
		return problem
	}
	scheme, rest, _ := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	if !schemes[scheme] {
		return &Problem{Reason: "scheme", Code: 416, Phrase: "Unsupported URI Scheme", Detail: clip(s)}
	}
	// The user part may have a question mark, what follows the host is header
	// fields, which do not belong there (RFC 3261 19.1.1).
	if scheme == "sip" || scheme == "sips" {
		if strings.Contains(rest[strings.LastIndexByte(rest, '@')+1:], "?") {
			return bad("uri", "header fields in Request-URI %q", clip(s))
		}
	}
	return nil
}

var known = map[string]bool{
	"INVITE": true, "ACK": true, "BYE": true, "CANCEL": true, "OPTIONS": true, "REGISTER": true,
	"PRACK": true, "UPDATE": true, "INFO": true, "SUBSCRIBE": true, "NOTIFY": true, "REFER": true,
	"MESSAGE": true, "PUBLISH": true,
}

// single lists the fields that a message may have once (RFC 3261 20, 7.3.1).
var single = []string{
	"call-id", "cseq", "from", "to", "max-forwards", "content-length", "content-type",
	"expires", "min-expires", "event", "rack", "rseq", "session-expires", "min-se",
	"content-disposition", "date", "timestamp", "user-agent", "server", "subject",
}

func counts(m sip.Message) *Problem {
	f, ok := m.(interface{ Headers() []sip.Header })
	if !ok {
		return bad("header", "unknown message")
	}
	n := map[string]int{}
	for _, h := range f.Headers() {
		if !token(strings.TrimSpace(h.Name())) {
			return bad("header", "field name %q", clip(h.Name()))
		}
		n[header.Canonical(h.Name())]++
	}
	for _, name := range []string{"via", "from", "to", "call-id", "cseq"} {
		if n[name] == 0 {
			return bad("missing_header", "%s", name)
		}
	}
	for _, name := range single {
		if n[name] > 1 {
			return bad("duplicate_header", "%s", name)
		}
	}
	return nil
}

func common(m sip.Message) *Problem {
	cseq := m.CSeq()
	if cseq == nil || !token(strings.TrimSpace(string(cseq.MethodName))) {
		return bad("cseq", "unreadable")
	}
	cseq.MethodName = sip.RequestMethod(strings.TrimSpace(string(cseq.MethodName)))
	if id := m.CallID(); id == nil || strings.ContainsAny(id.Value(), " \t") {
		return bad("header", "Call-ID")
	}
	via := m.Via()
	if via == nil || via.Host == "" || via.Port < 0 || via.Port > 65535 || !hostChars(via.Host) {
		return bad("via", "sent-by")
	}
	from, to := m.From(), m.To()
	if from == nil || to == nil {
		return bad("header", "From or To")
	}
	for name, uri := range map[string]*sip.Uri{"From": &from.Address, "To": &to.Address} {
		if problem := uriParts(name, uri); problem != nil {
			return problem
		}
	}
	if len(m.Body()) > 0 && header.First(m, "Content-Type") == "" {
		return bad("missing_header", "content-type")
	}
	if v := header.First(m, "Max-Forwards"); v != "" {
		if n, ok := header.Number(v); !ok || n > 255 {
			return bad("header", "Max-Forwards %q", clip(v))
		}
	}
	return nil
}

func request(req *sip.Request) *Problem {
	if req.CSeq().MethodName != req.Method {
		return bad("cseq", "method %q in a %q request", clip(string(req.CSeq().MethodName)), clip(string(req.Method)))
	}
	branch, _ := header.Param(req.Via().Params, "branch")
	if !strings.HasPrefix(branch, sip.RFC3261BranchMagicCookie) || len(branch) == len(sip.RFC3261BranchMagicCookie) {
		return bad("via", "branch %q", clip(branch))
	}
	if header.Tag(req.From().Params) == "" {
		return bad("header", "From without tag")
	}
	switch req.Method {
	case sip.INVITE, sip.SUBSCRIBE, sip.REFER, sip.UPDATE:
		contacts := header.Values(req, "Contact")
		if len(contacts) != 1 {
			return bad("missing_header", "%s with %d Contact fields", req.Method, len(contacts))
		}
		c := req.Contact()
		if c == nil || c.Address.Wildcard {
			return bad("uri", "Contact")
		}
		if problem := uriParts("Contact", &c.Address); problem != nil {
			return problem
		}
	case sip.PRACK:
		if header.First(req, "RAck") == "" {
			return bad("missing_header", "rack")
		}
	}
	return nil
}

// uriSyntax checks a URI in its raw form.
func uriSyntax(where, s string) *Problem {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || !schemeChars(scheme) {
		return bad("uri", "%s %q", where, clip(s))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`<>"{}|\^`+"`", s[i]) >= 0 {
			return bad("uri", "%s %q", where, clip(s))
		}
		if s[i] == '%' && (i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2])) {
			return bad("uri", "escape in %s %q", where, clip(s))
		}
	}
	return nil
}

func uriParts(where string, u *sip.Uri) *Problem {
	if u.Wildcard {
		return bad("uri", "%s is *", where)
	}
	if problem := uriSyntax(where, u.String()); problem != nil {
		return problem
	}
	if (u.Scheme == "sip" || u.Scheme == "sips") && (u.Host == "" || !hostChars(u.Host) || u.Port < 0 || u.Port > 65535) {
		return bad("uri", "%s host %q", where, clip(u.Host))
	}
	return nil
}

func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("-.!%*_+`'~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func schemeChars(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func hostChars(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("-._[]:%", c) < 0 {
			return false
		}
	}
	return s != ""
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func hex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80]
	}
	return s
}

// Refusal is the answer to a request that did not pass, made from its raw fields,
// or nil when the request does not hold what an answer needs (RFC 3261 8.2.6).
func Refusal(raw []byte, p *Problem, tag string) []byte {
	raw = bytes.TrimLeft(raw, "\r\n")
	if p.Code == 0 || bytes.HasPrefix(raw, []byte("SIP/")) || bytes.HasPrefix(raw, []byte("ACK ")) {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", p.Code, p.Phrase)
	seen := map[string]int{}
	for name, value := range fields(raw[:headEnd(raw)]) {
		n := header.Canonical(name)
		switch n {
		case "via":
		case "from", "call-id", "cseq", "to":
			if seen[n] > 0 {
				continue
			}
		default:
			continue
		}
		if strings.IndexFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
			return nil
		}
		if n == "to" && !strings.Contains(strings.ToLower(value), ";tag=") {
			value += ";tag=" + tag
		}
		seen[n]++
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	for _, n := range []string{"via", "from", "to", "call-id", "cseq"} {
		if seen[n] == 0 {
			return nil
		}
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	if _, err := sip.ParseMessage(b.Bytes()); err != nil {
		return nil // the fields to be copied are what is wrong
	}
	return b.Bytes()
}
