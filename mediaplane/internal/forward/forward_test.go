package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"pgregory.net/rapid"
)

// recorder is a Sink that keeps what it is given.
type recorder struct {
	packets []sentPacket
	control []rtcp.Packet
	legs    []string // of control
	digits  []byte
	lengths []time.Duration
	silent  int
	resumed int
	first   []string
	answer  SendResult
}

type sentPacket struct {
	rtp.Packet
	leg   string
	index uint64
}

func (r *recorder) SendRTP(leg string, b []byte, ssrc uint32, index uint64) SendResult {
	var p rtp.Packet
	if err := p.Unmarshal(append([]byte(nil), b...)); err != nil {
		panic(err)
	}
	if p.SSRC != ssrc || uint16(index) != p.SequenceNumber {
		panic("the packet and its index do not agree")
	}
	if r.answer != NotReady {
		r.packets = append(r.packets, sentPacket{p, leg, index})
	}
	return r.answer
}

func (r *recorder) SendRTCP(leg string, b []byte) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		panic(err)
	}
	for _, p := range packets {
		r.control = append(r.control, p)
		r.legs = append(r.legs, leg)
	}
}
func (r *recorder) FirstPacket(stream string, _ uint32, _ uint8) { r.first = append(r.first, stream) }
func (r *recorder) DTMF(_ string, digit byte, d time.Duration) {
	r.digits = append(r.digits, digit)
	r.lengths = append(r.lengths, d)
}
func (r *recorder) MediaTimeout(string, time.Duration) { r.silent++ }
func (r *recorder) MediaResumed(string)                { r.resumed++ }
func (r *recorder) Reclaim(string) Progress            { return Progress{} }

func (r *recorder) last(t *testing.T) sentPacket {
	t.Helper()
	if len(r.packets) == 0 {
		t.Fatal("nothing was sent")
	}
	return r.packets[len(r.packets)-1]
}

var (
	pcmu  = Format{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000, Channels: 1}
	opus  = Format{PayloadType: 111, Encoding: "opus", ClockRate: 48000, Channels: 2}
	te8   = Format{PayloadType: 101, Encoding: "telephone-event", ClockRate: 8000}
	te48  = Format{PayloadType: 110, Encoding: "telephone-event", ClockRate: 48000}
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// bench is a table from stream a on leg A to stream b on leg B and back.
type bench struct {
	*Table
	sink *recorder
	cfg  Config
	now  time.Time
}

func setup() *bench {
	b := &bench{sink: &recorder{}, now: epoch}
	b.Table = New(b.sink, rand.New(rand.NewPCG(1, 2)))
	b.cfg = Config{
		Streams: []StreamConfig{
			{ID: "a", Leg: "A", Formats: []Format{pcmu, opus, te8, te48}, SSRC: 0xaaaa},
			{ID: "b", Leg: "B", Formats: []Format{pcmu, opus, te8, te48}, SSRC: 0xbbbb},
		},
		Rules: []Rule{
			{Input: "a", Outputs: []Output{{Stream: "b", Payloads: []Payload{{0, 0}, {111, 111}, {101, 101}, {110, 110}}}}},
			{Input: "b", Outputs: []Output{{Stream: "a", Payloads: []Payload{{0, 0}, {111, 111}, {101, 101}, {110, 110}}}}},
		},
	}
	b.Apply(b.cfg, b.now)
	return b
}

func (b *bench) change(f func(*Config)) {
	f(&b.cfg)
	b.Apply(b.cfg, b.now)
}

func packet(pt uint8, seq uint16, ts, ssrc uint32, payload ...byte) []byte {
	if payload == nil {
		payload = make([]byte, 160)
	}
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: seq, Timestamp: ts, SSRC: ssrc}, Payload: payload}
	raw, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	return raw
}

func event(code byte, end bool, duration uint16) []byte {
	b := []byte{code, 10, 0, 0}
	if end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], duration)
	return b
}

func (b *bench) feed(leg string, raw []byte, after time.Duration) Verdict {
	b.now = b.now.Add(after)
	return b.Receive(leg, raw, b.now)
}

const frame = 20 * time.Millisecond

func TestContinuity(t *testing.T) {
	type step struct {
		seq    uint16
		ts     uint32
		ssrc   uint32
		after  time.Duration
		sent   bool
		seqGap uint16 // from the packet sent before
		tsGap  uint32
		marker bool
	}
	cases := []struct {
		name  string
		steps []step
	}{
		{"wraps of both counters", []step{
			{65535, 0xffffffff - 100, 1, frame, true, 1, 160, false},
			{0, 59, 1, frame, true, 1, 160, false},
		}},
		{"loss stays a gap", []step{
			{14, 11600, 1, 4 * frame, true, 3, 480, false},
		}},
		{"reordered packets keep their place", []step{
			{13, 1480, 1, frame, true, 2, 320, false},
			{12, 1320, 1, frame, true, 0xffff, 0xffffffff - 159, false},
			{14, 1640, 1, frame, true, 2, 320, false},
		}},
		{"another SSRC goes on", []step{
			{40000, 77, 2, 3 * frame, true, 1, 480, true},
			{40001, 237, 2, frame, true, 1, 160, false},
		}},
		{"stragglers of the source before are not believed", []step{
			{40000, 77, 2, frame, true, 1, 160, true},
			{12, 1320, 1, 0, false, 0, 0, false},
			{40001, 237, 2, frame, true, 1, 160, false},
		}},
		{"the source before comes back", []step{
			{40000, 77, 2, frame, true, 1, 160, true},
			{12, 1320, 1, frame, false, 0, 0, false},
			{13, 1480, 1, frame, true, 1, 320, true},
		}},
		{"sequence restarts under one SSRC", []step{
			{30000, 1320, 1, frame, false, 0, 0, false},
			{30001, 1480, 1, frame, true, 1, 320, true},
		}},
		{"timestamp jumps under one SSRC", []step{
			{12, 900000, 1, frame, true, 1, 160, false},
			{13, 900160, 1, frame, true, 1, 160, false},
		}},
		{"timestamp stands still during silence", []step{
			{12, 1320, 1, 10 * time.Second, true, 1, 160, false},
		}},
		{"timestamp goes on during silence", []step{
			{12, 81160, 1, 10 * time.Second, true, 1, 80000, false},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := setup()
			first := c.steps[0]
			// Two packets lead in, at 10 and 11 unless the case begins elsewhere.
			seq, ts := uint16(10), uint32(1000)
			switch c.name {
			case "wraps of both counters":
				seq, ts = 65533, first.ts-320
			case "loss stays a gap":
				ts = 11600 - 640
			}
			b.feed("A", packet(0, seq, ts, 1), 0)
			b.feed("A", packet(0, seq+1, ts+160, 1), frame)
			before := b.sink.last(t)
			if before.SSRC != 0xbbbb || len(b.sink.packets) != 2 {
				t.Fatalf("lead-in: %d packets, ssrc %x", len(b.sink.packets), before.SSRC)
			}
			for i, s := range c.steps {
				n := len(b.sink.packets)
				b.feed("A", packet(0, s.seq, s.ts, s.ssrc), s.after)
				if sent := len(b.sink.packets) > n; sent != s.sent {
					t.Fatalf("step %d: sent %v", i, sent)
				}
				if !s.sent {
					continue
				}
				p := b.sink.last(t)
				if got := p.SequenceNumber - before.SequenceNumber; got != s.seqGap {
					t.Errorf("step %d: sequence moves by %d, want %d", i, int16(got), int16(s.seqGap))
				}
				if got := p.Timestamp - before.Timestamp; got != s.tsGap {
					t.Errorf("step %d: timestamp moves by %d, want %d", i, int32(got), int32(s.tsGap))
				}
				if p.SSRC != 0xbbbb || p.Marker != s.marker {
					t.Errorf("step %d: ssrc %x marker %v", i, p.SSRC, p.Marker)
				}
				before = p
			}
		})
	}
}

// Whatever a source does, what leaves is one SSRC whose indices never repeat, and
// in-order input without loss leaves without a gap.
func TestContinuityProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := setup()
		ssrc, seq, ts := uint32(1), rapid.Uint16().Draw(t, "seq"), rapid.Uint32().Draw(t, "ts")
		used := map[uint64]bool{}
		var highest uint64
		var newest uint32
		var at time.Time
		lost := 0
		for range rapid.IntRange(1, 120).Draw(t, "packets") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // another source
				ssrc++
				seq, ts = rapid.Uint16().Draw(t, "seq"), rapid.Uint32().Draw(t, "ts")
			case 1: // loss
				n := rapid.IntRange(1, 50).Draw(t, "lost")
				seq, ts, lost = seq+uint16(n), ts+uint32(n)*160, lost+n
				b.now = b.now.Add(time.Duration(n) * frame)
			case 2: // a copy
				b.feed("A", packet(0, seq-1, ts-160, ssrc), 0)
			case 3: // hold
				b.change(func(c *Config) { c.Streams[0].Direction = Direction(rapid.IntRange(0, 3).Draw(t, "direction")) })
			case 4: // the output cannot send for a while
				b.sink.answer = SendResult(rapid.IntRange(0, 2).Draw(t, "answer"))
			case 5: // the clock jumps
				ts += rapid.Uint32().Draw(t, "jump")
			}
			n := len(b.sink.packets)
			copies := map[uint64]bool{}
			b.feed("A", packet(0, seq, ts, ssrc), frame)
			seq++
			ts += 160
			for _, p := range b.sink.packets[n:] {
				if p.SSRC != 0xbbbb {
					t.Fatalf("ssrc %x", p.SSRC)
				}
				if used[p.index] && !copies[p.index] {
					t.Fatalf("index %d used again for a new packet", p.index)
				}
				copies[p.index], used[p.index] = true, true
				if highest != 0 && p.index > highest+uint64(lost)+1 {
					t.Fatalf("index jumps from %d to %d with %d lost", highest, p.index, lost)
				}
				if p.index > highest {
					if highest != 0 {
						passed := uint32(b.now.Sub(at).Seconds() * 8000)
						if moved := p.Timestamp - newest; int32(moved) <= 0 || moved > passed+uint32(tsSlack.Seconds()*8000)+160 {
							t.Fatalf("timestamp moves by %d in %d", int32(moved), passed)
						}
					}
					highest, newest, at, lost = p.index, p.Timestamp, b.now, 0
				}
			}
		}
	})
}

// Filtered payload types leave no gap.
func TestFilteredPayloads(t *testing.T) {
	b := setup()
	b.change(func(c *Config) {
		c.Rules[0].Outputs[0].Payloads = []Payload{{0, 8}}
		c.Streams[1].Formats = append(c.Streams[1].Formats, Format{PayloadType: 8, Encoding: "PCMU", ClockRate: 8000})
	})
	b.feed("A", packet(0, 1, 0, 1), frame)
	first := b.sink.last(t)
	if first.PayloadType != 8 {
		t.Errorf("payload type %d, want 8", first.PayloadType)
	}
	if v := b.feed("A", packet(101, 2, 160, 1, event(1, false, 160)...), frame); v != Withheld {
		t.Errorf("verdict %d, want Withheld", v)
	}
	b.feed("A", packet(101, 3, 160, 1, event(1, true, 320)...), frame)
	b.feed("A", packet(0, 4, 480, 1), frame)
	if p := b.sink.last(t); p.SequenceNumber != first.SequenceNumber+1 || p.Timestamp != first.Timestamp+480 {
		t.Errorf("%d/%d does not follow %d/%d", p.SequenceNumber, p.Timestamp, first.SequenceNumber, first.Timestamp)
	}
	if string(b.sink.digits) != "1" {
		t.Errorf("digits %q, want 1", b.sink.digits)
	}
}

// So do payload types that nobody announced: comfort noise, for instance.
func TestUnknownPayloads(t *testing.T) {
	b := setup()
	b.feed("A", packet(0, 1, 0, 1), frame)
	first := b.sink.last(t)
	if v := b.feed("A", packet(13, 2, 160, 1, 60), frame); v != Malformed {
		t.Errorf("verdict %d, want Malformed", v)
	}
	b.feed("A", packet(0, 3, 320, 1), frame)
	if p := b.sink.last(t); p.SequenceNumber != first.SequenceNumber+1 || p.Timestamp != first.Timestamp+320 {
		t.Errorf("%d/%d does not follow %d/%d", p.SequenceNumber, p.Timestamp, first.SequenceNumber, first.Timestamp)
	}
	if c := b.State()[0].Counters; c.Lost != 0 || c.Malformed != 1 {
		t.Errorf("lost %d malformed %d, want 0 and 1", c.Lost, c.Malformed)
	}
}

func TestHold(t *testing.T) {
	b := setup()
	b.feed("A", packet(0, 1, 0, 1), frame)
	first := b.sink.last(t)
	for i, d := range []Direction{SendOnly, Inactive} {
		b.change(func(c *Config) { c.Streams[0].Direction = d })
		n := len(b.sink.packets)
		if v := b.feed("A", packet(0, uint16(2+i), 160, 1), frame); v != Held || len(b.sink.packets) != n {
			t.Errorf("direction %d: verdict %d, %d packets sent", d, v, len(b.sink.packets)-n)
		}
	}
	b.change(func(c *Config) { c.Streams[0].Direction = SendRecv; c.Streams[1].Direction = RecvOnly })
	if v := b.feed("A", packet(0, 4, 320, 1), frame); v != Withheld {
		t.Errorf("output does not send: verdict %d", v)
	}
	b.change(func(c *Config) { c.Streams[1].Direction = SendRecv })
	b.feed("A", packet(0, 100, 16000, 1), 100*frame)
	p := b.sink.last(t)
	if p.SequenceNumber != first.SequenceNumber+1 || !p.Marker {
		t.Errorf("after hold: sequence %d marker %v, want %d true", p.SequenceNumber, p.Marker, first.SequenceNumber+1)
	}
	if moved := p.Timestamp - first.Timestamp; moved != 103*160 {
		t.Errorf("after hold: timestamp moved by %d, want %d", moved, 103*160)
	}
	if got := b.State()[0].Counters.Gated; got != 3 {
		t.Errorf("gated %d, want 3", got)
	}
}

// A transfer feeds the output from another stream.
func TestTransfer(t *testing.T) {
	b := setup()
	b.feed("A", packet(0, 1, 0, 1), frame)
	first := b.sink.last(t)
	b.change(func(c *Config) {
		c.Streams = append(c.Streams, StreamConfig{ID: "c", Leg: "C", Formats: []Format{pcmu}})
		c.Rules = []Rule{{Input: "c", Outputs: []Output{{Stream: "b"}}}}
	})
	b.feed("C", packet(0, 5000, 99, 7), frame)
	p := b.sink.last(t)
	if p.leg != "B" || p.SSRC != first.SSRC || p.SequenceNumber != first.SequenceNumber+1 || p.Timestamp != first.Timestamp+160 {
		t.Errorf("%v does not follow %v", p.Header, first.Header)
	}
	if v := b.feed("A", packet(0, 2, 160, 1), frame); v != Unrouted {
		t.Errorf("the old input: verdict %d, want Unrouted", v)
	}
}

func TestMediaTimeout(t *testing.T) {
	b := setup()
	b.change(func(c *Config) { c.MediaTimeout = 2 * time.Second; c.Streams[1].Direction = SendOnly })
	b.feed("A", packet(0, 1, 0, 1), frame)
	at := b.now
	b.Tick(at.Add(1900 * time.Millisecond))
	if b.sink.silent != 0 {
		t.Fatal("timed out early")
	}
	b.Tick(at.Add(2 * time.Second))
	b.Tick(at.Add(4 * time.Second))
	if b.sink.silent != 1 {
		t.Fatalf("%d timeouts, want 1: only a receives, and it is told once", b.sink.silent)
	}
	b.feed("A", packet(0, 2, 160, 1), 5*time.Second)
	if b.sink.resumed != 1 {
		t.Errorf("%d resumptions, want 1", b.sink.resumed)
	}
	// Taken off hold, a stream has the whole time again.
	b.now = b.now.Add(time.Hour)
	b.change(func(c *Config) { c.Streams[1].Direction = SendRecv; c.Streams[0].Direction = SendOnly })
	b.Tick(b.now.Add(time.Second))
	if b.sink.silent != 1 {
		t.Error("timed out right after it began to receive")
	}
}

func TestStatistics(t *testing.T) {
	b := setup()
	for _, seq := range []uint16{1, 2, 3, 5, 4, 8, 9, 9} { // 6 and 7 lost, 9 twice
		b.feed("A", packet(0, seq, uint32(seq)*160, 1), 0)
	}
	c := b.State()[0].Counters
	if c.ReceivedPackets != 8 || c.Lost != 1 {
		t.Errorf("received %d lost %d, want 8 and 1 (a copy makes up for a loss, RFC 3550 A.3)", c.ReceivedPackets, c.Lost)
	}
	// Jitter: packets 20 ms apart that arrive 20 ms apart have none, and a late
	// one adds a sixteenth of its delay.
	b = setup()
	for i := range uint16(10) {
		b.feed("A", packet(0, i, uint32(i)*160, 1), frame)
	}
	if j := b.State()[0].Counters.Jitter; j != 0 {
		t.Errorf("jitter %s of an even stream", j)
	}
	b.feed("A", packet(0, 10, 1600, 1), frame+16*time.Millisecond)
	if j := b.State()[0].Counters.Jitter; j < 990*time.Microsecond || j > 1010*time.Microsecond {
		t.Errorf("jitter %s, want 1ms", j)
	}
	// What came before a change of source stays lost.
	b.feed("A", packet(0, 13, 2080, 1), frame)
	b.feed("A", packet(0, 500, 0, 2), frame)
	b.feed("A", packet(0, 502, 320, 2), frame)
	if lost := b.State()[0].Counters.Lost; lost != 3 {
		t.Errorf("lost %d, want 3", lost)
	}
}

func TestMalformed(t *testing.T) {
	b := setup()
	good := packet(0, 1, 0, 1)
	for name, raw := range map[string][]byte{
		"empty":                {},
		"short":                good[:11],
		"version 1":            append([]byte{0x40}, good[1:]...),
		"CSRC beyond the end":  append([]byte{0x8f}, good[1:40]...),
		"extension beyond end": append([]byte{0x90}, append(append([]byte(nil), good[1:12]...), 0xbe, 0xde, 0xff, 0xff)...),
		"padding beyond end":   append([]byte{0xa0}, append(append([]byte(nil), good[1:12]...), 200)...),
		"padding of nothing":   append([]byte{0xa0}, append(append([]byte(nil), good[1:12]...), 0)...),
		"unknown payload type": packet(77, 1, 0, 1),
		"event without body":   packet(101, 1, 0, 1, 1, 2),
	} {
		if v := b.feed("A", raw, 0); v != Malformed {
			t.Errorf("%s: verdict %d, want Malformed", name, v)
		}
	}
	if got := b.State()[0].Counters.Malformed; got != 9 {
		t.Errorf("malformed %d, want 9", got)
	}
	if len(b.sink.packets) != 0 {
		t.Errorf("%d packets were sent", len(b.sink.packets))
	}
}

// Packets with CSRCs, an extension and padding pass unchanged but for the fields
// that the node owns.
func TestHeadersPass(t *testing.T) {
	b := setup()
	in := rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, PayloadType: 0, SequenceNumber: 9, Timestamp: 9, SSRC: 9, CSRC: []uint32{1, 2}}, Payload: []byte("payload")}
	if err := in.SetExtension(3, []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	raw, _ := in.Marshal()
	raw[0] |= 0x20
	raw = append(raw, 0, 0, 0, 4)
	before := append([]byte(nil), raw...)
	b.feed("A", raw, 0)
	p := b.sink.last(t)
	if string(p.Payload) != "payload" || len(p.CSRC) != 2 || string(p.GetExtension(3)) != "\x01\x02\x03" || !p.Marker || p.PaddingSize != 4 {
		t.Errorf("arrived as %v %q", p.Header, p.Payload)
	}
	if string(before) != string(raw) {
		t.Error("the incoming packet was changed")
	}
}

func TestStreamsOfALeg(t *testing.T) {
	b := setup()
	b.change(func(c *Config) {
		c.Streams = append(c.Streams,
			StreamConfig{ID: "v", Leg: "A", Formats: []Format{{PayloadType: 120, Encoding: "VP8", ClockRate: 90000}}},
			StreamConfig{ID: "w", Leg: "B", SSRC: 0xcccc})
		c.Rules = append(c.Rules, Rule{Input: "v", Outputs: []Output{{Stream: "w"}}})
	})
	b.feed("A", packet(120, 1, 0, 5), frame)
	if p := b.sink.last(t); p.SSRC != 0xcccc || p.PayloadType != 120 {
		t.Errorf("video left as %v", p.Header)
	}
	b.feed("A", packet(0, 1, 0, 6), frame)
	if p := b.sink.last(t); p.SSRC != 0xbbbb {
		t.Errorf("audio left as %v", p.Header)
	}
}

// With fresh keys the rollover counter starts anew; restored keys go on.
func TestIndices(t *testing.T) {
	b := setup()
	b.Resume("B", 0xbbbb, 5<<16|0xfffe)
	b.feed("A", packet(0, 1, 0, 1), frame)
	b.feed("A", packet(0, 2, 160, 1), frame)
	if p := b.sink.last(t); p.index != 6<<16 {
		t.Errorf("index %x, want %x", p.index, 6<<16)
	}
	b.Rekey("B")
	b.feed("A", packet(0, 3, 320, 1), frame)
	if p := b.sink.last(t); p.index != 1 {
		t.Errorf("index %x after fresh keys, want 1", p.index)
	}
	if got := b.Outgoing("B")[0xbbbb]; got != 1 {
		t.Errorf("Outgoing says %x", got)
	}
}

// silent is a Sink that keeps nothing.
type silent struct{ recorder }

func (*silent) SendRTP(string, []byte, uint32, uint64) SendResult { return Sent }

func BenchmarkReceive(b *testing.B) {
	table := New(&silent{}, rand.New(rand.NewPCG(1, 2)))
	table.Apply(setup().cfg, epoch)
	raw := packet(0, 0, 0, 1)
	now := epoch
	b.ReportAllocs()
	for i := range b.N {
		rewrite(raw, false, 0, uint16(i), uint32(i)*160, 1)
		now = now.Add(frame)
		table.Receive("A", raw, now)
	}
}
