package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"strings"
)

// keySize of a sealing key, in bytes.
const keySize = 32

// A sealed blob is
//
//	format (1 byte, sealFormat) | key id (8) | nonce (24) | ciphertext and tag
//
// under XAES-256-GCM (C2SP): AES-256-GCM with a key derived from the first half
// of the nonce, so that random nonces do not run out however much is written.
// The place of the row is authenticated with it: a blob moved to another row
// does not open. The plaintext is JSON in an envelope with a version.
const (
	sealFormat = 1
	keyIDSize  = 8
	nonceSize  = 24
	headerSize = 1 + keyIDSize + nonceSize
)

// blobVersion of the JSON inside.
const blobVersion = 1

type sealer struct {
	current *sealingKey
	byID    map[[keyIDSize]byte]*sealingKey
}

type sealingKey struct {
	id    [keyIDSize]byte
	block cipher.Block
	// k1 is the CMAC subkey (NIST SP 800-38B).
	k1 [aes.BlockSize]byte
}

func newSealer(keys [][]byte) (*sealer, error) {
	s := &sealer{byID: map[[keyIDSize]byte]*sealingKey{}}
	for _, k := range keys {
		key, err := newSealingKey(k)
		if err != nil {
			return nil, err
		}
		if s.current == nil {
			s.current = key
		}
		s.byID[key.id] = key
	}
	if s.current == nil {
		return nil, fmt.Errorf("no sealing key")
	}
	return s, nil
}

func newSealingKey(k []byte) (*sealingKey, error) {
	if len(k) != keySize {
		return nil, fmt.Errorf("a sealing key has %d bytes, this one has %d", keySize, len(k))
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	key := &sealingKey{block: block}
	sum := sha256.Sum256(append([]byte("isthmus sealing key id\x00"), k...))
	copy(key.id[:], sum[:])
	block.Encrypt(key.k1[:], key.k1[:])
	var msb byte
	for i := len(key.k1) - 1; i >= 0; i-- {
		msb, key.k1[i] = key.k1[i]>>7, key.k1[i]<<1|msb
	}
	key.k1[len(key.k1)-1] ^= 0b10000111 * msb
	return key, nil
}

// aead is AES-256-GCM under the key derived for the first half of a nonce.
func (k *sealingKey) aead(nonce []byte) (cipher.AEAD, error) {
	var derived [keySize]byte
	for i := range 2 {
		m := derived[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(m, []byte{0, byte(i + 1), 'X', 0})
		copy(m[4:], nonce[:12])
		subtle.XORBytes(m, m, k.k1[:])
		k.block.Encrypt(m, m)
	}
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (s *sealer) seal(plain []byte, place string) ([]byte, error) {
	blob := make([]byte, headerSize, headerSize+len(plain)+16)
	blob[0] = sealFormat
	copy(blob[1:], s.current.id[:])
	nonce := blob[1+keyIDSize : headerSize]
	rand.Read(nonce)
	aead, err := s.current.aead(nonce)
	if err != nil {
		return nil, err
	}
	return aead.Seal(blob, nonce[12:], plain, []byte(place)), nil
}

func (s *sealer) open(blob []byte, place string) ([]byte, error) {
	if len(blob) < headerSize || blob[0] != sealFormat {
		return nil, fmt.Errorf("%s: not sealed in a known format", place)
	}
	key := s.byID[[keyIDSize]byte(blob[1:])]
	if key == nil {
		return nil, fmt.Errorf("%s: sealed with key %x, which is not configured; add it to the sealing keys", place, blob[1:1+keyIDSize])
	}
	nonce := blob[1+keyIDSize : headerSize]
	aead, err := key.aead(nonce)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonce[12:], blob[headerSize:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("%s: the sealed data is damaged or of another row", place)
	}
	return plain, nil
}

// place names the row that a blob belongs to.
func place(parts ...string) string { return strings.Join(parts, "\x00") }

type envelope[T any] struct {
	Version int `json:"v"`
	Data    T   `json:"d"`
}

// sealJSON seals a value for its row.
func sealJSON[T any](s *sealer, v T, place string) ([]byte, error) {
	plain, err := json.Marshal(envelope[T]{blobVersion, v})
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return s.seal(plain, place)
}

// openJSON opens what sealJSON sealed.
func openJSON[T any](s *sealer, blob []byte, place string) (T, error) {
	var e envelope[T]
	plain, err := s.open(blob, place)
	if err != nil {
		return e.Data, err
	}
	if err := json.Unmarshal(plain, &e); err != nil {
		return e.Data, fmt.Errorf("%s: decode %T: %w", place, e.Data, err)
	}
	if e.Version != blobVersion {
		return e.Data, fmt.Errorf("%s: stored in version %d, this program reads %d; it was written by a newer one", place, e.Version, blobVersion)
	}
	return e.Data, nil
}
