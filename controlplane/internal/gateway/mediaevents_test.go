package gateway

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestPageIsLoadedAgain(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		before, _ := w.media.plan(m.CallID)
		w.g.LegFailed(w.t.Context(), m.CallID, m.ID, "consent expired")
		pass(w.g.config.MediaGrace / 2)

		d.conn = newPeerConnection("second")
		got := d.mustPut(m.ID, StatusRequest{Status: call.Connected, Offer: d.conn.offer()})
		d.hears("Connected+answer")
		after, _ := w.media.plan(m.CallID)
		leg := after.Browsers[0]
		if len(after.Browsers) != 1 || leg.ID == before.Browsers[0].ID || after.Talking != leg.ID || leg.SessionID != m.ID || leg.RemoteUfrag != d.conn.ufrag {
			t.Errorf("media is %+v", after)
		}
		if string(leg.Identity.Certificate) == string(before.Browsers[0].Identity.Certificate) || sameTransport(got.Answer, m.Answer) {
			t.Error("the new peer connection got the old association")
		}
		w.g.LegFailed(w.t.Context(), m.CallID, m.ID, "the old leg, late")
		w.g.DTLSConnected(w.t.Context(), m.CallID, leg.ID, "SRTP_AEAD_AES_128_GCM")
		pass(2 * w.g.config.MediaGrace)
		w.did()
		if got := d.get(m.ID); got.Status != call.Connected {
			t.Errorf("the call is %s: %s", got.Status, got.Reason)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestICERestart(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		before, _ := w.media.plan(m.CallID)
		d.conn.ufrag = "another1"
		d.mustPut(m.ID, StatusRequest{Status: call.Connected, Offer: d.conn.offer()})
		after, _ := w.media.plan(m.CallID)
		a, b := before.Browsers[0], after.Browsers[0]
		if a.ID != b.ID || a.Ufrag == b.Ufrag || b.RemoteUfrag != "another1" || string(a.Identity.Certificate) != string(b.Identity.Certificate) {
			t.Errorf("media is %+v", b)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestDTLSRolesStay: an incoming call answered with setup:passive leaves the
// opening of the handshake to the gateway, in later offers too.
func TestDTLSRolesStay(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		d.conn.setup = sdp.SetupPassive
		m := d.picksUp(d.invited())
		if p, _ := w.media.plan(callID); !p.Browsers[0].Active {
			t.Fatal("the gateway does not open the handshake")
		}
		got := d.mustPut(m.ID, StatusRequest{Status: call.Connected, Offer: d.conn.offer()})
		answer, err := sdp.ParseWebRTC(got.Answer)
		if p, _ := w.media.plan(callID); err != nil || answer.Setup != sdp.SetupActive || !p.Browsers[0].Active {
			t.Errorf("the roles were changed: a=setup:%s, %v", answer.Setup, err)
		}
		w.over(callID, Ending{Kind: EndedBye})
	})
}

func TestMediaIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		early  bool
		lose   func(w *world, callID, leg string)
		after  time.Duration
		want   call.Status
		reason string
	}{
		{name: "leg in set-up", early: true, lose: func(w *world, callID, leg string) { w.g.LegFailed(w.t.Context(), callID, leg, "DTLS failed") },
			want: call.Failed, reason: "media failed: DTLS failed"},
		{name: "node in set-up", early: true, lose: func(w *world, callID, _ string) { w.g.SessionLost(w.t.Context(), callID, "node gone") },
			want: call.Failed, reason: "media lost: node gone"},
		{name: "leg of a call", after: 20 * time.Second, lose: func(w *world, callID, leg string) {
			w.g.LegFailed(w.t.Context(), callID, leg, "consent expired")
			pass(15 * time.Second)
			w.g.LegFailed(w.t.Context(), callID, leg, "and again")
		}, want: call.Terminated, reason: "media lost: consent expired"},
		{name: "node of a call", lose: func(w *world, callID, _ string) {
			w.g.SessionLost(w.t.Context(), callID, "node gone")
			w.g.SessionLost(w.t.Context(), callID, "told twice")
			w.g.MediaTimeout(w.t.Context(), callID, CoreLegID, time.Minute)
		}, want: call.Terminated, reason: "media lost: node gone"},
		{name: "silent browser", lose: func(w *world, callID, leg string) { w.g.MediaTimeout(w.t.Context(), callID, leg, time.Minute) },
			want: call.Terminated, reason: "media lost: nothing received for 1m0s"},
		{name: "silent network", lose: func(w *world, callID, _ string) { w.g.MediaTimeout(w.t.Context(), callID, CoreLegID, time.Minute) },
			want: call.Terminated, reason: "media lost: nothing received for 1m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				m := d.calls()
				if !c.early {
					w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
				}
				w.net.took()
				c.lose(w, m.CallID, m.ID)
				pass(c.after)
				w.did("End 500 Q.850 41")
				if c.early {
					// The far end answers at the wrong moment.
					w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
				}
				w.settle(m.CallID)
				if got := d.get(m.ID); got.Status != c.want || got.Reason != c.reason {
					t.Errorf("shown as %s, %q", got.Status, got.Reason)
				}
				if got := w.told(d.sub.ID); got[len(got)-1] != string(c.want) || c.early && len(got) != 1 {
					t.Errorf("told %q", got)
				}
				w.gone(m.CallID)
			})
		})
	}
}

func TestSilenceThatIsNoLoss(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.net.took()
		w.g.MediaTimeout(w.t.Context(), m.CallID, CoreLegID, time.Minute)
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
		w.g.MediaTimeout(w.t.Context(), m.CallID, "a leg of before", time.Minute)
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		w.g.MediaTimeout(w.t.Context(), m.CallID, CoreLegID, time.Minute)
		d.mustPut(m.ID, StatusRequest{Status: call.Resume})
		if _, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly)); err != nil {
			t.Fatal(err)
		}
		w.g.MediaTimeout(w.t.Context(), m.CallID, m.ID, time.Minute)
		w.did("Reoffer sendonly", "Reoffer sendrecv")
		if got := d.get(m.ID); got.Status != call.Hold {
			t.Errorf("shown as %s, %q", got.Status, got.Reason)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestDigitsByINFO: digits for a far end without telephone-event go by INFO, in
// the order in which they were pressed.
func TestDigitsByINFO(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv, pcmu))
		w.net.took()
		var want []string
		for _, digit := range []string{"1", "2", "3", "#", "0", "9", "8", "7"} {
			w.g.MediaDigit(w.t.Context(), m.CallID, m.ID, digit, 100*time.Millisecond)
			want = append(want, "DTMF "+digit)
		}
		w.g.MediaDigit(w.t.Context(), m.CallID, CoreLegID, "5", 100*time.Millisecond)
		w.did(want...)
		w.over(m.CallID, Ending{Kind: EndedBye})

		d.hears("Connected+answer", "Terminated")
		other := w.connected(d)
		w.g.MediaDigit(w.t.Context(), other.CallID, other.ID, "1", 100*time.Millisecond)
		w.g.Digit(w.t.Context(), other.CallID, "1", 100)
		w.did()
		w.over(other.CallID, Ending{Kind: EndedBye})
	})
}

func TestSessionsOfANode(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		if got := w.g.Sessions(w.t.Context(), "node-1"); len(got) != 1 || got[0] != m.CallID {
			t.Errorf("node-1 should have %q", got)
		}
		if got := w.g.Sessions(w.t.Context(), "node-2"); len(got) != 0 {
			t.Errorf("node-2 should have %q", got)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
		if got := w.g.Sessions(w.t.Context(), "node-1"); len(got) != 0 {
			t.Errorf("after the end node-1 should have %q", got)
		}
	})
}

func TestMilestonesGoToTheLadder(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		at := netip.MustParseAddrPort("198.51.100.7:40000")
		w.g.ICEConnected(w.t.Context(), m.CallID, m.ID, at)
		w.g.DTLSConnected(w.t.Context(), m.CallID, m.ID, "SRTP_AES128_CM_HMAC_SHA1_80")
		w.g.FirstPacket(w.t.Context(), m.CallID, CoreLegID, at)
		w.g.Latched(w.t.Context(), m.CallID, at)
		w.g.ICEConnected(w.t.Context(), "no such call", m.ID, at)
		var titles []string
		for _, e := range w.trace.entries {
			if e.CallID != m.CallID || e.Number != aliceNumber {
				t.Errorf("traced %+v", e)
			}
			titles = append(titles, e.Title)
		}
		if len(titles) != 4 || titles[0] != "ICE connected" || titles[2] != "first RTP packet" {
			t.Errorf("the ladder shows %q", titles)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

// TestImpatientClient: a request whose caller has gone away is carried through.
func TestImpatientClient(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		callID := w.rings(coreOffer(sdp.SendRecv))
		m := d.invited()
		gone, cancel := context.WithCancel(w.t.Context())
		cancel()
		_, err := w.g.UpdateSession(gone, d.p, m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		d.hears("Connected")
		w.over(callID, Ending{Kind: EndedBye})
	})
}
