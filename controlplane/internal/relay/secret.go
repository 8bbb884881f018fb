package relay

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// newSecret is unguessable: 256 bits, in letters and digits.
func newSecret() string { return rand.Text() + rand.Text() }

// key is what is stored of a secret or a name, and found by it. Secrets of 256
// bits need no slow hash.
func key(parts ...string) string {
	h := sha256.New()
	for i, p := range parts {
		if i > 0 {
			h.Write([]byte{0})
		}
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// newCredential makes a sink token, of which only the hash is kept.
func (r *Relay) newCredential(now time.Time) (token string, c gateway.RelayCredential) {
	token = newSecret()
	return token, gateway.RelayCredential{Hash: hashToken(token), Expires: now.Add(r.config.CredentialLife)}
}

// accepts compares in the same time for every token.
func accepts(credentials []gateway.RelayCredential, token string, now time.Time) bool {
	hash, found := hashToken(token), 0
	for _, c := range credentials {
		if now.Before(c.Expires) {
			found |= subtle.ConstantTimeCompare(c.Hash, hash)
		}
	}
	return found == 1
}

// credentials that one sink accepts at most, however often they are rotated.
const credentials = 8

// rotate adds a credential. The ones before it are accepted for the overlap.
func (r *Relay) rotate(old []gateway.RelayCredential, added gateway.RelayCredential, now time.Time) []gateway.RelayCredential {
	until := now.Add(r.config.CredentialOverlap)
	var all []gateway.RelayCredential
	for _, c := range old {
		if until.Before(c.Expires) {
			c.Expires = until
		}
		if now.Before(c.Expires) {
			all = append(all, c)
		}
	}
	return append(all[max(0, len(all)-credentials+1):], added)
}
