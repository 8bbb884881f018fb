package gateway

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// A new offer of a calling device reaches the network: by UPDATE where that can
// take it, and with the answer otherwise.
func TestEarlyOfferReachesTheNetwork(t *testing.T) {
	early := func(w *world) (*device, call.MediaSession) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv))
		d.hears("InProgress+answer")
		w.net.took()
		d.conn = newPeerConnection("reloaded")
		return d, m
	}
	t.Run("by UPDATE", func(t *testing.T) {
		play(t, nil, func(w *world) {
			w.net.reliable = true
			d, m := early(w)
			d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Offer: d.conn.offer()})
			d.hears("InProgress+answer")
			w.did("Reoffer sendrecv")
			offered, err := sdp.ParseCore(w.offered(m.CallID))
			if err != nil || len(sdp.OneVoice(offered.Codecs)) != len(offered.Codecs) || !offered.Codecs[0].Same(pcmu) {
				t.Errorf("offered %+v, %v", offered, err)
			}
			w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
			d.hears("Connected+answer")
			w.did()
		})
	})
	t.Run("with the answer", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d, m := early(w)
			d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Offer: d.conn.offer()})
			d.hears("InProgress+answer")
			w.did("Reoffer too early")
			w.provisional(m.CallID, 180, "Ringing", "")
			d.hears("Ringing")
			w.did("Reoffer too early")
			w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
			d.hears("Connected+answer")
			w.did("Reoffer sendrecv")
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
			w.did("Reoffer sendonly")
		})
	})
	t.Run("the far end does not want it", func(t *testing.T) {
		play(t, nil, func(w *world) {
			w.net.reliable = true
			d, m := early(w)
			w.net.reoffer = func(context.Context, string) (string, error) {
				return "", &RejectedError{call.Signal{Code: 488}}
			}
			before, _ := w.media.plan(m.CallID)
			d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Offer: d.conn.offer()})
			d.hears("InProgress+answer")
			after, _ := w.media.plan(m.CallID)
			if before.Core.Remote != after.Core.Remote || after.Core.Codecs[0] != before.Core.Codecs[0] {
				t.Errorf("the session changed: %+v", after.Core)
			}
			w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
			d.hears("Connected+answer")
		})
	})
}

// Early media passes as far as the network authorizes it, a 180 does not cut what
// runs, and the answer lifts every restriction.
func TestEarlyMediaIsGated(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		passing := func(want sdp.Direction) {
			t.Helper()
			synctest.Wait()
			plan, _ := w.media.plan(m.CallID)
			if plan.Talking == "" || plan.Core.Passing() != want || plan.Core.Direction != sdp.SendRecv {
				t.Errorf("talking %q, %s passes of %s, want %s", plan.Talking, plan.Core.Passing(), plan.Core.Direction, want)
			}
		}
		say := func(code int, e EarlyMedia, text string) {
			w.g.Provisional(t.Context(), m.CallID, Answer{Signal: call.Signal{Code: code}, EarlyMedia: e, SDP: text})
		}
		text := coreAnswer(w.offered(m.CallID), sdp.SendRecv)
		say(183, EarlyMediaInactive, text)
		passing(sdp.Inactive)
		say(180, "", "")
		passing(sdp.Inactive)
		say(183, EarlyMediaSendOnly, "")
		passing(sdp.RecvOnly)
		say(183, EarlyMediaRecvOnly, text)
		passing(sdp.SendOnly)
		say(183, EarlyMediaSendRecv, "")
		passing(sdp.SendRecv)
		say(180, "", "")
		passing(sdp.SendRecv)
		say(180, EarlyMediaInactive, text)
		passing(sdp.Inactive)
		w.answer(m.CallID, text)
		passing(sdp.SendRecv)
		d.hears("InProgress+answer", "Ringing", "InProgress", "InProgress", "InProgress", "Ringing", "Ringing", "Connected+answer")
	})
}

// When the branch that is heard goes, another one's media takes its place without
// a word, unless the browser needs another answer.
func TestBranchIsDropped(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		text := coreAnswer(w.offered(m.CallID), sdp.SendRecv)
		w.provisional(m.CallID, 183, "Session Progress", text)
		d.hears("InProgress+answer")
		w.provisional(m.CallID, 199, "Early Dialog Terminated", text)
		d.hears()
		other := pcma
		w.provisional(m.CallID, 199, "Early Dialog Terminated", coreAnswer(w.offered(m.CallID), sdp.SendRecv, pcma, digits8))
		d.hears("InProgress+answer")
		plan, _ := w.media.plan(m.CallID)
		if !plan.Core.Codecs[0].Same(other) {
			t.Errorf("media is %+v", plan.Core.Codecs)
		}
	})
}

// An INVITE without offer can be answered before the device answers: our offer in
// the 183, theirs in the PRACK.
func TestOfferInReliableProgress(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings("")
		m := d.invited()
		d.conn = newPeerConnection("phone")
		d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Answer: d.conn.answer(m.Offer)})
		w.did("Progress 183")
		d.hears("InProgress")
		offer := w.offered(callID)
		codecs, _ := sdp.ParseCore(offer)
		w.g.Acknowledged(t.Context(), callID, coreAnswer(offer, sdp.SendRecv, codecs.Codecs...))
		plan, _ := w.media.plan(callID)
		if plan.Core.Remote.String() != "203.0.113.5:30000" {
			t.Errorf("media is %+v", plan.Core)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Connected})
		w.did("Accept")
		w.ack(callID, coreAnswer(offer, sdp.SendRecv, codecs.Codecs...))
		d.hears("Connected")
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
	})
}

// What the network told of a call is kept with it, and the invitation says what
// concerns the called person.
func TestSignalingIsKept(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		in := IncomingCall{
			CallID: newID(), Tenant: call.DefaultTenant, Caller: bobNumber.Address(), Callee: aliceNumber.Address(),
			SDP: coreOffer(sdp.SendRecv), Emergency: true,
			Signaling: call.Signaling{Verstat: "TN-Validation-Passed", Redirections: []call.Redirection{{By: call.Number("+15550111").Address(), Cause: 486}}},
		}
		w.net.mu.Lock()
		w.net.calls[in.CallID] = &fakeCall{incoming: true, remoteSDP: in.SDP}
		w.net.mu.Unlock()
		w.g.Incoming(t.Context(), in)
		synctest.Wait()
		const want = "diverted by tel:+15550111 (SIP cause 486); caller TN-Validation-Passed"
		change := d.last()
		if change.Reason != want || change.CallType != call.Emergency {
			t.Errorf("invited with %+v", change)
		}
		c, err := w.store.Call(t.Context(), in.CallID)
		if err != nil || c.Signaling.Verstat != "TN-Validation-Passed" {
			t.Errorf("stored %+v, %v", c.Signaling, err)
		}
	})
}

// A caller with preconditions is answered before any device, which then rings with
// the codec that was agreed on.
func TestAnswerFirst(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		in := IncomingCall{
			CallID: newID(), Tenant: call.DefaultTenant, Caller: bobNumber.Address(), Callee: aliceNumber.Address(),
			SDP: coreOffer(sdp.SendRecv, pcma, pcmu, digits8), AnswerFirst: true, Dialog: dialogOf("x"),
		}
		w.net.mu.Lock()
		w.net.calls[in.CallID] = &fakeCall{incoming: true, remoteSDP: in.SDP}
		w.net.mu.Unlock()
		w.g.Incoming(t.Context(), in)
		w.did("Progress 183")
		d.hears()
		answered, err := sdp.ParseCore(w.offered(in.CallID))
		if err != nil || len(sdp.OneVoice(answered.Codecs)) != len(answered.Codecs) {
			t.Fatalf("answered %+v, %v", answered, err)
		}
		if _, err := w.g.Offered(t.Context(), in.CallID, coreOffer(sdp.SendRecv, pcma, pcmu, digits8)); err != nil {
			t.Errorf("the caller's reservation is refused: %v", err)
		}
		w.g.Ready(t.Context(), in.CallID)
		w.g.Ready(t.Context(), in.CallID)
		m := d.invited()
		offer, err := sdp.ParseWebRTC(m.Offer)
		if err != nil || !offer.Codecs[0].Same(answered.Codecs[0]) || len(sdp.OneVoice(offer.Codecs)) != len(offer.Codecs) {
			t.Errorf("the device is offered %+v, %v", offer.Codecs, err)
		}
		d.picksUp(m)
		w.did("Accept")
		w.ack(in.CallID, "")
		d.hears("Connected")
	})
}

// The caller of a device that is in a call hears that it waits.
func TestCallWaiting(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		first := w.connected(d)
		w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing})
		w.did("CallWaiting", "Progress 180")
		w.over(first.CallID, Ending{Kind: EndedBye})
		w.rings(coreOffer(sdp.SendRecv))
		d.mustPut(d.last().MediaSessionID, StatusRequest{Status: call.Ringing})
		w.did("Progress 180")
	})
}
