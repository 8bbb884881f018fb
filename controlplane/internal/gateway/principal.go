package gateway

import (
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Principal is on whose behalf a use case runs: a validated access token.
type Principal struct {
	// Owner has an empty Subject when the token is bound to no subscriber.
	Owner call.Owner
	// Scopes granted, each once.
	Scopes []string
	// Expires is when the token dies.
	Expires time.Time
}

// TwoLegged reports whether the token is the application's own.
func (p Principal) TwoLegged() bool { return p.Owner.Subject == "" }

// Has reports whether the scope was granted.
func (p Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }

// AuthError is why a request has no Principal. What it says to the caller is no
// more than that; the cause is for the log.
type AuthError struct {
	// Challenge is the value of WWW-Authenticate: "Bearer", "Bearer
	// error=\"invalid_token\"", "DPoP …". Several are joined by commas (RFC 9110
	// 11.6.1). Empty stands for "Bearer".
	Challenge string
	// DPoPNonce, when set, is sent in the header of that name (RFC 9449 8).
	DPoPNonce string
	// Unavailable: the token could not be judged because its issuer cannot be
	// reached. The answer is then 503 rather than 401.
	Unavailable bool
	// RetryAfter goes with Unavailable; 0 for no advice.
	RetryAfter time.Duration
	// Err is the cause.
	Err error
}

func (e *AuthError) Error() string {
	what := "the request is not authenticated"
	if e.Unavailable {
		what = "the access token cannot be checked now"
	}
	if e.Err != nil {
		return what + ": " + e.Err.Error()
	}
	return what
}

func (e *AuthError) Unwrap() error { return e.Err }
