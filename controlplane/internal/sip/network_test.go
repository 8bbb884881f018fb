package sip

import (
	"errors"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// both runs a test over UDP and TCP.
func both(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			f(t, network)
		})
	}
}

func TestOutgoingCall(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		invite := b.invite(t, "c1")
		if got := string(invite.Body()); got != crlf(offerSDP) {
			t.Errorf("the INVITE carries %q", got)
		}
		if got := invite.req().Recipient.String(); got != "sip:+15550199@ims.example.com;user=phone" {
			t.Errorf("Request-URI %s", got)
		}
		b.p.reply(invite, 100, "")
		b.p.reply(invite, 183, "a", answerSDP)
		b.p.reply(invite, 180, "a")
		b.p.reply(invite, 200, "a", answerSDP)
		if e := b.l.want("provisional"); e.answer.Code != 183 || e.answer.SDP != crlf(answerSDP) {
			t.Errorf("first: %+v", e.answer)
		}
		if e := b.l.want("provisional"); e.answer.Code != 180 {
			t.Errorf("second: %+v", e.answer)
		}
		if e := b.l.want("answered"); e.answer.SDP != crlf(answerSDP) || e.answer.Dialog.RemoteTag != "a" {
			t.Errorf("answered: %+v", e.answer)
		}
		ack := b.p.request("ACK")
		if ack.CSeq().SeqNo != invite.CSeq().SeqNo || len(ack.Body()) != 0 {
			t.Errorf("ACK:\n%s", ack.String())
		}
		b.p.reply(invite, 200, "a", answerSDP)
		again := b.p.request("ACK")
		if again.String() != ack.String() {
			t.Errorf("the repeated ACK differs:\n%s\n%s", ack.String(), again.String())
		}
		if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
			t.Fatal(err)
		}
		bye := b.p.request("BYE")
		if bye.CSeq().SeqNo <= invite.CSeq().SeqNo {
			t.Errorf("BYE with CSeq %d", bye.CSeq().SeqNo)
		}
		b.p.reply(bye, 200, "")
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye || !e.ending.Local {
			t.Errorf("ending %+v", e.ending)
		}
		if err := b.n.End(t.Context(), "c1", call.CauseNormal); !errors.Is(err, gateway.ErrNoDialog) {
			t.Errorf("End of an ended call: %v", err)
		}
		if got := b.ladder.titles("c1"); len(got) < 9 || got[0] != "gateway>network INVITE sip:+15550199@ims.example.com;user=phone" {
			t.Errorf("ladder: %q", got)
		}
	})
}

func TestIncomingCall(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
		b.p.response(100)
		in := b.l.want("incoming").incoming
		if in.Caller.Canonical() != "tel:+15550123" || in.CallerName != "Ann" || in.Callee.Canonical() != "tel:+15550100" ||
			in.SDP != crlf(offerSDP) || in.Tenant != call.DefaultTenant {
			t.Errorf("incoming %+v", in)
		}
		if err := b.n.Progress(t.Context(), in.CallID, 180, ""); err != nil {
			t.Fatal(err)
		}
		ringing := b.p.response(180)
		if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
			t.Fatal(err)
		}
		ok := b.p.response(200)
		if header.Tag(ok.To().Params) != header.Tag(ringing.To().Params) || string(ok.Body()) != crlf(answerSDP) {
			t.Errorf("200:\n%s", ok.String())
		}
		again := b.p.response(200)
		if again.String() != ok.String() {
			t.Error("the 200 changed from one time to the next")
		}
		b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
		if e := b.l.want("confirmed"); e.answer.Dialog.SIPCallID != "in1" || e.answer.SDP != "" {
			t.Errorf("confirmed %+v", e.answer)
		}
		b.p.send(b.addr, b.inDialog("BYE", 8, ok, "bye", `Reason: Q.850;cause=16;text="gone"`))
		b.p.answer("BYE")
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye || e.ending.Local || e.ending.Q850 != 16 {
			t.Errorf("ending %+v", e.ending)
		}
		if got := b.ladder.titles(in.CallID); len(got) < 7 || got[0] != "network>gateway INVITE sip:+15550100@"+b.addr {
			t.Errorf("ladder: %q", got)
		}
	})
}
