package sip

import (
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// handing is a connected call of ours whose far end may hand it over, on a gateway
// that agrees.
func handing(t *testing.T) (*bundle, received) {
	t.Helper()
	b := setup(t, "udp", func(c *Config) { c.Trunks[0].FollowRefer = true })
	b.l.mu.Lock()
	b.l.refer = func(id string, to call.Address) gateway.Invite {
		in := outgoing(id)
		in.Receiver = to
		return in
	}
	b.l.mu.Unlock()
	invite := b.answered(t, "c1")
	if !header.Has(invite, "Allow", "REFER") {
		t.Error("Allow of a trunk that may refer:", header.First(invite, "Allow"))
	}
	return b, invite
}

// refer sends a REFER; the answer and the first NOTIFY come at once.
func (b *bundle) refer(t *testing.T, invite received, to string) {
	t.Helper()
	b.p.send(b.addr, b.asCallee("REFER", 50, invite, "a", "refer", "Refer-To: "+to, "Referred-By: <sip:ann@far.example.com>", "Contact: <sip:ann@"+b.p.addr()+">"))
	if r := b.p.answer("REFER"); r.res().StatusCode != 202 {
		t.Fatalf("REFER: %d", r.res().StatusCode)
	}
	b.notified(t, "SIP/2.0 100 Trying", "active;expires=180")
}

// notified is a NOTIFY about the REFER.
func (b *bundle) notified(t *testing.T, fragment, state string) {
	t.Helper()
	r := b.p.request("NOTIFY")
	b.p.reply(r, 200, "")
	if got := strings.TrimSpace(string(r.Body())); got != fragment || header.First(r, "Subscription-State") != state ||
		header.First(r, "Event") != "refer" || header.First(r, "Content-Type") != "message/sipfrag;version=2.0" {
		t.Fatalf("NOTIFY, want %s, %s:\n%s", fragment, state, r.String())
	}
}

const over = "terminated;reason=noresource"

func TestReferFollowed(t *testing.T) {
	b, first := handing(t)
	b.refer(t, first, "<sip:+15550177@ims.example.com?Replaces=abc%3Bto-tag%3D1%3Bfrom-tag%3D2&X=%0d%0aEvil%3a%201>")
	if e := b.l.want("referred"); e.text != "tel:+15550177" {
		t.Errorf("referred to %s", e.text)
	}
	second := b.p.request("INVITE")
	if second.req().Recipient.User != "+15550177" || second.CallID().Value() == first.CallID().Value() ||
		header.First(second, "Referred-By") != "<sip:ann@far.example.com>" || header.First(second, "Replaces") != "abc;to-tag=1;from-tag=2" || header.First(second, "Evil") != "" {
		t.Errorf("the new INVITE:\n%s", second.String())
	}
	// One at a time.
	b.p.send(b.addr, b.asCallee("REFER", 51, first, "a", "again", "Refer-To: <sip:+15550178@x>", "Contact: <sip:ann@"+b.p.addr()+">"))
	if r := b.p.answer("REFER"); r.res().StatusCode != 491 {
		t.Errorf("a second REFER: %d", r.res().StatusCode)
	}
	b.p.reply(second, 180, "b")
	b.notified(t, "SIP/2.0 180 Ringing", "active;expires=180")
	b.p.reply(second, 200, "b", answerSDP)
	b.p.request("ACK")
	if e := b.l.want("transferred"); e.callID != "c1" || e.answer.SDP != crlf(answerSDP) || e.answer.Dialog.SIPCallID != second.CallID().Value() {
		t.Errorf("%+v", e)
	}
	b.notified(t, "SIP/2.0 200 OK", over)
	bye := b.p.request("BYE")
	if bye.CallID().Value() != first.CallID().Value() {
		t.Error("the wrong dialog was ended")
	}
	b.p.reply(bye, 200, "")
	// The call is that of the new dialog, and the gateway hears of one end only.
	if b.n.Calls() != 1 {
		t.Errorf("%d calls", b.n.Calls())
	}
	b.p.send(b.addr, b.asCallee("BYE", 60, second, "b", "bye"))
	b.p.answer("BYE")
	if e := b.l.want("ended"); e.callID != "c1" || e.ending.Kind != gateway.EndedBye || e.ending.Local {
		t.Errorf("%+v", e)
	}
}

func TestReferFails(t *testing.T) {
	b, first := handing(t)
	b.refer(t, first, "<tel:+15550177>")
	b.l.want("referred")
	second := b.p.request("INVITE")
	b.p.reply(second, 486, "b")
	b.p.request("ACK")
	b.notified(t, "SIP/2.0 486 Busy Here", over)
	b.l.want("stays")
	// The call lives on, and may be handed over to somebody else.
	b.p.send(b.addr, b.asCallee("REFER", 51, first, "a", "again", "Refer-To: <urn:nobody>", "Contact: <sip:ann@"+b.p.addr()+">"))
	b.p.answer("REFER")
	b.notified(t, "SIP/2.0 100 Trying", "active;expires=180")
	b.notified(t, "SIP/2.0 404 Not Found", over)
	b.l.mu.Lock()
	b.l.refer = nil
	b.l.mu.Unlock()
	b.p.send(b.addr, b.asCallee("REFER", 52, first, "a", "third", "Refer-To: <tel:+15550177>", "Contact: <sip:ann@"+b.p.addr()+">"))
	b.p.answer("REFER")
	b.notified(t, "SIP/2.0 100 Trying", "active;expires=180")
	b.l.want("referred")
	b.notified(t, "SIP/2.0 603 Decline", over)
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")
}

// The far end refers and leaves at once: the call waits for the new one.
func TestReferAndLeave(t *testing.T) {
	for name, accepts := range map[string]bool{"who accepts": true, "who does not": false} {
		t.Run(name, func(t *testing.T) {
			b, first := handing(t)
			b.refer(t, first, "<tel:+15550177>")
			b.l.want("referred")
			second := b.p.request("INVITE")
			b.p.send(b.addr, b.asCallee("BYE", 51, first, "a", "bye"))
			b.p.answer("BYE")
			if accepts {
				b.p.reply(second, 200, "b", answerSDP)
				b.p.request("ACK")
				b.l.want("transferred")
				_ = b.n.End(t.Context(), "c1", call.CauseNormal)
				b.p.reply(b.p.request("BYE"), 200, "")
				if e := b.l.want("ended"); !e.ending.Local {
					t.Errorf("%+v", e)
				}
				return
			}
			b.p.reply(second, 603, "b")
			b.p.request("ACK")
			b.l.want("stays")
			if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye || e.ending.Local {
				t.Errorf("%+v", e)
			}
		})
	}
}

// The device hangs up while its call is handed over: both dialogs end.
func TestReferAndHangUp(t *testing.T) {
	b, first := handing(t)
	b.refer(t, first, "<tel:+15550177>")
	b.l.want("referred")
	second := b.p.request("INVITE")
	b.p.reply(second, 180, "b")
	b.notified(t, "SIP/2.0 180 Ringing", "active;expires=180")
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")
	b.p.reply(b.p.request("CANCEL"), 200, "b")
	b.p.reply(second, 487, "b")
	b.p.request("ACK")
	if b.n.Calls() != 0 {
		t.Errorf("%d calls are left", b.n.Calls())
	}
}
