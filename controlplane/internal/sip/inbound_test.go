package sip

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// ringing is an INVITE of the phone that the gateway has been told of.
func (b *bundle) ringing(t *testing.T, id, body string, fields ...string) gateway.IncomingCall {
	t.Helper()
	b.p.send(b.addr, b.inviteText(id, "+15550100", body, fields...))
	return b.l.want("incoming").incoming
}

// connected is an incoming call that was accepted and acknowledged.
func (b *bundle) connected(t *testing.T, id string, fields ...string) (string, received) {
	t.Helper()
	in := b.ringing(t, id, offerSDP, fields...)
	if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := b.p.response(200)
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, id+"ack"))
	b.l.want("confirmed")
	return in.CallID, ok
}

func TestReliableRinging(t *testing.T) {
	b := setup(t, "udp")
	in := b.ringing(t, "in1", offerSDP, "k: 100rel")
	if err := b.n.Progress(t.Context(), in.CallID, 183, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	if err := b.n.Progress(t.Context(), in.CallID, 180, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	first := b.p.response(183)
	rseq := header.First(first, "RSeq")
	if !header.Has(first, "Require", "100rel") || rseq == "" {
		t.Errorf("183:\n%s", first.String())
	}
	// Neither the 180 nor the 200 may pass before the PRACK.
	again := b.p.next("response", func(r received) bool { return r.res() != nil })
	if again.res().StatusCode != 183 || header.First(again, "RSeq") != rseq {
		t.Errorf("instead of the 183 again:\n%s", again.String())
	}
	b.p.send(b.addr, b.inDialog("PRACK", 8, first, "p0", "RAck: 1 7 INVITE"))
	if r := b.p.answer("PRACK"); r.res().StatusCode != 481 {
		t.Errorf("PRACK of nothing: %d", r.res().StatusCode)
	}
	b.p.send(b.addr, b.inDialog("PRACK", 9, first, "p1", "RAck: "+rseq+" 7 INVITE"))
	if r := b.p.answer("PRACK"); r.res().StatusCode != 200 {
		t.Errorf("PRACK: %d", r.res().StatusCode)
	}
	ok := b.p.answer("INVITE")
	if ok.res().StatusCode != 200 || len(ok.Body()) != 0 {
		t.Errorf("200 after an answer in the 183:\n%s", ok.String())
	}
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
	b.l.want("confirmed")
}

func TestNoPRACK(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Timers.T1 = 5 * time.Millisecond })
	in := b.ringing(t, "in1", offerSDP, "Require: 100rel")
	if err := b.n.Progress(t.Context(), in.CallID, 180, ""); err != nil {
		t.Fatal(err)
	}
	b.p.response(504)
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedFailed || e.ending.Code != 504 {
		t.Errorf("%+v", e.ending)
	}
}

func TestOfferlessCall(t *testing.T) {
	b := setup(t, "udp")
	in := b.ringing(t, "in1", "")
	if in.SDP != "" {
		t.Error("an offer came from nowhere")
	}
	_ = b.n.Progress(t.Context(), in.CallID, 183, crlf(offerSDP))
	if r := b.p.response(183); len(r.Body()) != 0 {
		t.Error("an unreliable response carries our offer")
	}
	_ = b.n.Accept(t.Context(), in.CallID, crlf(offerSDP))
	ok := b.p.response(200)
	if string(ok.Body()) != crlf(offerSDP) {
		t.Errorf("200:\n%s", ok.String())
	}
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack", answerSDP))
	if e := b.l.want("confirmed"); e.answer.SDP != crlf(answerSDP) {
		t.Errorf("confirmed with %q", e.answer.SDP)
	}
}

func TestCallerCancels(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		in := b.ringing(t, "in1", offerSDP)
		_ = b.n.Progress(t.Context(), in.CallID, 180, "")
		ringing := b.p.response(180)
		cancel := strings.ReplaceAll(b.inviteText("in1", "+15550100", ""), "INVITE", "CANCEL")
		b.p.send(b.addr, strings.Replace(cancel, "Contact:", "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\nX-Contact:", 1))
		if r := b.p.answer("CANCEL"); r.res().StatusCode != 200 {
			t.Errorf("CANCEL: %d", r.res().StatusCode)
		}
		r := b.p.answer("INVITE")
		if r.res().StatusCode != 487 || header.Tag(r.To().Params) != header.Tag(ringing.To().Params) {
			t.Errorf("INVITE:\n%s", r.String())
		}
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedCancelled || !strings.Contains(e.ending.Phrase, "elsewhere") {
			t.Errorf("%+v", e.ending)
		}
		b.p.send(b.addr, strings.Replace(strings.ReplaceAll(b.inviteText("none", "+15550100", ""), "INVITE", "CANCEL"), "Contact:", "X:", 1))
		if r := b.p.answer("CANCEL"); r.res().StatusCode != 481 {
			t.Errorf("CANCEL of nothing: %d", r.res().StatusCode)
		}
	})
}

func TestDecline(t *testing.T) {
	for code := range map[int]bool{603: true, 486: true} {
		b := setup(t, "udp", func(c *Config) { c.Trunks[0].DeclineCode = code })
		in := b.ringing(t, "in1", offerSDP)
		if err := b.n.End(t.Context(), in.CallID, call.CauseDeclined); err != nil {
			t.Fatal(err)
		}
		r := b.p.response(code)
		if header.Q850(r) != 21 {
			t.Errorf("Reason %q", header.First(r, "Reason"))
		}
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedRefused || !e.ending.Local || e.ending.Code != code {
			t.Errorf("%+v", e.ending)
		}
		b.p.response(code) // until it is acknowledged
		if err := b.n.Accept(t.Context(), in.CallID, ""); !errors.Is(err, gateway.ErrNoDialog) {
			t.Errorf("Accept of a declined call: %v", err)
		}
	}
}

func TestNoACK(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Timers.T1 = 5 * time.Millisecond })
	in := b.ringing(t, "in1", offerSDP)
	_ = b.n.Accept(t.Context(), in.CallID, crlf(answerSDP))
	b.p.request("BYE")
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedFailed {
		t.Errorf("%+v", e.ending)
	}
}

func TestEndWaitsForTheACK(t *testing.T) {
	b := setup(t, "udp")
	in := b.ringing(t, "in1", offerSDP)
	_ = b.n.Accept(t.Context(), in.CallID, crlf(answerSDP))
	ok := b.p.response(200)
	_ = b.n.End(t.Context(), in.CallID, call.CauseNormal)
	b.p.silent(100*time.Millisecond, func(r received) bool { return r.req() != nil })
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("confirmed")
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye || !e.ending.Local {
		t.Errorf("%+v", e.ending)
	}
}

func TestRemoteHold(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		id, ok := b.connected(t, "in1")
		b.l.mu.Lock()
		b.l.answer = func(callID, sdp string) (string, error) { return crlf(answerSDP), nil }
		b.l.mu.Unlock()
		b.p.send(b.addr, b.inDialog("INVITE", 8, ok, "re1", offerSDP))
		if e := b.l.want("offered"); e.callID != id || e.sdp != crlf(offerSDP) {
			t.Errorf("%+v", e)
		}
		r := b.p.answer("INVITE")
		if string(r.Body()) != crlf(answerSDP) {
			t.Errorf("answer:\n%s", r.String())
		}
		// A second one before the ACK has to wait.
		b.p.send(b.addr, b.inDialog("INVITE", 9, ok, "re2", offerSDP))
		early := b.p.next("500", func(r received) bool { return r.res() != nil && r.CSeq().SeqNo == 9 && r.res().StatusCode >= 200 })
		if early.res().StatusCode != 500 || header.First(early, "Retry-After") == "" {
			t.Errorf("second re-INVITE:\n%s", early.String())
		}
		b.p.send(b.addr, b.inDialog("ACK", 9, ok, "re2"))
		b.p.send(b.addr, b.inDialog("ACK", 8, ok, "ack8"))
		// Offerless: our offer in the 200, the answer in the ACK.
		b.p.send(b.addr, b.inDialog("INVITE", 10, ok, "re3"))
		b.l.want("offered")
		b.p.next("200", func(r received) bool { return r.res() != nil && r.CSeq().SeqNo == 10 && r.res().StatusCode == 200 })
		b.p.send(b.addr, b.inDialog("ACK", 10, ok, "ack10", answerSDP))
		if e := b.l.want("confirmed"); e.answer.SDP != crlf(answerSDP) {
			t.Errorf("%+v", e)
		}
		b.p.send(b.addr, b.inDialog("UPDATE", 11, ok, "up1", offerSDP))
		b.l.want("offered")
		if r := b.p.answer("UPDATE"); r.res().StatusCode != 200 || string(r.Body()) != crlf(answerSDP) {
			t.Errorf("UPDATE:\n%s", r.String())
		}
		b.p.send(b.addr, b.inDialog("UPDATE", 12, ok, "up2"))
		if r := b.p.answer("UPDATE"); r.res().StatusCode != 200 {
			t.Errorf("UPDATE without offer: %d", r.res().StatusCode)
		}
		b.l.mu.Lock()
		b.l.answer = nil
		b.l.mu.Unlock()
		b.p.send(b.addr, b.inDialog("INVITE", 13, ok, "re4", offerSDP))
		b.l.want("offered")
		if r := b.p.answer("INVITE"); r.res().StatusCode != 488 || !strings.HasPrefix(header.First(r, "Warning"), "305 ") {
			t.Errorf("refused offer:\n%s", r.String())
		}
		b.p.send(b.addr, b.inDialog("ACK", 13, ok, "re4"))
		if b.n.Calls() != 1 {
			t.Error("a refused offer ended the call")
		}
	})
}

func TestByeWhileTheGatewayThinks(t *testing.T) {
	b := setup(t, "udp")
	_, ok := b.connected(t, "in1")
	release := make(chan struct{})
	b.l.mu.Lock()
	b.l.answer = func(string, string) (string, error) { <-release; return crlf(answerSDP), nil }
	b.l.mu.Unlock()
	b.p.send(b.addr, b.inDialog("INVITE", 8, ok, "re1", offerSDP))
	b.l.want("offered")
	b.p.send(b.addr, b.inDialog("BYE", 9, ok, "bye"))
	if r := b.p.answer("BYE"); r.res().StatusCode != 200 {
		t.Errorf("BYE: %d", r.res().StatusCode)
	}
	if r := b.p.next("487", func(r received) bool { return r.res() != nil && r.CSeq().SeqNo == 8 && r.res().StatusCode >= 200 }); r.res().StatusCode != 487 {
		t.Errorf("re-INVITE: %d", r.res().StatusCode)
	}
	close(release)
	b.l.want("ended")
}

func TestWithinACall(t *testing.T) {
	b := setup(t, "udp")
	id, ok := b.connected(t, "in1")
	for i, c := range []struct {
		method string
		extra  []string
		want   int
	}{
		{"INFO", nil, 200},
		{"INFO", []string{"Content-Type: application/x-thing", "BODY x"}, 415},
		{"OPTIONS", nil, 200},
		{"REFER", []string{"Refer-To: <sip:x@y.example.com>", "Contact: <sip:ann@127.0.0.1>"}, 405},
		{"MESSAGE", nil, 405},
		{"NOTIFY", []string{"Event: refer", "Subscription-State: active"}, 489},
		{"SUBSCRIBE", []string{"Event: x", "Contact: <sip:ann@127.0.0.1>"}, 489},
		{"DANCE", nil, 501},
		{"PRACK", []string{"RAck: 1 7 INVITE"}, 481},
		{"INVITE", []string{"Require: precondition", offerSDP}, 420},
		{"UPDATE", []string{"Session-Expires: 30", "Supported: timer"}, 422},
	} {
		text := b.inDialog(c.method, 20+i, ok, fmt.Sprint("w", i), c.extra...)
		text = strings.Replace(text, "\nBODY x\nContent-Length: 0\n\n", "\nContent-Length: 1\n\nx", 1)
		b.p.send(b.addr, text)
		if r := b.p.answer(c.method); r.res().StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.method, r.res().StatusCode, c.want)
		}
	}
	b.p.send(b.addr, b.inDialog("OPTIONS", 10, ok, "old"))
	if r := b.p.answer("OPTIONS"); r.res().StatusCode != 500 {
		t.Errorf("a lower CSeq: %d", r.res().StatusCode)
	}
	dtmf := strings.Replace(b.inDialog("INFO", 50, ok, "d1"), "Content-Length: 0\n\n", "Content-Type: application/dtmf-relay\nContent-Length: 24\n\nSignal=11\r\nDuration=90\r\n", 1)
	b.p.send(b.addr, dtmf)
	if e := b.l.want("digit"); e.callID != id || e.digit != "#" || e.ms != 90 {
		t.Errorf("%+v", e)
	}
}

func TestRefusedInvites(t *testing.T) {
	b := setup(t, "udp")
	base := func(i int) string { return b.inviteText(fmt.Sprint("bad", i), "+15550100", offerSDP) }
	for i, c := range []struct {
		name string
		text func(s string) string
		want int
	}{
		{"hops", func(s string) string { return strings.Replace(s, "Max-Forwards: 70", "Max-Forwards: 0", 1) }, 483},
		{"extension", func(s string) string {
			return strings.Replace(s, "Contact:", "Require: 100rel, precondition\nContact:", 1)
		}, 420},
		{"body", func(s string) string { return strings.Replace(s, "application/sdp", "application/isup", 1) }, 415},
		{"scheme", func(s string) string { return strings.Replace(s, "INVITE sip:", "INVITE nobody:", 1) }, 416},
		{"interval", func(s string) string {
			return strings.Replace(s, "Contact:", "Supported: timer\nSession-Expires: 60\nContact:", 1)
		}, 422},
		{"no callee", func(s string) string { return strings.Replace(s, "INVITE sip:+15550100@", "INVITE sip:", 1) }, 404},
		{"CSeq", func(s string) string { return strings.Replace(s, "7 INVITE", "7 OPTIONS", 1) }, 400},
		{"short body", func(s string) string { return strings.Replace(s, "Content-Length: ", "Content-Length: 1", 1) }, 400},
		{"two From", func(s string) string { return strings.Replace(s, "To:", "From: <sip:a@b.example.com>;tag=z\nTo:", 1) }, 400},
		{"no Contact", func(s string) string { return strings.Replace(s, "Contact:", "X:", 1) }, 400},
		{"version", func(s string) string { return strings.Replace(s, " SIP/2.0\n", " SIP/7.0\n", 1) }, 505},
	} {
		b.p.send(b.addr, c.text(base(i)))
		r := b.p.next(c.name, func(r received) bool { return r.res() != nil && r.CallID().Value() == fmt.Sprint("bad", i) })
		if r.res().StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, r.res().StatusCode, c.want)
		}
		if c.want == 420 && header.First(r, "Unsupported") != "precondition" || c.want == 422 && header.First(r, "Min-SE") != "90" {
			t.Errorf("%s:\n%s", c.name, r.String())
		}
	}
	for _, c := range []struct {
		text string
		want int
	}{
		{b.within("BYE", 3, "sip:x@"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>;tag=unknown", "nocall", "u1"), 481},
		{b.within("INFO", 3, "sip:x@"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", "nocall2", "u2"), 481},
		{b.within("OPTIONS", 3, "sip:"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", "nocall3", "u3"), 200},
		{b.within("MESSAGE", 3, "sip:"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", "nocall4", "u4"), 405},
		{b.within("DANCE", 3, "sip:"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", "nocall5", "u5"), 501},
	} {
		b.p.send(b.addr, c.text)
		if r := b.p.next("answer", func(r received) bool { return r.res() != nil && strings.HasPrefix(r.CallID().Value(), "nocall") }); r.res().StatusCode != c.want {
			t.Errorf("%d, want %d for\n%s", r.res().StatusCode, c.want, c.text)
		}
	}
	// The same call on two paths.
	in := b.ringing(t, "twice", offerSDP)
	b.p.send(b.addr, strings.Replace(b.inviteText("twice", "+15550100", offerSDP), "z9hG4bKtwice", "z9hG4bKother", 1))
	if r := b.p.answer("INVITE"); r.res().StatusCode != 482 {
		t.Errorf("merged request: %d", r.res().StatusCode)
	}
	_ = b.n.End(t.Context(), in.CallID, call.CauseBusy)
	b.l.want("ended")
}

func TestForeignPeer(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Trunks[0].AllowedPeers = []string{"192.0.2.0/24"} })
	b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	if r := b.p.answer("INVITE"); r.res().StatusCode != 403 {
		t.Errorf("INVITE of a stranger: %d", r.res().StatusCode)
	}
	if b.n.Calls() != 0 {
		t.Error("a stranger's call was let in")
	}
}

func TestCallers(t *testing.T) {
	for name, c := range map[string]struct {
		from, fields string
		trusted      bool
		want, shown  string
	}{
		"asserted":    {`"X" <sip:+15550123@h.example.com>`, `P-Asserted-Identity: "Bob B." <sip:+15550777@h.example.com;user=phone>, <tel:+15550777>`, true, "tel:+15550777", "Bob B."},
		"not trusted": {`"X" <sip:+15550123@h.example.com>`, `P-Asserted-Identity: <tel:+15550777>`, false, "tel:+15550123", "X"},
		"private":     {`<sip:+15550123@h.example.com>`, "P-Asserted-Identity: <tel:+15550777>\nPrivacy: id", true, "sip:anonymous@anonymous.invalid", ""},
		"anonymous":   {`"Anonymous" <sip:anonymous@anonymous.invalid>`, "X-A: 1", true, "sip:anonymous@anonymous.invalid", ""},
		"separators":  {`<tel:+1-555-(01)23>`, "X-A: 1", true, "tel:+15550123", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "udp", func(cfg *Config) { cfg.Trunks[0].Trusted = c.trusted })
			s := b.inviteText("in1", "+15550100", offerSDP, c.fields)
			s = strings.Replace(s, `From: "Ann" <sip:+15550123@ims.example.com;user=phone>`, "From: "+c.from, 1)
			b.p.send(b.addr, s)
			in := b.l.want("incoming").incoming
			if in.Caller.Canonical() != c.want || in.CallerName != c.shown {
				t.Errorf("caller %s, %q", in.Caller.Canonical(), in.CallerName)
			}
			_ = b.n.End(t.Context(), in.CallID, call.CauseBusy)
			b.l.want("ended")
		})
	}
}

func TestTooManyCalls(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.MaxCalls = 1 })
	b.ringing(t, "in1", offerSDP)
	b.p.send(b.addr, b.inviteText("in2", "+15550100", offerSDP))
	if r := b.p.response(503); header.First(r, "Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if _, err := b.n.Invite(t.Context(), outgoing("c1")); !errors.Is(err, gateway.ErrNetworkDown) {
		t.Errorf("error %v", err)
	}
}

// A call goes on in another process: BYE works from both sides, UDP and TCP.
func TestRestart(t *testing.T) {
	for _, local := range []bool{true, false} {
		both(t, func(t *testing.T, network string) {
			b := setup(t, network, func(c *Config) {
				for i := range c.Listeners {
					c.Listeners[i].Address = "127.0.0.1:0"
				}
			})
			invite := b.answered(t, "c1", "Record-Route: <sip:"+b.p.addr()+";lr;transport="+network+">")
			// The ports of the next process must be the same, as the peer has our Contact.
			for i, bound := range b.n.Bound() {
				b.cfg.Listeners[i].Address = bound.Local.String()
			}
			b.stop()
			b.p.hangUp()
			b.l.mu.Lock()
			d := b.l.dialogs["c1"]
			b.l.mu.Unlock()
			b.l.find = func(sipCallID, tag string) (string, gateway.Dialog, error) {
				if sipCallID != d.SIPCallID || tag != d.LocalTag {
					return "", gateway.Dialog{}, errors.New("not found")
				}
				return "c1", d, nil
			}
			b.start(t)
			if !local {
				b.p.send(b.addr, b.asCallee("BYE", 500, invite, "a", "bye"))
				if r := b.p.answer("BYE"); r.res().StatusCode != 200 {
					t.Errorf("BYE: %d", r.res().StatusCode)
				}
				if e := b.l.want("ended"); e.callID != "c1" || e.ending.Kind != gateway.EndedBye {
					t.Errorf("%+v", e)
				}
				return
			}
			if err := b.n.Restore(t.Context(), "c1", d); err != nil {
				t.Fatal(err)
			}
			if err := b.n.Restore(t.Context(), "c1", d); err != nil {
				t.Errorf("again: %v", err)
			}
			if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
				t.Fatal(err)
			}
			bye := b.p.request("BYE")
			if bye.CSeq().SeqNo <= invite.CSeq().SeqNo || header.Tag(bye.To().Params) != "a" || len(bye.GetHeaders("Route")) != 1 {
				t.Errorf("BYE:\n%s", bye.String())
			}
			b.p.reply(bye, 200, "")
			b.l.want("ended")
		})
	}
}

func TestBusyPort(t *testing.T) {
	b := setup(t, "udp")
	cfg := b.cfg
	cfg.Listeners = []Listener{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "udp", Address: b.addr}}
	if _, err := New(cfg, Deps{Events: b.l}); err == nil || !strings.Contains(err.Error(), "sip.listeners[1].address") {
		t.Errorf("error %v", err)
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		c := Default()
		tr := trunk.Default()
		tr.Targets, tr.Domain = []string{"sbc.example.com:5060"}, "ims.example.com"
		c.Trunks = []trunk.Config{tr}
		return c
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"sip.listeners":                 func(c *Config) { c.Listeners = nil },
		"sip.listeners[0].network":      func(c *Config) { c.Listeners[0].Network = "sctp" },
		"sip.listeners[0].address":      func(c *Config) { c.Listeners[0].Address = "here" },
		"sip.listeners[0].advertise":    func(c *Config) { c.Listeners[0].Address = "0.0.0.0:5060" },
		"sip.trunks[0].targets[0]":      func(c *Config) { c.Trunks[0].Targets = []string{"sip:host"} },
		"sip.trunks[0].mode":            func(c *Config) { c.Trunks[0].Mode = "x" },
		"sip.trunks[0].transport":       func(c *Config) { c.Listeners = c.Listeners[1:]; c.Trunks[0].Transport = "udp" },
		"sip.trunks[0].allowed_peers":   func(c *Config) { c.Trunks[0].AllowedPeers = []string{"all"} },
		"sip.trunks[0].credentials":     func(c *Config) { c.Trunks[0].Credentials = map[string]trunk.Credentials{"123": {Username: "u"}} },
		"sip.trunks[0].domain":          func(c *Config) { c.Trunks[0].Domain = "a b" },
		"sip.trunks[0].min_se":          func(c *Config) { c.Trunks[0].MinSE = time.Second },
		"sip.trunks[0].decline_code":    func(c *Config) { c.Trunks[0].DeclineCode = 400 },
		"sip.trunks[1].name":            func(c *Config) { c.Trunks = append(c.Trunks, c.Trunks[0]) },
		"sip.timers.t1":                 func(c *Config) { c.Timers.T1 = 0 },
		"sip.max_calls":                 func(c *Config) { c.MaxCalls = 0 },
		"sip.user_agent":                func(c *Config) { c.UserAgent = "a\r\nb" },
		"sip.trunks[0].reliable":        func(c *Config) { c.Trunks[0].Reliable = "maybe" },
		"sip.trunks[0].session_expires": func(c *Config) { c.Trunks[0].SessionExpires = time.Second },
	} {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: error %v", key, err)
		}
	}
}
