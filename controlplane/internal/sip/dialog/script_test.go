package dialog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// script writes effects on one line, timers left out, so that a scenario reads as
// a ladder.
func script(effects []Effect) string {
	var out []string
	add := func(format string, args ...any) { out = append(out, strings.TrimSpace(fmt.Sprintf(format, args...))) }
	for _, e := range effects {
		switch e := e.(type) {
		case Send:
			to := e.Dialog.RemoteTag
			if e.Redirect != "" {
				to = e.Redirect
			}
			add("%s %s %s%s", e.Method, to, e.Body.Content, notable(e.Fields))
		case SendACK:
			add("ACK %s", e.Dialog.RemoteTag)
		case SendCANCEL:
			add("CANCEL%s", notable(e.Fields))
		case Respond:
			add("%d %s%s", e.Code, e.Body.Content, notable(e.Fields))
		case Provisional:
			add("told %d %s %s", e.Signal.Code, e.SDP, e.EarlyMedia)
		case Answered:
			add("answered %s %s", e.Dialog.RemoteTag, e.SDP)
		case Acknowledged:
			add("acknowledged %s", e.SDP)
		case Confirmed:
			add("confirmed %s", e.SDP)
		case Referred:
			add("referred %s", e.To)
		case Offered:
			add("offered %s", e.SDP)
		case Done:
			add("done %s %v", e.Answer, e.Err)
		case Ended:
			add("ended %d %s", e.Ending.Kind, e.Ending.Reason())
		}
	}
	return strings.Join(out, " | ")
}

// notable fields, those that scenarios are about.
func notable(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		if slices.Contains([]string{"RAck", "Reason", "RSeq", "Retry-After", "Warning", "Session-Expires", "Min-SE", "Refer-To", "Event"}, f.Name) {
			fmt.Fprintf(&b, " [%s: %s]", f.Name, f.Value)
		}
	}
	return b.String()
}

// step of a scenario: what happens and what comes of it.
type step struct {
	do   func(m *Machine) []Effect
	want string
}

func play(t *testing.T, m *Machine, steps ...step) {
	t.Helper()
	for i, s := range steps {
		if got := strings.Join(strings.Fields(script(s.do(m))), " "); got != s.want {
			t.Fatalf("step %d:\n got %s\nwant %s", i+1, got, s.want)
		}
	}
}

func plainConfig() Config {
	c := testConfig()
	c.SessionExpires = 0
	return c
}

// response to the last INVITE, or to the transaction that is named.
func response(code int, tag string, change ...func(*Response)) func(*Machine) []Effect {
	return func(m *Machine) []Effect {
		r := Response{Signal: call.Signal{Code: code}, ToTag: tag, Contact: "sip:" + tag + "@far", HasAllow: true, AllowsUpdate: true}
		for _, f := range change {
			f(&r)
		}
		tx := m.caller.tx
		if m.local != nil && m.local.tx != 0 && tag == "" {
			tx = m.local.tx
		}
		return m.Response(tx, r)
	}
}

func sdp(s string) func(*Response)      { return func(r *Response) { r.SDP = s } }
func reliable(n uint32) func(*Response) { return func(r *Response) { r.Reliable, r.RSeq = true, n } }
func minSE(n uint32) func(*Response)    { return func(r *Response) { r.MinSE = n } }
func contacts(u ...string) func(*Response) {
	return func(r *Response) { r.Redirects = u }
}

func invite(m *Machine) []Effect { return m.Invite() }
func end(m *Machine) []Effect    { return m.End(call.CauseNormal) }
func fire(timer Timer) func(*Machine) []Effect {
	return func(m *Machine) []Effect { return m.Fired(timer) }
}
func reoffer(s string) func(*Machine) []Effect {
	return func(m *Machine) []Effect {
		e, err := m.Reoffer(1, s)
		if err != nil {
			return []Effect{Done{Err: err}}
		}
		return e
	}
}

// receive a request in the dialog with a tag.
func receive(tag string, r Request) func(*Machine) []Effect {
	return func(m *Machine) []Effect { return m.Request(r, tag) }
}

func TestForking(t *testing.T) {
	t.Run("the latest session is heard, the answer decides", func(t *testing.T) {
		play(t, NewCaller(plainConfig(), testState(), "mine"),
			step{invite, "INVITE mine"},
			step{response(183, "a", sdp("A"), reliable(7)), "PRACK a [RAck: 7 11 INVITE] | told 183 A"},
			step{response(183, "b", sdp("B"), reliable(3)), "PRACK b [RAck: 3 11 INVITE] | told 183 B"},
			step{response(183, "a", sdp("A"), reliable(7)), ""}, // a repetition
			step{response(180, "a", reliable(9)), ""},           // out of order
			step{response(180, "a", reliable(8)), "PRACK a [RAck: 8 11 INVITE] | told 180"},
			// Without a description of its own: the one that branch a gave.
			step{response(200, "a"), "ACK a | answered a A"},
			step{response(200, "b", sdp("B")), `ACK b | BYE b [Reason: SIP;cause=200;text="Call completed elsewhere"]`},
			step{response(200, "b", sdp("B")), "ACK b"}, // again: only the ACK was lost
			step{response(200, "c", sdp("C")), `ACK c | BYE c [Reason: SIP;cause=200;text="Call completed elsewhere"]`},
			step{response(200, "a"), "ACK a"},
			step{end, `BYE a [Reason: Q.850;cause=16;text="Normal call clearing"]`},
		)
	})
	t.Run("199 drops the branch that is heard", func(t *testing.T) {
		play(t, NewCaller(plainConfig(), testState(), "mine"),
			step{invite, "INVITE mine"},
			step{response(183, "a", sdp("A")), "told 183 A"},
			step{response(180, "b"), "told 180"},
			step{response(183, "c", sdp("C")), "told 183 C"},
			step{response(199, "b"), ""},
			step{response(199, "c"), "told 199 A"},
			step{response(199, "a"), ""},
			step{response(486, "a"), "ended 1 SIP 486"},
		)
	})
	t.Run("a target that was given up rings on", func(t *testing.T) {
		cfg := plainConfig()
		cfg.Targets = 2
		m := NewCaller(cfg, testState(), "mine")
		first := Tx(0)
		play(t, m,
			step{invite, "INVITE mine"},
			step{func(m *Machine) []Effect { first = m.caller.tx; return m.Fired(TimerAttempt) }, "INVITE mine"},
			step{response(200, "b", sdp("B")), "ACK b | answered b B"},
			step{func(m *Machine) []Effect {
				return m.Response(first, Response{Signal: call.Signal{Code: 180}, ToTag: "late"})
			}, `CANCEL [Reason: SIP;cause=200;text="Call completed elsewhere"]`},
		)
	})
}

func TestEarlyOffers(t *testing.T) {
	update := Request{ID: 5, Method: "UPDATE", Seq: 20, Body: SDP("theirs")}
	play(t, NewCaller(plainConfig(), testState(), "mine"),
		step{invite, "INVITE mine"},
		step{reoffer("new"), "done " + "the far end cannot take an offer yet"},
		step{response(183, "a", sdp("A")), "told 183 A"},
		step{reoffer("new"), "done " + "the far end cannot take an offer yet"}, // not reliable
		step{response(183, "a", sdp("A"), reliable(1)), "PRACK a [RAck: 1 11 INVITE] | told 183 A"},
		step{reoffer("new"), "UPDATE a new"},
		step{receive("a", update), "491"}, // ours is under way
		step{func(m *Machine) []Effect { return m.Response(m.local.tx, Response{Signal: call.Signal{Code: 491}}) }, ""},
		step{fire(TimerGlare), "UPDATE a new"},
		step{func(m *Machine) []Effect {
			return m.Response(m.local.tx, Response{Signal: call.Signal{Code: 200}, SDP: "A2"})
		}, "done A2 <nil>"},
		step{receive("a", Request{ID: 6, Method: "UPDATE", Seq: 21, Body: SDP("theirs")}), "offered theirs"},
		step{reoffer("newer"), ""}, // waits for theirs
		step{func(m *Machine) []Effect { return m.Answer(6, "answer", nil) }, "200 answer | UPDATE a newer"},
		step{func(m *Machine) []Effect {
			return m.Response(m.local.tx, Response{Signal: call.Signal{Code: 504}})
		}, "done rejected by the network: SIP 504"},
		step{response(200, "a"), "ACK a | answered a theirs"},
	)
}

func TestOfferlessInvite(t *testing.T) {
	d := testState()
	d.RemoteTag = "r"
	req := Request{ID: 1, Method: "INVITE", Seq: 7, Supports100rel: true}
	progress := func(code int, sdp string) func(*Machine) []Effect {
		return func(m *Machine) []Effect {
			e, err := m.Progress(code, "", sdp)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	accept := func(sdp string) func(*Machine) []Effect {
		return func(m *Machine) []Effect {
			e, err := m.Accept(sdp)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	prack := func(id Req, seq, rseq uint32, sdp string) func(*Machine) []Effect {
		return receive("r", Request{ID: id, Method: "PRACK", Seq: seq, RAckRSeq: rseq, RAckSeq: 7, RAckMethod: "INVITE", Body: SDP(sdp)})
	}
	t.Run("offer in 183, answer in PRACK", func(t *testing.T) {
		play(t, NewCallee(plainConfig(), d, req),
			step{progress(180, ""), "180"},
			step{progress(183, "offer"), "183 offer [RSeq: 1]"},
			step{progress(180, ""), ""},
			step{accept("offer"), ""},
			step{prack(2, 8, 1, "answer"), "200 | acknowledged answer | 200"},
			step{receive("r", Request{Method: "ACK", Seq: 7}), "confirmed answer"},
		)
	})
	t.Run("offer in 200, answer in ACK", func(t *testing.T) {
		none := req
		none.Supports100rel = false
		play(t, NewCallee(plainConfig(), d, none),
			step{progress(183, "offer"), "183"},
			step{accept("offer"), "200 offer"},
			step{fire(TimerOK), "200 offer"},
			step{receive("r", Request{Method: "ACK", Seq: 7, Body: SDP("answer")}), "confirmed answer"},
		)
	})
	t.Run("100rel required", func(t *testing.T) {
		must := req
		must.Requires100rel = true
		play(t, NewCallee(plainConfig(), d, must),
			step{progress(183, "offer"), "183 offer [RSeq: 1]"},
			step{prack(2, 8, 1, "answer"), "200 | acknowledged answer"},
			step{progress(180, "offer"), "180 [RSeq: 2]"},
			step{prack(3, 9, 2, ""), "200"},
			step{accept("offer"), "200"},
		)
	})
}

// Both rules of RFC 3261 14.1: the owner of the Call-ID waits 2.1 to 4 s, the other
// side up to 2 s.
func TestGlare(t *testing.T) {
	for _, c := range []struct {
		initiator      bool
		least, longest string
	}{{true, "2.1s", "4s"}, {false, "0s", "2s"}} {
		for i, want := range []string{c.least, c.longest} {
			cfg := plainConfig()
			cfg.Rand = func(limit int) int { return i * (limit - 1) }
			d := testState()
			d.RemoteTag, d.Initiator = "r", c.initiator
			m, _ := Restore(cfg, d)
			e, err := m.Reoffer(1, "new")
			if err != nil {
				t.Fatal(err)
			}
			e = m.Response(e[len(e)-2].(Send).Tx, Response{Signal: call.Signal{Code: 491}})
			var got string
			for _, x := range e {
				if s, ok := x.(Start); ok && s.Timer == TimerGlare {
					got = s.After.String()
				}
			}
			if got != want {
				t.Errorf("initiator %t waits %s, want %s", c.initiator, got, want)
			}
		}
	}
}

func TestSmallIntervals(t *testing.T) {
	cfg := testConfig()
	cfg.SessionExpires = 100
	play(t, NewCaller(cfg, testState(), "mine"),
		step{invite, "INVITE mine [Session-Expires: 100] [Min-SE: 90]"},
		step{response(422, "x", minSE(200)), "INVITE mine [Session-Expires: 200] [Min-SE: 200]"},
		step{response(422, "x", minSE(150)), "ended 1 SIP 422"}, // that is not above what was offered
	)
	d := testState()
	d.RemoteTag = "r"
	m, _ := Restore(testConfig(), d)
	play(t, m,
		step{receive("r", Request{ID: 1, Method: "UPDATE", Seq: 5, SupportsTimer: true, SessionExpires: 60}), "422 [Min-SE: 90]"},
		step{receive("r", Request{ID: 2, Method: "UPDATE", Seq: 6, SupportsTimer: true, SessionExpires: 90, Refresher: "uac"}),
			"200 [Session-Expires: 90;refresher=uac]"},
		// The peer was to refresh and did not.
		step{fire(TimerExpire), `BYE r [Reason: SIP;cause=408;text="Session timer expired"] | ended 4 The session timer expired without a refresh`},
	)
	// This side refreshes, the peer prefers that it does.
	m, _ = Restore(testConfig(), d)
	play(t, m,
		step{receive("r", Request{ID: 3, Method: "UPDATE", Seq: 6, SupportsTimer: true, SessionExpires: 600, Refresher: "uas"}),
			"200 [Session-Expires: 600;refresher=uas]"},
		step{fire(TimerRefresh), "INVITE r [Session-Expires: 600;refresher=uac] [Min-SE: 90]"},
	)
}

func TestRedirects(t *testing.T) {
	cfg := plainConfig()
	cfg.FollowRedirects = true
	m := NewCaller(cfg, testState(), "mine")
	history := func(effects []Effect) string {
		var out []string
		for _, e := range effects {
			if s, ok := e.(Send); ok {
				for _, f := range s.Fields {
					if f.Name == "History-Info" {
						out = append(out, f.Value)
					}
				}
			}
		}
		return strings.Join(out, ", ")
	}
	m.Invite()
	for _, s := range []struct {
		code int
		to   []string
		want string
	}{
		{302, []string{"sip:c@x", "sip:d@x;user=phone?Subject=x"},
			"<sip:b@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:c@x;cause=302>;index=1.1;mp=1"},
		{301, []string{"sip:c@x", "sip:e@x"},
			"<sip:b@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:c@x;cause=302?Reason=SIP%3Bcause%3D301>;index=1.1;mp=1, " +
				"<sip:d@x;user=phone;cause=302?Subject=x>;index=1.2;mp=1"},
		{486, nil, "<sip:b@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:c@x;cause=302?Reason=SIP%3Bcause%3D301>;index=1.1;mp=1, " +
			"<sip:d@x;user=phone;cause=302?Subject=x&Reason=SIP%3Bcause%3D486>;index=1.2;mp=1, <sip:e@x;cause=302>;index=1.1.1;mp=1.1"},
	} {
		if got := history(response(s.code, "x", contacts(s.to...))(m)); got != s.want {
			t.Errorf("after %d:\n got %s\nwant %s", s.code, got, s.want)
		}
	}
	play(t, m, step{response(404, "x"), "ended 1 SIP 404"})
	// Not followed unless the trunk says so.
	play(t, NewCaller(plainConfig(), testState(), "mine"),
		step{invite, "INVITE mine"}, step{response(302, "x", contacts("sip:c@x")), "ended 1 SIP 302"})
}

// What calls have no use for is refused with the right status, and the call lives.
func TestForeignRequests(t *testing.T) {
	d := testState()
	d.RemoteTag = "r"
	m, _ := Restore(plainConfig(), d)
	seq := uint32(10)
	for _, c := range []struct {
		r    Request
		want string
	}{
		{Request{Method: "SUBSCRIBE"}, "489"}, {Request{Method: "NOTIFY"}, "489"},
		{Request{Method: "MESSAGE"}, "405"}, {Request{Method: "REFER"}, "405"}, {Request{Method: "PUBLISH"}, "405"},
		{Request{Method: "FOO"}, "501"},
		{Request{Method: "INFO", Body: Body{"text/plain", "x"}}, "415"},
		{Request{Method: "INFO", InfoPackage: "g.3gpp.x"}, "469"},
		{Request{Method: "INFO"}, "200"},
		{Request{Method: "OPTIONS"}, "200"},
		{Request{Method: "PRACK"}, "481"},
		{Request{Method: "INVITE", Body: SDP("m=image")}, "offered m=image"},
	} {
		seq++
		c.r.ID, c.r.Seq = Req(seq), seq
		play(t, m, step{receive("r", c.r), c.want})
	}
	play(t, m,
		step{func(m *Machine) []Effect { return m.Answer(Req(seq), "", &call.Signal{Code: 488}) },
			`488 [Warning: 305 gateway "Incompatible media format"]`},
		step{receive("r", Request{ID: 99, Method: "OPTIONS", Seq: seq - 1}), "500"},
		step{end, `BYE r [Reason: Q.850;cause=16;text="Normal call clearing"]`},
	)
}

// A REFER is followed where the trunk wants it: accepted, with the progress of the
// call told by NOTIFY until its final response.
func TestRefer(t *testing.T) {
	d := testState()
	d.RemoteTag = "r"
	cfg := plainConfig()
	cfg.FollowRefer = true
	m, _ := Restore(cfg, d)
	refer := func(seq uint32, to string) func(*Machine) []Effect {
		return receive("r", Request{ID: Req(seq), Method: "REFER", Seq: seq, ReferTo: to})
	}
	notify := func(code int) func(*Machine) []Effect {
		return func(m *Machine) []Effect { return m.Notify(code, "X\r\nY") }
	}
	play(t, m,
		step{notify(200), ""},
		step{refer(5, ""), "400"},
		step{refer(6, "sip:x@y"), "202 | NOTIFY r SIP/2.0 100 Trying [Event: refer] | referred sip:x@y"},
		step{refer(7, "sip:x@y"), "491"},
		step{notify(180), "NOTIFY r SIP/2.0 180 X Y [Event: refer]"},
		step{notify(486), "NOTIFY r SIP/2.0 486 X Y [Event: refer]"},
		step{notify(200), ""},
		step{refer(8, "sip:z@y"), "202 | NOTIFY r SIP/2.0 100 Trying [Event: refer] | referred sip:z@y"},
		step{end, `BYE r [Reason: Q.850;cause=16;text="Normal call clearing"]`},
		step{notify(200), ""},
	)
}
