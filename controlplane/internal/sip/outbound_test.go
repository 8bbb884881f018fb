package sip

import (
	"context"
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

// answered is a call of ours that the phone has accepted.
func (b *bundle) answered(t *testing.T, id string, fields ...string) received {
	t.Helper()
	invite := b.invite(t, id)
	b.p.reply(invite, 200, "a", append(fields, answerSDP)...)
	b.p.request("ACK")
	b.l.want("answered")
	return invite
}

func TestForkedCall(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 183, "a", "Require: 100rel", "RSeq: 5", answerSDP)
	prack := b.p.request("PRACK")
	if got := header.First(prack, "RAck"); got != fmt.Sprintf("5 %d INVITE", invite.CSeq().SeqNo) {
		t.Errorf("RAck %q", got)
	}
	b.p.reply(prack, 200, "")
	b.p.reply(invite, 183, "a", "Require: 100rel", "RSeq: 5", answerSDP) // a repetition
	b.p.reply(invite, 180, "b")
	b.p.reply(invite, 199, "a")
	if e := b.l.want("provisional"); e.answer.Code != 183 {
		t.Errorf("%+v", e)
	}
	if e := b.l.want("provisional"); e.answer.Code != 180 {
		t.Errorf("the repeated 183 was told: %+v", e)
	}
	b.p.reply(invite, 200, "b", "Record-Route: <sip:second.example.com;lr>, <sip:"+b.p.addr()+";lr>", answerSDP)
	b.l.want("answered")
	ack := b.p.request("ACK")
	if r := ack.GetHeaders("Route"); len(r) != 2 || r[0].Value() != "<sip:"+b.p.addr()+";lr>" {
		t.Errorf("Route of the ACK: %v", r)
	}
	// Another branch answers too: it is acknowledged and ended.
	b.p.reply(invite, 200, "c", answerSDP)
	other := b.p.request("ACK")
	if header.Tag(other.To().Params) != "c" {
		t.Errorf("ACK to %s", other.To().Value())
	}
	bye := b.p.request("BYE")
	if header.Tag(bye.To().Params) != "c" {
		t.Errorf("BYE to %s", bye.To().Value())
	}
	b.p.reply(bye, 200, "")
	if b.n.Calls() != 1 {
		t.Error("the call did not live on")
	}
}

func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		invite := b.invite(t, "c1")
		if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
			t.Fatal(err)
		}
		b.p.silent(100*time.Millisecond, func(r received) bool { return r.req() != nil && r.req().Method == "CANCEL" })
		b.p.reply(invite, 180, "a")
		cancel := b.p.request("CANCEL")
		if cancel.Via().Value() != invite.Via().Value() && header.First(cancel, "Via") == "" {
			t.Error("the CANCEL has another branch")
		}
		if header.Q850(cancel) != 16 {
			t.Errorf("Reason of the CANCEL: %q", header.First(cancel, "Reason"))
		}
		b.p.reply(cancel, 200, "a")
		b.p.reply(invite, 487, "a")
		b.p.request("ACK")
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedRejected || e.ending.Code != 487 || !e.ending.Local {
			t.Errorf("%+v", e.ending)
		}
	})
}

func TestCancelCrossesAnswer(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 180, "a")
	b.l.want("provisional")
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	b.p.reply(b.p.request("CANCEL"), 200, "a")
	b.p.reply(invite, 200, "a", answerSDP)
	b.p.request("ACK")
	b.p.reply(b.p.request("BYE"), 200, "")
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye || !e.ending.Local {
		t.Errorf("%+v", e.ending)
	}
}

func TestRefusals(t *testing.T) {
	for code, q850 := range map[int]int{486: 0, 404: 0, 503: 34, 480: 19, 603: 21, 302: 0} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			b := setup(t, "udp")
			invite := b.invite(t, "c1")
			var fields []string
			if q850 != 0 {
				fields = append(fields, fmt.Sprintf(`Reason: SIP;cause=%d, Q.850 ;cause=%d;text="why, indeed"`, code, q850))
			}
			b.p.reply(invite, code, "a", fields...)
			b.p.request("ACK")
			if e := b.l.want("ended"); e.ending.Kind != gateway.EndedRejected || e.ending.Code != code || e.ending.Q850 != q850 {
				t.Errorf("%+v", e.ending)
			}
			b.p.silent(50*time.Millisecond, func(r received) bool { return r.req() != nil && r.req().Method == "INVITE" })
		})
	}
}

func TestNoResponse(t *testing.T) {
	b := setup(t, "udp")
	first := b.invite(t, "c1")
	second := b.p.request("INVITE")
	if first.String() != second.String() {
		t.Error("the retransmission differs")
	}
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedFailed || e.ending.Code != 0 {
		t.Errorf("%+v", e.ending)
	}
}

func TestSetUpTimer(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Timers.Invite = 100 * time.Millisecond })
	invite := b.invite(t, "c1")
	b.p.reply(invite, 180, "a")
	b.p.reply(b.p.request("CANCEL"), 200, "a")
	b.p.reply(invite, 487, "a")
	b.l.want("provisional")
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedRejected || e.ending.Code != 408 || !e.ending.Local {
		t.Errorf("%+v", e.ending)
	}
}

func TestRefusedConnection(t *testing.T) {
	p := newPhone(t, "tcp")
	dead := newPhone(t, "tcp")
	deadAddr := dead.addr()
	dead.close()
	b := setupWith(t, p, func(c *Config) { c.Trunks[0].Targets = []string{deadAddr} })
	_, err := b.n.Invite(t.Context(), outgoing("c1"))
	if !errors.Is(err, gateway.ErrNetworkDown) || !strings.Contains(err.Error(), deadAddr) {
		t.Errorf("error %v", err)
	}
	b.cfg.Trunks[0].Targets = []string{deadAddr, p.addr()}
	b2 := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: b.cfg}
	b2.start(t)
	b2.p.reply(b2.invite(t, "c2"), 486, "a")
	if e := b2.l.want("ended"); e.callID != "c2" || e.ending.Code != 486 {
		t.Errorf("%+v", e)
	}
	select {
	case e := <-b.l.events:
		t.Errorf("a call that was never made was told: %+v", e)
	default:
	}
}

func TestNextTarget(t *testing.T) {
	silent, busy, good := newPhone(t, "udp"), newPhone(t, "udp"), newPhone(t, "udp")
	b := setupWith(t, good, func(c *Config) {
		c.Trunks[0].Targets = []string{silent.addr(), busy.addr(), good.addr()}
		c.Timers.Attempt = 150 * time.Millisecond
	})
	if _, err := b.n.Invite(t.Context(), outgoing("c1")); err != nil {
		t.Fatal(err)
	}
	late := silent.request("INVITE")
	busy.reply(busy.request("INVITE"), 503, "x")
	invite := good.request("INVITE")
	good.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	// The silent one wakes up after all.
	silent.reply(late, 200, "late", answerSDP)
	if ack := silent.request("ACK"); header.Tag(ack.To().Params) != "late" {
		t.Error("the late 200 was not acknowledged")
	}
	silent.reply(silent.request("BYE"), 200, "")
	if b.n.Calls() != 1 {
		t.Error("the call did not survive")
	}
}

func TestDigestOfCalls(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Credentials = map[string]trunk.Credentials{"*": {Username: "u", Password: "p"}}
	})
	challenges := []string{
		`Proxy-Authenticate: Digest realm="r", nonce="n1", algorithm=MD5, qop="auth"`,
		`Proxy-Authenticate: Digest realm="r", nonce="n2", algorithm=SHA-256, qop="auth,auth-int", opaque="o"`,
	}
	invite := b.invite(t, "c1")
	b.p.reply(invite, 407, "a", challenges...)
	b.p.request("ACK")
	again := b.p.request("INVITE")
	auth := header.First(again, "Proxy-Authorization")
	if !strings.Contains(auth, "algorithm=SHA-256") || !strings.Contains(auth, `nonce="n2"`) || !strings.Contains(auth, "qop=auth") || !strings.Contains(auth, "nc=00000001") {
		t.Errorf("credentials %s", auth)
	}
	if again.CSeq().SeqNo != invite.CSeq().SeqNo+1 || again.CallID().Value() != invite.CallID().Value() {
		t.Error("CSeq or Call-ID of the second INVITE")
	}
	b.p.reply(again, 200, "a", answerSDP)
	b.l.want("answered")
	if ack := b.p.request("ACK"); header.First(ack, "Proxy-Authorization") != auth {
		t.Error("the ACK has other credentials than the INVITE")
	}
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	bye := b.p.request("BYE")
	b.p.reply(bye, 407, "a", `Proxy-Authenticate: Digest realm="r", nonce="n3", algorithm=SHA-256, qop="auth", stale=true`)
	bye = b.p.request("BYE")
	if a := header.First(bye, "Proxy-Authorization"); !strings.Contains(a, `nonce="n3"`) {
		t.Errorf("credentials of the BYE: %s", a)
	}
	b.p.reply(bye, 200, "")
	b.l.want("ended")
	for _, e := range b.ladder.entries {
		if strings.Contains(e.Text, "response=") {
			t.Errorf("the ladder shows credentials:\n%s", e.Text)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Credentials = map[string]trunk.Credentials{"+15550100": {Username: "u", Password: "p"}}
	})
	for range 2 {
		b.p.reply(b.nextInvite(t), 401, "a", `WWW-Authenticate: Digest realm="r", nonce="n1", algorithm=MD5`)
	}
	if e := b.l.want("ended"); e.ending.Code != 401 || e.ending.Kind != gateway.EndedRejected {
		t.Errorf("%+v", e.ending)
	}
}

func (b *bundle) nextInvite(t *testing.T) received {
	t.Helper()
	if b.n.byID("c1") == nil {
		return b.invite(t, "c1")
	}
	return b.p.request("INVITE")
}

func TestIdentity(t *testing.T) {
	b := setup(t, "udp")
	in := outgoing("c1")
	in.DisplayName = "Zoë \"Z\"\r\nX-Evil: 1"
	if _, err := b.n.Invite(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	invite := b.p.request("INVITE")
	if header.First(invite, "X-Evil") != "" {
		t.Fatal("a header was injected")
	}
	want := `"Zoë \"Z\"  X-Evil: 1" <sip:+15550100@ims.example.com;user=phone>`
	if got := header.First(invite, "From"); !strings.HasPrefix(got, want+";tag=") {
		t.Errorf("From %s", got)
	}
	if got := header.First(invite, "P-Asserted-Identity"); got != want {
		t.Errorf("P-Asserted-Identity %s", got)
	}
	if !header.Has(invite, "Supported", "100rel") || !header.Has(invite, "Supported", "timer") || header.First(invite, "Session-Expires") != "1800" {
		t.Errorf("INVITE:\n%s", invite.String())
	}
	in = outgoing("c2")
	in.Anonymous = true
	if _, err := b.n.Invite(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	invite = b.p.next("second INVITE", func(r received) bool { return r.req() != nil && strings.Contains(r.From().Value(), "anonymous") })
	if header.First(invite, "Privacy") != "id" || !strings.Contains(header.First(invite, "P-Asserted-Identity"), "+15550100") ||
		strings.Contains(header.First(invite, "Contact"), "15550100") {
		t.Errorf("anonymous INVITE:\n%s", invite.String())
	}
}

func TestReoffer(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		b.answered(t, "c1")
		type outcome struct {
			answer string
			err    error
		}
		reoffer := func() chan outcome {
			c := make(chan outcome, 1)
			go func() {
				a, err := b.n.Reoffer(t.Context(), "c1", crlf(offerSDP))
				c <- outcome{a, err}
			}()
			return c
		}
		c := reoffer()
		re := b.p.request("INVITE")
		b.p.reply(re, 491, "")
		b.p.request("ACK")
		again := b.p.request("INVITE")
		if again.CSeq().SeqNo != re.CSeq().SeqNo+1 {
			t.Error("CSeq after glare")
		}
		b.p.reply(again, 200, "", answerSDP)
		if o := <-c; o.err != nil || o.answer != crlf(answerSDP) {
			t.Errorf("%+v", o)
		}
		b.p.request("ACK")
		c = reoffer()
		b.p.reply(b.p.request("INVITE"), 488, "")
		var rejected *gateway.RejectedError
		if o := <-c; !errors.As(o.err, &rejected) || rejected.Code != 488 {
			t.Errorf("%+v", o)
		}
		if b.n.Calls() != 1 {
			t.Fatal("a refused re-INVITE ended the call")
		}
		c = reoffer()
		b.p.reply(b.p.request("INVITE"), 481, "")
		if o := <-c; o.err == nil {
			t.Error("481 is no success")
		}
		b.p.request("BYE")
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedFailed || e.ending.Code != 481 {
			t.Errorf("%+v", e.ending)
		}
	})
}

func TestReofferIsAbandoned(t *testing.T) {
	b := setup(t, "udp")
	b.answered(t, "c1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.n.Reoffer(ctx, "c1", crlf(offerSDP)); !errors.Is(err, gateway.ErrNetworkTimeout) {
		t.Errorf("error %v", err)
	}
	b.p.reply(b.p.request("INVITE"), 200, "", answerSDP)
	b.p.request("ACK")
	if _, err := b.n.Reoffer(t.Context(), "nobody", ""); !errors.Is(err, gateway.ErrNoDialog) {
		t.Errorf("error %v", err)
	}
}

func TestEarlyUpdate(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 183, "a", "Require: 100rel", "RSeq: 1", "Allow: INVITE, UPDATE", answerSDP)
	b.p.reply(b.p.request("PRACK"), 200, "")
	b.l.want("provisional")
	done := make(chan error, 1)
	go func() {
		a, err := b.n.Reoffer(t.Context(), "c1", crlf(offerSDP))
		if a != crlf(answerSDP) {
			err = errors.Join(err, errors.New("answer "+a))
		}
		done <- err
	}()
	update := b.p.request("UPDATE")
	b.p.reply(update, 200, "", answerSDP)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDigitsOut(t *testing.T) {
	b := setup(t, "udp")
	b.answered(t, "c1")
	done := make(chan error, 1)
	go func() { done <- b.n.SendDTMF(t.Context(), "c1", "#", 250) }()
	info := b.p.request("INFO")
	if string(info.Body()) != "Signal=#\r\nDuration=250\r\n" || header.First(info, "Content-Type") != "application/dtmf-relay" {
		t.Errorf("INFO:\n%s", info.String())
	}
	b.p.reply(info, 200, "")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSessionTimerOut(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 422, "a", "Min-SE: 3600")
	b.p.request("ACK")
	again := b.p.request("INVITE")
	if header.First(again, "Session-Expires") != "3600" || header.First(again, "Min-SE") != "3600" {
		t.Errorf("INVITE after 422:\n%s", again.String())
	}
	// Two seconds, so that half of it passes within the test.
	b.p.reply(again, 200, "a", "Session-Expires: 2;refresher=uac", "Require: timer", "Allow: INVITE, UPDATE", answerSDP)
	b.p.request("ACK")
	b.l.want("answered")
	refresh := b.p.request("UPDATE")
	if !strings.HasPrefix(header.First(refresh, "Session-Expires"), "2;refresher=uac") || len(refresh.Body()) != 0 {
		t.Errorf("refresh:\n%s", refresh.String())
	}
	b.p.reply(refresh, 501, "")
	refresh = b.p.request("INVITE")
	if string(refresh.Body()) != crlf(offerSDP) {
		t.Errorf("refresh by re-INVITE:\n%s", refresh.String())
	}
	b.p.reply(refresh, 200, "", "Session-Expires: 2;refresher=uas", answerSDP)
	b.p.request("ACK")
	// Now the peer is the refresher, and does nothing.
	if bye := b.p.request("BYE"); header.SIPCause(bye) != 408 {
		t.Errorf("BYE:\n%s", bye.String())
	}
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedFailed {
		t.Errorf("%+v", e.ending)
	}
}

func TestNoTrunk(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Trunks[0].Prefixes = []string{"+49"} })
	var rejected *gateway.RejectedError
	if _, err := b.n.Invite(t.Context(), outgoing("c1")); !errors.As(err, &rejected) || rejected.Code != 404 {
		t.Errorf("error %v", err)
	}
	in := outgoing("c2")
	in.Tenant = "another"
	in.Receiver = call.Number("+4930123456").Address()
	if _, err := b.n.Invite(t.Context(), in); !errors.As(err, &rejected) {
		t.Errorf("another tenant's trunk was used: %v", err)
	}
}
