package precondition

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func description(lines ...string) string {
	return strings.Join(append([]string{"v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/AVP 0"}, lines...), "\r\n") +
		"\r\nm=video 0 RTP/AVP 31\r\na=des:qos mandatory local sendrecv\r\n"
}

func TestTables(t *testing.T) {
	for name, c := range map[string]struct {
		lines                   []string
		present, mandatory, met bool
		// answer is what is added.
		answer string
	}{
		"none": {met: true},
		"a caller that has still to reserve": {
			lines:   []string{"a=curr:qos local none", "a=curr:qos remote none", "a=des:qos mandatory local sendrecv", "a=des:qos mandatory remote sendrecv"},
			present: true, mandatory: true,
			answer: "a=curr:qos local sendrecv|a=curr:qos remote none|a=des:qos mandatory local sendrecv|a=des:qos mandatory remote sendrecv|a=conf:qos remote sendrecv",
		},
		"a caller that has reserved": {
			lines:   []string{"a=curr:qos local sendrecv", "a=curr:qos remote none", "a=des:qos mandatory local sendrecv", "a=des:qos mandatory remote sendrecv"},
			present: true, mandatory: true, met: true,
			answer: "a=curr:qos local sendrecv|a=curr:qos remote sendrecv|a=des:qos mandatory local sendrecv|a=des:qos mandatory remote sendrecv",
		},
		"one direction is missing": {
			lines:   []string{"a=curr:qos local send", "a=des:qos mandatory local sendrecv", "a=des:qos optional remote sendrecv"},
			present: true, mandatory: true,
			answer: "a=curr:qos local sendrecv|a=curr:qos remote recv|a=des:qos optional local sendrecv|a=des:qos mandatory remote sendrecv|a=conf:qos remote sendrecv",
		},
		"optional": {
			lines: []string{"a=curr:qos local none", "a=des:qos optional local sendrecv", "a=des:qos none remote sendrecv"}, present: true, met: true,
			answer: "a=curr:qos local sendrecv|a=curr:qos remote none|a=des:qos optional local sendrecv|a=des:qos optional remote sendrecv",
		},
		"end to end": {
			lines: []string{"a=curr:qos e2e none", "a=des:qos mandatory e2e sendrecv"}, present: true, mandatory: true,
			answer: "a=curr:qos e2e none|a=des:qos mandatory e2e sendrecv|a=conf:qos e2e sendrecv",
		},
		"nonsense": {lines: []string{"a=curr:qos", "a=des:qos mandatory", "a=curr:qos here now", "a=des:qos mandatory local up", "a=curr:sec e2e none"}, met: true},
	} {
		text := description(c.lines...)
		table := Parse(text)
		if table.Present() != c.present || table.Mandatory() != c.mandatory || table.Met() != c.met {
			t.Errorf("%s: present %t, mandatory %t, met %t", name, table.Present(), table.Mandatory(), table.Met())
		}
		answer := table.Answer(description("a=sendrecv"))
		want := description("a=sendrecv")
		if c.answer != "" {
			want = description(append([]string{"a=sendrecv"}, strings.Split(c.answer, "|")...)...)
		}
		if answer != want {
			t.Errorf("%s: answered\n%s\nwant\n%s", name, answer, want)
		}
	}
}

// Whoever gets our offer or answer sees our side as met, and an answer to our offer
// never makes us wait.
func TestOursIsMet(t *testing.T) {
	offered := Parse(Offer(description("a=sendrecv")))
	if !offered.Met() || offered.Current["local"] != SendRecv {
		t.Errorf("offered %+v", offered)
	}
	rapid.Check(t, func(t *rapid.T) {
		words := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		var lines []string
		for _, kind := range []string{"local", "remote"} {
			lines = append(lines, "a=curr:qos "+kind+" "+words("current", "none", "send", "recv", "sendrecv"),
				"a=des:qos "+words("strength", "none", "optional", "mandatory")+" "+kind+" "+words("desired", "none", "send", "recv", "sendrecv"))
		}
		theirs := Parse(description(lines...))
		ours := Parse(theirs.Answer(description()))
		if !ours.Met() || ours.Current["remote"] != theirs.Current["local"].reverse() || ours.Mandatory() != theirs.Mandatory() {
			t.Fatalf("%v answered %+v", lines, ours)
		}
	})
}
