package gateway

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestHoldAndResume(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		first := d.get(m.ID)

		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.did("Reoffer sendonly")
		d.hears("Hold")
		if got := d.get(m.ID); got.Status != call.Hold || got.Answer != first.Answer {
			t.Errorf("shown as %s", got.Status)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.did()
		d.hears()

		d.mustPut(m.ID, StatusRequest{Status: call.Resume})
		w.did("Reoffer sendrecv")
		d.hears("Resume")
		if got := d.get(m.ID); got.Status != call.Connected {
			t.Errorf("shown as %s", got.Status)
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Resume})
		w.refused(err, call.IncompatibleState)

		d.conn.direction = sdp.SendOnly
		held := d.mustPut(m.ID, StatusRequest{Status: call.Hold, Offer: d.conn.offer()})
		answer, err := sdp.ParseWebRTC(held.Answer)
		if err != nil || answer.Direction != sdp.RecvOnly || !sameTransport(held.Answer, first.Answer) {
			t.Errorf("the answer to hold is %v\n%s", err, held.Answer)
		}
		d.conn.direction = sdp.SendRecv
		back := d.mustPut(m.ID, StatusRequest{Status: call.Resume, Offer: d.conn.offer()})
		if answer, err := sdp.ParseWebRTC(back.Answer); err != nil || answer.Direction != sdp.SendRecv {
			t.Errorf("the answer to resume is %v\n%s", err, back.Answer)
		}
		d.hears("Hold+answer", "Resume+answer")
		w.did("Reoffer sendonly", "Reoffer sendrecv")
		plan, _ := w.media.plan(m.CallID)
		if plan.Core.Direction != sdp.SendRecv || plan.Browsers[0].Direction != sdp.SendRecv || plan.Talking == "" {
			t.Errorf("media is %+v", plan)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestHoldKeepsPayloadNumbers: what a number meant it means for the whole
// dialog (RFC 3264 8.3.2).
func TestHoldKeepsPayloadNumbers(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		first, _ := sdp.ParseCore(w.offered(m.CallID))
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv, opus, digits8))
		w.net.reoffer = func(_ context.Context, offer string) (string, error) {
			return coreAnswer(offer, sdp.SendRecv, opus, digits8), nil
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		again, err := sdp.ParseCore(w.offered(m.CallID))
		if err != nil || again.SessionID != first.SessionID || again.Version <= first.Version {
			t.Errorf("o= went from %d %d to %d %d, %v", first.SessionID, first.Version, again.SessionID, again.Version, err)
		}
		for _, a := range again.Codecs {
			for _, f := range first.Codecs {
				if a.PayloadType == f.PayloadType && !a.Same(f) {
					t.Errorf("%s became %s", f, a)
				}
			}
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestFarEndRefusesHold(t *testing.T) {
	for _, code := range []int{488, 491, 500} {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			plan, _ := w.media.plan(m.CallID)
			w.net.reoffer = func(context.Context, string) (string, error) {
				return "", &RejectedError{call.Signal{Code: code, Phrase: "No"}}
			}
			_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
			w.refused(err, call.IncompatibleState)
			d.hears()
			now, _ := w.media.plan(m.CallID)
			if got := d.get(m.ID); got.Status != call.Connected || now.Core.Direction != plan.Core.Direction {
				t.Errorf("%d: shown as %s, media is %s", code, got.Status, now.Core.Direction)
			}
			w.net.reoffer = nil
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
			d.hears("Hold")
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	}
}

func TestNoAnswerToHold(t *testing.T) {
	for _, c := range []struct {
		err  error
		code call.Code
	}{
		{ErrNetworkTimeout, call.Timeout}, {ErrNoDialog, call.IncompatibleState}, {ErrNetworkDown, call.Unavailable},
	} {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.net.reoffer = func(context.Context, string) (string, error) { return "", c.err }
			_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
			w.refused(err, c.code)
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	}
}

func TestFarEndIsSlow(t *testing.T) {
	slow := func(answer func(offer string) (string, error)) func(context.Context, string) (string, error) {
		return func(ctx context.Context, offer string) (string, error) {
			delay(8 * time.Second)
			return answer(offer)
		}
	}
	t.Run("and agrees", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.net.reoffer = slow(func(offer string) (string, error) { return coreAnswer(offer, sdp.SendRecv), nil })
			start := time.Now()
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
			if waited := time.Since(start); waited != w.g.config.HoldWait {
				t.Errorf("answered after %s", waited)
			}
			d.hears()
			_, err := d.put(m.ID, StatusRequest{Status: call.Resume})
			w.refused(err, call.IncompatibleState)
			_, err = w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly))
			if r, ok := err.(*RejectedError); !ok || r.Code != 491 {
				t.Errorf("glare is answered with %v", err)
			}
			pass(4 * time.Second)
			d.hears("Hold")
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	})
	t.Run("and refuses", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.net.reoffer = slow(func(string) (string, error) {
				return "", &RejectedError{call.Signal{Code: 488, Phrase: "Not Acceptable Here"}}
			})
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
			pass(4 * time.Second)
			d.hears("Connected")
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	})
	t.Run("and hangs up", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.net.reoffer = slow(func(string) (string, error) { return "", ErrNoDialog })
			result := make(chan error, 1)
			go func() {
				_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
				result <- err
			}()
			pass(time.Second)
			w.over(m.CallID, Ending{Kind: EndedBye})
			d.hears("Terminated")
			w.gone(m.CallID)
			<-result
			pass(10 * time.Second)
			d.hears()
		})
	})
	t.Run("and the device hangs up", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.net.reoffer = slow(func(offer string) (string, error) { return coreAnswer(offer, sdp.SendRecv), nil })
			result := make(chan error, 1)
			go func() {
				_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
				result <- err
			}()
			pass(time.Second)
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
				t.Error(err)
			}
			w.did("Reoffer sendonly", "End 487 Q.850 16")
			<-result
			pass(10 * time.Second)
			w.settle(m.CallID)
			d.hears("Terminated")
			w.gone(m.CallID)
		})
	})
}

// TestHoldWithAnUnusableOffer: the far end is not bothered.
func TestHoldWithAnUnusableOffer(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		d.conn.codecs = []sdp.Codec{opus}
		for _, offer := range []string{"nonsense", d.conn.offer()} {
			_, err := d.put(m.ID, StatusRequest{Status: call.Hold, Offer: offer})
			w.refused(err, call.InvalidArgument)
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Hold, Answer: "v=0"})
		w.refused(err, call.InvalidArgument)
		w.did()
		d.hears()
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestHoldWithoutMediaForTheOffer: the far end is on hold, whatever becomes of
// the device's own description, and the session says so.
func TestHoldWithoutMediaForTheOffer(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		applied := 0
		w.media.applyErr = func(MediaPlan) error {
			if applied++; applied == 2 {
				return ErrNoMediaNode
			}
			return nil
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Hold, Offer: d.conn.offer()})
		w.refused(err, call.Unavailable)
		d.hears("Hold")
		if got := d.get(m.ID); got.Status != call.Hold || got.Answer != m.Answer {
			t.Errorf("shown as %s with\n%s", got.Status, got.Answer)
		}
		d.mustPut(m.ID, StatusRequest{Status: call.Resume})
		d.hears("Resume")
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestFarEndHolds(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		change := func(text string) *sdp.Core {
			t.Helper()
			answer, err := w.g.Offered(w.t.Context(), m.CallID, text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sdp.ParseCore(answer)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := change(coreOffer(sdp.SendOnly)); got.Direction != sdp.RecvOnly {
			t.Errorf("hold is answered %s", got.Direction)
		}
		d.hears("Hold")
		if got := d.get(m.ID); got.Status != call.Hold || got.Reason != "held by the far end" {
			t.Errorf("shown as %s, %q", got.Status, got.Reason)
		}
		change(coreOffer(sdp.Inactive))
		d.hears()
		if got := change(coreOffer(sdp.SendRecv)); got.Direction != sdp.SendRecv {
			t.Errorf("resume is answered %s", got.Direction)
		}
		d.hears("Resume")
		if got := change(strings.Replace(coreOffer(sdp.SendRecv), "203.0.113.5", "0.0.0.0", 2)); got.Direction.Sends() {
			t.Errorf("the old way of hold is answered %s", got.Direction)
		}
		d.hears("Hold")
		change(coreOffer(sdp.SendRecv))
		d.hears("Resume")
		if got := change(strings.ReplaceAll(coreOffer(sdp.SendRecv), "IP4 203.0.113.5", "IP6 ::")); got.Direction.Sends() {
			t.Errorf("the same in IPv6 is answered %s", got.Direction)
		}
		d.hears("Hold")
		plan, _ := w.media.plan(m.CallID)
		if plan.Core.Remote.String() != "203.0.113.5:30000" {
			t.Errorf("media goes to %s", plan.Core.Remote)
		}
		change(strings.Replace(coreOffer(sdp.SendRecv), "203.0.113.5", "203.0.113.99", 2))
		d.hears("Resume")
		if plan, _ := w.media.plan(m.CallID); plan.Core.Remote.String() != "203.0.113.99:30000" {
			t.Errorf("media goes to %s after the far end moved", plan.Core.Remote)
		}
		w.did()
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestNoWayBackToSetUp: what belongs to set-up neither resumes nor renews a call.
func TestNoWayBackToSetUp(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		for range 2 {
			for _, status := range []call.Status{call.InProgress, call.Ringing} {
				for _, offer := range []string{"", d.conn.offer()} {
					_, err := d.put(m.ID, StatusRequest{Status: status, Offer: offer})
					w.refused(err, call.IncompatibleState)
				}
			}
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		}
		_, err := d.put(m.ID, StatusRequest{Status: call.Connected})
		w.refused(err, call.IncompatibleState)
		w.did("Reoffer sendonly")
		d.hears("Hold")
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestBothHold(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		if _, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly)); err != nil {
			t.Fatal(err)
		}
		w.net.reoffer = func(_ context.Context, offer string) (string, error) { return coreAnswer(offer, sdp.Inactive), nil }
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.did("Reoffer sendonly")
		d.hears("Hold", "Hold")
		if _, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendRecv)); err != nil {
			t.Fatal(err)
		}
		d.hears("Resume")
		if got := d.get(m.ID); got.Status != call.Hold {
			t.Errorf("on hold by the device, and shown as %s", got.Status)
		}
		w.net.reoffer = nil
		d.mustPut(m.ID, StatusRequest{Status: call.Resume})
		d.hears("Resume")
		if got := d.get(m.ID); got.Status != call.Connected {
			t.Errorf("shown as %s", got.Status)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestFarEndChangesTheSession(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		before, _ := w.media.plan(m.CallID)
		for _, text := range []string{
			"nonsense",
			strings.NewReplacer("AVP 0 8 101", "AVP 18", "AVP 0 8", "AVP 18", "AVP 0", "AVP 18").Replace(coreOffer(sdp.SendRecv, pcmu)),
			strings.Replace(coreOffer(sdp.SendRecv), "m=audio 30000", "m=audio 0", 1),
			strings.Replace(coreOffer(sdp.SendRecv), "m=audio 30000 RTP/AVP", "m=image 30000 udptl", 1),
		} {
			_, err := w.g.Offered(w.t.Context(), m.CallID, text)
			if r, ok := err.(*RejectedError); !ok || r.Code != 488 {
				t.Errorf("answered %v to\n%s", err, text)
			}
		}
		if after, _ := w.media.plan(m.CallID); encode(after) != encode(before) {
			t.Errorf("what was refused changed the media from %s to %s", encode(before), encode(after))
		}
		// Another number for the digits, another order of the voice codecs.
		digits := digits8
		digits.PayloadType = 96
		answer, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendRecv, pcma, pcmu, digits))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := sdp.ParseCore(answer); len(got.Codecs) != 2 || !got.Codecs[0].Same(pcmu) || got.Codecs[1].PayloadType != 96 {
			t.Errorf("answered with\n%s", answer)
		}
		w.media.refuse(ErrNoMediaNode)
		_, err = w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly))
		if r, ok := err.(*RejectedError); !ok || r.Code != 500 {
			t.Errorf("without media answered %v", err)
		}
		w.media.refuse(nil)
		d.hears()

		// A re-INVITE without offer gets ours, and its answer with the ACK.
		ours, err := w.g.Offered(w.t.Context(), m.CallID, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendRecv))
		if r, ok := err.(*RejectedError); !ok || r.Code != 491 {
			t.Errorf("an offer while ours is open is answered %v", err)
		}
		w.ack(m.CallID, strings.Replace(coreAnswer(ours, sdp.SendRecv), "203.0.113.5", "203.0.113.77", 2))
		if plan, _ := w.media.plan(m.CallID); plan.Core.Remote.String() != "203.0.113.77:30000" {
			t.Errorf("media goes to %s", plan.Core.Remote)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
		_, err = w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendRecv))
		if r, ok := err.(*RejectedError); !ok || r.Code != 481 {
			t.Errorf("after the end answered %v", err)
		}
	})
}
