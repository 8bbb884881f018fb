// Package precondition reads and answers quality-of-service preconditions of session
// descriptions (RFC 3312, RFC 4032): what must be reserved before the called side may
// ring. The gateway reserves nothing; by the trunk's policy it either takes no part
// in preconditions or declares its own side as met. It is pure and works on the text
// of descriptions, as everything else about them is decided elsewhere.
package precondition

import (
	"fmt"
	"strings"
)

// Tag is the option tag of the extension.
const Tag = "precondition"

// Table is the status of the audio stream as the sender of a description sees it. The
// zero Table has no preconditions.
type Table struct {
	// Current and Desired by status type: e2e, local or remote.
	Current map[string]Direction
	Desired map[string]Desire
}

// Direction is a set of the directions send and recv.
type Direction uint8

// Directions.
const (
	None     Direction = 0
	Send     Direction = 1
	Recv     Direction = 2
	SendRecv           = Send | Recv
)

// Desire is what one status type should reach, and how strongly.
type Desire struct {
	Mandatory bool
	Direction Direction
}

var directions = map[string]Direction{"none": None, "send": Send, "recv": Recv, "sendrecv": SendRecv}

func (d Direction) String() string {
	return [...]string{"none", "send", "recv", "sendrecv"}[d&SendRecv]
}

// reverse is the direction as the other side sees it.
func (d Direction) reverse() Direction { return d&Send<<1 | d&Recv>>1 }

// Parse reads the preconditions of the first audio stream. Lines that cannot be read
// are ignored, as unknown attributes are.
func Parse(sdp string) Table {
	t := Table{Current: map[string]Direction{}, Desired: map[string]Desire{}}
	audio, seen := false, false
	for line := range strings.Lines(sdp) {
		line = strings.TrimSpace(line)
		if kind, found := strings.CutPrefix(line, "m="); found {
			if seen && audio {
				break
			}
			audio = strings.HasPrefix(kind, "audio ")
			seen = seen || audio
			continue
		}
		if !audio {
			continue
		}
		if v, found := strings.CutPrefix(line, "a=curr:qos "); found {
			if f := strings.Fields(v); len(f) == 2 && isType(f[0]) {
				if d, ok := directions[strings.ToLower(f[1])]; ok {
					t.Current[strings.ToLower(f[0])] = d
				}
			}
		}
		if v, found := strings.CutPrefix(line, "a=des:qos "); found {
			if f := strings.Fields(v); len(f) == 3 && isType(f[1]) {
				if d, ok := directions[strings.ToLower(f[2])]; ok {
					t.Desired[strings.ToLower(f[1])] = Desire{Mandatory: strings.EqualFold(f[0], "mandatory"), Direction: d}
				}
			}
		}
	}
	return t
}

func isType(s string) bool {
	switch strings.ToLower(s) {
	case "e2e", "local", "remote":
		return true
	}
	return false
}

// Present reports whether there are any.
func (t Table) Present() bool { return len(t.Current)+len(t.Desired) > 0 }

// Mandatory reports whether something must be met.
func (t Table) Mandatory() bool {
	for _, d := range t.Desired {
		if d.Mandatory {
			return true
		}
	}
	return false
}

// Met reports whether everything mandatory is met when the side that received the
// description has reserved all of its own, so that it may ring.
func (t Table) Met() bool {
	for kind, d := range t.Desired {
		if kind != "remote" && d.Mandatory && t.Current[kind]&d.Direction != d.Direction {
			return false
		}
	}
	return true
}

// Answer adds to a description that answers one with these preconditions that this
// side has met its own, and asks to be told when the other side has.
func (t Table) Answer(sdp string) string {
	if !t.Present() {
		return sdp
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if _, e2e := t.Desired["e2e"]; e2e {
		add("a=curr:qos e2e %s", t.Current["e2e"].reverse())
		add("a=des:qos %s e2e %s", strength(t.Desired["e2e"]), t.Desired["e2e"].Direction.reverse())
		if !t.Met() {
			add("a=conf:qos e2e %s", t.Desired["e2e"].Direction.reverse())
		}
		return insert(sdp, lines)
	}
	// What is local there is remote here.
	add("a=curr:qos local sendrecv")
	add("a=curr:qos remote %s", t.Current["local"].reverse())
	add("a=des:qos %s local sendrecv", strength(t.Desired["remote"]))
	theirs := t.Desired["local"]
	if theirs.Direction == None {
		theirs.Direction = SendRecv
	}
	add("a=des:qos %s remote %s", strength(theirs), theirs.Direction.reverse())
	if !t.Met() {
		add("a=conf:qos remote %s", theirs.Direction.reverse())
	}
	return insert(sdp, lines)
}

// Offer adds to a description that this side has met its own preconditions and has
// no mandatory wishes for the other side's.
func Offer(sdp string) string {
	return insert(sdp, []string{
		"a=curr:qos local sendrecv", "a=curr:qos remote none",
		"a=des:qos mandatory local sendrecv", "a=des:qos optional remote sendrecv",
	})
}

func strength(d Desire) string {
	if d.Mandatory {
		return "mandatory"
	}
	return "optional"
}

// insert puts lines at the end of the first audio stream.
func insert(sdp string, lines []string) string {
	var out strings.Builder
	audio, done := false, false
	put := func() {
		if audio && !done {
			done = true
			for _, l := range lines {
				out.WriteString(l + "\r\n")
			}
		}
	}
	for line := range strings.Lines(sdp) {
		if strings.HasPrefix(line, "m=") {
			put()
			audio = strings.HasPrefix(line, "m=audio ")
		}
		out.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			out.WriteString("\r\n")
		}
	}
	put()
	return out.String()
}
