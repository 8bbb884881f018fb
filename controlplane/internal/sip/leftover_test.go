package sip

import (
	"net"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// reborn starts another process at the same addresses, which holds no call.
func (b *bundle) reborn(t *testing.T) {
	t.Helper()
	for i, bound := range b.n.Bound() {
		b.cfg.Listeners[i].Address = bound.Local.String()
	}
	b.stop()
	b.p.hangUp()
	b.l.find = func(string, string) (string, gateway.Dialog, error) { return "", gateway.Dialog{}, gateway.ErrNoDialog }
	b.start(t)
}

// local is the network's address, to which a peer connects when the connection of
// a request is gone.
func (b *bundle) local(t *testing.T) net.Addr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func anywhere(c *Config) {
	for i := range c.Listeners {
		c.Listeners[i].Address = "127.0.0.1:0"
	}
}

// The ACK waits until the answer is stored, however often the 2xx comes.
func TestACKAfterStoring(t *testing.T) {
	b := setup(t, "udp")
	b.l.storing = make(chan struct{})
	invite := b.invite(t, "c1")
	b.p.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	b.p.reply(invite, 200, "a", answerSDP)
	b.p.silent(50*time.Millisecond, func(r received) bool { return r.req() != nil && r.req().Method == "ACK" })
	close(b.l.storing)
	if ack := b.p.request("ACK"); ack.CSeq().SeqNo != invite.CSeq().SeqNo {
		t.Errorf("ACK:\n%s", ack.String())
	}
	b.p.reply(invite, 200, "a", answerSDP)
	b.p.request("ACK")
}

// An answer that comes to the next process is acknowledged and ended, as it is
// nobody's call any more.
func TestAnswerToADeadProcess(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network, anywhere)
		invite := b.invite(t, "c1")
		b.reborn(t)
		invite.from = b.local(t)
		b.p.reply(invite, 200, "a", "Record-Route: <sip:"+b.p.addr()+";lr;transport="+network+">", answerSDP)
		ack := b.p.request("ACK")
		bye := b.p.request("BYE")
		for _, r := range []received{ack, bye} {
			if header.Tag(r.To().Params) != "a" || r.CallID().Value() != invite.CallID().Value() || len(r.GetHeaders("Route")) != 1 ||
				header.Tag(r.From().Params) != header.Tag(invite.From().Params) || r.req().Recipient.User != "peer" {
				t.Errorf("%s", r.String())
			}
		}
		if ack.CSeq().SeqNo != invite.CSeq().SeqNo || bye.CSeq().SeqNo <= ack.CSeq().SeqNo {
			t.Errorf("CSeq of ACK is %d, of BYE %d", ack.CSeq().SeqNo, bye.CSeq().SeqNo)
		}
		b.p.reply(bye, 200, "")
	})
}

// An INVITE that a dead process sent is cancelled, and its refusal acknowledged.
func TestAbandonOutgoing(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network, anywhere)
		d, err := b.n.Invite(t.Context(), outgoing("c1"))
		if err != nil {
			t.Fatal(err)
		}
		invite := b.p.request("INVITE")
		b.p.reply(invite, 180, "a")
		b.l.want("provisional")
		b.reborn(t)
		if err := b.n.Abandon(t.Context(), "c1", d); err != nil {
			t.Fatal(err)
		}
		cancel := b.p.request("CANCEL")
		if cancel.req().Recipient.String() != invite.req().Recipient.String() || cancel.Via().Value() != invite.Via().Value() ||
			cancel.CSeq().SeqNo != invite.CSeq().SeqNo || cancel.From().Value() != invite.From().Value() || cancel.To().Value() != invite.To().Value() {
			t.Errorf("INVITE:\n%s\nCANCEL:\n%s", invite.String(), cancel.String())
		}
		b.p.reply(cancel, 200, "a")
		invite.from = cancel.from
		b.p.reply(invite, 487, "a")
		if ack := b.p.request("ACK"); ack.Via().Value() != invite.Via().Value() || header.Tag(ack.To().Params) != "a" {
			t.Errorf("ACK:\n%s", ack.String())
		}
	})
}

// An INVITE that came to a dead process is refused and, in case it was accepted
// in the last moment, its dialog ended.
func TestAbandonIncoming(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network, anywhere)
		b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
		in := b.l.want("incoming").incoming
		b.reborn(t)
		if err := b.n.Abandon(t.Context(), in.CallID, in.Dialog); err != nil {
			t.Fatal(err)
		}
		refusal := b.p.response(500)
		bye := b.p.request("BYE")
		if refusal.CallID().Value() != "in1" || header.Tag(refusal.To().Params) != in.Dialog.LocalTag {
			t.Errorf("%s", refusal.String())
		}
		if bye.CallID().Value() != "in1" || header.Tag(bye.From().Params) != in.Dialog.LocalTag || header.Tag(bye.To().Params) != "ft" {
			t.Errorf("%s", bye.String())
		}
		b.p.reply(bye, 481, "")
	})
}

// What is stored of one call cannot make another process send nonsense.
func TestAbandonNothing(t *testing.T) {
	b := setup(t, "udp")
	if err := b.n.Abandon(t.Context(), "c1", gateway.Dialog{SIPCallID: "x"}); err != nil {
		t.Errorf("nothing to undo: %v", err)
	}
	for _, bad := range []string{"{", "{}", `{"network":"udp","addr":"127.0.0.1:9","message":"hello"}`} {
		if err := b.n.Abandon(t.Context(), "c1", gateway.Dialog{SIPCallID: "x", Undo: []byte(bad)}); err == nil {
			t.Errorf("%s is undone", bad)
		}
	}
}
