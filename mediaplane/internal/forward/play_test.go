package forward

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"
)

var (
	pcma     = Format{PayloadType: 8, Encoding: "PCMA", ClockRate: 8000, Channels: 1}
	ringing  = []ToneSegment{{Hz: []float64{425}, Duration: time.Second}, {Duration: 4 * time.Second}}
	ringback = &Tone{PayloadType: 0, Segments: ringing}
)

// fromMuLaw and fromALaw are the decoders of ITU-T G.711.
func fromMuLaw(b byte) int {
	b = ^b
	v := (int(b&0x0f)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		return -v
	}
	return v
}

func fromALaw(b byte) int {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if e := int(b >> 4 & 7); e > 0 {
		v = (v + 0x100) << (e - 1)
	}
	if b&0x80 == 0 {
		return -v
	}
	return v
}

func TestG711(t *testing.T) {
	for name, law := range map[string]struct {
		encode func(int16) byte
		decode func(byte) int
	}{"PCMU": {muLaw, fromMuLaw}, "PCMA": {aLaw, fromALaw}} {
		for b := range 256 {
			sample := law.decode(byte(b))
			if got := law.decode(law.encode(int16(sample))); got != sample {
				t.Errorf("%s: %#02x is %d, and encoded again %d", name, b, sample, got)
			}
		}
		for s := -32768; s <= 32767; s += 7 {
			got := law.decode(law.encode(int16(s)))
			// Half a step of the segment, and what is clipped.
			if tolerance := max(16, abs(s)/30); abs(got-s) > tolerance && abs(s) < 32000 {
				t.Fatalf("%s: %d comes back as %d", name, s, got)
			}
		}
	}
}

func abs(v int) int { return max(v, -v) }

// power of a frequency among samples (Goertzel).
func power(samples []int, hz float64) float64 {
	w := 2 * math.Cos(2*math.Pi*hz/toneRate)
	var a, b float64
	for _, s := range samples {
		a, b = float64(s)+w*a-b, a
	}
	return (a*a + b*b - w*a*b) / float64(len(samples)*len(samples)) * 4
}

// heard decodes what stream b was sent.
func (b *bench) heard(decode func(byte) int) (samples []int) {
	for _, p := range b.sink.packets {
		for _, s := range p.Payload {
			samples = append(samples, decode(s))
		}
	}
	return samples
}

// steps runs time in steps of 5 ms.
func (b *bench) playFor(d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); b.now = b.now.Add(5 * time.Millisecond) {
		b.Play(b.now)
	}
}

func TestTones(t *testing.T) {
	for _, c := range []struct {
		name     string
		format   Format
		decode   func(byte) int
		segments []ToneSegment
	}{
		{"425 Hz", pcmu, fromMuLaw, ringing},
		{"440 and 480 Hz", pcma, fromALaw, []ToneSegment{{Hz: []float64{440, 480}, Duration: 2 * time.Second}, {Duration: 4 * time.Second}}},
		{"double ring", pcma, fromALaw, []ToneSegment{
			{Hz: []float64{400, 450}, Duration: 400 * time.Millisecond}, {Duration: 200 * time.Millisecond},
			{Hz: []float64{400, 450}, Duration: 400 * time.Millisecond}, {Duration: 2 * time.Second}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup()
			b.change(func(cfg *Config) {
				cfg.Streams[1].Formats = []Format{c.format}
				cfg.Streams[1].Tone = &Tone{PayloadType: c.format.PayloadType, Segments: c.segments}
			})
			b.playFor(6 * time.Second)
			samples := b.heard(c.decode)
			if n := len(samples); n != 6*toneRate {
				t.Fatalf("%d samples in 6 s", n)
			}
			at := 0
			for _, s := range c.segments {
				n := int(s.Duration.Seconds() * toneRate)
				part := samples[at+toneRamp : at+n-toneRamp]
				at += n
				for _, hz := range s.Hz {
					level := 10*math.Log10(power(part, hz)) - 20*math.Log10(32124) + fullScale
					if math.Abs(level-toneLevel) > 0.5 {
						t.Errorf("%g Hz has %.1f dBm0", hz, level)
					}
				}
				for _, v := range part {
					if len(s.Hz) == 0 && abs(v) > 8 {
						t.Fatalf("a pause has the sample %d", v)
					}
				}
			}
			for i, p := range b.sink.packets {
				first := b.sink.packets[0]
				if p.PayloadType != c.format.PayloadType || p.index != first.index+uint64(i) || p.Timestamp != first.Timestamp+uint32(i*toneFrame) || p.Marker != (i == 0) {
					t.Fatalf("packet %d: %v", i, p.Header)
				}
			}
		})
	}
}

// click is the largest step between neighbouring samples that a tone makes by
// itself, with some room.
func click(hz float64) int {
	return int(1.2 * 2 * math.Pi * hz / toneRate * 32124 * math.Pow(10, (toneLevel-fullScale)/20))
}

// Whenever early media, the answer or a spec ends a tone, the far end of the stream
// hears no edge, and one sequence.
func TestToneEndsWithoutClick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := setup()
		b.change(func(c *Config) { c.Streams[1].Tone = ringback })
		played := time.Duration(rapid.IntRange(0, 6000).Draw(t, "ms")) * time.Millisecond
		b.playFor(played)
		silence := make([]byte, toneFrame)
		for i := range silence {
			silence[i] = muLaw(0)
		}
		media := rapid.Bool().Draw(t, "ended by media")
		if !media {
			b.change(func(c *Config) { c.Streams[1].Tone = nil })
		}
		for i := range 10 {
			b.feed("A", packet(0, uint16(500+i), uint32(90000+160*i), 1, silence...), frame)
			b.Play(b.now)
		}
		packets := b.sink.packets
		for i, p := range packets[1:] {
			if p.index != packets[i].index+1 {
				t.Fatalf("packet %d has index %d after %d", i+1, p.index, packets[i].index)
			}
			if step := int32(p.Timestamp - packets[i].Timestamp); step < toneFrame {
				t.Fatalf("packet %d moves the timestamp by %d", i+1, step)
			}
		}
		samples := b.heard(fromMuLaw)
		for i, s := range samples[1:] {
			if abs(s-samples[i]) > click(425) {
				t.Fatalf("a step from %d to %d at sample %d of %d", samples[i], s, i, len(samples))
			}
		}
		if next := b.Play(b.now.Add(time.Second)); !next.IsZero() {
			t.Fatal("the tone goes on")
		}
	})
}

// Early media that runs is not disturbed by a tone that comes too late.
func TestToneAfterMedia(t *testing.T) {
	b := setup()
	b.feed("A", packet(0, 1, 160, 1), frame)
	b.now = b.now.Add(time.Second)
	b.change(func(c *Config) { c.Streams[1].Tone = ringback })
	b.playFor(time.Second)
	if n := len(b.sink.packets); n != 1 {
		t.Errorf("%d packets were sent", n)
	}
}

// A leg that cannot send yet misses what was played until then.
func TestToneWaitsForLeg(t *testing.T) {
	b := setup()
	b.sink.answer = NotReady
	b.change(func(c *Config) { c.Streams[1].Tone = ringback })
	b.playFor(500 * time.Millisecond)
	b.sink.answer = Sent
	b.playFor(time.Second)
	if samples := b.heard(fromMuLaw); len(samples) != toneRate || abs(samples[len(samples)-1]) > 8 {
		t.Errorf("%d samples, the last %d: half a second of the ring should be left", len(samples), samples[len(samples)-1])
	}
}

func TestDial(t *testing.T) {
	b := setup()
	b.feed("A", packet(111, 1, 960, 1), frame) // the media has 48 kHz
	media := b.sink.last(t)
	if err := b.Dial("b", []Digit{{'5', 100 * time.Millisecond}, {'#', time.Millisecond}}, b.now); err != nil {
		t.Fatal(err)
	}
	b.playFor(500 * time.Millisecond)
	var got []byte
	var durations []uint16
	events := b.sink.packets[1:]
	for i, p := range events {
		if p.PayloadType != te48.PayloadType || p.SSRC != 0xbbbb || p.index != media.index+1+uint64(i) {
			t.Fatalf("event packet %d: %v", i, p.Header)
		}
		first := i == 0 || p.Timestamp != events[i-1].Timestamp
		if p.Marker != first {
			t.Errorf("event packet %d: marker %t", i, p.Marker)
		}
		if first {
			got = append(got, Digits[p.Payload[0]])
			durations = append(durations, 0)
		}
		durations[len(durations)-1] = binary.BigEndian.Uint16(p.Payload[2:])
	}
	if string(got) != "5#" || durations[0] != 4800 || durations[1] != 1920 {
		t.Errorf("digits %q, durations %d", got, durations)
	}
	if last := events[len(events)-1]; last.Payload[1] != 0x80|dialVolume {
		t.Errorf("the last packet has flags %#x", last.Payload[1])
	}
	for stream, digits := range map[string][]Digit{
		"nobody": {{'1', time.Second}}, "b": {{'x', time.Second}}, "a": make([]Digit, 65),
	} {
		if err := b.Dial(stream, digits, b.now); err == nil {
			t.Errorf("%s takes %v", stream, digits)
		}
	}
	b.change(func(c *Config) { c.Streams[1].Formats = []Format{pcmu} })
	if err := b.Dial("b", []Digit{{'1', time.Second}}, b.now); err == nil {
		t.Error("a stream without telephone-event takes a digit")
	}
}

// Media, digits and tones in any order: what a stream sends is one sequence without
// gap or repetition, media keeps its time line, and every digit arrives once.
func TestPlayProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := setup()
		seq, ts := uint16(rapid.Uint16().Draw(t, "sequence")), rapid.Uint32().Draw(t, "time")
		var want []byte
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				d := Digits[rapid.IntRange(0, 15).Draw(t, "digit")]
				if b.Dial("b", []Digit{{d, time.Duration(rapid.IntRange(0, 300).Draw(t, "length")) * time.Millisecond}}, b.now) == nil {
					want = append(want, d)
				}
			case 1:
				tone := rapid.SampledFrom([]*Tone{nil, ringback}).Draw(t, "tone")
				b.change(func(c *Config) { c.Streams[1].Tone = tone })
			case 2:
				b.playFor(time.Duration(rapid.IntRange(1, 400).Draw(t, "pause")) * time.Millisecond)
				ts += 1 << 20 // the source is another one, or has paused
			default:
				b.feed("A", packet(0, seq, ts, 1), frame)
				b.Play(b.now)
				seq, ts = seq+1, ts+160
			}
		}
		b.playFor(time.Minute)
		var got []byte
		var event uint32
		for i, p := range b.sink.packets {
			if i > 0 && p.index != b.sink.packets[i-1].index+1 {
				t.Fatalf("packet %d has index %d after %d", i, p.index, b.sink.packets[i-1].index)
			}
			if p.PayloadType == te8.PayloadType && (len(got) == 0 || p.Marker) {
				got, event = append(got, Digits[p.Payload[0]]), p.Timestamp
			}
			if p.PayloadType == te8.PayloadType && p.Timestamp != event {
				t.Fatalf("packet %d of an event has another timestamp", i)
			}
		}
		if string(got) != string(want) {
			t.Fatalf("dialled %q, sent %q", want, got)
		}
	})
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		encoding     string
		loss         float64
		jitter, trip time.Duration
		least, most  float64
	}{
		{"PCMU", 0, 0, 0, 4.40, 4.42},
		{"pcma", 0, 5 * time.Millisecond, 100 * time.Millisecond, 4.38, 4.42},
		{"PCMA", 0.01, 0, 0, 4.2, 4.4},
		{"PCMU", 0.05, 10 * time.Millisecond, 200 * time.Millisecond, 3.2, 4.0},
		{"PCMU", 0.3, 0, 0, 1, 2.5},
		{"opus", 0.05, 0, 0, 3.8, 4.3},
		{"PCMU", 0, 0, 900 * time.Millisecond, 2, 3.6},
		{"PCMU", 1, time.Second, 5 * time.Second, 1, 1},
		{"speex", 0, 0, 0, 0, 0},
	} {
		if q := Rate(c.encoding, c.loss, c.jitter, c.trip); q.MOS < c.least || q.MOS > c.most {
			t.Errorf("%s, %.0f%% lost, %s jitter, %s round trip: %.2f (R %.1f), want %.2f to %.2f", c.encoding, 100*c.loss, c.jitter, c.trip, q.MOS, q.Rating, c.least, c.most)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		loss, more := rapid.Float64Range(0, 1).Draw(t, "loss"), rapid.Float64Range(0, 1).Draw(t, "more")
		trip := time.Duration(rapid.IntRange(0, 5000).Draw(t, "round trip")) * time.Millisecond
		better, worse := Rate("PCMU", min(loss, more), 0, trip), Rate("PCMU", max(loss, more), 0, trip+50*time.Millisecond)
		if worse.MOS > better.MOS || better.MOS > 4.5 || worse.MOS < 1 {
			t.Fatalf("%+v is better than %+v", worse, better)
		}
	})
}

// What a stream receives is rated by what arrived, what it sends by the reports of
// its peer.
func TestQuality(t *testing.T) {
	b := setup()
	for i := range uint16(500) {
		if i%10 != 3 { // one in ten is lost
			b.feed("A", packet(0, 100+i, uint32(i)*160, 1), frame)
		}
	}
	report := rtcp.ReceiverReport{SSRC: 9, Reports: []rtcp.ReceptionReport{{SSRC: 0xbbbb, TotalLost: 9, Jitter: 80}}}
	raw, err := report.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !b.ReceiveRTCP("B", raw, b.now) {
		t.Fatal("the report was not taken")
	}
	states := b.State()
	in, out := states[0].Counters.Incoming, states[1].Counters.Outgoing
	if math.Abs(in.Loss-0.1) > 0.002 || in.MOS < 2 || in.MOS > 3.8 {
		t.Errorf("received: %+v", in)
	}
	if math.Abs(out.Loss-0.02) > 0.001 || out.Jitter != 10*time.Millisecond || out.MOS < 3.8 || out.MOS > 4.3 {
		t.Errorf("sent: %+v", out)
	}
	if states[1].Counters.Incoming != (Quality{}) {
		t.Errorf("of a stream that received nothing: %+v", states[1].Counters.Incoming)
	}
}
