package rpc

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// RequireSecret lets only requests through that carry the shared secret as a
// bearer token. Without a secret the transport has to authenticate the caller,
// and every request passes.
func RequireSecret(secret string, refused prometheus.Counter, next http.Handler) http.Handler {
	if secret == "" {
		return next
	}
	// Hashing first makes the comparison independent of the length too.
	want := sha256.Sum256([]byte(secret))
	writer := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(token))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			refused.Inc()
			err := connect.NewError(connect.CodeUnauthenticated, errUnauthenticated)
			if writer.IsSupported(r) {
				_ = writer.Write(w, r, err)
				return
			}
			http.Error(w, errUnauthenticated.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type constError string

func (e constError) Error() string { return string(e) }

const errUnauthenticated = constError("the shared secret of the planes is missing or wrong (Authorization: Bearer …)")

// bearer adds the shared secret to requests.
type bearer struct {
	secret string
	next   http.RoundTripper
}

// WithSecret adds the shared secret to every request.
func WithSecret(secret string, next http.RoundTripper) http.RoundTripper {
	if secret == "" {
		return next
	}
	return bearer{secret, next}
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.secret)
	return b.next.RoundTrip(r)
}
