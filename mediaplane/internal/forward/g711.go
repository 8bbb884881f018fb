package forward

import "math/bits"

// muLaw and aLaw encode a 16-bit sample (ITU-T G.711).

func muLaw(sample int16) byte {
	const bias, clip = 0x84, 32635
	sign := byte(0)
	v := int(sample)
	if v < 0 {
		v, sign = -v, 0x80
	}
	v = min(v, clip) + bias
	exponent := bits.Len(uint(v)) - 8
	mantissa := byte(v>>(exponent+3)) & 0x0f
	return ^(sign | byte(exponent)<<4 | mantissa)
}

func aLaw(sample int16) byte {
	sign := byte(0x80)
	v := int(sample)
	if v < 0 {
		v, sign = -v-1, 0
	}
	v >>= 3 // 13 bits with the sign
	code := byte(v >> 1)
	if exponent := bits.Len(uint(v)) - 5; exponent > 0 {
		code = byte(exponent)<<4 | byte(v>>exponent)&0x0f
	}
	return (sign | code) ^ 0x55
}
