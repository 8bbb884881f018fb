//go:build linux && (amd64 || arm64)

package xdp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding"
	"encoding/binary"
	"fmt"
	"math/bits"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// Labels of the key derivation (RFC 3711 section 4.3.1).
const (
	labelEncryption     = 0
	labelAuthentication = 1
	labelSalt           = 2
)

// suite is what a protection profile is made of, in bytes.
type suite struct {
	id              uint32
	key, salt, auth int
}

var suites = map[uint16]suite{
	fastpath.AES128CMSHA1: {bpf.CMSHA1, 16, 14, 20},
	fastpath.AES128GCM:    {bpf.GCM, 16, 12, 0},
	fastpath.AES256GCM:    {bpf.GCM, 32, 12, 0},
}

// session are the keys that packets are protected with (RFC 3711 section 4.3).
type session struct{ key, salt, auth []byte }

// derive makes them of a master key.
func derive(c *fastpath.Crypto) (session, suite, error) {
	s, known := suites[c.Profile]
	if !known {
		return session{}, s, fmt.Errorf("SRTP protection profile %#04x is not one of the kernel's", c.Profile)
	}
	if len(c.Master) != s.key+s.salt {
		return session{}, s, fmt.Errorf("master key and salt are %d bytes, profile %#04x needs %d", len(c.Master), c.Profile, s.key+s.salt)
	}
	master, err := aes.NewCipher(c.Master[:s.key])
	if err != nil {
		return session{}, s, err
	}
	next := func(label byte, n int) []byte {
		var iv [aes.BlockSize]byte
		copy(iv[:], c.Master[s.key:])
		iv[7] ^= label
		out := make([]byte, n)
		cipher.NewCTR(master, iv[:]).XORKeyStream(out, out)
		return out
	}
	return session{next(labelEncryption, s.key), next(labelSalt, s.salt), next(labelAuthentication, s.auth)}, s, nil
}

// expand does once what the programs would else do for every packet.
func expand(c *fastpath.Crypto) (*bpf.Crypto, error) {
	keys, s, err := derive(c)
	if err != nil {
		return nil, err
	}
	var salt [16]byte
	copy(salt[:], keys.salt)

	k := &bpf.Crypto{Suite: s.id, Rounds: uint32(6 + s.key/4)}
	schedule := expandKey(keys.key)
	n := copy(k.Round[:], schedule[:len(schedule)-4])
	copy(k.Last[:], schedule[n:])
	for i := range k.Salt {
		k.Salt[i] = binary.BigEndian.Uint32(salt[4*i:])
	}
	if s.id == bpf.GCM {
		block, err := aes.NewCipher(keys.key)
		if err != nil {
			return nil, err
		}
		var h [aes.BlockSize]byte
		block.Encrypt(h[:], h[:])
		k.Table = multiples(h)
		return k, nil
	}
	k.Inner, k.Outer = padded(keys.auth, 0x36), padded(keys.auth, 0x5c)
	return k, nil
}

// expandKey is the key expansion of AES (FIPS 197 section 5.2).
func expandKey(key []byte) []uint32 {
	n := len(key) / 4
	w := make([]uint32, 4*(n+7))
	for i := range n {
		w[i] = binary.BigEndian.Uint32(key[4*i:])
	}
	constant := uint32(1) << 24
	for i := n; i < len(w); i++ {
		t := w[i-1]
		switch {
		case i%n == 0:
			t = substitute(bits.RotateLeft32(t, 8)) ^ constant
			constant = uint32(double(byte(constant>>24))) << 24
		case n > 6 && i%n == 4:
			t = substitute(t)
		}
		w[i] = w[i-n] ^ t
	}
	return w
}

// double multiplies by x in the field of AES (FIPS 197 section 4.2.1).
func double(b byte) byte { return b<<1 ^ b>>7*0x1b }

var sbox = func() (s [256]byte) {
	// p runs through all elements but 0 as powers of 3, q through their
	// inverses.
	p, q := byte(1), byte(1)
	for {
		p ^= double(p)
		q ^= q << 1
		q ^= q << 2
		q ^= q << 4
		if q&0x80 != 0 {
			q ^= 0x09
		}
		s[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			break
		}
	}
	s[0] = 0x63
	return s
}()

func substitute(w uint32) uint32 {
	return uint32(sbox[w>>24])<<24 | uint32(sbox[w>>16&0xff])<<16 | uint32(sbox[w>>8&0xff])<<8 | uint32(sbox[w&0xff])
}

// padded is the state of SHA-1 after a block of the key and a pad (RFC 2104).
func padded(key []byte, pad byte) (state [5]uint32) {
	var block [sha1.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	h := sha1.New()
	h.Write(block[:])
	// The state follows a magic of four bytes.
	b, _ := h.(encoding.BinaryMarshaler).MarshalBinary()
	for i := range state {
		state[i] = binary.BigEndian.Uint32(b[4+4*i:])
	}
	return state
}

// multiples are the products of H with every nibble at eight places, each as
// the upper and the lower half of a block (NIST SP 800-38D section 6.3).
func multiples(h [16]byte) (table [8][16][2]uint64) {
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	for bit := range 32 {
		place, mask := bit/4, 8>>(bit%4)
		for nibble := range 16 {
			if nibble&mask != 0 {
				table[place][nibble][0] ^= hi
				table[place][nibble][1] ^= lo
			}
		}
		out := lo & 1
		lo = lo>>1 | hi<<63
		hi = hi>>1 ^ out*0xe1<<56
	}
	return table
}
