package gateway

import (
	"slices"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// mapped reports whether packets of a codec pass between the legs of a plan.
func mapped(p MediaPlan, c sdp.Codec) bool {
	has := func(list []sdp.Codec) bool { return slices.ContainsFunc(list, c.Same) }
	return has(p.Browsers[0].Codecs) && has(p.Core.Codecs)
}

func TestFarEndChangesTheCodec(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		offer := coreOffer(sdp.SendRecv, pcma, digits8)
		answer, err := w.g.Offered(w.t.Context(), m.CallID, offer)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := sdp.ParseCore(answer); len(got.Codecs) == 0 || !got.Codecs[0].Same(pcma) {
			t.Fatalf("answered with\n%s", answer)
		}
		d.hears("Connected+offer")
		told := d.last()
		browser, err := sdp.ParseWebRTC(told.Offer)
		if err != nil || !browser.Codecs[0].Same(pcma) || told.Answer != "" {
			t.Fatalf("the device is told %+v, %v", told, err)
		}
		if p, _ := w.media.plan(m.CallID); mapped(p, pcma) || mapped(p, pcmu) {
			t.Errorf("something passes before the device has answered: %s", encode(p))
		}
		_, err = d.put(m.ID, StatusRequest{Status: call.Connected, Answer: "nonsense"})
		w.refused(err, call.InvalidArgument)
		d.conn.codecs = []sdp.Codec{pcma, digits8}
		shown := d.mustPut(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(told.Offer)})
		if shown.Status != call.Connected || shown.Offer != told.Offer || shown.Answer == "" {
			t.Errorf("shown %+v", shown)
		}
		if p, _ := w.media.plan(m.CallID); !mapped(p, pcma) {
			t.Errorf("nothing passes after the answer: %s", encode(p))
		}
		// The offer is answered; there is no second answer.
		_, err = d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(told.Offer)})
		w.refused(err, call.InvalidArgument)

		// And back, together with a hold: one event tells both.
		if _, err = w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly, pcmu, digits8)); err != nil {
			t.Fatal(err)
		}
		d.hears("Hold+offer")
		told = d.last()
		if browser, err = sdp.ParseWebRTC(told.Offer); err != nil || !browser.Codecs[0].Same(pcmu) {
			t.Fatalf("the device is told %+v, %v", told, err)
		}
		d.conn.codecs = []sdp.Codec{pcmu, digits8}
		d.mustPut(m.ID, StatusRequest{Status: call.Hold, Answer: d.conn.answer(told.Offer)})
		if p, _ := w.media.plan(m.CallID); !mapped(p, pcmu) {
			t.Errorf("nothing passes after the answer: %s", encode(p))
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// A device may answer with an offer of its own, from a page loaded again for
// instance; the codec is then settled by that.
func TestDeviceOffersInsteadOfAnswering(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		if _, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendRecv, pcma, digits8)); err != nil {
			t.Fatal(err)
		}
		d.hears("Connected+offer")
		d.conn = newPeerConnection("again")
		d.mustPut(m.ID, StatusRequest{Status: call.Connected, Offer: d.conn.offer()})
		if p, _ := w.media.plan(m.CallID); !mapped(p, pcma) {
			t.Errorf("nothing passes: %s", encode(p))
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(d.get(m.ID).Offer)})
		w.refused(err, call.InvalidArgument)
		d.hears("Connected+answer")
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}
