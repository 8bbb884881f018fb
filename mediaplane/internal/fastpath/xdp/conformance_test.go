//go:build linux && (amd64 || arm64)

package xdp

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/enginetest"
)

// The program in the kernel does with every sequence of packets what the engine
// in plain Go does, which sessions are proved with: the same packets forwarded
// bit for bit, the same handed up and dropped, the same position at the end.
func TestConformance(t *testing.T) {
	k := loadKernel(t, 8192) // a place is not used again at once
	// Plans that stay keep their keys in place.
	for i, profile := range []uint16{fastpath.AES128CMSHA1, fastpath.AES128GCM, fastpath.AES256GCM} {
		p := audio(fastpath.Transcrypt, conformanceKeys(profile, 1), conformanceKeys(profile, 2))
		p.Key.Local = netip.AddrPortFrom(p.Key.Local.Addr(), uint16(10000+2*i))
		k.put(t, p)
	}
	port := uint16(20000)
	rapid.Check(t, func(rt *rapid.T) {
		port += 2
		if port > 60000 {
			port = 20000
		}
		c := newConformance(t, rt, k, port)
		defer k.remove(c.plan.Key)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			c.step(rt)
		}
		c.compare(rt)
	})
}

type sentPacket struct {
	index uint64
	b     []byte
}

func conformanceKeys(profile uint16, fill byte) *fastpath.Crypto {
	length := map[uint16]int{fastpath.AES128CMSHA1: 30, fastpath.AES128GCM: 28, fastpath.AES256GCM: 44}[profile]
	return &fastpath.Crypto{Profile: profile, Master: bytes.Repeat([]byte{fill}, length)}
}

// conformance has one plan in both engines, and the source of its packets.
type conformance struct {
	t         *testing.T
	kernel    *kernel
	reference *enginetest.Engine
	plan      fastpath.Plan
	protect   *srtp.Context // nil for plain RTP

	index uint64 // of the next packet
	ts    uint32
	sent  []sentPacket // for replays
}

func newConformance(t *testing.T, rt *rapid.T, k *kernel, port uint16) *conformance {
	loop := netip.MustParseAddr("198.18.0.1")
	c := &conformance{t: t, kernel: k, reference: enginetest.New(monotonic)}
	c.index = rapid.SampledFrom([]uint64{70, 40000, 65530, 1<<20 - 3, 1<<33 - 2}).Draw(rt, "index")
	c.ts = rapid.Uint32().Draw(rt, "timestamp")
	p := fastpath.Plan{
		Key:     fastpath.Key{Local: netip.AddrPortFrom(loop, port), Remote: netip.MustParseAddrPort("198.18.0.2:4000"), SSRC: rapid.Uint32().Draw(rt, "ssrc")},
		Mode:    rapid.SampledFrom([]fastpath.Mode{fastpath.Relay, fastpath.Protect, fastpath.Unprotect, fastpath.Transcrypt}).Draw(rt, "mode"),
		Session: "s", Input: "i", Output: "o", From: netip.MustParseAddrPort("198.18.0.1:7882"), To: netip.MustParseAddrPort("198.18.0.3:5000"),
		SSRC: rapid.Uint32().Draw(rt, "outgoing ssrc"), TimeOffset: rapid.Uint32().Draw(rt, "time offset"), ClockRate: 8000,
	}
	for i := range p.Payloads {
		p.Payloads[i] = -1
	}
	p.Payloads[0], p.Payloads[8] = 0, 97
	p.IndexOffset = rapid.Int64Range(-60, 1<<40).Draw(rt, "index offset")
	p.Start = fastpath.Position{Index: c.index - 1 + rapid.Uint64Max(3).Draw(rt, "lead"), Timestamp: c.ts, LastSeen: monotonic()}
	crypto := func(fill byte) *fastpath.Crypto {
		profile := rapid.SampledFrom([]uint16{fastpath.AES128CMSHA1, fastpath.AES128GCM, fastpath.AES256GCM}).Draw(rt, "profile")
		return conformanceKeys(profile, fill)
	}
	if p.Mode == fastpath.Unprotect || p.Mode == fastpath.Transcrypt {
		p.In = crypto(1)
		c.protect = enginetest.Context(p.In)
	}
	if p.Mode == fastpath.Protect || p.Mode == fastpath.Transcrypt {
		p.Out = crypto(2)
	}
	c.plan = p
	k.put(t, &c.plan)
	// What goes up is for a socket that is not there.
	for _, p := range localPorts(p.Key.Local) {
		_ = k.maps.Ports.Delete(&p)
	}
	if reason, ok := c.reference.Upsert(p); !ok {
		rt.Fatal(reason)
	}
	return c
}

// step sends one packet, of a kind that calls have.
func (c *conformance) step(rt *rapid.T) {
	pt := uint8(0)
	forge := false
	switch rapid.SampledFrom([]string{"next", "next", "next", "next", "lose", "late", "again", "payload", "digit", "forged", "far", "old", "clock"}).Draw(rt, "what") {
	case "lose":
		n := rapid.Uint64Range(1, 600).Draw(rt, "lost")
		c.index += n
		c.ts += 160
	case "late":
		// What is as old as the window is big may be forgotten or not.
		back := rapid.Uint64Range(1, 40).Draw(rt, "back")
		if rapid.Bool().Draw(rt, "old") {
			back = rapid.Uint64Range(1, 440).Draw(rt, "far back")
		}
		if back > c.index {
			return
		}
		c.send(rt, c.packet(c.index-back, c.ts, pt))
		return
	case "again":
		if n := len(c.sent); n > 0 {
			if p := c.sent[n-1-rapid.IntRange(0, min(5, n-1)).Draw(rt, "copy")]; p.index+440 > c.index {
				c.send(rt, p.b)
			}
		}
		return
	case "payload":
		pt = 8
	case "digit":
		pt = 101
	case "forged":
		forge = true
	case "far":
		c.send(rt, c.packet(c.index+uint64(rapid.IntRange(3010, 30000).Draw(rt, "ahead")), c.ts, pt))
		return
	case "old":
		c.send(rt, c.packet(c.index-min(c.index, uint64(rapid.IntRange(600, 30000).Draw(rt, "behind"))), c.ts, pt))
		return
	case "clock":
		c.send(rt, c.packet(c.index, c.ts+rapid.Uint32Range(100_000, 1<<31).Draw(rt, "jump"), pt))
		return
	}
	b := c.packet(c.index, c.ts, pt)
	c.index++
	if forge {
		b[len(b)-1] ^= 1
	}
	c.send(rt, b)
}

// packet makes one, with whatever header extensions and sources it may have.
func (c *conformance) packet(index uint64, ts uint32, pt uint8) []byte {
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, Marker: index%7 == 0, SequenceNumber: uint16(index), Timestamp: ts, SSRC: c.plan.Key.SSRC},
		Payload: bytes.Repeat([]byte{byte(index)}, int(index%200)+1)}
	if index%5 == 0 {
		p.CSRC = []uint32{1, 2}
	}
	if index%3 == 0 {
		if err := p.SetExtension(1, []byte{1, 2, 3}); err != nil {
			c.t.Fatal(err)
		}
	}
	b, err := p.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	if c.protect != nil {
		c.protect.SetROC(p.SSRC, uint32(index>>16))
		if b, err = c.protect.EncryptRTP(nil, b, nil); err != nil {
			c.t.Fatal(err)
		}
	}
	c.sent = append(c.sent, sentPacket{index, b})
	return b
}

// send gives a packet to both.
func (c *conformance) send(rt *rapid.T, b []byte) {
	rt.Helper()
	want, verdict := c.reference.Receive(c.plan.Key.Local, c.plan.Key.Remote, b)
	got, out := c.kernel.run(c.t, frame(c.plan.Key.Remote, c.plan.Key.Local, b))
	switch {
	case verdict == enginetest.PassedUp && got == xdpPass, verdict == enginetest.Dropped && got == xdpDrop:
	case verdict == enginetest.Forwarded && (got == xdpTX || got == xdpRedirect):
		if sent := datagram(c.t, out, &c.plan); !bytes.Equal(sent, want.Payload) {
			rt.Fatalf("%x\nbecame %x,\nwant   %x", b, sent, want.Payload)
		}
	default:
		rt.Fatalf("the kernel does %d with %x, the reference %d", got, b, verdict)
	}
}

// compare the positions that both give back.
func (c *conformance) compare(rt *rapid.T) {
	rt.Helper()
	want, _ := c.reference.Remove(c.plan.Key)
	got, ok := c.kernel.at(c.plan.Key)
	if !ok {
		rt.Fatal("the kernel has lost the plan")
	}
	want.LastSeen, got.LastSeen, want.Jitter, got.Jitter = 0, 0, 0, 0
	last := len(want.Window) - 1
	want.Window[last], got.Window[last] = 0, 0 // forgotten or not
	if got != want {
		rt.Fatalf("the kernel is at %+v,\nthe reference at %+v", got, want)
	}
}
