//go:build linux && (amd64 || arm64)

package xdp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/pion/srtp/v3"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

var (
	local4  = netip.MustParseAddrPort("198.18.0.1:20000")
	remote4 = netip.MustParseAddrPort("198.18.0.2:30000")
	from4   = netip.MustParseAddrPort("198.18.1.1:7882")
	to4     = netip.MustParseAddrPort("198.18.1.2:40000")
	local6  = netip.MustParseAddrPort("[fd00::1]:20000")
	remote6 = netip.MustParseAddrPort("[fd00::2]:30000")
	from6   = netip.MustParseAddrPort("[fd00:1::1]:7882")
	to6     = netip.MustParseAddrPort("[fd00:1::2]:40000")
)

var profiles = map[string]uint16{
	"AES_CM_128_HMAC_SHA1_80": fastpath.AES128CMSHA1,
	"AEAD_AES_128_GCM":        fastpath.AES128GCM,
	"AEAD_AES_256_GCM":        fastpath.AES256GCM,
}

const (
	ssrcIn  = 0x11223344
	ssrcOut = 0xa1b2c3d4
)

func master(r *rand.Rand, profile uint16) *fastpath.Crypto {
	c := &fastpath.Crypto{Profile: profile, Master: make([]byte, suites[profile].key+suites[profile].salt)}
	for i := range c.Master {
		c.Master[i] = byte(r.Uint32())
	}
	return c
}

// reference is what the programs must do, done by pion/srtp.
func reference(t testing.TB, c *fastpath.Crypto) *srtp.Context {
	t.Helper()
	if c == nil {
		return nil
	}
	n := suites[c.Profile].key
	ctx, err := srtp.CreateContext(c.Master[:n], c.Master[n:], srtp.ProtectionProfile(c.Profile))
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// audio is a plan of one mapped and one unmapped payload type.
func audio(mode fastpath.Mode, in, out *fastpath.Crypto) *fastpath.Plan {
	p := &fastpath.Plan{
		Key: fastpath.Key{Local: local4, Remote: remote4, SSRC: ssrcIn}, Mode: mode, Session: "session", Input: "in", Output: "out",
		From: from4, To: to4, SSRC: ssrcOut, TimeOffset: 0x9000_0000, ClockRate: 8000, In: in, Out: out,
	}
	for i := range p.Payloads {
		p.Payloads[i] = -1
	}
	p.Payloads[0], p.Payloads[8] = 0, 96
	return p
}

// packet makes an RTP packet of any legal shape, up to max bytes.
func packet(r *rand.Rand, index uint64, time uint32, max int) []byte {
	b := make([]byte, 12, 1600)
	b[0], b[1] = 0x80, byte(r.IntN(2))<<7|byte(r.IntN(2))*8
	binary.BigEndian.PutUint16(b[2:], uint16(index))
	binary.BigEndian.PutUint32(b[4:], time)
	binary.BigEndian.PutUint32(b[8:], ssrcIn)
	if r.IntN(4) == 0 {
		n := r.IntN(16)
		b[0] |= byte(n)
		b = append(b, random(r, 4*n)...)
	}
	if r.IntN(3) == 0 {
		n := r.IntN(12)
		b[0] |= 0x10
		b = append(b, 0x12, 0x34, 0, byte(n))
		b = append(b, random(r, 4*n)...)
	}
	n := r.IntN(max - len(b) + 1)
	if r.IntN(2) == 0 {
		n = min(n, 160+r.IntN(20))
	}
	b = append(b, random(r, n)...)
	if n > 0 && r.IntN(5) == 0 {
		b[0] |= 0x20
		b[len(b)-1] = byte(1 + r.IntN(min(n, 255)))
	}
	return b
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// mapped is a packet with the header that a plan gives it.
func mapped(p *fastpath.Plan, packet []byte, index uint64) []byte {
	b := bytes.Clone(packet)
	b[1] = b[1]&0x80 | byte(p.Payloads[b[1]&0x7f])
	binary.BigEndian.PutUint16(b[2:], uint16(int64(index)+p.IndexOffset))
	binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])+p.TimeOffset)
	binary.BigEndian.PutUint32(b[8:], p.SSRC)
	return b
}

func protect(t testing.TB, ctx *srtp.Context, packet []byte, index uint64) []byte {
	t.Helper()
	ctx.SetROC(binary.BigEndian.Uint32(packet[8:]), uint32(index>>16))
	b, err := ctx.EncryptRTP(nil, packet, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTransform compares thousands of packets of every mode and suite with
// pion/srtp: any lengths, CSRCs, header extensions and padding, loss, reordering,
// both rollover counters wrapping, duplicates, tampered packets.
func TestTransform(t *testing.T) {
	type row struct {
		name    string
		mode    fastpath.Mode
		in, out uint16
	}
	rows := []row{{"relay", fastpath.Relay, 0, 0}}
	for name, p := range profiles {
		rows = append(rows, row{"unprotect/" + name, fastpath.Unprotect, p, 0}, row{"protect/" + name, fastpath.Protect, 0, p})
		for other, q := range profiles {
			rows = append(rows, row{"transcrypt/" + name + "/" + other, fastpath.Transcrypt, p, q})
		}
	}
	k := loadKernel(t, 64)
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			var in, out *fastpath.Crypto
			if row.in != 0 {
				in = master(r, row.in)
			}
			if row.out != 0 {
				out = master(r, row.out)
			}
			p := audio(row.mode, in, out)
			if i&1 != 0 {
				p.Key.Local, p.Key.Remote = local6, remote6
			}
			if i&2 != 0 {
				p.From, p.To = from6, to6
			}
			p.Start.Index = 1<<16 - 900
			p.IndexOffset = 5<<16 + 700
			packets := 1000
			if row.mode != fastpath.Transcrypt {
				packets = 4000
			}
			walk(t, k, r, p, packets)
		})
	}
}

// walk sends a source of many packets through a plan.
func walk(t *testing.T, k *kernel, r *rand.Rand, p *fastpath.Plan, packets int) {
	k.put(t, p)
	defer k.remove(p.Key)
	in, out := reference(t, p.In), reference(t, p.Out)
	overhead := 0
	if in != nil {
		overhead = 16
	}
	if out != nil {
		overhead = 16
	}
	taken := map[uint64]bool{}
	var want fastpath.Counters
	newest, time := p.Start.Index, uint32(0xffff_f000)
	var late []uint64
	for range packets {
		index := newest + 1
		switch n := r.IntN(20); {
		case n == 0:
			index += uint64(r.IntN(30)) // loss
		case n == 1 && newest-p.Start.Index > 40:
			index = newest - uint64(r.IntN(40)) // late, or a duplicate
		case n == 2:
			index += 2 // overtaken by the next two
			late = append(late, index-2, index-1)
		case len(late) > 0 && n < 8:
			index, late = late[0], late[1:]
		}
		if newest > index+300 {
			continue // beyond the window it would go up
		}
		// The clock of the plan is real, and the test is faster than audio.
		at := time + uint32(index-p.Start.Index)
		plain := packet(r, index, at, 1400-overhead)
		sent := plain
		if in != nil {
			sent = protect(t, in, plain, index)
		}
		tampered := in != nil && r.IntN(10) == 0
		if tampered {
			sent[12+r.IntN(len(sent)-12)] ^= 1 << r.IntN(8)
			if sent[0]&0x1f != plain[0]&0x1f {
				t.Fatal("the test must not change lengths")
			}
		}
		if tampered && p.Mode != fastpath.Relay && lengthsChanged(plain, sent) {
			continue
		}
		verdict, got := k.run(t, frame(p.Key.Remote, p.Key.Local, sent))
		switch {
		case taken[index]:
			want.Replays++
			if verdict != xdpDrop {
				t.Fatalf("packet %d again: verdict %d", index, verdict)
			}
			continue
		case tampered:
			want.AuthFailures++
			if verdict != xdpDrop {
				t.Fatalf("tampered packet %d: verdict %d", index, verdict)
			}
			continue
		case verdict != xdpRedirect:
			t.Fatalf("packet %d of %d bytes (% x): verdict %d, want redirection", index, len(sent), sent[:16], verdict)
		}
		expected := mapped(p, plain, index)
		if out != nil {
			expected = protect(t, out, expected, uint64(int64(index)+p.IndexOffset))
		}
		if rtp := datagram(t, got, p); !bytes.Equal(rtp, expected) {
			t.Fatalf("packet %d of %d bytes became\n% x, want\n% x", index, len(sent), rtp, expected)
		}
		taken[index] = true
		newest = max(newest, index)
		want.Packets++
		want.Bytes += uint64(len(sent))
		want.SentBytes += uint64(len(expected))
		want.Octets += uint64(octets(plain))
	}
	position, ok := k.at(p.Key)
	if !ok || position.Index != newest || position.Counters != want {
		t.Errorf("position is %+v, want index %d and %+v", position, newest, want)
	}
	for back := range uint64(400) {
		if index := newest - back; index > p.Start.Index && position.Took(index) != taken[index] {
			t.Errorf("the position says %v of packet %d, taken: %v", position.Took(index), index, taken[index])
		}
	}
	if newest < 1<<16 {
		t.Error("the source did not wrap")
	}
}

// lengthsChanged says whether tampering changed how long the header is.
func lengthsChanged(a, b []byte) bool {
	n := 12 + 4*int(a[0]&15)
	return a[0]&0x10 != 0 && !bytes.Equal(a[n:n+4], b[n:n+4])
}

// octets of the payload without padding.
func octets(b []byte) int {
	n := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	n = len(b) - n
	if b[0]&0x20 != 0 {
		n -= int(b[len(b)-1])
	}
	return n
}
