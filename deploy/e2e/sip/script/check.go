package script

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Check compares what has passed with the scenario: every check below a message
// that the gateway sent, and the rules that hold for all of them.
func (s *Scenario) Check(p Place, messages []Message) error {
	found, err := s.Match(messages)
	problems := []error{err}
	for i, step := range s.Steps {
		m, ok := found[i]
		if !ok || !step.Out {
			continue
		}
		for _, d := range step.Details {
			if err := m.check(d, p); err != nil {
				problems = append(problems, fmt.Errorf("line %d: %s: %w\n%s", d.Line, step.Message(), err, m.Text))
			}
		}
	}
	for i, m := range messages {
		if err := conforms(m, messages[:i], p); m.Received && err != nil {
			problems = append(problems, fmt.Errorf("%w\n%s", err, m.Text))
		}
	}
	return errors.Join(problems...)
}

// Pattern replaces what stands in braces in a regular expression.
func (p Place) Pattern(text string) string {
	return regexp.MustCompile(`\{[A-Za-z2]+\}`).ReplaceAllStringFunc(text, func(name string) string {
		return regexp.QuoteMeta(p.Expand(name))
	})
}

func (m Message) check(d Detail, p Place) error {
	// SIPp writes line ends as they came.
	text := strings.ReplaceAll(m.Text, "\r\n", "\n")
	switch d.Key {
	case Has, Not:
		e, err := regexp.Compile("(?im)" + p.Pattern(d.Text))
		if err != nil {
			return err
		}
		if e.MatchString(text) != (d.Key == Has) {
			return fmt.Errorf("%s %s", map[string]string{Has: "does not have", Not: "has"}[d.Key], d.Text)
		}
	case Digest:
		user, password, _ := strings.Cut(d.Text, " ")
		return m.proves(user, password)
	}
	return nil
}

// proves checks the digest in the credentials of a request (RFC 7616).
func (m Message) proves(user, password string) error {
	value := m.Field("Authorization")
	if value == "" {
		value = m.Field("Proxy-Authorization")
	}
	scheme, rest, _ := strings.Cut(value, " ")
	if scheme != "Digest" {
		return fmt.Errorf("has no digest credentials")
	}
	c := map[string]string{}
	for _, f := range regexp.MustCompile(`([a-z]+)=("[^"]*"|[^,\s]+)`).FindAllStringSubmatch(rest, -1) {
		c[f[1]] = strings.Trim(f[2], `"`)
	}
	hash := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	if strings.EqualFold(c["algorithm"], "SHA-256") {
		hash = func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	}
	a1 := hash(user + ":" + c["realm"] + ":" + password)
	a2 := hash(m.Method() + ":" + c["uri"])
	want := hash(a1 + ":" + c["nonce"] + ":" + a2)
	if c["qop"] != "" {
		want = hash(strings.Join([]string{a1, c["nonce"], c["nc"], c["cnonce"], c["qop"], a2}, ":"))
	}
	if c["username"] != user || c["response"] != want {
		return fmt.Errorf("the credentials of %q do not prove the password of %q: %s", c["username"], user, value)
	}
	return nil
}

var single = []string{"From", "To", "Call-Id", "Cseq", "Max-Forwards", "Content-Length", "Content-Type", "Contact"}

// private is what no description for the network may have: it is the browser's.
var private = regexp.MustCompile(`(?i)a=(candidate|fingerprint|ice-|setup|msid|mid|group|rtcp-mux|ssrc)|UDP/TLS/RTP|\.local`)

// conforms holds a message of the gateway to what RFC 3261 asks of each, given
// those that passed before it.
func conforms(m Message, before []Message, p Place) error {
	for _, name := range single {
		if len(m.Fields[name]) > 1 {
			return fmt.Errorf("has several %s fields", name)
		}
	}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		if m.Field(name) == "" {
			return fmt.Errorf("has no %s field", name)
		}
	}
	if bare := strings.Count(m.Text, "\n") - strings.Count(m.Text, "\r\n"); bare > 0 {
		return fmt.Errorf("%d lines end without a carriage return", bare)
	}
	if n, err := strconv.Atoi(m.Field("Content-Length")); err != nil || n != len(m.Body) {
		return fmt.Errorf("Content-Length is %q for a body of %d octets", m.Field("Content-Length"), len(m.Body))
	}
	if leak := private.FindString(m.Body); leak != "" {
		return fmt.Errorf("shows the browser's %s to the network", leak)
	}
	if m.Code() != 0 {
		return m.conformsAsResponse(before)
	}
	return m.conformsAsRequest(before, p)
}

func (m Message) conformsAsResponse(before []Message) error {
	for _, r := range before {
		if r.Received || r.Code() != 0 || r.Branch() != m.Branch() || r.Method() != m.Method() {
			continue
		}
		for _, name := range []string{"From", "Call-ID", "CSeq"} {
			if r.Field(name) != m.Field(name) {
				return fmt.Errorf("%s is %q, and %q in the request", name, m.Field(name), r.Field(name))
			}
		}
		if tag := parameter(m.Field("To"), "tag"); tag == "" && m.Code() > 100 {
			return fmt.Errorf("has no To tag")
		}
		if m.Method() == "INVITE" && m.Code()/100 == 2 && m.Field("Contact") == "" {
			return fmt.Errorf("has no Contact")
		}
		return nil
	}
	return fmt.Errorf("answers no request of SIPp's")
}

func (m Message) conformsAsRequest(before []Message, p Place) error {
	if !strings.HasPrefix(m.Branch(), "z9hG4bK") {
		return fmt.Errorf("the branch is %q", m.Branch())
	}
	if _, method, _ := strings.Cut(m.Field("CSeq"), " "); method != m.Method() {
		return fmt.Errorf("CSeq is %q", m.Field("CSeq"))
	}
	if m.Field("Max-Forwards") == "" || parameter(m.Field("From"), "tag") == "" {
		return fmt.Errorf("has no Max-Forwards, or no From tag")
	}
	if p.Transport == "udp" && !strings.Contains(m.Field("Via"), ";rport") {
		return fmt.Errorf("does not ask for rport (RFC 3581)")
	}
	if slices.Contains([]string{"INVITE", "UPDATE"}, m.Method()) && m.Field("Contact") == "" {
		return fmt.Errorf("has no Contact")
	}
	number := func(m Message) int {
		text, _, _ := strings.Cut(m.Field("CSeq"), " ")
		n, _ := strconv.Atoi(text)
		return n
	}
	for _, r := range before {
		if !r.Received || r.Code() != 0 || r.Field("Call-ID") != m.Field("Call-ID") || r.Method() == Synchronize {
			continue
		}
		again := r.Branch() == m.Branch()
		switch {
		case m.Method() == "ACK" || m.Method() == "CANCEL":
			if r.Method() == "INVITE" && again && (r.Field("From") != m.Field("From") || target(r) != target(m) || number(r) != number(m)) {
				return fmt.Errorf("does not match its INVITE (RFC 3261 9.1, 17.1.1.3)")
			}
		case again && r.Method() == m.Method():
			if r.Text != m.Text {
				return fmt.Errorf("has the branch of another request")
			}
		case again:
			return fmt.Errorf("has the branch of a %s", r.Method())
		case r.Method() != "ACK" && r.Method() != "CANCEL" && r.Field("To") == m.Field("To") && number(m) <= number(r):
			return fmt.Errorf("the sequence number does not grow: %d after %d", number(m), number(r))
		}
	}
	return nil
}

func target(m Message) string {
	_, rest, _ := strings.Cut(m.First, " ")
	uri, _, _ := strings.Cut(rest, " ")
	return uri
}
