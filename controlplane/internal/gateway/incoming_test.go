package gateway

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestIncomingToTheEnd(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		if got := d.last(); got.Originator != bobNumber.Address() || got.OriginatorName != "Bob" || got.Receiver != aliceNumber.Address() || got.Offer != m.Offer || got.CallID != callID {
			t.Errorf("invited with %+v", got)
		}
		if strings.Contains(m.Offer, "203.0.113.5") || m.Status != call.Initial || m.Direction != call.Termination {
			t.Errorf("the session is %+v", m)
		}
		answer := d.conn.answer(m.Offer)
		got := d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Answer: answer})
		if got.Answer != answer {
			t.Error("the answer is not shown as it was sent")
		}
		w.did("Progress 183")
		early := w.offered(callID)
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing})
		w.did("Progress 180")
		d.mustPut(m.ID, StatusRequest{Status: call.Connected})
		w.did("Accept")
		if w.offered(callID) != early {
			t.Error("the answer in the 200 differs from that in the 183")
		}
		w.ack(callID, "")
		d.hears("InProgress", "Ringing", "Connected")
		plan, _ := w.media.plan(callID)
		if len(plan.Browsers) != 1 || plan.Talking != plan.Browsers[0].ID || plan.Core.Codecs[0].Encoding != "PCMU" || plan.Browsers[0].RemoteUfrag != d.conn.ufrag {
			t.Errorf("media is %+v", plan)
		}
		if c, _ := w.store.Call(w.t.Context(), callID); c.Dialog.SIPCallID != "sip-"+callID {
			t.Errorf("the dialog is stored as %+v", c.Dialog)
		}
		pass(2 * w.g.config.RingTimeout)
		w.over(callID, Ending{Kind: EndedBye, Signal: call.Signal{Q850: 16}})
		d.hears("Terminated")
		w.gone(callID)
		w.did()
	})
}

func TestIncomingRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  func(*Config)
		prepare func(*world)
		offer   string
		op      string
	}{
		{name: "nobody is registered", op: "End 480 Q.850 20"},
		{name: "nobody listens", prepare: func(w *world) {
			d := w.device(aliceNumber, "phone")
			if err := w.g.Unsubscribe(w.t.Context(), d.p, d.sub.ID); err != nil {
				w.t.Fatal(err)
			}
		}, op: "End 480 Q.850 20"},
		{name: "the registration has expired", prepare: func(w *world) {
			w.device(aliceNumber, "phone")
			pass(90 * time.Minute)
			w.did("Deregister")
		}, op: "End 480 Q.850 20"},
		{name: "another is registered", prepare: func(w *world) { w.device(bobNumber, "phone") }, op: "End 480 Q.850 20"},
		{name: "the number is not ours", config: func(c *Config) { c.Numbers = []string{"+44"} }, op: "End 404 Q.850 1"},
		{name: "no codec", prepare: func(w *world) { w.device(aliceNumber, "phone") }, op: "End 488 Q.850 88",
			offer: strings.NewReplacer("RTP/AVP 0 101", "RTP/AVP 18 101", "0 PCMU/8000", "18 G729/8000").Replace(coreOffer(sdp.SendRecv, pcmu, digits8))},
		{name: "no SDP", prepare: func(w *world) { w.device(aliceNumber, "phone") }, op: "End 488 Q.850 88", offer: "nonsense"},
		{name: "no media node", prepare: func(w *world) { w.device(aliceNumber, "phone"); w.media.refuse(ErrNoMediaNode) }, op: "End 503 Q.850 34"},
		{name: "the store fails", prepare: func(w *world) { w.device(aliceNumber, "phone"); w.store.setDown(true) }, op: "End 500 Q.850 41"},
		{name: "shutting down", prepare: func(w *world) { w.device(aliceNumber, "phone"); w.g.Shutdown(w.t.Context()) }, op: "End 503 Q.850 41"},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, c.config, func(w *world) {
				if c.prepare != nil {
					c.prepare(w)
				}
				offer := c.offer
				if offer == "" {
					offer = coreOffer(sdp.SendRecv)
				}
				callID := w.rings(offer)
				w.did(c.op)
				w.settle(callID)
				w.gone(callID)
				for id, text := range w.store.contents.Load().sessions {
					t.Errorf("session %s is stored: %s", id, text)
				}
			})
		})
	}
}

// ringing is an incoming call to three devices.
func ringing(w *world) (callID string, devices []*device, sessions []call.MediaSession) {
	for _, name := range []string{"phone", "tablet", "desk"} {
		devices = append(devices, w.device(aliceNumber, name))
	}
	callID = w.rings(coreOffer(sdp.SendRecv))
	for _, d := range devices {
		sessions = append(sessions, d.invited())
	}
	return callID, devices, sessions
}

func TestFirstDeviceWins(t *testing.T) {
	play(t, nil, func(w *world) {
		callID, devices, sessions := ringing(w)
		if sessions[0].Offer == sessions[1].Offer || sessions[0].ID == sessions[1].ID {
			t.Error("two devices share a session")
		}
		results := make(chan error, len(devices))
		for i, d := range devices {
			answer := d.conn.answer(sessions[i].Offer)
			go func() {
				_, err := d.put(sessions[i].ID, StatusRequest{Status: call.Connected, Answer: answer})
				results <- err
			}()
		}
		won := 0
		for range devices {
			if err := <-results; err == nil {
				won++
			} else {
				w.refused(err, call.IncompatibleState)
			}
		}
		if won != 1 {
			t.Fatalf("%d devices have the call", won)
		}
		w.did("Accept")
		plan, _ := w.media.plan(callID)
		for i, d := range devices {
			m := d.get(sessions[i].ID)
			if m.Status == call.Connected {
				d.hears("Connected")
				if len(plan.Browsers) != 1 || plan.Browsers[0].SessionID != m.ID || plan.Talking != plan.Browsers[0].ID {
					t.Errorf("media is %+v", plan)
				}
				continue
			}
			d.hears("SessionCancelled")
			if m.Status != call.SessionCancelled || m.Reason != "answered elsewhere" {
				t.Errorf("the loser is %s, %q", m.Status, m.Reason)
			}
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
				t.Error(err)
			}
			_, err := w.g.Session(w.t.Context(), d.p, m.ID)
			w.refused(err, call.NotFound)
		}
		w.did()
	})
}

func TestDecline(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("as busy %t", busy), func(t *testing.T) {
			play(t, func(c *Config) { c.DeclineBusy = busy }, func(w *world) {
				callID, devices, sessions := ringing(w)
				for i, d := range devices {
					w.did()
					if err := w.g.EndSession(w.t.Context(), d.p, sessions[i].ID); err != nil {
						t.Fatal(err)
					}
					d.hears("Declined")
				}
				if busy {
					w.did("End 486 Q.850 21")
				} else {
					w.did("End 603 Q.850 21")
				}
				w.settle(callID)
				w.gone(callID)
				for _, d := range devices {
					d.hears()
				}
			})
		})
	}
	t.Run("one declines, another answers", func(t *testing.T) {
		play(t, nil, func(w *world) {
			_, devices, sessions := ringing(w)
			if err := w.g.EndSession(w.t.Context(), devices[0].p, sessions[0].ID); err != nil {
				t.Fatal(err)
			}
			devices[1].picksUp(sessions[1])
			devices[0].hears("Declined")
			devices[1].hears("Connected")
			devices[2].hears("SessionCancelled")
			w.did("Accept")
		})
	})
}

func TestCallerCancels(t *testing.T) {
	play(t, nil, func(w *world) {
		callID, devices, sessions := ringing(w)
		devices[0].mustPut(sessions[0].ID, StatusRequest{Status: call.Ringing})
		w.over(callID, Ending{Kind: EndedCancelled, Signal: call.Signal{Phrase: "cancelled"}})
		devices[0].hears("Ringing", "SessionCancelled")
		devices[1].hears("SessionCancelled")
		devices[2].hears("SessionCancelled")
		w.gone(callID)
		_, err := devices[1].put(sessions[1].ID, StatusRequest{Status: call.Connected, Answer: devices[1].conn.answer(sessions[1].Offer)})
		w.refused(err, call.IncompatibleState)
	})
}

func TestCancelCrossesTheAnswer(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		if _, first := w.net.finish(callID); !first {
			t.Fatal("the call is over")
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
		w.refused(err, call.IncompatibleState)
		w.g.Ended(w.t.Context(), callID, Ending{Kind: EndedCancelled})
		d.hears("SessionCancelled")
		if got := d.get(m.ID); got.Reason != "cancelled by the caller" {
			t.Errorf("reason is %q", got.Reason)
		}
	})
}

func TestRingTimeout(t *testing.T) {
	play(t, nil, func(w *world) {
		callID, devices, sessions := ringing(w)
		devices[0].mustPut(sessions[0].ID, StatusRequest{Status: call.Ringing})
		pass(w.g.config.RingTimeout - time.Second)
		w.did("Progress 180")
		pass(time.Second)
		w.did("End 480 Q.850 19")
		_, err := devices[1].put(sessions[1].ID, StatusRequest{Status: call.Connected, Answer: devices[1].conn.answer(sessions[1].Offer)})
		w.refused(err, call.IncompatibleState)
		w.did()
		w.settle(callID)
		devices[0].hears("Ringing", "NoAnswer")
		devices[1].hears("NoAnswer")
		w.gone(callID)
	})
}

// TestAnsweredAtTheLastMoment lets the ring timer fire while an answer holds the
// call: the answer stands.
func TestAnsweredAtTheLastMoment(t *testing.T) {
	play(t, func(c *Config) { c.RingTimeout = 10 * time.Second }, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		// The media node takes its time over the answer: the lock is held while
		// the timer fires.
		w.media.applyErr = func(MediaPlan) error {
			w.media.applyErr = nil
			delay(w.g.config.RingTimeout)
			return nil
		}
		d.picksUp(m)
		pass(time.Minute)
		w.did("Accept")
		d.hears("Connected")
		if got := d.get(m.ID); got.Status != call.Connected {
			t.Errorf("the call is %s: %s", got.Status, got.Reason)
		}
		w.over(callID, Ending{Kind: EndedBye})
	})
}

// TestAnswerBeforeTheInvitationReturns lets a device answer as soon as the store
// shows the call, while the gateway is not done with the INVITE.
func TestAnswerBeforeTheInvitationReturns(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		answered := make(chan error, 1)
		w.store.mu.Lock()
		w.store.committed = func() {
			rows := w.store.contents.Load()
			for _, text := range rows.sessions {
				w.store.committed = nil
				m := decode[call.MediaSession](text)
				go func() {
					_, err := d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
					answered <- err
				}()
				// The other has all the time that it needs to be too early.
				for range 1000 {
					runtime.Gosched()
				}
			}
		}
		w.store.mu.Unlock()
		callID := w.rings(coreOffer(sdp.SendRecv))
		if err := <-answered; err != nil {
			t.Error(err)
		}
		w.did("Accept")
		d.hears("invitation+offer", "Connected")
		w.over(callID, Ending{Kind: EndedBye})
	})
}

func TestOfferlessInvite(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings("")
		m := d.invited()
		d.picksUp(m)
		w.did("Accept")
		offer, err := sdp.ParseCore(w.offered(callID))
		if err != nil || offer.Direction != sdp.SendRecv || len(offer.Codecs) == 0 {
			t.Fatalf("offered %+v, %v", offer, err)
		}
		_, err = d.put(m.ID, StatusRequest{Status: call.Hold})
		w.refused(err, call.IncompatibleState)
		w.ack(callID, coreAnswer(w.offered(callID), sdp.SendRecv, offer.Codecs...))
		d.hears("Connected")
		plan, _ := w.media.plan(callID)
		if plan.Core.Remote.String() != "203.0.113.5:30000" || len(plan.Core.Codecs) == 0 {
			t.Errorf("media is %+v", plan.Core)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.did("Reoffer sendonly")
	})
	t.Run("without answer", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			callID := w.rings("")
			d.picksUp(d.invited())
			w.ack(callID, "")
			w.did("Accept", "End 488 Q.850 88")
			w.settle(callID)
			d.hears("Connected", "Terminated")
			w.gone(callID)
		})
	})
}

// TestCallerChangesTheSessionEarly: an UPDATE after the 183 is answered for the
// device that spoke for this side, and the 200 repeats that answer.
func TestCallerChangesTheSessionEarly(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		_, err := w.g.Offered(w.t.Context(), callID, coreOffer(sdp.SendRecv))
		if r, ok := err.(*RejectedError); !ok || r.Code != 500 {
			t.Errorf("an offer before the first is answered gets %v", err)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.InProgress, Answer: d.conn.answer(m.Offer)})
		moved := strings.Replace(coreOffer(sdp.SendRecv), "203.0.113.5", "203.0.113.50", 2)
		answer, err := w.g.Offered(w.t.Context(), callID, moved)
		if err != nil {
			t.Fatal(err)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Connected})
		if w.offered(callID) != answer {
			t.Error("the 200 does not repeat the last answer")
		}
		if p, _ := w.media.plan(callID); p.Core.Remote.String() != "203.0.113.50:30000" {
			t.Errorf("media goes to %s", p.Core.Remote)
		}
		d.hears("InProgress", "Connected")
		w.over(callID, Ending{Kind: EndedBye})
	})
}

func TestIncomingRequestsOutOfOrder(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		for _, c := range []struct {
			name string
			r    StatusRequest
			code call.Code
		}{
			{"connected without an answer", StatusRequest{Status: call.Connected}, call.InvalidArgument},
			{"hold before the answer", StatusRequest{Status: call.Hold}, call.IncompatibleState},
			{"resume before the answer", StatusRequest{Status: call.Resume}, call.IncompatibleState},
			{"an offer", StatusRequest{Status: call.InProgress, Offer: d.conn.offer()}, call.InvalidArgument},
			{"no SDP", StatusRequest{Status: call.InProgress, Answer: "nonsense"}, call.InvalidArgument},
		} {
			if _, err := d.put(m.ID, c.r); call.CodeOf(err) != c.code {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		w.did()
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing})
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing})
		d.mustPut(m.ID, StatusRequest{})
		w.did("Progress 180")
		_, err := d.put(m.ID, StatusRequest{Status: call.InProgress})
		w.refused(err, call.IncompatibleState)
		d.hears("Ringing")
		// A node that fails once must not make the second try a repetition.
		answer := d.conn.answer(m.Offer)
		w.media.refuse(ErrNoMediaNode)
		_, err = d.put(m.ID, StatusRequest{Status: call.Ringing, Answer: answer})
		w.refused(err, call.Unavailable)
		w.media.refuse(nil)
		d.mustPut(m.ID, StatusRequest{Status: call.Ringing, Answer: answer})
		if p, _ := w.media.plan(callID); p.Browsers[0].RemoteUfrag != d.conn.ufrag {
			t.Errorf("media is %+v", p.Browsers[0])
		}
		d.picksUp(m)
		d.hears("Ringing", "Connected")
	})
}

func TestLegsFailOneByOne(t *testing.T) {
	play(t, nil, func(w *world) {
		callID, devices, sessions := ringing(w)
		for i := range devices {
			w.did()
			w.g.LegFailed(w.t.Context(), callID, sessions[i].ID, "ICE failed")
		}
		w.did("End 500 Q.850 41")
		w.settle(callID)
		for i, d := range devices {
			d.hears("Failed")
			if got := d.get(sessions[i].ID); got.Reason != "media failed: ICE failed" {
				t.Errorf("reason is %q", got.Reason)
			}
		}
		w.gone(callID)
	})
}

func TestNetworkFailsToAccept(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		w.net.acceptErr = ErrNetworkDown
		_, err := d.put(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
		w.refused(err, call.Unavailable)
		w.net.acceptErr = nil
		d.mustPut(m.ID, StatusRequest{Status: call.Connected})
		d.hears("Connected")
		if ops := w.net.took(); !slices.Equal(ops, []string{"Accept", "Accept"}) {
			t.Error(ops)
		}
		w.over(callID, Ending{Kind: EndedBye})
	})
}
