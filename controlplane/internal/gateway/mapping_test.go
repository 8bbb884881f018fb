package gateway

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// TestStatusMapping is the whole mapping between SIP and the status of sessions, as
// devices see it: of calls that they make, what the network says and what they are
// told; of calls that they get, what they do and what the network gets.
func TestStatusMapping(t *testing.T) {
	type row struct {
		what string
		// do plays one call of a device.
		do func(w *world, d *device)
		// told are the device's events, last the reason of the last one.
		told []string
		last string
		// did is what the network was asked for.
		did []string
	}
	var rows []row

	// Calls out: provisional responses.
	for _, c := range []struct {
		code int
		sdp  bool
		told string
	}{
		{100, false, ""}, {199, false, ""},
		{180, false, "Ringing"}, {180, true, "Ringing+answer"}, {181, false, "Proceeding"}, {182, false, "Waiting"},
		{183, false, "InProgress"}, {183, true, "InProgress+answer"}, {189, false, "Proceeding"},
	} {
		r := row{what: fmt.Sprintf("%d, description %t", c.code, c.sdp), do: func(w *world, d *device) {
			m := d.calls()
			text := ""
			if c.sdp {
				text = coreAnswer(w.offered(m.CallID), sdp.SendRecv)
			}
			w.provisional(m.CallID, c.code, "Phrase", text)
		}, did: []string{"Invite tel:+15550199"}}
		if c.told != "" {
			r.told, r.last = []string{c.told}, fmt.Sprintf("SIP %d Phrase", c.code)
		}
		rows = append(rows, r)
	}
	// Calls out: their end before the answer. A Q.850 cause outranks the code.
	for _, c := range []struct {
		code, q850   int
		ringing      bool
		status       call.Status
		cancelled    bool
		kind         EndKind
		phrase, text string
	}{
		{code: 486, status: call.Busy}, {code: 600, status: call.Busy}, {code: 500, q850: 17, status: call.Busy},
		{code: 408, status: call.NoAnswer}, {code: 480, ringing: true, status: call.NoAnswer},
		{code: 500, q850: 18, status: call.NoAnswer}, {code: 486, q850: 19, status: call.NoAnswer},
		{code: 404, status: call.NotReachable}, {code: 410, status: call.NotReachable}, {code: 484, status: call.NotReachable},
		{code: 604, status: call.NotReachable}, {code: 480, status: call.NotReachable},
		{code: 603, q850: 1, status: call.NotReachable}, {code: 500, q850: 3, status: call.NotReachable},
		{code: 480, q850: 20, ringing: true, status: call.NotReachable}, {code: 486, q850: 22, status: call.NotReachable},
		{code: 500, q850: 28, status: call.NotReachable},
		{code: 603, status: call.Declined}, {code: 607, status: call.Declined}, {code: 486, q850: 21, status: call.Declined},
		{code: 487, cancelled: true, status: call.SessionCancelled}, {code: 487, q850: 17, cancelled: true, status: call.SessionCancelled},
		{code: 486, cancelled: true, status: call.Busy},
		{code: 302, status: call.Failed}, {code: 400, status: call.Failed}, {code: 401, status: call.Failed}, {code: 403, status: call.Failed},
		{code: 412, status: call.Failed}, {code: 415, status: call.Failed}, {code: 420, status: call.Failed}, {code: 430, status: call.Failed},
		{code: 482, status: call.Failed}, {code: 483, status: call.Failed}, {code: 488, status: call.Failed}, {code: 493, status: call.Failed},
		{code: 500, status: call.Failed}, {code: 503, status: call.Failed}, {code: 504, status: call.Failed}, {code: 580, status: call.Failed},
		{code: 606, status: call.Failed},
		{code: 486, q850: 34, status: call.Failed}, {code: 486, q850: 38, status: call.Failed}, {code: 480, q850: 41, ringing: true, status: call.Failed},
		{code: 404, q850: 42, status: call.Failed}, {code: 603, q850: 47, status: call.Failed},
		{code: 486, q850: 16, status: call.Busy}, // a cause that says nothing
		{kind: EndedFailed, phrase: "connection refused", status: call.Failed, text: "connection refused"},
	} {
		if c.kind == 0 {
			c.kind, c.phrase = EndedRejected, "Phrase"
			c.text = fmt.Sprintf("SIP %d Phrase", c.code)
			if c.q850 != 0 {
				c.text += fmt.Sprintf("; Q.850 %d", c.q850)
			}
		}
		r := row{what: fmt.Sprintf("%s, rang %t, cancelled %t", c.text, c.ringing, c.cancelled), last: c.text, did: []string{"Invite tel:+15550199"}}
		r.do = func(w *world, d *device) {
			m := d.calls()
			if c.ringing {
				w.provisional(m.CallID, 180, "Ringing", "")
			}
			if c.cancelled {
				if err := w.g.EndSession(t.Context(), d.p, m.ID); err != nil {
					t.Error(err)
				}
			}
			w.over(m.CallID, Ending{Kind: c.kind, Signal: call.Signal{Code: c.code, Phrase: c.phrase, Q850: c.q850}})
		}
		if c.ringing {
			r.told = append(r.told, "Ringing")
		}
		if c.cancelled {
			r.did = append(r.did, "End 487 Q.850 16")
		}
		r.told = append(r.told, string(c.status))
		rows = append(rows, r)
	}
	// Calls out: the answer, and the end after it, whatever the reason.
	for _, e := range []Ending{
		{Kind: EndedBye, Signal: call.Signal{Phrase: "BYE", Q850: 17}},
		{Kind: EndedFailed, Signal: call.Signal{Phrase: "The session timer expired without a refresh"}},
		{Kind: EndedFailed, Signal: call.Signal{Code: 481, Phrase: "Gone"}},
	} {
		rows = append(rows, row{what: "after the answer: " + e.Reason(), do: func(w *world, d *device) {
			m := d.calls()
			w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
			w.over(m.CallID, e)
		}, told: []string{"Connected+answer", "Terminated"}, last: e.Reason(), did: []string{"Invite tel:+15550199"}})
	}
	// Calls in: what the device does.
	in := func(what string, do func(w *world, d *device, callID string, m call.MediaSession), last string, did []string, told ...string) {
		rows = append(rows, row{what: what, do: func(w *world, d *device) {
			callID := w.rings(coreOffer(sdp.SendRecv))
			m := d.get(d.last().MediaSessionID)
			do(w, d, callID, m)
		}, told: append([]string{"invitation+offer"}, told...), last: last, did: did})
	}
	in("the device accepts early", func(w *world, d *device, _ string, m call.MediaSession) {
		d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Answer: d.conn.answer(m.Offer)})
	}, "", []string{"Progress 183"}, "InProgress")
	in("the device rings", func(w *world, d *device, _ string, m call.MediaSession) {
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing})
	}, "", []string{"Progress 180"}, "Ringing")
	in("the device answers", func(w *world, d *device, _ string, m call.MediaSession) {
		d.picksUp(m)
	}, "", []string{"Accept"}, "Connected")
	in("the device declines", func(w *world, d *device, callID string, m call.MediaSession) {
		if err := w.g.EndSession(t.Context(), d.p, m.ID); err != nil {
			t.Error(err)
		}
		w.settle(callID)
	}, "declined by the device", []string{"End 603 Q.850 21"}, "Declined")
	in("nobody answers in time", func(w *world, d *device, callID string, m call.MediaSession) {
		pass(Default().RingTimeout)
		w.settle(callID)
	}, "no answer", []string{"End 480 Q.850 19"}, "NoAnswer")
	in("the caller cancels", func(w *world, d *device, callID string, m call.MediaSession) {
		w.over(callID, Ending{Kind: EndedCancelled, Signal: call.Signal{Code: 487, Phrase: "Request Terminated"}})
	}, "SIP 487 Request Terminated", nil, "SessionCancelled")
	in("another user agent of the caller's network answers", func(w *world, d *device, callID string, m call.MediaSession) {
		w.over(callID, Ending{Kind: EndedCancelled, Signal: call.Signal{Code: 487, Phrase: "Call completed elsewhere"}})
	}, "SIP 487 Call completed elsewhere", nil, "SessionCancelled")
	in("no media for the answer", func(w *world, d *device, callID string, m call.MediaSession) {
		w.media.applyErr = func(MediaPlan) error { return errors.New("no") }
		_, err := d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
		w.refused(err, call.Unavailable)
		w.settle(callID)
	}, "the media node cannot take the answer: no", []string{"End 500 Q.850 41"}, "Failed")
	for what, c := range map[string]struct {
		change func(w *world, in *IncomingCall)
		did    string
	}{
		"an unknown number":                   {func(_ *world, in *IncomingCall) { in.Callee = call.AnonymousAddress() }, "End 404 Q.850 1"},
		"a number that nobody has registered": {func(_ *world, in *IncomingCall) { in.Callee = call.Number("+15550777").Address() }, "End 480 Q.850 20"},
		"an offer without a usable codec":     {func(_ *world, in *IncomingCall) { in.SDP = "v=0" }, "End 488 Q.850 88"},
		"no media node":                       {func(w *world, _ *IncomingCall) { w.media.applyErr = func(MediaPlan) error { return ErrNoMediaNode } }, "End 503 Q.850 34"},
	} {
		rows = append(rows, row{what: what, do: func(w *world, d *device) {
			in := IncomingCall{CallID: newID(), Tenant: call.DefaultTenant, Caller: bobNumber.Address(), Callee: aliceNumber.Address(), SDP: coreOffer(sdp.SendRecv)}
			c.change(w, &in)
			w.net.mu.Lock()
			w.net.calls[in.CallID] = &fakeCall{incoming: true, remoteSDP: in.SDP}
			w.net.mu.Unlock()
			w.g.Incoming(t.Context(), in)
		}, did: []string{c.did}})
	}
	// Either way: hold and resume of both sides.
	rows = append(rows, row{what: "hold and resume", do: func(w *world, d *device) {
		m := w.connected(d)
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		d.mustPut(m.ID, StatusRequest{Status: call.Resume})
		for _, direction := range []sdp.Direction{sdp.SendOnly, sdp.SendRecv} {
			if _, err := w.g.Offered(t.Context(), m.CallID, coreOffer(direction)); err != nil {
				t.Error(err)
			}
		}
	}, told: []string{"Hold", "Resume", "Hold", "Resume"}, last: "resumed by the far end", did: []string{"Reoffer sendonly", "Reoffer sendrecv"}})

	for _, r := range rows {
		t.Run(r.what, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				w.net.took()
				r.do(w, d)
				synctest.Wait()
				if got := w.net.took(); !slices.Equal(got, r.did) {
					t.Errorf("the network was asked for %q, want %q", got, r.did)
				}
				d.hears(r.told...)
				if len(r.told) > 0 {
					if got := d.last().Reason; got != r.last {
						t.Errorf("told because of %q, want %q", got, r.last)
					}
				}
			})
		})
	}
}
