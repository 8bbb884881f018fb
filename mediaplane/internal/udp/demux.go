package udp

// Kind is what a datagram on a multiplexed port carries.
type Kind uint8

// Kinds of datagrams.
const (
	Unknown Kind = iota
	STUN
	DTLS
	RTP
	RTCP
)

// Classify tells the protocols on one port apart by the first byte (RFC 7983
// section 7), and RTCP from RTP by the second (RFC 5761 section 4).
func Classify(b []byte) Kind {
	if len(b) < 2 {
		return Unknown
	}
	switch first := b[0]; {
	case first <= 3:
		return STUN
	case first >= 20 && first <= 63:
		return DTLS
	case first >= 128 && first <= 191:
		if b[1] >= 192 && b[1] <= 223 {
			return RTCP
		}
		return RTP
	}
	return Unknown
}
