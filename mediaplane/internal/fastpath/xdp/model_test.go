//go:build linux && (amd64 || arm64)

package xdp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// model says what the program must do with one datagram of a fresh plan. Other
// than pion/srtp it does not look into header extensions, and so it speaks of
// every packet that a fuzzer can think of.
type model struct {
	plan    *fastpath.Plan
	in, out *modelKeys
}

// modelKeys protect with the standard library.
type modelKeys struct {
	session
	block cipher.Block
	gcm   cipher.AEAD // nil for counter mode
}

func newModelKeys(t testing.TB, c *fastpath.Crypto) *modelKeys {
	if c == nil {
		return nil
	}
	keys, s, err := derive(c)
	if err != nil {
		t.Fatal(err)
	}
	k := &modelKeys{session: keys}
	if k.block, err = aes.NewCipher(keys.key); err != nil {
		t.Fatal(err)
	}
	if s.auth == 0 {
		if k.gcm, err = cipher.NewGCM(k.block); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (k *modelKeys) tag() int {
	switch {
	case k == nil:
		return 0
	case k.gcm != nil:
		return 16
	}
	return 10
}

func (k *modelKeys) iv(ssrc uint32, index uint64) []byte {
	var iv [16]byte
	copy(iv[:], k.salt)
	mix := func(at int, n uint64, size int) {
		for i := range size {
			iv[at+i] ^= byte(n >> (8 * (size - 1 - i)))
		}
	}
	if k.gcm != nil {
		mix(2, uint64(ssrc), 4)
		mix(6, index, 6)
		return iv[:12]
	}
	mix(4, uint64(ssrc), 4)
	mix(8, index, 6)
	return iv[:]
}

func (k *modelKeys) code(packet []byte, index uint64) []byte {
	h := hmac.New(sha1.New, k.auth)
	h.Write(packet)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(index>>16)))
	return h.Sum(nil)[:10]
}

func (k *modelKeys) protect(packet []byte, header int, index uint64) []byte {
	iv := k.iv(binary.BigEndian.Uint32(packet[8:]), index)
	b := bytes.Clone(packet)
	if k.gcm != nil {
		return k.gcm.Seal(b[:header], iv, packet[header:], packet[:header])
	}
	cipher.NewCTR(k.block, iv).XORKeyStream(b[header:], b[header:])
	return append(b, k.code(b, index)...)
}

func (k *modelKeys) unprotect(packet []byte, header int, index uint64) ([]byte, bool) {
	iv := k.iv(binary.BigEndian.Uint32(packet[8:]), index)
	b := bytes.Clone(packet)
	if k.gcm != nil {
		plain, err := k.gcm.Open(b[:header], iv, packet[header:], packet[:header])
		return plain, err == nil
	}
	end := len(b) - 10
	if !hmac.Equal(b[end:], k.code(b[:end], index)) {
		return nil, false
	}
	cipher.NewCTR(k.block, iv).XORKeyStream(b[header:end], b[header:end])
	return b[:end], true
}

// headerSize of an RTP packet; 0 if it has no whole header.
func headerSize(b []byte) int {
	n := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		if n+4 > len(b) {
			return 0
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	if n > len(b) {
		return 0
	}
	return n
}

// expect is the verdict, and the packet that is sent if there is one.
func (m *model) expect(b []byte) (verdict uint32, sent []byte) {
	p := m.plan
	if len(b) < 12 || b[0]>>6 != 2 || b[1] >= 192 && b[1] <= 223 || binary.BigEndian.Uint32(b[8:]) != p.Key.SSRC {
		return xdpPass, nil
	}
	size := len(b) - m.in.tag()
	if size < 12 || len(b) > 1500 || size+m.out.tag() > 1500 || p.Payloads[b[1]&0x7f] < 0 {
		return xdpPass, nil
	}
	header := headerSize(b[:size])
	ahead := int(int16(binary.BigEndian.Uint16(b[2:]) - uint16(p.Start.Index)))
	if header == 0 || ahead > 3000 || ahead <= 0 || size+m.out.tag()+28 > 1500 {
		return xdpPass, nil
	}
	index := p.Start.Index + uint64(ahead)
	plain := b
	if m.in != nil {
		var ok bool
		if plain, ok = m.in.unprotect(b, header, index); !ok {
			return xdpDrop, nil
		}
	}
	if plain[0]&0x20 != 0 {
		if padding := int(plain[len(plain)-1]); padding == 0 || padding > len(plain)-header {
			return xdpPass, nil
		}
	}
	sent = mapped(p, plain, index)
	if m.out != nil {
		sent = m.out.protect(sent, header, uint64(int64(index)+p.IndexOffset)&(1<<48-1))
	}
	return xdpRedirect, sent
}

// models are plans of every mode and suite with its model.
func models(t testing.TB, k *kernel) []*model {
	r := rand.New(rand.NewPCG(5, 6))
	var list []*model
	add := func(mode fastpath.Mode, in, out uint16) {
		var c [2]*fastpath.Crypto
		for i, profile := range []uint16{in, out} {
			if profile != 0 {
				c[i] = master(r, profile)
			}
		}
		p := audio(mode, c[0], c[1])
		p.Key.Local = netip.AddrPortFrom(p.Key.Local.Addr(), uint16(20000+2*len(list)))
		p.Start.Index, p.IndexOffset = 0xfff0, 0x1_0000_0000
		k.put(t, p)
		list = append(list, &model{p, newModelKeys(t, c[0]), newModelKeys(t, c[1])})
	}
	add(fastpath.Relay, 0, 0)
	for _, profile := range []uint16{fastpath.AES128CMSHA1, fastpath.AES128GCM, fastpath.AES256GCM} {
		add(fastpath.Unprotect, profile, 0)
		add(fastpath.Protect, 0, profile)
	}
	// What goes up is for a socket that is not there.
	for _, m := range list {
		for _, p := range localPorts(m.plan.Key.Local) {
			_ = k.maps.Ports.Delete(&p)
		}
	}
	return list
}

// check gives a datagram to the program and compares. The plan is fresh again
// afterwards.
func (m *model) check(t testing.TB, k *kernel, b []byte) {
	t.Helper()
	slot := k.plans[m.plan.Key].slot
	fresh := k.flows[slot]
	defer func() { k.flows[slot] = fresh }()
	verdict, sent := m.expect(b)
	in := frame(m.plan.Key.Remote, m.plan.Key.Local, b)
	got, out := k.run(t, in)
	if got != verdict {
		t.Fatalf("mode %d, %d bytes % x: verdict %d, want %d", m.plan.Mode, len(b), b[:min(len(b), 32)], got, verdict)
	}
	if verdict != xdpRedirect {
		if !bytes.Equal(in, out) {
			t.Fatalf("mode %d: a packet that was not sent was changed:\n% x\n% x", m.plan.Mode, in, out)
		}
		return
	}
	if rtp := datagram(t, out, m.plan); !bytes.Equal(rtp, sent) {
		t.Fatalf("mode %d, %d bytes % x became\n% x, want\n% x", m.plan.Mode, len(b), b[:min(len(b), 32)], rtp, sent)
	}
}

// craft makes a datagram of a fuzzer's bytes: those of an RTP packet, protected
// when the plan wants that, some bits flipped after that.
func (m *model) craft(rtp []byte, flips []byte) []byte {
	b := bytes.Clone(rtp)
	if len(b) >= 12 && m.in != nil {
		if header := headerSize(b); header > 0 {
			ahead := int64(int16(binary.BigEndian.Uint16(b[2:]) - uint16(m.plan.Start.Index)))
			b = m.in.protect(b, header, uint64(int64(m.plan.Start.Index)+ahead))
		}
	}
	for ; len(flips) >= 3 && len(b) > 0; flips = flips[3:] {
		b[int(binary.BigEndian.Uint16(flips))%len(b)] ^= flips[2]
	}
	return b
}

// FuzzTransform compares the program with the model on whatever comes to mind.
func FuzzTransform(f *testing.F) {
	k := loadKernel(f, 64)
	list := models(f, k)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 20 {
		f.Add(uint8(i), packet(r, 0xfff1+uint64(i), uint32(i), 300), []byte{})
		f.Add(uint8(i), packet(r, 0xfff1+uint64(i), uint32(i), 1480), []byte{0, byte(i), 1})
	}
	for _, b := range wild() {
		f.Add(uint8(0), b, []byte{})
	}
	f.Fuzz(func(t *testing.T, which uint8, rtp, flips []byte) {
		if len(rtp) > 1470 {
			return // no frame
		}
		m := list[int(which)%len(list)]
		m.check(t, k, m.craft(rtp, flips))
	})
}

// wild are datagrams that no sound sender sends.
func wild() map[string][]byte {
	rtp := func(first, second byte, rest ...byte) []byte {
		b := []byte{first, second, 0xff, 0xf1, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44}
		return append(b, rest...)
	}
	long := make([]byte, 1460)
	return map[string][]byte{
		"empty":                       {},
		"one byte":                    {0x80},
		"eleven bytes":                rtp(0x80, 0)[:11],
		"header alone":                rtp(0x80, 0),
		"CSRCs beyond the end":        rtp(0x8f, 0, make([]byte, 59)...),
		"CSRCs to the end":            rtp(0x8f, 0, make([]byte, 60)...),
		"extension header cut":        rtp(0x90, 0, 1, 2, 0),
		"extension beyond the end":    rtp(0x90, 0, 1, 2, 0, 1, 9, 9, 9),
		"largest extension length":    rtp(0x90, 0, 1, 2, 0xff, 0xff, 9, 9, 9, 9),
		"extension to the end":        rtp(0x90, 0, 1, 2, 0, 1, 9, 9, 9, 9),
		"extension after CSRCs cut":   rtp(0x9f, 0, make([]byte, 63)...),
		"padding zero":                rtp(0xa0, 0, 1, 2, 3, 0),
		"padding longer than payload": rtp(0xa0, 0, 1, 2, 3, 5),
		"padding only":                rtp(0xa0, 0, 0, 0, 0, 4),
		"version 1":                   rtp(0x40, 0, 1, 2, 3, 4),
		"version 3":                   rtp(0xc0, 0, 1, 2, 3, 4),
		"RTCP":                        rtp(0x80, 200, 1, 2, 3, 4),
		"STUN":                        append([]byte{0, 1, 0, 0}, make([]byte, 20)...),
		"DTLS":                        append([]byte{22, 0xfe, 0xfd}, make([]byte, 20)...),
		"payload type not mapped":     rtp(0x80, 101, 1, 2, 3, 4),
		"largest that fits":           rtp(0x80, 0, long...),
		"ones":                        bytes.Repeat([]byte{0xff}, 200),
	}
}

// TestWild sends what no sound sender sends, plain and protected, to all plans.
func TestWild(t *testing.T) {
	k := loadKernel(t, 64)
	list := models(t, k)
	for name, b := range wild() {
		t.Run(name, func(t *testing.T) {
			for _, m := range list {
				m.check(t, k, b)
				m.check(t, k, m.craft(b, nil))
			}
		})
	}
}

// TestFrames holds what stands around a datagram against what the program must
// take: anything unusual is left to the kernel's own stack.
func TestFrames(t *testing.T) {
	k := loadKernel(t, 64)
	m := models(t, k)[0]
	good := frame(m.plan.Key.Remote, m.plan.Key.Local, wild()["header alone"])
	change := func(at int, value byte) []byte {
		b := bytes.Clone(good)
		b[at] = value
		return b
	}
	tagged := func(ethertype ...byte) []byte {
		b := append(bytes.Clone(good[:12]), ethertype...)
		return append(b, good[12:]...)
	}
	cases := []struct {
		name    string
		frame   []byte
		verdict uint32
	}{
		{"sound", good, xdpRedirect},
		{"with padding to the least frame", append(bytes.Clone(good), make([]byte, 6)...), xdpRedirect},
		{"VLAN", tagged(0x81, 0x00, 0x00, 0x64), xdpRedirect},
		{"two VLAN tags", tagged(0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x65), xdpPass},
		{"ARP", change(13, 6), xdpPass},
		{"IP options", change(14, 0x46), xdpPass},
		{"IP version 5", change(14, 0x55), xdpPass},
		{"more fragments", change(20, 0x20), xdpPass},
		{"fragment offset", change(21, 1), xdpPass},
		{"TCP", change(23, 6), xdpPass},
		{"IP length too short", change(17, 39), xdpPass},
		{"IP length too long", change(17, 255), xdpPass},
		{"UDP length too short", change(39, 7), xdpPass},
		{"UDP length too long", change(39, 255), xdpPass},
		{"other source address", change(29, 9), xdpPass},
		{"other source port", change(35, 9), xdpPass},
		{"other destination address", change(33, 9), xdpPass},
		{"other SSRC", change(53, 9), xdpPass},
		{"Ethernet header alone", good[:14], xdpPass},
		{"cut in the IP header", good[:30], xdpPass},
		{"cut in the UDP header", good[:40], xdpPass},
		{"cut in the RTP header", good[:50], xdpPass},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			slot := k.plans[m.plan.Key].slot
			fresh := k.flows[slot]
			defer func() { k.flows[slot] = fresh }()
			verdict, out := k.run(t, c.frame)
			if verdict != c.verdict {
				t.Fatalf("verdict %d, want %d", verdict, c.verdict)
			}
			if verdict == xdpPass && !bytes.Equal(out, c.frame) {
				t.Error("a frame that is left to the stack was changed")
			}
		})
	}
}
