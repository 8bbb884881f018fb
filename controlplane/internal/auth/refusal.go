package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Error codes of a challenge (RFC 6750 §3.1, RFC 9449 §7.1).
const (
	codeRequest = "invalid_request"
	codeToken   = "invalid_token"
	codeProof   = "invalid_dpop_proof"
)

// refusedError says why a request is unauthenticated. The reason is for the log;
// the caller learns no more than the code.
type refusedError struct {
	code   string // empty: the request made no attempt
	reason string
}

func (e *refusedError) Error() string { return e.reason }

func refused(code, format string, args ...any) *refusedError {
	return &refusedError{code: code, reason: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *refusedError {
	return refused(codeToken, format, args...)
}

// unavailableError says that a token could not be judged.
type unavailableError struct {
	issuer string
	after  time.Duration // when to try again
	err    error
}

func (e *unavailableError) Error() string {
	if e.issuer == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("issuer %s: %v", e.issuer, e.err)
}

func (e *unavailableError) Unwrap() error { return e.err }

// explain makes the error for the API adapter, and logs and counts it.
func (v *Validator) explain(ctx context.Context, scheme string, err error) *gateway.AuthError {
	var down *unavailableError
	if errors.As(err, &down) {
		v.metrics.validations.WithLabelValues("unavailable").Inc()
		v.log.WarnContext(ctx, "an access token cannot be judged", "issuer", down.issuer, "error", err)
		return &gateway.AuthError{Unavailable: true, RetryAfter: down.after, Err: err}
	}
	code, result := codeToken, "invalid"
	var no *refusedError
	if errors.As(err, &no) {
		code = no.code
	}
	if code == "" {
		result = "missing"
	}
	v.metrics.validations.WithLabelValues(result).Inc()
	v.log.DebugContext(ctx, "request is not authenticated", "reason", err)
	return &gateway.AuthError{Challenge: v.challenge(scheme, code), Err: err}
}

// challenge offers both schemes; the one that was used carries the error. Each
// has at least one parameter, as RFC 6750 §3 demands.
func (v *Validator) challenge(scheme, code string) string {
	bearer, dpop := "Bearer "+v.realm, "DPoP "+v.algs
	switch {
	case code == "":
	case scheme == schemeDPoP:
		dpop += `, error="` + code + `"`
	default:
		bearer += `, error="` + code + `"`
	}
	return bearer + ", " + dpop
}
