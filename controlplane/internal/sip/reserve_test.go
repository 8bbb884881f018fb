package sip

import (
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

const (
	unreserved = "a=curr:qos local none\na=curr:qos remote none\na=des:qos mandatory local sendrecv\na=des:qos mandatory remote sendrecv\n"
	reserved   = "a=curr:qos local sendrecv\na=curr:qos remote sendrecv\na=des:qos mandatory local sendrecv\na=des:qos mandatory remote sendrecv\n"
	optional   = "a=curr:qos local none\na=des:qos optional local sendrecv\n"
)

func metPreconditions(c *Config) { c.Trunks[0].Preconditions = trunk.PreconditionsMet }

func TestPreconditionsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		sdp    string
		change func(*Config)
		want   int
	}{
		"required":                  {fields: []string{"Require: precondition"}, want: 420},
		"mandatory, not required":   {sdp: unreserved, want: 580},
		"optional":                  {fields: []string{"Supported: precondition"}, sdp: optional},
		"no reliable answer":        {sdp: unreserved, change: metPreconditions, want: 580},
		"met, and none to wait for": {fields: []string{"Require: precondition"}, sdp: reserved, change: metPreconditions},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*Config)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			b := setup(t, "udp", changes...)
			b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP+c.sdp, c.fields...))
			if c.want == 0 {
				if in := b.l.want("incoming").incoming; in.AnswerFirst {
					t.Error("the call must wait for nothing")
				}
				return
			}
			r := b.p.response(c.want)
			if c.want == 420 && header.First(r, "Unsupported") != "precondition" {
				t.Errorf("420:\n%s", r.String())
			}
		})
	}
}

// A caller that insists: it gets the answer first, reserves, says so by UPDATE, and
// only then the devices ring.
func TestPreconditionsMet(t *testing.T) {
	b := setup(t, "udp", metPreconditions)
	b.l.mu.Lock()
	b.l.answer = func(string, string) (string, error) { return crlf(answerSDP), nil }
	b.l.mu.Unlock()
	in := b.ringing(t, "in1", offerSDP+unreserved, "Require: 100rel, precondition")
	if !in.AnswerFirst {
		t.Fatal("the call may ring at once")
	}
	_ = b.n.Progress(t.Context(), in.CallID, 183, crlf(answerSDP))
	progress := b.p.response(183)
	for _, line := range []string{"a=curr:qos local sendrecv", "a=curr:qos remote none", "a=des:qos mandatory remote sendrecv", "a=conf:qos remote sendrecv"} {
		if !strings.Contains(string(progress.Body()), line+"\r\n") {
			t.Errorf("%s is not in\n%s", line, progress.String())
		}
	}
	if !header.Has(progress, "Require", "precondition") || !header.Has(progress, "Require", "100rel") {
		t.Errorf("183:\n%s", progress.String())
	}
	b.p.send(b.addr, b.inDialog("PRACK", 8, progress, "p1", "RAck: "+header.First(progress, "RSeq")+" 7 INVITE"))
	b.p.answer("PRACK")
	b.p.send(b.addr, b.inDialog("UPDATE", 9, progress, "u1", "Require: precondition", offerSDP+reserved))
	update := b.p.answer("UPDATE")
	if update.res().StatusCode != 200 || !strings.Contains(string(update.Body()), "a=curr:qos remote sendrecv\r\n") || strings.Contains(string(update.Body()), "a=conf") {
		t.Errorf("UPDATE:\n%s", update.String())
	}
	b.l.want("offered")
	b.l.want("ready")
	_ = b.n.Progress(t.Context(), in.CallID, 180, "")
	ringing := b.p.response(180)
	b.p.send(b.addr, b.inDialog("PRACK", 10, ringing, "p2", "RAck: "+header.First(ringing, "RSeq")+" 7 INVITE"))
	b.p.answer("PRACK")
	_ = b.n.Accept(t.Context(), in.CallID, crlf(answerSDP))
	ok := b.p.response(200)
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
	b.l.want("confirmed")
	// A call of ours declares itself as met.
	invite := b.invite(t, "c1")
	if !header.Has(invite, "Supported", "precondition") || !strings.Contains(string(invite.Body()), "a=curr:qos local sendrecv\r\n") ||
		!strings.Contains(string(invite.Body()), "a=des:qos optional remote sendrecv\r\n") {
		t.Errorf("INVITE:\n%s", invite.String())
	}
	b.p.reply(invite, 580, "a")
	b.p.request("ACK")
	if e := b.l.want("ended"); e.ending.Kind != gateway.EndedRejected || e.ending.Code != 580 {
		t.Errorf("%+v", e.ending)
	}
}
