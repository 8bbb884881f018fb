package forward

import "encoding/binary"

// minHeader is the size in bytes of an RTP header without CSRC and extension.
const minHeader = 12

// header is an RTP header (RFC 3550 section 5.1) with the place of its payload.
type header struct {
	marker   bool
	payload  uint8
	sequence uint16
	time     uint32
	ssrc     uint32
	// start and end of the payload in the packet, padding left out.
	start, end int
}

// parse reads the header of an RTP packet. It reports false for anything that is
// no complete RTP packet.
func parse(b []byte) (header, bool) {
	h, ok := parseHeader(b)
	if !ok || b[0]&0x20 == 0 {
		return h, ok
	}
	padding := int(b[len(b)-1])
	if padding == 0 || h.start+padding > len(b) {
		return header{}, false
	}
	h.end -= padding
	return h, true
}

// parseHeader reads only what SRTP leaves in the clear.
func parseHeader(b []byte) (header, bool) {
	if len(b) < minHeader || b[0]>>6 != 2 {
		return header{}, false
	}
	h := header{
		marker:   b[1]&0x80 != 0,
		payload:  b[1] & 0x7f,
		sequence: binary.BigEndian.Uint16(b[2:]),
		time:     binary.BigEndian.Uint32(b[4:]),
		ssrc:     binary.BigEndian.Uint32(b[8:]),
		start:    minHeader + 4*int(b[0]&0x0f),
		end:      len(b),
	}
	if b[0]&0x10 != 0 {
		if len(b) < h.start+4 {
			return header{}, false
		}
		h.start += 4 + 4*int(binary.BigEndian.Uint16(b[h.start+2:]))
	}
	if len(b) < h.start {
		return header{}, false
	}
	return h, true
}

// rewrite puts the fields that the node owns into a packet.
func rewrite(b []byte, marker bool, payload uint8, sequence uint16, time, ssrc uint32) {
	b[1] = payload
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[4:], time)
	binary.BigEndian.PutUint32(b[8:], ssrc)
}
