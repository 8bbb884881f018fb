package script_test

import (
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/sip/script"
)

const busy = `
# A comment.
busy: the far end is busy
  item status
  on udp tcp
  trunk decline_code: 486
  app calls
  --> INVITE
      has ^Supported:
      not ^Require:
  <-- 180
      tag two
  app is told Ringing
  <-- 486
      Reason: Q.850;cause=17
  --> ACK
  app is told Busy "SIP 486 .*"
`

func parse(t *testing.T, text string) *script.Scenario {
	t.Helper()
	all, err := script.Parse("test", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("there are %d scenarios", len(all))
	}
	return all[0]
}

func TestParse(t *testing.T) {
	s := parse(t, busy)
	if s.Name != "busy" || s.About != "the far end is busy" || strings.Join(s.On, " ") != "udp tcp" || s.Trunk["decline_code"] != "486" || s.Caller() {
		t.Errorf("the scenario is %+v", s)
	}
	if len(s.Steps) != 7 {
		t.Fatalf("there are %d steps", len(s.Steps))
	}
	if last := s.Steps[6]; last.Actor != "app" || len(last.Words) != 4 || last.Words[3] != "SIP 486 .*" {
		t.Errorf("the last step is %+v", last)
	}
	if v, _ := s.Steps[3].Last(script.Header); s.Steps[4].Code != 486 || v != "" {
		t.Errorf("the steps are %+v", s.Steps)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a step before the first scenario":   "  --> INVITE\n",
		"a name with blanks":                 "a b: c\n",
		"no item":                            "a: b\n  --> INVITE\n",
		"no message":                         "a: b\n  item x\n  app calls\n",
		"an unknown word":                    "a: b\n  item x\n  gateway\n  waits 3\n",
		"an unknown method":                  "a: b\n  item x\n  --> HELLO\n",
		"an unknown code":                    "a: b\n  item x\n  --> 700\n",
		"a check of a message that is sent":  "a: b\n  item x\n  <-- INVITE\n      has x\n",
		"a field of a message that is recv.": "a: b\n  item x\n  --> INVITE\n      Subject: x\n",
		"an expression that is none":         "a: b\n  item x\n  --> INVITE\n      has (\n",
		"a detail of an action":              "a: b\n  item x\n  app calls\n      has x\n",
		"an unknown transport":               "a: b\n  item x\n  on smoke\n  --> INVITE\n",
		"a trunk key without a value":        "a: b\n  item x\n  trunk key\n  --> INVITE\n",
	} {
		if _, err := script.Parse("test", strings.NewReader(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

var place = script.Place{
	Transport: "udp", IP: "127.1.0.1", Port: 5060, Gateway: "127.0.0.1:5070", Number: "+15560001", Peer: "+15570001",
	Domain: "carrier.example", Far: 4000, Far2: 4002, Run: "7",
}

// What SIPp sends after an action waits for the test; what it sends after a
// message does not.
func TestSynchronization(t *testing.T) {
	xml := parse(t, busy).SIPp(place)
	at := func(text string) int {
		i := strings.Index(xml, text)
		if i < 0 {
			t.Fatalf("there is no %q in\n%s", text, xml)
		}
		return i
	}
	invite, ringing, wait, refusal := at(`request="INVITE"`), at("180 Ringing"), at(`request="MESSAGE"`), at("486 Busy Here")
	if !(invite < ringing && ringing < wait && wait < refusal) || strings.Count(xml, "MESSAGE") != 1 {
		t.Errorf("the order is wrong in\n%s", xml)
	}
	at("Reason: Q.850;cause=17\n")
	at("To: [$toINVITE];tag=two\n")
}

const trace = "----------------------------------------------- 2026-11-28 00:59:37.557608\n" +
	"UDP message received [%INVITE] bytes :\n\n%invite\n" +
	"----------------------------------------------- 2026-11-28 00:59:37.557908\n" +
	"UDP message sent (%BUSY bytes):\n\n%busy\n\n"

func lines(l ...string) string { return strings.Join(l, "\r\n") }

func passed(invite string) []script.Message {
	busy := lines("SIP/2.0 486 Busy Here", "CSeq: 1 INVITE", "", "")
	return script.Trace(strings.NewReplacer("%INVITE", itoa(len(invite)), "%invite", invite, "%BUSY", itoa(len(busy)), "%busy", busy).Replace(trace))
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func TestCheck(t *testing.T) {
	s := parse(t, "busy: x\n  item x\n  --> INVITE\n      has ^Subject: hello$\n      not ^Priority:\n  <-- 486\n")
	good := []string{
		"INVITE sip:+15570001@carrier.example SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1;rport", "Max-Forwards: 70",
		"From: <sip:+15560001@carrier.example>;tag=a", "To: <sip:+15570001@carrier.example>", "Call-ID: c", "CSeq: 1 INVITE",
		"Contact: <sip:15560001@127.0.0.1:5070>", "Subject: hello", "Content-Length: 5", "", "v=0\r\n",
	}
	messages := passed(lines(good...))
	if len(messages) != 2 || !messages[0].Received || messages[1].Received {
		t.Fatalf("the messages are %+v", messages)
	}
	if err := s.Check(place, messages); err != nil {
		t.Error(err)
	}
	change := func(i int, line string) []script.Message {
		bad := append([]string(nil), good...)
		bad[i] = line
		return passed(lines(bad...))
	}
	for name, messages := range map[string][]script.Message{
		"another subject":       change(8, "Subject: bye"),
		"a field too many":      change(8, "Subject: hello\r\nPriority: urgent"),
		"no Call-ID":            change(5, "X: y"),
		"two Call-IDs":          change(5, "Call-ID: c\r\nCall-ID: d"),
		"a wrong length":        change(9, "Content-Length: 4"),
		"no magic cookie":       change(1, "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=1;rport"),
		"no rport":              change(1, "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1"),
		"another method":        change(6, "CSeq: 1 BYE"),
		"no tag":                change(3, "From: <sip:+15560001@carrier.example>"),
		"no Contact":            change(7, "X: y"),
		"a bare line feed":      change(8, "Subject: hello\nX: y"),
		"a browser's candidate": passed(strings.Replace(lines(append(good[:9:9], "Content-Length: 18", "", "a=candidate:1 1\r\n\r")...), "\r\n\r\r\n", "\r\n", 1)),
		"no message":            nil,
	} {
		if err := s.Check(place, messages); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
