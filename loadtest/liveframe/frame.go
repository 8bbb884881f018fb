package liveframe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Header lengths in bytes.
const (
	ethernet = 14
	ipv4     = 20
	ipv6     = 40
	udp      = 8
)

// Link is the pair of Ethernet addresses of a frame.
type Link struct{ From, To net.HardwareAddr }

// Frame appends a whole frame with a UDP datagram to b.
func Frame(b []byte, l Link, from, to netip.AddrPort, payload []byte) []byte {
	start := len(b)
	b = append(append(b, l.To...), l.From...)
	length := udp + len(payload)
	if from.Addr().Unmap().Is4() {
		b = append(b, 8, 0)
		at := len(b)
		source, target := from.Addr().Unmap().As4(), to.Addr().Unmap().As4()
		b = append(b, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0)
		b = append(append(b, source[:]...), target[:]...)
		binary.BigEndian.PutUint16(b[at+2:], uint16(ipv4+length))
		binary.BigEndian.PutUint16(b[at+10:], ^fold(sum(b[at:at+ipv4])))
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, byte(length>>8), byte(length), 17, 64)
		source, target := from.Addr().As16(), to.Addr().As16()
		b = append(append(b, source[:]...), target[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(append(b, 0, 0), payload...)
	layout, err := parse(b[start:])
	if err == nil {
		frame := b[start:]
		checksum := ^fold(layout.pseudo(frame) + sum(frame[layout.rtp-udp:]))
		if checksum == 0 {
			checksum = 0xffff
		}
		binary.BigEndian.PutUint16(frame[layout.checksum:], checksum)
	}
	return b
}

// Packet is the part of a frame that a datagram carries, with whether its UDP
// checksum is right. One that holds nothing but the pseudo-header is left to
// hardware, which a virtual interface has none of: it counts as right.
func Packet(frame []byte) (payload []byte, checksumOK bool, err error) {
	l, err := parse(frame)
	if err != nil {
		return nil, false, err
	}
	length := int(binary.BigEndian.Uint16(frame[l.rtp-4:]))
	if length < udp || l.rtp-udp+length > len(frame) {
		return nil, false, errors.New("the UDP length is beyond the frame")
	}
	datagram := frame[l.rtp-udp : l.rtp-udp+length]
	have := binary.BigEndian.Uint16(frame[l.checksum:])
	pseudo := l.pseudo(frame)
	checksumOK = fold(pseudo+sum(datagram)) == 0xffff || have == fold(pseudo) || have == 0 && !l.six
	return datagram[udp:], checksumOK, nil
}

// layout says where the parts of a frame are.
type layout struct {
	six           bool
	rtp, checksum int
}

func parse(frame []byte) (layout, error) {
	if len(frame) < ethernet+ipv4+udp || len(frame) > MaxFrame {
		return layout{}, fmt.Errorf("a frame of %d bytes", len(frame))
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if frame[ethernet] != 0x45 || frame[ethernet+9] != 17 {
			return layout{}, errors.New("not UDP over IPv4 without options")
		}
		return layout{rtp: ethernet + ipv4 + udp, checksum: ethernet + ipv4 + 6}, nil
	case 0x86dd:
		if len(frame) < ethernet+ipv6+udp || frame[ethernet+6] != 17 {
			return layout{}, errors.New("not UDP over IPv6 without extensions")
		}
		return layout{six: true, rtp: ethernet + ipv6 + udp, checksum: ethernet + ipv6 + 6}, nil
	}
	return layout{}, errors.New("neither IPv4 nor IPv6")
}

// pseudo is the sum of the pseudo-header (RFC 768, RFC 8200 section 8.1).
func (l layout) pseudo(frame []byte) uint32 {
	addresses := frame[ethernet+12 : ethernet+ipv4]
	if l.six {
		addresses = frame[ethernet+8 : ethernet+ipv6]
	}
	return sum(addresses) + 17 + uint32(binary.BigEndian.Uint16(frame[l.rtp-4:]))
}

// fixed is the sum of what the checksum of a template covers and what the kernel
// does not rewrite, in the order of bytes that the kernel sums in.
func (l layout) fixed(frame []byte) uint32 {
	if len(frame) < l.rtp+rtpHeader+stamp {
		return 0
	}
	s := fold(l.pseudo(frame) + sum(frame[l.rtp-udp:l.rtp-2]) + sum(frame[l.rtp+rtpHeader+stamp:]))
	return uint32(s>>8 | s<<8)
}

// sum of 16-bit words in network order.
func sum(b []byte) uint32 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
