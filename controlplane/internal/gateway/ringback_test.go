package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// browser is the leg of a call's one device, as the media node has it.
func (w *world) browser(callID string) BrowserLeg {
	w.t.Helper()
	p, ok := w.media.plan(callID)
	if !ok || len(p.Browsers) != 1 {
		w.t.Fatalf("the call has media %t, %d browsers", ok, len(p.Browsers))
	}
	return p.Browsers[0]
}

func TestRingback(t *testing.T) {
	us, err := ParseTone("us")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		trunk, asked Ringback
		want         bool
	}{
		{"", "", false}, {"", RingbackByGateway, true}, {"", RingbackByNetwork, false},
		{RingbackOnRequest, RingbackByGateway, true}, {RingbackOff, RingbackByGateway, false},
		{RingbackAlways, "", true}, {RingbackAlways, RingbackByNetwork, false},
	} {
		play(t, nil, func(w *world) {
			w.net.media = MediaPolicy{Ringback: c.trunk, RingbackTone: us, Codecs: []string{"opus", "PCMA"}}
			d := w.device(aliceNumber, "phone")
			m, err := d.originate(func(r *OriginateRequest) { r.Ringback = c.asked })
			if err != nil {
				t.Fatal(err)
			}
			w.provisional(m.CallID, 180, "Ringing", "")
			tone := w.browser(m.CallID).Tone
			if !c.want {
				d.hears("Ringing")
				if tone != nil {
					t.Errorf("%+v: a tone", c)
				}
				w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
				return
			}
			// In the G.711 that the trunk likes, beside the codec that the call may have.
			d.hears("Ringing+answer")
			answer := d.get(m.ID).Answer
			if tone == nil || tone.PayloadType != 8 || len(tone.Segments) != 2 || tone.Segments[0].Hz[1] != 480 || !strings.Contains(line(answer, "m="), "SAVPF 111 8 101") {
				t.Errorf("%+v: tone %+v, answer\n%s", c, tone, line(answer, "m="))
			}
			w.provisional(m.CallID, 180, "Ringing", "")
			d.hears("Ringing")

			// Early media: the node ends the tone with the first packet; a call in
			// Opus keeps the codec of the tone until then.
			w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv, opus, digits8))
			d.hears("InProgress")
			if b := w.browser(m.CallID); b.Tone == nil || len(b.Codecs) != 3 {
				t.Errorf("%+v: with early media %v, tone %v", c, b.Codecs, b.Tone)
			}
			// The answer says the same as the early media and ends the tone.
			w.answer(m.CallID, "")
			d.hears("Connected+answer")
			if b := w.browser(m.CallID); b.Tone != nil || strings.Contains(line(d.get(m.ID).Answer, "m="), " 8") {
				t.Errorf("%+v: connected with %v, tone %v", c, b.Codecs, b.Tone)
			}
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	}
}

// A network that authorizes early media with its 180 sends it; a browser without
// G.711 cannot hear a tone.
func TestNoRingback(t *testing.T) {
	play(t, nil, func(w *world) {
		w.net.media = MediaPolicy{Ringback: RingbackAlways}
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.g.Provisional(t.Context(), m.CallID, Answer{Signal: call.Signal{Code: 180, Phrase: "Ringing"}, EarlyMedia: EarlyMediaSendRecv})
		d.hears("Ringing")
		w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		d.hears("Busy")

		d.conn = newPeerConnection("opus")
		d.conn.codecs = []sdp.Codec{opus}
		m = d.calls()
		w.provisional(m.CallID, 180, "Ringing", "")
		d.hears("Ringing")
		w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
	})
}

func TestParseTone(t *testing.T) {
	for name := range tones {
		segments, err := ParseTone(name)
		if err != nil || len(segments)%2 != 0 {
			t.Errorf("%s: %v %v", name, segments, err)
		}
	}
	got, err := ParseTone("440+480/2000, 0/4000")
	if err != nil || len(got) != 2 || len(got[0].Hz) != 2 || got[1].Duration != 4*time.Second || got[1].Hz != nil {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", "mars", "425", "425/", "425/5", "425/99999", "4/1000", "425+/100", "1+2+3/100", "425+425+425+425+425/100", strings.Repeat("425/100,", 16) + "425/100", "NaN/100"} {
		if got, err := ParseTone(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// Digits by INFO reach the browser as telephone-events, unless the far end has those
// itself.
func TestDigitsOfTheFarEnd(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv, pcmu))
		for _, digit := range []string{"1", "#"} {
			w.g.Digit(t.Context(), m.CallID, digit, 160)
		}
		other := w.connected(w.device(aliceNumber, "tablet"))
		w.g.Digit(t.Context(), other.CallID, "5", 160)
		if got := strings.Join(w.media.digits, ", "); got != m.ID+" 1 160, "+m.ID+" # 160" {
			t.Errorf("the media node was asked for %s", got)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
		w.over(other.CallID, Ending{Kind: EndedBye})
	})
}
