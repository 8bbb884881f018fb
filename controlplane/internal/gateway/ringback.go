package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// A caller whose far end rings and sends no early media hears nothing, unless
// somebody plays ringing tone to him (RFC 3960). The media node does where the
// trunk wants it or the application asks for it: in G.711, which every browser has
// (RFC 7874 3) and which the answer to it then holds beside the codec of the call,
// until the first packet of the far end, or its answer.

// Ringback says who plays ringing tone: what a trunk wants, or a request asks for.
type Ringback string

// What a trunk wants; empty is RingbackOnRequest.
const (
	RingbackOff       Ringback = "off"
	RingbackOnRequest Ringback = "request"
	RingbackAlways    Ringback = "always"
)

// What a request asks for; empty leaves it to the trunk.
const (
	RingbackByGateway Ringback = "gateway"
	RingbackByNetwork Ringback = "network"
)

// ToneSegment is a part of a tone's cadence; without frequencies it is silence.
type ToneSegment struct {
	// Hz, at most four, added up.
	Hz       []float64 `json:",omitempty"`
	Duration time.Duration
}

// Tone is what the media node plays to a browser.
type Tone struct {
	// PayloadType of G.711 on the browser's side.
	PayloadType uint8
	Segments    []ToneSegment
}

// tones by name: that which ITU-T E.180 recommends, and those of some countries
// (E.180 Supplement 2).
var tones = map[string]string{
	"itu": "425/1000,0/4000",
	"us":  "440+480/2000,0/4000",
	"uk":  "400+450/400,0/200,400+450/400,0/2000",
	"fr":  "440/1500,0/3500",
	"au":  "400+425+450/400,0/200,400+425+450/400,0/2000",
	"jp":  "384+416/1000,0/2000",
}

// DefaultTone is the name of the tone that is played unless another is wanted.
const DefaultTone = "itu"

// ParseTone reads a tone: its name, or frequencies in Hz and durations in
// milliseconds as in "440+480/2000,0/4000".
func ParseTone(text string) ([]ToneSegment, error) {
	if named, ok := tones[strings.ToLower(text)]; ok {
		text = named
	}
	parts := strings.Split(text, ",")
	if len(parts) > 16 {
		return nil, fmt.Errorf("a tone has at most 16 parts, this one %d", len(parts))
	}
	var out []ToneSegment
	for _, part := range parts {
		frequencies, length, ok := strings.Cut(strings.TrimSpace(part), "/")
		ms, err := strconv.Atoi(length)
		if !ok || err != nil || ms < 10 || ms > 60000 {
			return nil, fmt.Errorf("%q is neither a known tone (itu, us, uk, fr, au, jp) nor Hz+Hz/milliseconds, 10 to 60000 of them", part)
		}
		s := ToneSegment{Duration: time.Duration(ms) * time.Millisecond}
		if frequencies != "0" {
			for f := range strings.SplitSeq(frequencies, "+") {
				hz, err := strconv.ParseFloat(f, 64)
				if err != nil || !(hz >= 20 && hz <= 3400) {
					return nil, fmt.Errorf("%q in %q is no frequency from 20 to 3400 Hz", f, part)
				}
				s.Hz = append(s.Hz, hz)
			}
		}
		if len(s.Hz) > 4 {
			return nil, fmt.Errorf("%q has more than 4 frequencies", part)
		}
		out = append(out, s)
	}
	return out, nil
}

// ringsBack reports whether the media node is to play ringing tone in a call.
func (lc *liveCall) ringsBack() bool {
	switch lc.Media.Core.Policy.Ringback {
	case RingbackOff:
		return false
	case RingbackAlways:
		return lc.Ringback != RingbackByNetwork
	}
	return lc.Ringback == RingbackByGateway
}

// ring lets a calling browser hear that the far end rings. The result is a new
// answer for it, empty when the one that it has will do.
func (g *Gateway) ring(ctx context.Context, lc *liveCall, m *call.MediaSession) (string, error) {
	leg, core := lc.leg(m.ID), lc.Media.Core
	if leg == nil || leg.Tone != nil {
		return "", nil
	}
	offer, err := sdp.ParseWebRTC(leg.SDP.Remote)
	if err != nil {
		return "", err
	}
	codec, ok := g711(core.Offered, offer.Codecs)
	if !ok {
		return "", nil // it offered nothing that a tone can be played in
	}
	segments := core.Policy.RingbackTone
	if len(segments) == 0 {
		if segments, err = ParseTone(DefaultTone); err != nil {
			return "", err
		}
	}
	before := *leg
	if lc.Media.Talking == "" {
		leg.Codecs = withEvents(sdp.AnswerFor(offer.Codecs, core.Offered), offer.Codecs)
	}
	leg.Tone = &Tone{PayloadType: codec.PayloadType, Segments: segments}
	leg.Codecs = leg.withTone(leg.Codecs, offer.Codecs)
	if err := g.apply(ctx, lc); err != nil {
		*leg = before
		return "", err
	}
	return lc.freshAnswer(m, leg, offer)
}

// g711 is the codec of a browser that a tone is played in: the one that the trunk
// likes better, because the call may go on in it.
func g711(liked, browser []sdp.Codec) (sdp.Codec, bool) {
	for _, list := range [][]sdp.Codec{sdp.AnswerFor(browser, liked), browser} {
		for _, c := range list {
			if strings.EqualFold(c.Encoding, "PCMU") || strings.EqualFold(c.Encoding, "PCMA") {
				return c, true
			}
		}
	}
	return sdp.Codec{}, false
}

// withTone adds the codec of the leg's tone, behind the voice codecs, if there is a
// tone and it is not there yet.
func (b *BrowserLeg) withTone(codecs, offered []sdp.Codec) []sdp.Codec {
	if b.Tone == nil {
		return codecs
	}
	for _, c := range codecs {
		if c.PayloadType == b.Tone.PayloadType {
			return codecs
		}
	}
	for _, c := range offered {
		if c.PayloadType == b.Tone.PayloadType {
			behind := slices.IndexFunc(codecs, sdp.Codec.IsTelephoneEvent)
			if behind < 0 {
				behind = len(codecs)
			}
			return slices.Insert(slices.Clone(codecs), behind, c)
		}
	}
	return codecs
}

// freshAnswer is the answer to a browser's offer if it is not the one that it has.
func (lc *liveCall) freshAnswer(m *call.MediaSession, b *BrowserLeg, offer *sdp.WebRTC) (string, error) {
	answer, err := lc.browserAnswer(b, offer)
	if err != nil || answer == m.Answer {
		return "", err
	}
	m.Answer = answer
	return answer, nil
}
