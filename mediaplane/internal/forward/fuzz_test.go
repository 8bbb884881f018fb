package forward

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// packets cuts fuzzed data into packets: a length, a leg, then the bytes.
func packets(data []byte, yield func(leg string, packet []byte, after time.Duration)) {
	for len(data) >= 3 {
		n := min(int(data[0])|int(data[1]&0x0f)<<8, len(data)-3)
		leg := "A"
		if data[1]&0x10 != 0 {
			leg = "B"
		}
		yield(leg, data[3:3+n], time.Duration(data[2])*time.Millisecond)
		data = data[3+n:]
	}
}

func cut(leg byte, after byte, packet []byte) []byte {
	return append([]byte{byte(len(packet)), byte(len(packet)>>8) | leg<<4, after}, packet...)
}

// opaque is a Sink that, other than the recorder, does not look into header
// extensions: the table passes them on as they are.
type opaque struct {
	recorder
	sent []opaquePacket
}

type opaquePacket struct {
	leg   string
	b     []byte
	index uint64
}

func (o *opaque) SendRTP(leg string, b []byte, _ uint32, index uint64) SendResult {
	o.sent = append(o.sent, opaquePacket{leg, bytes.Clone(b), index})
	return Sent
}

// FuzzSequence gives a table a sequence of whatever arrives. What leaves it is sound RTP, one
// SSRC to a stream, and no index twice but for a copy; nothing makes it grow.
func FuzzSequence(f *testing.F) {
	call := append(cut(0, 20, packet(0, 1, 160, 7)), cut(1, 20, packet(0, 9, 320, 8))...)
	f.Add(append(call, cut(0, 20, packet(101, 2, 320, 7, event(5, true, 800)...))...))
	f.Add(cut(0, 0, []byte{0xb0, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0, 0, 0, 4}))
	f.Add([]byte("000\xb0\x800000000000\xbe\xde\x00\x017000000\x04")) // no element of an extension is whole
	f.Add(cut(0, 0, []byte{0x8f, 0x65, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := setup()
		sink := &opaque{}
		b.Table = New(sink, rand.New(rand.NewPCG(1, 2)))
		b.Apply(b.cfg, b.now)
		used := map[string]map[uint64]bool{}
		packets(data, func(leg string, p []byte, after time.Duration) {
			before := string(p)
			sink.sent = sink.sent[:0]
			b.feed(leg, p, after)
			b.Lent(leg, p)
			if string(p) != before {
				t.Fatal("the packet was changed")
			}
			if len(sink.sent) > 1 {
				t.Fatal("one packet became several")
			}
			for _, out := range sink.sent {
				if len(out.b) != len(p) {
					t.Fatalf("%d bytes became %d", len(p), len(out.b))
				}
				if h, ok := parse(out.b); !ok || h.sequence != uint16(out.index) || h.ssrc != b.bySender(out.leg, h.ssrc).out.ssrc {
					t.Fatalf("%x left with index %d", out.b, out.index)
				}
				if used[out.leg] == nil {
					used[out.leg] = map[uint64]bool{}
				}
				if used[out.leg][out.index] {
					t.Fatalf("index %d twice on leg %s", out.index, out.leg)
				}
				used[out.leg][out.index] = true
			}
		})
		b.Tick(b.now.Add(time.Hour))
		if len(b.streams) != 2 || len(b.State()) != 2 {
			t.Fatal("the table has grown")
		}
	})
}
