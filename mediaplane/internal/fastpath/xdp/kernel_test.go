//go:build linux && (amd64 || arm64)

package xdp

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// XDP verdicts.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

// kernel is the program on maps of its own, attached to nothing.
type kernel struct {
	*store
	program *ebpf.Program
}

func loadKernel(t testing.TB, flows int) *kernel {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Skipf("no privilege to load programs: %v", err)
	}
	s, err := spec(flows)
	if err != nil {
		t.Fatal(err)
	}
	var objects struct {
		bpf.Maps
		Fastpath *ebpf.Program `ebpf:"fastpath"`
	}
	if err := s.LoadAndAssign(&objects, nil); err != nil {
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skip(err)
		}
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		_ = objects.Maps.Close()
		_ = objects.Fastpath.Close()
	})
	st, err := openStore(&objects.Maps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.unmap)
	st.node.Heartbeat = math.MaxInt64
	return &kernel{st, objects.Fastpath}
}

// put inserts a plan whose next hop needs no look-up.
func (k *kernel) put(t testing.TB, p *fastpath.Plan) {
	t.Helper()
	if err := validate(p); err != nil {
		t.Fatal(err)
	}
	if err := k.insert(p); err != nil {
		t.Fatal(err)
	}
	f := &k.flows[k.plans[p.Key].slot]
	f.RouteAt, f.RouteGeneration, f.Ifindex, f.Mtu = math.MaxInt64, k.node.Generation, 1<<20, 1500
	copy(f.Mac[:], []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1})
}

// run gives a frame to the program.
func (k *kernel) run(t testing.TB, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, 4096)}
	verdict, err := k.program.Run(opts)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, opts.DataOut
}

// frame puts a datagram into Ethernet, IP and UDP headers.
func frame(from, to netip.AddrPort, payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	udp := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	udp = append(udp, payload...)
	if from.Addr().Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, 17
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
		copy(ip[12:], from.Addr().AsSlice())
		copy(ip[16:], to.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^checksum(ip))
		return append(append(b, ip...), udp...)
	}
	b[12], b[13] = 0x86, 0xdd
	ip := make([]byte, 40)
	ip[0], ip[6], ip[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
	copy(ip[8:], from.Addr().AsSlice())
	copy(ip[24:], to.Addr().AsSlice())
	return append(append(b, ip...), udp...)
}

func checksum(parts ...[]byte) uint16 {
	var n uint32
	for _, b := range parts {
		for ; len(b) >= 2; b = b[2:] {
			n += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			n += uint32(b[0]) << 8
		}
	}
	for n > 0xffff {
		n = n&0xffff + n>>16
	}
	return uint16(n)
}

// datagram takes a frame apart, and checks its headers against a plan.
func datagram(t testing.TB, f []byte, p *fastpath.Plan) []byte {
	t.Helper()
	if string(f[:12]) != "\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x01" {
		t.Fatalf("Ethernet addresses are % x", f[:12])
	}
	var ip, pseudo []byte
	var from, to netip.Addr
	var total int
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		ip = f[14:34]
		if ip[0] != 0x45 || ip[8] != 64 || ip[9] != 17 || checksum(ip) != 0xffff {
			t.Fatalf("IPv4 header is % x, its sum %#x", ip, checksum(ip))
		}
		from, _ = netip.AddrFromSlice(ip[12:16])
		to, _ = netip.AddrFromSlice(ip[16:20])
		total = int(binary.BigEndian.Uint16(ip[2:])) - 20
		pseudo = ip[12:20]
		f = f[34:]
	case 0x86dd:
		ip = f[14:54]
		if ip[0] != 0x60 || ip[6] != 17 || ip[7] != 64 {
			t.Fatalf("IPv6 header is % x", ip)
		}
		from, _ = netip.AddrFromSlice(ip[8:24])
		to, _ = netip.AddrFromSlice(ip[24:40])
		total = int(binary.BigEndian.Uint16(ip[4:]))
		pseudo = ip[8:40]
		f = f[54:]
	default:
		t.Fatalf("EtherType % x", f[12:14])
	}
	udp := f[:8]
	if n := int(binary.BigEndian.Uint16(udp[4:])); n != total || n > len(f) {
		t.Fatalf("UDP length %d, IP has %d, the frame %d", n, total, len(f))
	}
	f = f[:total]
	if n := checksum(pseudo, []byte{0, 17, byte(total >> 8), byte(total)}, f); n != 0xffff {
		t.Fatalf("UDP checksum is wrong: the sum is %#x", n)
	}
	if a := netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp)); a != p.From {
		t.Fatalf("from %s, want %s", a, p.From)
	}
	if a := netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:])); a != p.To {
		t.Fatalf("to %s, want %s", a, p.To)
	}
	return f[8:]
}
