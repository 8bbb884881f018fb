package tone

// Law is one of the two companding laws of ITU-T G.711.
type Law uint8

// The two laws: MuLaw is PCMU (static RTP payload type 0), ALaw is PCMA
// (static RTP payload type 8), see RFC 3551 section 4.5.14.
const (
	MuLaw Law = iota
	ALaw
)

// Encode compands one linear sample to one octet.
func (l Law) Encode(sample int16) byte {
	if l == ALaw {
		return encodeA(int(sample))
	}
	return encodeMu(int(sample))
}

// Decode expands one octet to a linear sample.
func (l Law) Decode(octet byte) int16 {
	if l == ALaw {
		return decodeA(octet)
	}
	return decodeMu(octet)
}

// AppendEncoded appends the companded samples to dst.
func (l Law) AppendEncoded(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = append(dst, l.Encode(s))
	}
	return dst
}

// AppendDecoded appends the expanded octets to dst.
func (l Law) AppendDecoded(dst []int16, octets []byte) []int16 {
	for _, o := range octets {
		dst = append(dst, l.Decode(o))
	}
	return dst
}

// The bias moves the mu-law segments to powers of two; the clip keeps the
// biased value inside the last segment.
const (
	muBias = 0x84
	muClip = 32635
)

func encodeMu(s int) byte {
	sign := byte(0)
	if s < 0 {
		s, sign = -s, 0x80
	}
	s = min(s, muClip) + muBias
	exponent := 7
	for mask := 0x4000; s&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	mantissa := byte(s>>(exponent+3)) & 0x0f
	return ^(sign | byte(exponent)<<4 | mantissa)
}

func decodeMu(o byte) int16 {
	o = ^o
	magnitude := ((int(o&0x0f) << 3) + muBias) << (o >> 4 & 7)
	magnitude -= muBias
	if o&0x80 != 0 {
		return int16(-magnitude)
	}
	return int16(magnitude)
}

func encodeA(s int) byte {
	sign := byte(0x80)
	if s < 0 {
		s, sign = -s-1, 0
	}
	s = min(s, 32767)
	exponent := 7
	for mask := 0x4000; s&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	shift := exponent + 3
	if exponent == 0 {
		shift = 4
	}
	mantissa := byte(s>>shift) & 0x0f
	return (sign | byte(exponent)<<4 | mantissa) ^ 0x55
}

func decodeA(o byte) int16 {
	o ^= 0x55
	magnitude := int(o&0x0f)<<4 + 8
	if exponent := o >> 4 & 7; exponent > 0 {
		magnitude = (magnitude + 0x100) << (exponent - 1)
	}
	if o&0x80 == 0 {
		return int16(-magnitude)
	}
	return int16(magnitude)
}
