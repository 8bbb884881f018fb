package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestOriginateToTheEnd(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		offer := d.conn.offer()
		m, err := d.originate(func(r *OriginateRequest) { r.Offer = offer })
		if err != nil {
			t.Fatal(err)
		}
		if m.Status != call.Initial || m.Offer != offer || m.Answer != "" {
			t.Errorf("created as %+v", m)
		}
		w.did("Invite tel:+15550199")
		in := w.net.invites[0]
		if in.Number != aliceNumber || in.Anonymous || in.RegistrationID != d.reg.ID || in.SDP == "" || strings.Contains(in.SDP, "ice") {
			t.Errorf("invited with %+v", in)
		}
		d.hears()

		early := coreAnswer(in.SDP, sdp.SendRecv)
		w.provisional(m.CallID, 183, "Session Progress", early)
		d.hears("InProgress+answer")
		first := d.last()
		if first.Reason != "SIP 183 Session Progress" || first.Originator.String() != "tel:+15550100" {
			t.Errorf("told %+v", first)
		}
		if _, err := sdp.ParseWebRTC(first.Answer); err != nil {
			t.Errorf("the answer is no WebRTC description: %v", err)
		}
		w.provisional(m.CallID, 180, "Ringing", "")
		d.hears("Ringing")
		w.answer(m.CallID, early)
		d.hears("Connected+answer")
		if last := d.last(); last.Answer != first.Answer {
			t.Errorf("the answer changed without reason from\n%s\nto\n%s", first.Answer, last.Answer)
		}
		plan, _ := w.media.plan(m.CallID)
		if plan.Talking == "" || plan.Core.Remote.String() != "203.0.113.5:30000" || len(plan.Core.Codecs) == 0 || plan.Core.Codecs[0].Encoding != "PCMU" {
			t.Errorf("media is %+v", plan)
		}
		if got := d.get(m.ID); got.Status != call.Connected || got.Offer != offer || got.Answer != first.Answer || got.AnsweredAt.IsZero() {
			t.Errorf("shown as %+v", got)
		}
		w.did()

		if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
			t.Fatal(err)
		}
		w.did("End 487 Q.850 16")
		_, err = w.g.Session(w.t.Context(), d.p, m.ID)
		w.refused(err, call.NotFound)
		w.refused(w.g.EndSession(w.t.Context(), d.p, m.ID), call.NotFound)
		w.settle(m.CallID)
		d.hears("Terminated")
		w.gone(m.CallID)
	})
}

func TestAnswerThatDiffersFromEarlyMedia(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv, pcmu, digits8))
		early := d.last().Answer
		w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv, pcma, digits8))
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv, opus, digits8))
		d.hears("InProgress+answer", "InProgress+answer", "Connected+answer")
		final := d.last().Answer
		if final == early || !sameTransport(strings.ReplaceAll(early, " 0 101", ""), strings.ReplaceAll(final, " 111 101", "")) {
			t.Errorf("the transport changed from\n%s\nto\n%s", early, final)
		}
		a, _ := sdp.ParseWebRTC(early)
		b, _ := sdp.ParseWebRTC(final)
		if a.SessionID != b.SessionID || b.Version != a.Version+2 {
			t.Errorf("o= went from %d %d to %d %d", a.SessionID, a.Version, b.SessionID, b.Version)
		}
	})
}

func TestFarEndRefuses(t *testing.T) {
	for _, c := range []struct {
		signal call.Signal
		rang   bool
		want   call.Status
	}{
		{call.Signal{Code: 486, Phrase: "Busy Here"}, true, call.Busy},
		{call.Signal{Code: 603, Phrase: "Decline"}, false, call.Declined},
		{call.Signal{Code: 404, Phrase: "Not Found"}, false, call.NotReachable},
		{call.Signal{Code: 480, Phrase: "Temporarily Unavailable"}, false, call.NotReachable},
		{call.Signal{Code: 480, Phrase: "Temporarily Unavailable"}, true, call.NoAnswer},
		{call.Signal{Code: 408, Phrase: "Request Timeout"}, false, call.NoAnswer},
		{call.Signal{Code: 500, Phrase: "Server Error"}, false, call.Failed},
		{call.Signal{Code: 488, Phrase: "Not Acceptable Here"}, false, call.Failed},
		{call.Signal{Code: 487, Phrase: "Request Terminated"}, false, call.SessionCancelled},
		{call.Signal{Code: 480, Phrase: "Unavailable", Q850: 17}, false, call.Busy},
	} {
		t.Run(fmt.Sprintf("%d to %s", c.signal.Code, c.want), func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				m := d.calls()
				if c.rang {
					w.provisional(m.CallID, 180, "Ringing", "")
					d.hears("Ringing")
				}
				w.over(m.CallID, Ending{Kind: EndedRejected, Signal: c.signal})
				d.hears(string(c.want))
				if got := d.get(m.ID); got.Status != c.want || got.Reason != c.signal.Reason() {
					t.Errorf("shown as %s, %q", got.Status, got.Reason)
				}
				w.gone(m.CallID)
				_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
				w.refused(err, call.IncompatibleState)
				pass(w.g.config.EndedRetention + 11*time.Second)
				_, err = w.g.Session(w.t.Context(), d.p, m.ID)
				w.refused(err, call.NotFound)
			})
		})
	}
}

func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name   string
		ending Ending
		want   call.Status
	}{
		{"487", Ending{Kind: EndedRejected, Local: true, Signal: call.Signal{Code: 487, Phrase: "Request Terminated"}}, call.SessionCancelled},
		{"no answer to CANCEL", Ending{Kind: EndedFailed, Local: true, Signal: call.Signal{Code: 408, Phrase: "no answer"}}, call.SessionCancelled},
		{"486 on its way", Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486, Phrase: "Busy Here"}}, call.Busy},
		{"200 on its way", Ending{Kind: EndedBye, Local: true, Signal: call.Signal{Phrase: "Normal call clearing"}}, call.Terminated},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				m := d.calls()
				w.provisional(m.CallID, 180, "Ringing", "")
				if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
					t.Fatal(err)
				}
				w.did("Invite tel:+15550199", "End 487 Q.850 16")
				w.provisional(m.CallID, 183, "Session Progress", "")
				if c.ending.Kind == EndedBye {
					w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
				}
				d.hears("Ringing")
				w.over(m.CallID, c.ending)
				d.hears(string(c.want))
				w.gone(m.CallID)
				w.did()
			})
		})
	}
}

func TestFarEndHangsUp(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		w.over(m.CallID, Ending{Kind: EndedBye, Signal: call.Signal{Phrase: "hung up", Q850: 16}})
		d.hears("Terminated")
		if got := d.get(m.ID); got.Reason != "hung up; Q.850 16" {
			t.Errorf("reason is %q", got.Reason)
		}
		w.gone(m.CallID)
		if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
			t.Error(err)
		}
		w.refused(w.g.EndSession(w.t.Context(), d.p, m.ID), call.NotFound)
		d.hears()
		w.did()
	})
}

func TestOriginateRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*OriginateRequest)
		code   call.Code
	}{
		{"no registration", func(r *OriginateRequest) { r.RegistrationID = "unknown" }, call.InvalidTokenContext},
		{"another's number", func(r *OriginateRequest) { r.Originator = bobNumber.Address() }, call.InvalidTokenContext},
		{"to nobody", func(r *OriginateRequest) { r.Receiver = call.AnonymousAddress() }, call.InvalidArgument},
		{"emergency", func(r *OriginateRequest) { r.CallType = call.Emergency }, call.EmergencyNotSupported},
		{"emergency by address", func(r *OriginateRequest) { r.Receiver, _ = call.ParseAddress("urn:service:sos") }, call.EmergencyNotSupported},
		{"no offer", func(r *OriginateRequest) { r.Offer = "" }, call.InvalidArgument},
		{"no SDP", func(r *OriginateRequest) { r.Offer = "v=1" }, call.InvalidArgument},
		{"plain RTP", func(r *OriginateRequest) { r.Offer = coreOffer(sdp.SendRecv) }, call.InvalidArgument},
		{"ICE lite", func(r *OriginateRequest) {
			r.Offer = strings.Replace(r.Offer, "t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", 1)
		}, call.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				_, err := d.originate(c.change)
				w.refused(err, c.code)
				w.did()
				d.hears()
				if n := len(w.store.contents.Load().sessions); n != 0 {
					t.Errorf("%d sessions are stored", n)
				}
			})
		})
	}
	t.Run("another's registration", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d, other := w.device(aliceNumber, "phone"), w.device(bobNumber, "phone")
			_, err := d.originate(func(r *OriginateRequest) { r.RegistrationID = other.reg.ID })
			w.refused(err, call.InvalidTokenContext)
		})
	})
	t.Run("expired registration", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			pass(2 * time.Hour)
			_, err := d.originate(func(*OriginateRequest) {})
			w.refused(err, call.InvalidTokenContext)
		})
	})
}

// TestOriginateFailsAtOnce: what the response says needs no event, and nothing
// is left of the call.
func TestOriginateFailsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*world)
		code    call.Code
	}{
		{"no media node", func(w *world) { w.media.refuse(ErrNoMediaNode) }, call.Unavailable},
		{"network down", func(w *world) { w.net.inviteErr = ErrNetworkDown }, call.Unavailable},
		{"no trunk takes it", func(w *world) {
			w.net.inviteErr = &RejectedError{call.Signal{Code: 403, Phrase: "Forbidden"}}
		}, call.PermissionDenied},
		{"store down", func(w *world) { w.store.setDown(true) }, call.Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				c.prepare(w)
				m, err := d.originate(func(*OriginateRequest) {})
				w.refused(err, c.code)
				if m.ID != "" {
					t.Errorf("answers %+v beside the error", m)
				}
				d.hears()
				if n := len(w.g.held()); n != 0 {
					t.Errorf("%d calls are held", n)
				}
				for id := range w.store.contents.Load().calls {
					t.Errorf("call %s is stored", id)
				}
			})
		})
	}
}

func TestNoCodecInCommon(t *testing.T) {
	g729 := sdp.Codec{PayloadType: 18, Encoding: "G729", ClockRate: 8000}
	t.Run("that may pass", func(t *testing.T) {
		play(t, func(c *Config) { c.Codecs = []string{"G722"} }, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := d.calls()
			d.hears("Failed")
			w.did()
			w.gone(m.CallID)
		})
	})
	t.Run("answered", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := d.calls()
			foreign := strings.NewReplacer("RTP/AVP 0 101", "RTP/AVP 18 101", "0 PCMU/8000", "18 G729/8000").Replace(coreAnswer(w.offered(m.CallID), sdp.SendRecv))
			if !strings.Contains(foreign, g729.Encoding) {
				t.Fatal("the answer is not what it should be")
			}
			w.answer(m.CallID, foreign)
			w.did("Invite tel:+15550199", "End 488 Q.850 88")
			w.settle(m.CallID)
			d.hears("Failed")
			w.gone(m.CallID)
		})
	})
}

func TestAnonymousCaller(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		_, err := d.originate(func(r *OriginateRequest) { r.Originator = call.AnonymousAddress() })
		if err != nil {
			t.Fatal(err)
		}
		if in := w.net.invites[0]; !in.Anonymous || in.Number != aliceNumber {
			t.Errorf("invited with %+v", in)
		}
	})
}

func TestLateOffer(t *testing.T) {
	late := func(r *OriginateRequest) { r.Offer, r.LateOffer = "", true }
	t.Run("comes", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m, err := d.originate(late)
			if err != nil {
				t.Fatal(err)
			}
			w.did()
			pass(30 * time.Second)
			d.mustPut(m.ID, StatusRequest{Offer: d.conn.offer()})
			w.did("Invite tel:+15550199")
			pass(2 * time.Minute)
			w.provisional(m.CallID, 180, "Ringing", "")
			d.hears("Ringing")
		})
	})
	t.Run("never comes", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m, err := d.originate(late)
			if err != nil {
				t.Fatal(err)
			}
			pass(w.g.config.LateOfferWait)
			d.hears("Failed")
			w.gone(m.CallID)
		})
	})
	t.Run("is cancelled", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m, _ := d.originate(late)
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
				t.Fatal(err)
			}
			d.hears("SessionCancelled")
			w.gone(m.CallID)
		})
	})
	t.Run("cannot be sent", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m, _ := d.originate(late)
			w.net.inviteErr = ErrNetworkDown
			_, err := d.put(m.ID, StatusRequest{Offer: d.conn.offer()})
			w.refused(err, call.Unavailable)
			d.hears("Failed")
			if got := d.get(m.ID); got.Status != call.Failed {
				t.Errorf("shown as %s", got.Status)
			}
		})
	})
}

func TestCorrelatorMakesRepeatsHarmless(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		offer := d.conn.offer()
		request := func(r *OriginateRequest) { r.ClientCorrelator, r.Offer = "mine", offer }
		type outcome struct {
			m   call.MediaSession
			err error
		}
		results := make(chan outcome, 3)
		for range cap(results) {
			go func() {
				m, err := d.originate(request)
				results <- outcome{m, err}
			}()
		}
		first := <-results
		for range cap(results) - 1 {
			if again := <-results; again.err != nil || again.m.ID != first.m.ID {
				t.Errorf("the repeat made %s of %s, %v", again.m.ID, first.m.ID, again.err)
			}
		}
		w.did("Invite tel:+15550199")
		other, err := d.originate(func(r *OriginateRequest) { request(r); r.Receiver, _ = call.ParseAddress("tel:+15550111") })
		if err != nil || other.ID == first.m.ID {
			t.Errorf("another receiver: %s, %v", other.ID, err)
		}
		w.over(first.m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		if again, err := d.originate(request); err != nil || again.ID == first.m.ID {
			t.Errorf("after the end: %s, %v", again.ID, err)
		}
	})
}

func TestReofferBeforeTheAnswer(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early media %t", early), func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				m := d.calls()
				if early {
					w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv))
					d.hears("InProgress+answer")
				}
				d.conn = newPeerConnection("reloaded")
				if _, err := d.put(m.ID, StatusRequest{Status: call.InProgress, Offer: d.conn.offer()}); err != nil {
					t.Fatal(err)
				}
				if early {
					d.hears("InProgress+answer")
				}
				w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
				d.hears("Connected+answer")
				plan, _ := w.media.plan(m.CallID)
				if len(plan.Browsers) != 1 || plan.Talking != plan.Browsers[0].ID || plan.Browsers[0].RemoteUfrag != d.conn.ufrag {
					t.Errorf("media is %+v", plan)
				}
			})
		})
	}
}

func TestOriginatorMayNotAnswer(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		for _, status := range []call.Status{call.Connected, call.Hold, call.Resume, call.Ringing} {
			_, err := d.put(m.ID, StatusRequest{Status: status})
			w.refused(err, call.IncompatibleState)
		}
		for _, status := range []call.Status{call.Terminated, call.Busy, call.Initial, "Nonsense"} {
			_, err := d.put(m.ID, StatusRequest{Status: status})
			w.refused(err, call.InvalidArgument)
		}
		_, err := w.g.UpdateSession(w.t.Context(), principal(bobNumber), m.ID, StatusRequest{Status: call.Hold})
		w.refused(err, call.NotFound)
		w.refused(w.g.EndSession(w.t.Context(), principal(bobNumber), m.ID), call.NotFound)
		d.hears()
	})
}

func TestNetworkErrors(t *testing.T) {
	reject := func(code int) error { return &RejectedError{call.Signal{Code: code, Phrase: "x"}} }
	for _, c := range []struct {
		err  error
		want call.Code
	}{
		{reject(401), call.PermissionDenied}, {reject(403), call.PermissionDenied}, {reject(404), call.PermissionDenied},
		{reject(407), call.PermissionDenied}, {reject(500), call.Unavailable}, {reject(503), call.Unavailable},
		{reject(408), call.Timeout}, {reject(504), call.Timeout},
		{ErrNetworkTimeout, call.Timeout}, {ErrNetworkDown, call.Unavailable}, {errors.New("else"), call.Internal},
	} {
		if got := call.CodeOf(networkError(fmt.Errorf("register: %w", c.err))); got != c.want {
			t.Errorf("%v is told as %s, want %s", c.err, got, c.want)
		}
	}
}
