//go:build linux && (amd64 || arm64)

package xdp

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// Lengths of headers in bytes, and of the packets that are sent.
const (
	ipv4Header = 20
	ipv6Header = 40
	hopLimit   = 64
	udpNumber  = 17
)

// untouched marks a payload type that is left to user space.
const untouched = 0xff

// validate says what of a plan no kernel can do.
func validate(p *fastpath.Plan) error {
	needIn := p.Mode == fastpath.Unprotect || p.Mode == fastpath.Transcrypt
	needOut := p.Mode == fastpath.Protect || p.Mode == fastpath.Transcrypt
	switch {
	case p.Mode < fastpath.Relay || p.Mode > fastpath.Transcrypt:
		return fmt.Errorf("mode %d is unknown", p.Mode)
	case needIn != (p.In != nil) || needOut != (p.Out != nil):
		return fmt.Errorf("mode %d does not fit the keys that are given", p.Mode)
	case !p.Key.Local.IsValid() || !p.Key.Remote.IsValid() || p.Key.Local.Addr().Is4() != p.Key.Remote.Addr().Is4():
		return fmt.Errorf("%s to %s is no path", p.Key.Remote, p.Key.Local)
	case !p.From.IsValid() || !p.To.IsValid() || p.From.Addr().Is4() != p.To.Addr().Is4():
		return fmt.Errorf("%s to %s is no path", p.From, p.To)
	case p.ClockRate < 1000 || p.ClockRate > 1_000_000:
		return fmt.Errorf("a clock of %d Hz is out of range", p.ClockRate)
	case p.Start.Index >= 1<<48:
		return fmt.Errorf("index %d is beyond 48 bits", p.Start.Index)
	case len(p.Session) > 128 || len(p.Input) > 64 || len(p.Output) > 64:
		return fmt.Errorf("names of %d, %d and %d bytes are too long", len(p.Session), len(p.Input), len(p.Output))
	}
	return nil
}

// newFlow makes the entry of a plan, but for the places of its keys.
func newFlow(p *fastpath.Plan) *bpf.Flow {
	f := &bpf.Flow{
		Mode: uint8(p.Mode), Ssrc: p.SSRC, Start: p.Start.Index, IndexOffset: p.IndexOffset, TimeOffset: p.TimeOffset,
		Tick:     uint32(256 * uint64(time.Second) / uint64(p.ClockRate)),
		FromPort: swap(p.From.Port()), ToPort: swap(p.To.Port()),
		Newest: p.Start.Index, LastSeen: uint64(p.Start.LastSeen), LastTime: p.Start.Timestamp,
		Jitter: uint32(max(0, min(p.Start.Jitter, math.MaxInt32))),
	}
	if p.In != nil {
		f.SuiteIn = uint8(suites[p.In.Profile].id)
	}
	if p.Out != nil {
		f.SuiteOut = uint8(suites[p.Out.Profile].id)
	}
	for i, to := range p.Payloads {
		f.Payloads[i] = untouched
		if to >= 0 && to < 128 {
			f.Payloads[i] = uint8(to)
		}
	}

	ip := unsafe.Slice((*byte)(unsafe.Pointer(&f.L3)), len(f.L3)*8)
	from, to := p.From.Addr().AsSlice(), p.To.Addr().AsSlice()
	addresses := sum(from) + sum(to)
	if p.From.Addr().Is4() {
		ip[0] = 0x45
		ip[6] = 0x40 // do not fragment
		ip[8], ip[9] = hopLimit, udpNumber
		copy(ip[12:], from)
		copy(ip[16:], to)
		f.L3Sum = sum(ip[:ipv4Header])
	} else {
		f.Ipv6 = 1
		ip[0] = 0x60
		ip[6], ip[7] = udpNumber, hopLimit
		copy(ip[8:], from)
		copy(ip[24:], to)
	}
	f.L4Sum = addresses + uint32(swap(udpNumber)) + uint32(f.FromPort) + uint32(f.ToPort)
	return f
}

// plan is the way back, but for what the label of the flow tells.
func plan(key fastpath.Key, f *bpf.Flow) fastpath.Plan {
	ip := unsafe.Slice((*byte)(unsafe.Pointer(&f.L3)), len(f.L3)*8)
	p := fastpath.Plan{
		Key: key, Mode: fastpath.Mode(f.Mode), SSRC: f.Ssrc, IndexOffset: f.IndexOffset, TimeOffset: f.TimeOffset,
	}
	from, to := ip[12:16], ip[16:20]
	if f.Ipv6 != 0 {
		from, to = ip[8:24], ip[24:40]
	}
	a, _ := netip.AddrFromSlice(from)
	b, _ := netip.AddrFromSlice(to)
	p.From = netip.AddrPortFrom(a, swap(f.FromPort))
	p.To = netip.AddrPortFrom(b, swap(f.ToPort))
	for i, to := range f.Payloads {
		p.Payloads[i] = int16(to)
		if to == untouched {
			p.Payloads[i] = -1
		}
	}
	return p
}

// swap turns a number in the host's order into one in the network's, or back.
func swap(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}

// sum adds up the 16-bit words of b for the Internet checksum (RFC 1071), in the
// host's order.
func sum(b []byte) (n uint32) {
	for ; len(b) >= 2; b = b[2:] {
		n += uint32(binary.NativeEndian.Uint16(b))
	}
	return n
}

// position reads where a flow stands. With last nothing is taken any more.
func position(f *bpf.Flow, last bool) fastpath.Position {
	var words [len(f.Window)]uint64
	newest, any := uint64(0), false
	for i := range f.Window {
		if last {
			words[i] = atomic.SwapUint64(&f.Window[i], bpf.Closed)
		} else {
			words[i] = atomic.LoadUint64(&f.Window[i])
		}
		if w := words[i]; w != bpf.Closed && w&0xffff != 0 {
			top := w>>16<<4 | uint64(bits.Len16(uint16(w))-1)
			newest, any = max(newest, top), true
		}
	}
	p := fastpath.Position{
		Index: f.Start, Timestamp: atomic.LoadUint32(&f.LastTime), LastSeen: int64(atomic.LoadUint64(&f.LastSeen)),
		Jitter: time.Duration(atomic.LoadUint32(&f.Jitter)),
		Counters: fastpath.Counters{
			Packets: atomic.LoadUint64(&f.Packets), Bytes: atomic.LoadUint64(&f.Bytes),
			SentBytes: atomic.LoadUint64(&f.SentBytes), Octets: atomic.LoadUint64(&f.Octets),
			AuthFailures: atomic.LoadUint64(&f.AuthFailures), Replays: atomic.LoadUint64(&f.Replays),
			PassedUp: atomic.LoadUint64(&f.Passed),
		},
	}
	if !any {
		return p
	}
	p.Index = newest
	for _, w := range words {
		if w == bpf.Closed {
			continue
		}
		for bit := range uint64(16) {
			back := newest - (w>>16<<4 | bit)
			if w>>bit&1 == 1 && back < fastpath.WindowSize {
				p.Window[back/64] |= 1 << (back % 64)
			}
		}
	}
	return p
}

// key4 and key6 are keys as the programs make them of a packet.
func key4(k fastpath.Key) bpf.Key4 {
	local, remote := k.Local.Addr().As4(), k.Remote.Addr().As4()
	return bpf.Key4{
		Local: binary.NativeEndian.Uint32(local[:]), Remote: binary.NativeEndian.Uint32(remote[:]),
		LocalPort: swap(k.Local.Port()), RemotePort: swap(k.Remote.Port()), Ssrc: swap32(k.SSRC),
	}
}

func key6(k fastpath.Key) bpf.Key6 {
	return bpf.Key6{
		Local: words(k.Local.Addr()), Remote: words(k.Remote.Addr()),
		LocalPort: swap(k.Local.Port()), RemotePort: swap(k.Remote.Port()), Ssrc: swap32(k.SSRC),
	}
}

func words(a netip.Addr) (w [4]uint32) {
	b := a.AsSlice()
	for i := 0; i < len(b); i += 4 {
		w[i/4] = binary.NativeEndian.Uint32(b[i:])
	}
	return w
}

func swap32(n uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return binary.NativeEndian.Uint32(b[:])
}

func fromKey4(k bpf.Key4) fastpath.Key {
	var local, remote [4]byte
	binary.NativeEndian.PutUint32(local[:], k.Local)
	binary.NativeEndian.PutUint32(remote[:], k.Remote)
	return fastpath.Key{
		Local:  netip.AddrPortFrom(netip.AddrFrom4(local), swap(k.LocalPort)),
		Remote: netip.AddrPortFrom(netip.AddrFrom4(remote), swap(k.RemotePort)),
		SSRC:   swap32(k.Ssrc),
	}
}

func fromKey6(k bpf.Key6) fastpath.Key {
	address := func(w [4]uint32) netip.Addr {
		var b [16]byte
		for i := range w {
			binary.NativeEndian.PutUint32(b[4*i:], w[i])
		}
		return netip.AddrFrom16(b)
	}
	return fastpath.Key{
		Local:  netip.AddrPortFrom(address(k.Local), swap(k.LocalPort)),
		Remote: netip.AddrPortFrom(address(k.Remote), swap(k.RemotePort)),
		SSRC:   swap32(k.Ssrc),
	}
}

// port is the key of a local port.
func port(a netip.AddrPort) bpf.Port {
	return bpf.Port{Addr: words(a.Addr()), Port: uint32(swap(a.Port()))}
}
