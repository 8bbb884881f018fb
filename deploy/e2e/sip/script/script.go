// Package script reads scenarios of calls between an application and the SIP
// network, and writes the network's part as a scenario for SIPp. A scenario is
// the ladder that one would draw of it:
//
//	busy: the far end is busy
//	  item status
//	  app calls
//	  --> INVITE
//	      has ^Supported:.*\btimer\b
//	  <-- 180
//	  app is told Ringing
//	  <-- 486
//	      Reason: Q.850;cause=17
//	  --> ACK
//	  app is told Busy "SIP 486 .*; Q.850 17"
//
// An arrow to the right is what the gateway sends to the network, an arrow to the
// left what SIPp sends. A name after a code is the method that the response is
// to, INVITE when there is none; a question mark says that a message may be
// missing. Below a message that is received stand its checks, below one that is
// sent what makes it differ from the plainest one. Lines that begin with app or
// far are left to whoever plays the scenario.
package script

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scenario is one ladder.
type Scenario struct {
	// Name is unique, About says in a line what is shown.
	Name, About string
	// Items of the catalogue that the scenario shows.
	Items []string
	// On lists the transports that it is played on: udp, tcp, udp6, tcp6.
	On []string
	// Trunk has the keys of its trunk that differ from the defaults, with their
	// values in YAML.
	Trunk map[string]string
	// Gateway is the one of several that it needs, empty for the usual one.
	Gateway string
	// Patience is how long what is waited for may take, 0 for the usual time.
	Patience time.Duration
	// Every retransmission is shown: SIPp hides none.
	Raw   bool
	Steps []Step
	// File and Line where it begins.
	File string
	Line int
}

// Step is a message or an action.
type Step struct {
	Line int
	// Actor is "app" or "far" with the action in Words; empty for a message.
	Actor string
	Words []string

	// Out: the gateway sends the message, SIPp receives it.
	Out bool
	// Code of a response, 0 for a request; Method is that of the request in both
	// cases.
	Code     int
	Method   string
	Optional bool
	Details  []Detail
}

// Detail is a line below a message.
type Detail struct {
	Line int
	// Key is has, not, digest, sdp, tag and so on, or header for a field and body
	// for a line of a body.
	Key, Text string
}

// Message names the message of a step.
func (s Step) Message() string {
	if s.Code != 0 {
		return fmt.Sprintf("%d (%s)", s.Code, s.Method)
	}
	return s.Method
}

// Keys of details.
const (
	Has    = "has"    // a regular expression that the message matches
	Not    = "not"    // one that it does not match
	Digest = "digest" // user and password that its credentials prove
	SDP    = "sdp"    // a description, with what differs from the usual
	NoBody = "nobody" // no description where there would be one
	Tag    = "tag"    // the To tag of this end
	URI    = "uri"    // the Request-URI
	CSeq   = "cseq"   // another sequence number
	Drop   = "drop"   // a field that is left out
	Header = "header" // a further field
	Body   = "body"   // a line of a body of its own
	Delay  = "delay"  // how long SIPp waits before it sends, in milliseconds
)

var keys = []string{Has, Not, Digest, SDP, NoBody, Tag, URI, CSeq, Drop, Delay}

// Transports that scenarios may be played on.
var Transports = []string{"udp", "tcp", "udp6", "tcp6"}

// Caller reports whether SIPp makes the call.
func (s *Scenario) Caller() bool {
	for _, step := range s.Steps {
		if step.Actor == "" {
			return !step.Out
		}
	}
	return false
}

// Parse reads a file of scenarios: lines without indent begin a scenario, an
// indent of two spaces has its attributes and steps, a deeper one the details of
// a message. Lines that begin with # are for readers.
func Parse(file string, r io.Reader) ([]*Scenario, error) {
	var out []*Scenario
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " ")
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		if text == "" || indent == 0 && text[0] == '#' {
			continue
		}
		var err error
		switch {
		case indent == 0:
			name, about, ok := strings.Cut(text, ": ")
			if !ok || strings.Contains(name, " ") {
				err = fmt.Errorf("want name: what it shows")
			}
			out = append(out, &Scenario{Name: name, About: about, On: []string{"udp"}, Trunk: map[string]string{}, File: file, Line: n})
		case len(out) == 0:
			err = fmt.Errorf("stands before the first scenario")
		case indent <= 3:
			err = out[len(out)-1].line(n, text)
		default:
			err = out[len(out)-1].detail(n, text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w: %s", file, n, err, text)
		}
	}
	for _, s := range out {
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", file, s.Line, s.Name, err)
		}
	}
	return out, lines.Err()
}

func (s *Scenario) line(n int, text string) error {
	words := strings.Fields(text)
	rest := strings.TrimSpace(strings.TrimPrefix(text, words[0]))
	switch words[0] {
	case "item":
		s.Items = append(s.Items, words[1:]...)
	case "on":
		s.On = words[1:]
	case "gateway":
		s.Gateway = rest
	case "raw":
		s.Raw = true
	case "patience":
		var err error
		s.Patience, err = time.ParseDuration(rest)
		return err
	case "trunk":
		key, value, ok := strings.Cut(rest, ": ")
		if !ok {
			return fmt.Errorf("want trunk key: value")
		}
		s.Trunk[key] = value
	case "-->", "<--":
		step, err := message(words[1:])
		step.Line, step.Out = n, words[0] == "-->"
		s.Steps = append(s.Steps, step)
		return err
	case "app", "far", "far2":
		s.Steps = append(s.Steps, Step{Line: n, Actor: words[0], Words: split(rest)})
	default:
		return fmt.Errorf("begins with none of item, on, gateway, raw, patience, trunk, -->, <--, app, far")
	}
	return nil
}

// split is by blanks, but for what stands in double quotes.
func split(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(text, -1) {
		out = append(out, strings.Trim(m, `"`))
	}
	return out
}

var methods = []string{"INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO", "OPTIONS", "REGISTER", "REFER", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH", "BREW"}

func message(words []string) (Step, error) {
	if len(words) == 0 {
		return Step{}, fmt.Errorf("names no message")
	}
	s := Step{Method: "INVITE"}
	s.Optional = strings.HasSuffix(words[len(words)-1], "?")
	words[len(words)-1] = strings.TrimSuffix(words[len(words)-1], "?")
	if code, err := strconv.Atoi(words[0]); err == nil {
		s.Code = code
		words = words[1:]
	}
	if len(words) > 0 {
		s.Method = words[0]
	}
	if len(words) > 1 || !slices.Contains(methods, s.Method) || s.Code != 0 && (s.Code < 100 || s.Code > 699) {
		return s, fmt.Errorf("want a method, or a code with or without a method")
	}
	return s, nil
}

var field = regexp.MustCompile(`^[A-Za-z][-A-Za-z]*: ?`)

func (s *Scenario) detail(n int, text string) error {
	if len(s.Steps) == 0 || s.Steps[len(s.Steps)-1].Actor != "" {
		return fmt.Errorf("belongs to no message")
	}
	step := &s.Steps[len(s.Steps)-1]
	d := Detail{Line: n, Text: text}
	key, rest, _ := strings.Cut(text, " ")
	switch {
	case slices.Contains(keys, key):
		d.Key, d.Text = key, rest
	case text[0] == '|':
		d.Key, d.Text = Body, strings.TrimPrefix(strings.TrimPrefix(text, "|"), " ")
	case field.MatchString(text):
		d.Key = Header
	default:
		return fmt.Errorf("begins with none of %s, |, and is no header field", strings.Join(keys, ", "))
	}
	check := d.Key == Has || d.Key == Not || d.Key == Digest
	if check != step.Out {
		return fmt.Errorf("%s does not fit the direction of the message", d.Key)
	}
	if d.Key == Has || d.Key == Not {
		if _, err := regexp.Compile(d.Text); err != nil {
			return err
		}
	}
	step.Details = append(step.Details, d)
	return nil
}

func (s *Scenario) validate() error {
	if len(s.Items) == 0 {
		return fmt.Errorf("names no item")
	}
	for _, t := range s.On {
		if !slices.Contains(Transports, t) {
			return fmt.Errorf("transport %q is none of %v", t, Transports)
		}
	}
	if !slices.ContainsFunc(s.Steps, func(s Step) bool { return s.Actor == "" }) {
		return fmt.Errorf("has no message")
	}
	return nil
}

// All are the details of a step with a key.
func (s Step) All(key string) []string {
	var out []string
	for _, d := range s.Details {
		if d.Key == key {
			out = append(out, d.Text)
		}
	}
	return out
}

// Last is the last detail of a step with a key.
func (s Step) Last(key string) (string, bool) {
	all := s.All(key)
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1], true
}
