package validate

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

const good = "INVITE sip:+15550100@gw.example.com;user=phone SIP/2.0\n" +
	"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\n" +
	"Max-Forwards: 70\n" +
	"From: \"Ann \\\"A\\\"\" <sip:ann@example.com>;tag=1\n" +
	"To: <sip:+15550100@example.com>\n" +
	"Call-ID: abc@192.0.2.1\n" +
	"CSeq: 1 INVITE\n" +
	"Contact: <sip:ann@192.0.2.1>\n" +
	"Content-Type: application/sdp\n" +
	"Content-Length: 3\n\nv=0"

const ok = "SIP/2.0 200 OK\n" +
	"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\n" +
	"From: <sip:ann@example.com>;tag=1\nTo: <sip:bob@example.com>;tag=2\nCall-ID: abc\nCSeq: 1 INVITE\nContent-Length: 0\n\n"

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func TestGood(t *testing.T) {
	p := New()
	for name, s := range map[string]string{
		"request":         good,
		"response":        ok,
		"no length":       strings.Replace(good, "Content-Length: 3\n", "", 1),
		"octets after":    good + "and more",
		"leading CRLF":    "\n\n" + good,
		"compact":         "INVITE sip:a@b.example.com SIP/2.0\nv: SIP/2.0/TCP h;branch=z9hG4bKb\nf: <sip:a@b.example.com>;tag=1\nt: sip:b@c.example.com\ni: x\nCSeq: 9 INVITE\nm: <sip:a@h>\nl: 0\n\n",
		"folded":          strings.Replace(good, "Max-Forwards: 70", "Subject: one\n  two\n\tthree\nMax-Forwards:  70", 1),
		"unknown method":  strings.ReplaceAll(strings.Replace(good, "Contact", "X", 1), "INVITE", "DANCE"),
		"spaces in CSeq":  strings.Replace(good, "CSeq: 1 INVITE", "CSeq: 0001   INVITE", 1),
		"strange phrase":  strings.Replace(ok, "200 OK", "200 = 2**3 * 5**2 \u00e9", 1),
		"several Via":     strings.Replace(good, "Max-Forwards", "Via: SIP/2.0/UDP a:1;branch=z9hG4bKx, SIP/2.0/TCP b;branch=z9hG4bKy\nMax-Forwards", 1),
		"escaped user":    strings.Replace(good, "sip:+15550100@gw", "sip:%2B15550100@gw", 1),
		"ACK without SDP": strings.ReplaceAll(strings.Replace(strings.Replace(good, "Contact: <sip:ann@192.0.2.1>\nContent-Type: application/sdp\n", "", 1), "Content-Length: 3\n\nv=0", "Content-Length: 0\n\n", 1), "INVITE", "ACK"),
		"IPv6":            strings.Replace(strings.Replace(good, "sip:ann@192.0.2.1", "sip:ann@[2001:db8::1]:5060", 1), "192.0.2.1:5060;branch", "[2001:db8::1]:5060;branch", 1),
	} {
		m, problem := p.Datagram(crlf(s))
		if problem != nil {
			t.Errorf("%s: %v", name, problem)
			continue
		}
		if m.CSeq() == nil || m.From() == nil || m.Via() == nil {
			t.Errorf("%s: something is missing", name)
		}
	}
}

func TestProblems(t *testing.T) {
	p := New()
	for _, c := range []struct {
		name, from, to, reason string
		code                   int
	}{
		{"no start line", "INVITE sip:+15550100@gw.example.com;user=phone SIP/2.0\n", "INVITE\n", "start_line", 400},
		{"spaces in the URI", "INVITE sip:+15550100@gw", "INVITE sip:a b@gw", "start_line", 400},
		{"angle brackets", "INVITE sip:+15550100@gw.example.com;user=phone", "INVITE <sip:a@gw.example.com>", "uri", 400},
		{"broken escape", "sip:+15550100@gw", "sip:%2z@gw", "uri", 400},
		{"version", "user=phone SIP/2.0", "user=phone SIP/7.0", "version", 505},
		{"method case", "INVITE sip", "invite sip", "start_line", 400},
		{"method octets", "INVITE sip", "INV\"TE sip", "start_line", 400},
		{"no Via", "Via: ", "Vie: ", "missing_header", 400},
		{"no To", "To: ", "Too: ", "missing_header", 400},
		{"no CSeq", "CSeq: 1 INVITE\n", "", "missing_header", 400},
		{"CSeq method", "1 INVITE", "1 BYE", "cseq", 400},
		{"CSeq number", "CSeq: 1 INVITE", "CSeq: 4294967296 INVITE", "header", 400},
		{"CSeq words", "CSeq: 1 INVITE", "CSeq: one INVITE", "header", 400},
		{"two Call-ID", "CSeq:", "Call-ID: other\nCSeq:", "duplicate_header", 400},
		{"two To", "CSeq:", "t: <sip:x@y.example.com>\nCSeq:", "duplicate_header", 400},
		{"two Max-Forwards", "CSeq:", "Max-Forwards: 5\nCSeq:", "duplicate_header", 400},
		{"Max-Forwards", "Max-Forwards: 70", "Max-Forwards: 300", "header", 400},
		{"Max-Forwards sign", "Max-Forwards: 70", "Max-Forwards: -1", "header", 400},
		{"no branch", ";branch=z9hG4bKa", "", "via", 400},
		{"old branch", "z9hG4bKa", "a", "via", 400},
		{"cookie alone", "z9hG4bKa", "z9hG4bK", "via", 400},
		{"From tag", ";tag=1", "", "header", 400},
		{"From URI", "<sip:ann@example.com>", "<ann>", "header", 400},
		{"no Contact", "Contact: <sip:ann@192.0.2.1>\n", "", "missing_header", 400},
		{"two Contact", "Contact: <sip:ann@192.0.2.1>", "Contact: <sip:ann@192.0.2.1>, <sip:x@y>", "missing_header", 400},
		{"star Contact", "Contact: <sip:ann@192.0.2.1>", "Contact: *", "uri", 400},
		{"long length", "Content-Length: 3", "Content-Length: 33", "content_length", 400},
		{"negative length", "Content-Length: 3", "Content-Length: -3", "content_length", 400},
		{"two lengths", "Content-Length: 3", "Content-Length: 3\nl: 2", "content_length", 400},
		{"length words", "Content-Length: 3", "Content-Length: three", "content_length", 400},
		{"no type", "Content-Type: application/sdp\n", "", "missing_header", 400},
		{"no colon", "Subject", "Subject", "", 0},
		{"NUL", "Max-Forwards: 70", "Max-Forwards: 70\x00", "header", 400},
		{"line without colon", "Max-Forwards: 70", "Max-Forwards", "header", 400},
		{"unclosed quote", "\"Ann \\\"A\\\"\" <", "\"Ann <", "header", 400},
	} {
		s := strings.Replace(good, c.from, c.to, 1)
		_, problem := p.Datagram(crlf(s))
		if c.reason == "" {
			continue
		}
		if s == good {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		if problem == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if problem.Reason != c.reason || problem.Code != c.code {
			t.Errorf("%s: %s %d (%s), want %s %d", c.name, problem.Reason, problem.Code, problem.Detail, c.reason, c.code)
		}
	}
}

// What is wrong with a response or an ACK is never answered.
func TestSilence(t *testing.T) {
	p := New()
	for _, s := range []string{
		strings.Replace(ok, "200 OK", "20 OK", 1),
		strings.Replace(ok, "Call-ID: abc\n", "", 1),
		strings.ReplaceAll(strings.Replace(good, "1 INVITE", "1 BYE", 1), "INVITE", "ACK"),
	} {
		_, problem := p.Datagram(crlf(s))
		if problem == nil {
			t.Errorf("accepted:\n%s", s)
			continue
		}
		if problem.Code != 0 || Refusal(crlf(s), problem, "t") != nil {
			t.Errorf("%s would be answered with %d", problem.Reason, problem.Code)
		}
	}
}

func TestRefusal(t *testing.T) {
	p := New()
	raw := crlf(strings.Replace(good, "1 INVITE", "1 BYE", 1))
	_, problem := p.Datagram(raw)
	m, err := sip.ParseMessage(Refusal(raw, problem, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	res := m.(*sip.Response)
	tag, _ := res.To().Params.Get("tag")
	if res.StatusCode != 400 || res.CallID().Value() != "abc@192.0.2.1" || tag != "mine" || res.Via().Host != "192.0.2.1" {
		t.Errorf("refusal:\n%s", res.String())
	}
	raw = crlf(strings.Replace(good, "Call-ID: abc@192.0.2.1\n", "", 1))
	if _, problem = p.Datagram(raw); Refusal(raw, problem, "mine") != nil {
		t.Error("a request without Call-ID was answered")
	}
}

func TestFrame(t *testing.T) {
	whole := crlf(good)
	for i := range len(whole) {
		if n, problem := Frame(whole[:i]); n != 0 || problem != nil {
			t.Fatalf("%d of %d octets: %d, %v", i, len(whole), n, problem)
		}
	}
	if n, problem := Frame(append(whole, whole...)); n != len(whole) || problem != nil {
		t.Errorf("two messages: %d, %v", n, problem)
	}
	for name, s := range map[string]string{
		"no length": strings.Replace(good, "Content-Length: 3\n", "", 1),
		"too long":  strings.Replace(good, "Content-Length: 3", "Content-Length: 65536", 1),
		"endless":   "INVITE " + strings.Repeat("x", MaxSize+1),
	} {
		if _, problem := Frame(crlf(s)); problem == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Nothing that arrives may panic, and what is accepted must be fit for the
// layers above and come out as it went in.
func FuzzDatagram(f *testing.F) {
	f.Add(crlf(good))
	f.Add(crlf(ok))
	f.Add(crlf(strings.Replace(good, "Max-Forwards: 70", "Subject: a\n b\nk: 100rel,timer\nx: 90;refresher=uac", 1)))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte("OPTIONS * SIP/2.0\r\n\r\n"))
	p := New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, problem := p.Datagram(raw)
		if problem != nil {
			if a := Refusal(raw, problem, "t"); a != nil {
				if n, bad := Frame(a); bad != nil || n != len(a) {
					t.Fatalf("the refusal is not a message: %v\n%q", bad, a)
				}
			}
			if n, _ := Frame(raw); n < 0 || n > len(raw) {
				t.Fatalf("frame of %d in %d octets", n, len(raw))
			}
			return
		}
		if m.Via() == nil || m.From() == nil || m.To() == nil || m.CallID() == nil || m.CSeq() == nil {
			t.Fatal("accepted without a mandatory field")
		}
		if strings.ContainsAny(m.CallID().Value(), "\r\n") || strings.ContainsAny(m.From().Value(), "\r\n") {
			t.Fatal("a line break within a field")
		}
		_ = m.String()
	})
}

// However a stream is cut, the same messages come out of it, and what a message is
// taken for does not depend on what follows.
func FuzzFrame(f *testing.F) {
	f.Add(append(crlf(ok), crlf(good)...), uint16(7))
	f.Add(crlf(strings.Replace(good, "Content-Length: 3", "l:\n 3", 1)), uint16(1))
	f.Add(crlf("A\nContent-Length: 0\n\nB\nContent-Length: 4\n\n1234"), uint16(3))
	p := New()
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		whole, problem := frames(t, raw, len(raw))
		pieces, again := frames(t, raw, 1+int(cut)%64)
		if len(whole) != len(pieces) || (problem == nil) != (again == nil) {
			t.Fatalf("%d messages (%v) in one piece, %d (%v) in many", len(whole), problem, len(pieces), again)
		}
		for i := range whole {
			if whole[i] != pieces[i] {
				t.Fatalf("message %d is %q and %q", i, whole[i], pieces[i])
			}
			_, _ = p.Message([]byte(whole[i]))
		}
	})
}

// frames cuts a stream that comes in pieces into messages.
func frames(t *testing.T, raw []byte, piece int) (out []string, problem *Problem) {
	var buf []byte
	for len(raw) > 0 {
		n := min(piece, len(raw))
		buf, raw = append(buf, raw[:n]...), raw[n:]
		for {
			n, problem := Frame(buf)
			if problem != nil {
				return out, problem
			}
			if n < 0 || n > len(buf) {
				t.Fatalf("a frame of %d in %d octets", n, len(buf))
			}
			if n == 0 {
				break
			}
			out = append(out, string(buf[:n]))
			buf = buf[n:]
		}
	}
	return out, nil
}
