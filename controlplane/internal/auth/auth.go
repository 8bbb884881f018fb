// Package auth turns the access token of an API request into a gateway.Principal,
// or into the reason why there is none. It follows CAMARA Identity and Consent
// Management r4.2, RFC 6750, RFC 9068, RFC 7662, RFC 9449 and RFC 8705.
//
// A token comes in the Authorization header and nowhere else. If it is a JWT, its
// iss picks the configured issuer and the JWK set of that issuer checks it;
// otherwise the issuers with an introspection endpoint are asked:
//
//	Authorization ─► JWT?  ─yes─► iss ─► keys ─► signature ─► claims ─┐
//	                  │no                                             ├─► bindings ─► Principal
//	                  └────► introspection, cached ──────────► claims ┘   DPoP, mTLS
//
// Invariants: a request is either refused as unauthenticated, or answered as
// unavailable when its issuer cannot be reached, and never the other way round;
// nothing in a token decides which key or algorithm checks it, beyond picking
// among those configured; a token bound to a key is good only with a proof of it;
// memory is bounded whatever is sent.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Deps are what a Validator takes from outside. Each may be nil.
type Deps struct {
	Client  *http.Client          // for requests to issuers; nil: http.DefaultTransport. Redirects are never followed.
	Now     func() time.Time      // nil: time.Now
	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: nothing is measured
}

// Validator validates access tokens. It is safe for concurrent use.
type Validator struct {
	cfg     Config
	issuers []*issuer
	byName  map[string]*issuer
	proofs  *proofChecker
	now     func() time.Time
	log     *slog.Logger
	metrics metrics

	realm string // parameters of the Bearer challenge
	algs  string // parameters of the DPoP challenge
}

// issuer is a configured issuer at work.
type issuer struct {
	Issuer
	keys   *keySource
	asking *introspector // nil without an introspection endpoint
}

// access is a token that was found good, but for its binding.
type access struct {
	owner   call.Owner
	scopes  []string
	expires time.Time
	jkt     string // bound to the key of a DPoP proof, RFC 9449 §6.1
	x5t     string // bound to a TLS client certificate, RFC 8705 §3.1
}

// New makes a Validator. It sends no request before the first token.
func New(cfg Config, deps Deps) (*Validator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	client := http.Client{Timeout: cfg.Timeout}
	if deps.Client != nil {
		client.Transport = deps.Client.Transport
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	v := &Validator{
		cfg:     cfg,
		byName:  map[string]*issuer{},
		proofs:  newProofChecker(cfg.DPoP, cfg.ExternalURLs, deps.Now),
		now:     deps.Now,
		log:     deps.Log,
		metrics: newMetrics(),
		realm:   `realm="isthmus"`,
		algs:    `algs="` + strings.Join(cfg.DPoP.Algorithms, " ") + `"`,
	}
	if deps.Metrics != nil {
		if err := v.metrics.register(deps.Metrics); err != nil {
			return nil, fmt.Errorf("token validation: %w", err)
		}
	}
	for _, ic := range cfg.Issuers {
		ic = ic.withDefaults()
		iss := &issuer{Issuer: ic}
		fetch := fetcher{client: &client, timeout: cfg.Timeout}
		iss.keys = newKeySource(ic, fetch, deps.Now, v.log, v.metrics.fetches)
		if ic.Introspection.Endpoint != "" {
			iss.asking = newIntrospector(ic, fetch, cfg.MaxCached, deps.Now, v.log, v.metrics.introspections)
		}
		v.issuers = append(v.issuers, iss)
		v.byName[ic.Issuer] = iss
	}
	return v, nil
}

// Validate finds out on whose behalf a request is made. Every error is a
// *gateway.AuthError. The request must be as the server received it: a proof
// names its method and full path.
func (v *Validator) Validate(ctx context.Context, r *http.Request) (gateway.Principal, error) {
	scheme, token, err := credentials(r)
	var a access
	if err == nil {
		a, err = v.check(ctx, token)
	}
	if err == nil {
		err = v.confirm(r, scheme, token, a)
	}
	if err != nil {
		return gateway.Principal{}, v.explain(ctx, scheme, err)
	}
	v.metrics.validations.WithLabelValues("ok").Inc()
	return gateway.Principal{Owner: a.owner, Scopes: a.scopes, Expires: a.expires}, nil
}

// check judges the token itself.
func (v *Validator) check(ctx context.Context, token string) (access, error) {
	if jwt, ok := parseJWT(token); ok {
		iss := v.byName[jwt.issuer()]
		if iss == nil {
			return access{}, invalid("JWT of an issuer that is not configured: %.100q", jwt.issuer())
		}
		if !iss.Introspection.JWT {
			return iss.verify(ctx, jwt, v.now())
		}
		if err := refuseOtherTokens(jwt.claims); err != nil {
			return access{}, err
		}
		return iss.asking.ask(ctx, token)
	}
	return v.introspect(ctx, token)
}

// introspect asks every issuer that has an endpoint until one knows the token.
// If none does, but one could not be asked, nothing is known.
func (v *Validator) introspect(ctx context.Context, token string) (access, error) {
	result := error(invalid("opaque token, and no issuer has an introspection endpoint"))
	for _, iss := range v.issuers {
		if iss.asking == nil {
			continue
		}
		a, err := iss.asking.ask(ctx, token)
		if err == nil {
			return a, nil
		}
		var down *unavailableError
		if !errors.As(result, &down) {
			result = err
		}
	}
	return access{}, result
}

// confirm checks that whoever sent the token holds the key that it is bound to.
func (v *Validator) confirm(r *http.Request, scheme, token string, a access) error {
	if a.x5t != "" && a.x5t != clientCertificate(r) {
		return invalid("the token is bound to another TLS client certificate than that of the connection")
	}
	if scheme != schemeDPoP {
		if a.jkt != "" {
			return invalid("the token is bound to a DPoP key, but was sent as a Bearer token")
		}
		return nil
	}
	if a.jkt == "" {
		return invalid("the token is not bound to a DPoP key, but was sent with scheme DPoP")
	}
	return v.proofs.check(r, token, a.jkt)
}
