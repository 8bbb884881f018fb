package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// newIdentity makes a self-signed certificate for one leg. Its lifetime means
// nothing in DTLS-SRTP, where the fingerprint is what counts (RFC 5763).
func newIdentity(now time.Time) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make a key: %w", err)
	}
	template := x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(randomUint64()),
		Subject:      pkix.Name{CommonName: "WebRTC"},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return Identity{}, fmt.Errorf("make a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Identity{}, fmt.Errorf("encode a key: %w", err)
	}
	return Identity{Certificate: der, PrivateKey: private}, nil
}

func (i Identity) fingerprint() sdp.Fingerprint {
	sum := sha256.Sum256(i.Certificate)
	return sdp.Fingerprint{Algorithm: "sha-256", Value: sum[:]}
}

// newCredentials makes an ICE user fragment and password: 48 and 144 bits of
// randomness (RFC 8445 5.3 asks for 24 and 128).
func newCredentials() (ufrag, password string) {
	b := make([]byte, 24)
	rand.Read(b)
	text := base64.StdEncoding.EncodeToString(b)
	return text[:8], text[8:32]
}

func randomUint64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// randomSessionID fits an o= line that peers read as a signed 64-bit number.
func randomSessionID() uint64 { return randomUint64()>>2 | 1 }

// randomSSRC is never 0, which stands for none.
func randomSSRC() uint32 { return uint32(randomUint64()) | 1 }
