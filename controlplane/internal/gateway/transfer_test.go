package gateway

import (
	"net/netip"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// The far end hands the call over: the device keeps its session, the network's side
// of the media moves to the party that answers.
func TestTransfer(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		to := call.Number("+15550177").Address()
		before, _ := w.media.plan(m.CallID)
		in, err := w.g.Referred(t.Context(), m.CallID, to)
		if err != nil || in.CallID != m.CallID || !in.Receiver.Equal(to) || in.Number != aliceNumber {
			t.Fatalf("%+v, %v", in, err)
		}
		offer, err := sdp.ParseCore(in.SDP)
		if err != nil || !offer.Codecs[0].Same(before.Core.Codecs[0]) || offer.Remote != before.Core.Local {
			t.Errorf("offered %+v, %v", offer, err)
		}
		// Nothing else changes meanwhile, and the talk goes on.
		if _, err := w.g.Referred(t.Context(), m.CallID, to); err == nil {
			t.Error("handed over twice")
		}
		_, err = d.put(m.ID, StatusRequest{Status: call.Hold})
		w.refused(err, call.IncompatibleState)
		if now, _ := w.media.plan(m.CallID); now.Core.Remote != before.Core.Remote || now.Generation != before.Generation {
			t.Error("the media moved before the answer")
		}
		other := farEnd(sdp.SendRecv, sdp.AnswerFor(offer.Codecs, []sdp.Codec{pcmu, digits8}))
		other.Address = netip.MustParseAddrPort("203.0.113.77:40000")
		answer, err := offer.Answer(other)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.g.Transferred(t.Context(), m.CallID, Answer{SDP: answer, Dialog: dialogOf("other")}); err != nil {
			t.Fatal(err)
		}
		d.hears("Connected")
		if got := d.last().Reason; got != "handed over by the far end" {
			t.Errorf("told %q", got)
		}
		after, _ := w.media.plan(m.CallID)
		if after.Core.Remote != other.Address || after.Core.Local != before.Core.Local || after.Talking != before.Talking {
			t.Errorf("media is %+v", after.Core)
		}
		c, err := w.store.Call(t.Context(), m.CallID)
		if err != nil || c.Dialog.SIPCallID != "sip-other" {
			t.Errorf("the stored dialog is %+v, %v", c.Dialog, err)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.did("Reoffer sendonly")
	})
}

func TestTransferFails(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		to := call.Number("+15550177").Address()
		before, _ := w.media.plan(m.CallID)
		for _, end := range []func(){
			func() { w.g.TransferFailed(t.Context(), m.CallID) },
			func() {
				if err := w.g.Transferred(t.Context(), m.CallID, Answer{SDP: "v=0"}); err == nil {
					t.Error("an answer that cannot be used is taken")
				}
			},
		} {
			if _, err := w.g.Referred(t.Context(), m.CallID, to); err != nil {
				t.Fatal(err)
			}
			end()
			if after, _ := w.media.plan(m.CallID); after.Core.Remote != before.Core.Remote || after.Core.SDP.Remote != before.Core.SDP.Remote {
				t.Errorf("media is %+v", after.Core)
			}
		}
		d.hears()
		for what, to := range map[string]call.Address{"an emergency service": mustAddress("urn:service:sos"), "nobody": call.AnonymousAddress()} {
			if _, err := w.g.Referred(t.Context(), m.CallID, to); err == nil {
				t.Errorf("handed over to %s", what)
			}
		}
		if err := w.g.Transferred(t.Context(), m.CallID, Answer{}); err == nil {
			t.Error("handed over without having been asked")
		}
		if _, err := w.g.Referred(t.Context(), "none", to); err == nil {
			t.Error("a call that is none was handed over")
		}
	})
}

func mustAddress(s string) call.Address {
	a, err := call.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}
