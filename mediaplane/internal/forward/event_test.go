package forward

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTelephoneEvents(t *testing.T) {
	type ev struct {
		ts       uint32 // in the input's own units
		duration uint16
		end      bool
	}
	cases := []struct {
		name      string
		media     Format
		from, to  Format
		mediaStep uint32
		events    []ev
		durations []uint16
		tsFrom    uint32 // timestamp of the event, from that of the last media packet
		length    time.Duration
		digits    string
	}{
		{"8 to 8", pcmu, te8, te8, 160, []ev{{160, 160, false}, {160, 320, false}, {160, 480, true}, {160, 480, true}, {160, 480, true}},
			[]uint16{160, 320, 480, 480, 480}, 160, 60 * time.Millisecond, "5"},
		{"8 to 48 on the media's time line", opus, te8, te48, 960, []ev{{960, 160, false}, {960, 800, true}, {960, 800, true}},
			[]uint16{960, 4800, 4800}, 960, 100 * time.Millisecond, "5"},
		{"8 to 48, its own time line", opus, te8, te48, 960, []ev{{3000000000, 160, false}, {3000000000, 800, true}},
			[]uint16{960, 4800}, 960, 100 * time.Millisecond, "5"},
		{"48 to 8", opus, te48, te8, 960, []ev{{960, 960, false}, {960, 4800, true}},
			[]uint16{160, 800}, 960, 100 * time.Millisecond, "5"},
		{"only an end packet", opus, te8, te48, 960, []ev{{960, 960, true}},
			[]uint16{5760}, 960, 120 * time.Millisecond, "5"},
		{"too long for 16 bits at 48", opus, te8, te48, 960, []ev{{960, 8000, false}, {960, 12000, true}},
			[]uint16{48000, 65535}, 960, 1500 * time.Millisecond, "5"},
		{"segments of a long event become one", opus, te48, te8, 960, []ev{{960, 65535, false}, {960 + 65535, 9600, true}},
			[]uint16{10922, 12522}, 960, time.Duration(65535+9600) * time.Second / 48000, "5"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := setup()
			b.change(func(cfg *Config) {
				cfg.Rules[0].Outputs[0].Payloads = []Payload{{c.media.PayloadType, c.media.PayloadType}, {c.from.PayloadType, c.to.PayloadType}}
			})
			const base = 7000
			b.feed("A", packet(c.media.PayloadType, 1, base-c.mediaStep, 1), frame)
			b.feed("A", packet(c.media.PayloadType, 2, base, 1), frame)
			media := b.sink.last(t)
			for i, e := range c.events {
				b.feed("A", packet(c.from.PayloadType, uint16(3+i), base+e.ts, 1, event(5, e.end, e.duration)...), frame)
				p := b.sink.last(t)
				if p.PayloadType != c.to.PayloadType || p.SequenceNumber != media.SequenceNumber+1+uint16(i) {
					t.Fatalf("event %d: payload type %d sequence %d", i, p.PayloadType, p.SequenceNumber)
				}
				if got := binary.BigEndian.Uint16(p.Payload[2:]); got != c.durations[i] {
					t.Errorf("event %d: duration %d, want %d", i, got, c.durations[i])
				}
				if got := p.Timestamp - media.Timestamp; got != c.tsFrom {
					t.Errorf("event %d: timestamp %d after the media, want %d", i, int32(got), c.tsFrom)
				}
			}
			if string(b.sink.digits) != c.digits {
				t.Fatalf("digits %q, want %q", b.sink.digits, c.digits)
			}
			if b.sink.lengths[0] != c.length {
				t.Errorf("length %s, want %s", b.sink.lengths[0], c.length)
			}
			n := uint16(len(c.events))
			step := c.mediaStep * uint32(n+1)
			b.feed("A", packet(c.media.PayloadType, 3+n, base+step, 1), frame)
			if p := b.sink.last(t); p.Timestamp-media.Timestamp != step || p.SequenceNumber != media.SequenceNumber+1+n {
				t.Errorf("media after the event: %d/%d after %d/%d", p.SequenceNumber, p.Timestamp, media.SequenceNumber, media.Timestamp)
			}
		})
	}
}

// Durations scale without drift: at most one unit of rounding, never beyond 16 bits.
func TestEventScalingProperty(t *testing.T) {
	rates := []uint32{8000, 16000, 32000, 44100, 48000}
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.SampledFrom(rates).Draw(t, "from"), rapid.SampledFrom(rates).Draw(t, "to")
		duration := rapid.Uint16().Draw(t, "duration")
		var o sender
		_, got := o.eventTime(&reception{}, header{time: 5}, telephoneEvent{code: 1, duration: duration}, from, to, epoch)
		want := float64(duration) * float64(to) / float64(from)
		if want > 65535 {
			want = 65535
		}
		if diff := want - float64(got); diff < 0 || diff >= 1 {
			t.Fatalf("%d at %d Hz becomes %d at %d Hz, want %.1f", duration, from, got, to, want)
		}
	})
}

func TestDigits(t *testing.T) {
	type p struct {
		code  byte
		ts    uint32
		end   bool
		dur   uint16
		after time.Duration
	}
	cases := []struct {
		name    string
		packets []p
		want    string
	}{
		{"every key", []p{
			{0, 1, true, 800, frame}, {9, 1001, true, 800, frame}, {10, 2001, true, 800, frame},
			{11, 3001, true, 800, frame}, {12, 4001, true, 800, frame}, {15, 5001, true, 800, frame},
		}, "09*#AD"},
		{"end packets are copies", []p{{1, 1, false, 160, frame}, {1, 1, true, 800, frame}, {1, 1, true, 800, frame}, {1, 1, true, 800, frame}}, "1"},
		{"the same key twice", []p{{1, 1, true, 800, frame}, {1, 2000, true, 800, frame}}, "11"},
		{"end lost, another key follows", []p{{1, 1, false, 160, frame}, {2, 900, true, 800, frame}}, "12"},
		{"end lost, silence follows", []p{{1, 1, false, 160, frame}}, "1"},
		{"a late copy of the key before", []p{{1, 1, true, 800, frame}, {2, 2000, false, 160, frame}, {1, 1, true, 800, 0}, {2, 2000, true, 800, frame}}, "12"},
		{"no key: hook flash", []p{{16, 1, true, 800, frame}}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := setup()
			for i, e := range c.packets {
				b.feed("A", packet(101, uint16(i), e.ts, 1, event(e.code, e.end, e.dur)...), e.after)
			}
			b.Tick(b.now.Add(time.Second))
			if got := string(b.sink.digits); got != c.want {
				t.Errorf("digits %q, want %q", got, c.want)
			}
		})
	}
}
