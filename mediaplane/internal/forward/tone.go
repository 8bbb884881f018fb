package forward

import (
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// toneRate is the sampling rate of G.711 in Hz, in which tones are played.
	toneRate = 8000
	// toneFrame is one packet of a tone, in samples: 20 ms.
	toneFrame = toneRate / 50
	// toneRamp in samples rounds the edges of a tone off: 5 ms, without which
	// they click.
	toneRamp = toneRate / 200
	// toneLevel of each frequency, in dBm0 (ITU-T E.180: -10 ± 5 for all).
	toneLevel = -15.0
	// fullScale is the level of the largest sine in G.711, in dBm0.
	fullScale = 3.17
)

// ToneSegment is a part of a tone's cadence; without frequencies it is silence.
type ToneSegment struct {
	// Hz are added up.
	Hz       []float64
	Duration time.Duration
}

// Tone is what a stream plays to its peer while nobody else sends on it: ringing
// tone. It ends for good with the first packet that is forwarded.
type Tone struct {
	// PayloadType of a PCMU or PCMA format of the stream.
	PayloadType uint8
	// Segments are repeated.
	Segments []ToneSegment
}

// Equal reports whether both sound the same.
func (t *Tone) Equal(o *Tone) bool {
	if t == nil || o == nil {
		return t == o
	}
	return t.PayloadType == o.PayloadType && slices.EqualFunc(t.Segments, o.Segments, func(a, b ToneSegment) bool {
		return a.Duration == b.Duration && slices.Equal(a.Hz, b.Hz)
	})
}

// synthesizer computes the samples of a tone.
type synthesizer struct {
	segments []ToneSegment
	lengths  []int // in samples
	cycle    int
}

func newSynthesizer(segments []ToneSegment) *synthesizer {
	s := &synthesizer{segments: segments}
	for _, g := range segments {
		n := int(g.Duration * toneRate / time.Second)
		s.lengths = append(s.lengths, n)
		s.cycle += n
	}
	return s
}

// at finds the segment that sample n lies in, and how far it is from both ends.
func (s *synthesizer) at(n int) (segment, after, before int) {
	n %= s.cycle
	for i, length := range s.lengths {
		if n < length {
			return i, n, length - 1 - n
		}
		n -= length
	}
	return 0, 0, 0
}

// sample n of the tone, from -1 to 1 of full scale.
func (s *synthesizer) sample(n int) float64 {
	i, after, before := s.at(n)
	hz := s.segments[i].Hz
	if len(hz) == 0 {
		return 0
	}
	sum := 0.0
	for _, f := range hz {
		sum += math.Sin(2 * math.Pi * f * float64(n) / toneRate)
	}
	sum *= math.Pow(10, (toneLevel-fullScale)/20)
	if len(s.segments) > 1 || n < toneRamp {
		sum *= ramp(after) * ramp(before)
	}
	return sum
}

// ramp is the raised cosine over the first toneRamp samples from an edge.
func ramp(distance int) float64 {
	if distance >= toneRamp {
		return 1
	}
	return (1 - math.Cos(math.Pi*float64(distance)/toneRamp)) / 2
}

// frame encodes the samples from n on. fading ends them in silence.
func (s *synthesizer) frame(dst []byte, n int, law func(int16) byte, fading bool) []byte {
	for i := range toneFrame {
		v := s.sample(n + i)
		if fading {
			v *= (1 + math.Cos(math.Pi*float64(i)/toneFrame)) / 2
		}
		dst = append(dst, law(int16(math.Round(v*32124))))
	}
	return dst
}

// player plays one tone on a stream.
type player struct {
	tone  *Tone
	synth *synthesizer
	law   func(int16) byte
	// played samples; in step with the clock also while the leg cannot send.
	played int
	next   time.Time
	// sounded: the newest packet was sent, and was not silence.
	sounded bool
	started bool
	ended   bool
}

// recentMedia is how recently something must have been sent for a tone not to
// begin: early media has a pause, or has just been answered.
const recentMedia = 2 * time.Second

func newPlayer(s *Stream, tone *Tone, now time.Time) *player {
	p := &player{tone: tone, synth: newSynthesizer(tone.Segments), law: muLaw, next: now}
	f := s.formats[tone.PayloadType&0x7f]
	switch {
	case f == nil || p.synth.cycle == 0:
		p.ended = true
	case strings.EqualFold(f.Encoding, "PCMA"):
		p.law = aLaw
	}
	if at := s.out.at; !at.IsZero() && now.Sub(at) < recentMedia {
		p.ended = true
	}
	return p
}

// catchUp is how late a player may be before it leaves out what it missed.
const catchUp = 200 * time.Millisecond

// play sends what is due of a stream's tone and digits, and answers when the next
// is; the zero time when nothing is to come.
func (t *Table) play(s *Stream, now time.Time) time.Time {
	next := s.dial.play(t, s, now)
	p := s.player
	if p == nil || p.ended {
		return next
	}
	if late := now.Sub(p.next); late > catchUp {
		frames := int(late / (20 * time.Millisecond))
		p.played += frames * toneFrame
		p.next = p.next.Add(time.Duration(frames) * 20 * time.Millisecond)
	}
	for !p.next.After(now) {
		p.frame(t, s, now, false)
		p.played += toneFrame
		p.next = p.next.Add(20 * time.Millisecond)
	}
	if next.IsZero() || p.next.Before(next) {
		return p.next
	}
	return next
}

// frame sends one packet.
func (p *player) frame(t *Table, s *Stream, now time.Time, fading bool) {
	o := &s.out
	if !s.config.Direction.sends() {
		return
	}
	ts := o.ts + toneFrame
	if !p.started {
		ts = o.follow(toneRate, toneFrame, now)
	}
	b := append(t.scratch[:0], 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = p.synth.frame(b, p.played, p.law, fading)
	t.scratch = b
	index := o.index + 1
	rewrite(b, !p.started, p.tone.PayloadType, uint16(index), ts, o.ssrc)
	if t.deliver(s, b, minHeader, index, ts, now) != Sent {
		p.sounded, p.started = false, false
		return
	}
	o.forget()
	o.clock = toneRate
	segment, _, _ := p.synth.at(p.played)
	p.started, p.sounded = true, len(p.synth.segments[segment].Hz) > 0
}

// end stops the tone at once. In the middle of a sound one packet more lets it
// fade: a wave that is cut off clicks.
func (p *player) end(t *Table, s *Stream, now time.Time) {
	if p == nil || p.ended {
		return
	}
	if p.sounded {
		p.frame(t, s, now, true)
	}
	p.ended = true
}

// Play sends what is due of tones and digits, and answers when the next is; the
// zero time when nothing is to come.
func (t *Table) Play(now time.Time) (next time.Time) {
	for _, s := range t.streams {
		if at := t.play(s, now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
