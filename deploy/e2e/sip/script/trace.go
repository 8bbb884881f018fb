package script

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Message is one that SIPp sent or received.
type Message struct {
	// Received by SIPp, and thus sent by the gateway.
	Received bool
	At       time.Time
	// Text as it was on the wire, with bare line feeds where SIPp wrote them.
	Text string
	// First line, and the fields by their canonical names.
	First  string
	Fields map[string][]string
	Body   string
}

var heading = regexp.MustCompile(`(?m)^-{20,} (\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+)\n\S+ message (received|sent) [\[(](\d+)[\])]? bytes.*:\n\n`)

// Trace reads what SIPp writes of its messages. Those of the synchronization are
// left out.
func Trace(text string) []Message {
	var out []Message
	at := heading.FindAllStringSubmatchIndex(text, -1)
	for _, m := range at {
		size, _ := strconv.Atoi(text[m[6]:m[7]]) // it is of digits
		msg := parse(text[m[1]:min(m[1]+size, len(text))])
		msg.At, _ = time.Parse("2006-01-02 15:04:05.999999", strings.Replace(text[m[2]:m[3]], "T", " ", 1))
		msg.Received = text[m[4]:m[5]] == "received"
		if msg.Received && msg.Is(Synchronize, 0) && msg.Field("Subject") == Synchronize {
			continue
		}
		out = append(out, msg)
	}
	return out
}

func parse(text string) Message {
	m := Message{Text: text, Fields: map[string][]string{}}
	r := bufio.NewReader(strings.NewReader(text))
	line, _ := r.ReadString('\n')
	m.First = strings.TrimRight(line, "\r\n")
	for {
		line, err := r.ReadString('\n')
		trimmed := strings.TrimRight(line, "\r\n")
		if trimmed == "" {
			break
		}
		name, value, _ := strings.Cut(trimmed, ":")
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		if long := compact[name]; long != "" {
			name = long
		}
		m.Fields[name] = append(m.Fields[name], strings.TrimSpace(value))
		if err != nil {
			break
		}
	}
	var b bytes.Buffer
	_, _ = io.Copy(&b, r) // from memory into memory
	m.Body = b.String()
	return m
}

// compact forms of field names (RFC 3261 7.3.3), as far as they matter here.
var compact = map[string]string{"V": "Via", "F": "From", "T": "To", "I": "Call-Id", "M": "Contact", "L": "Content-Length", "C": "Content-Type"}

// Field is the first value of a field.
func (m Message) Field(name string) string {
	if v := m.Fields[textproto.CanonicalMIMEHeaderKey(name)]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Code of a response, 0 for a request.
func (m Message) Code() int {
	rest, ok := strings.CutPrefix(m.First, "SIP/2.0 ")
	if !ok {
		return 0
	}
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		return 0
	}
	return n
}

// Method of the request, or of the request that a response is to.
func (m Message) Method() string {
	if m.Code() == 0 {
		method, _, _ := strings.Cut(m.First, " ")
		return method
	}
	_, method, _ := strings.Cut(m.Field("CSeq"), " ")
	return strings.TrimSpace(method)
}

// Is reports whether the message is the request, or the response to it.
func (m Message) Is(method string, code int) bool { return m.Method() == method && m.Code() == code }

// Branch of the topmost Via.
func (m Message) Branch() string { return parameter(m.Field("Via"), "branch") }

func parameter(value, name string) string {
	for _, p := range strings.Split(value, ";")[1:] {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// Match finds the message of each step among those that passed, in their order;
// what lies between are repetitions. An optional step may have none.
func (s *Scenario) Match(messages []Message) (found map[int]Message, err error) {
	found = map[int]Message{}
	next := 0
	for i, step := range s.Steps {
		if step.Actor != "" {
			continue
		}
		at := next
		for at < len(messages) && !(messages[at].Received == step.Out && messages[at].Is(step.Method, step.Code)) {
			at++
		}
		if at == len(messages) {
			if step.Optional {
				continue
			}
			return found, fmt.Errorf("line %d: %s has not passed", step.Line, step.Message())
		}
		found[i] = messages[at]
		next = at + 1
	}
	return found, nil
}
