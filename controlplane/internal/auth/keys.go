package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// refetchBurst is how many readings may follow each other at once, so that a key
// rotated right after a reading is found without delay.
const refetchBurst = 3

// maxKeys is the most keys that are tried on a token without kid.
const maxKeys = 16

// keySource is the JWK set of an issuer. It is read when it is needed: at first
// use, when it is older than cacheTTL, and when a token names a key that it does
// not hold; never more often than the limiter allows. When the issuer cannot be
// reached, a set that is not older than cacheTTL+staleTTL goes on to be used.
type keySource struct {
	issuer   string
	url      string // empty: by discovery
	insecure bool
	cacheTTL time.Duration
	staleTTL time.Duration
	interval time.Duration
	fetch    fetcher
	now      func() time.Time
	log      *slog.Logger
	count    *prometheus.CounterVec

	mu      sync.Mutex
	limit   *rate.Limiter
	keys    []jose.JSONWebKey
	fetched time.Time     // of keys; zero: never
	failure error         // of the last reading
	reading chan struct{} // closed at the end of the reading under way, or nil
}

func newKeySource(c Issuer, f fetcher, now func() time.Time, log *slog.Logger, count *prometheus.CounterVec) *keySource {
	return &keySource{
		issuer: c.Issuer, url: c.JWKSURL, insecure: c.Insecure,
		cacheTTL: c.CacheTTL, staleTTL: c.StaleTTL, interval: c.RefetchInterval,
		fetch: f, now: now, log: log, count: count,
		limit: rate.NewLimiter(rate.Every(c.RefetchInterval), refetchBurst),
	}
}

// find returns the keys that may have signed with this algorithm: the one of
// that kid, or all that fit when the token names none.
func (s *keySource) find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	age := s.now().Sub(s.fetched)
	found := s.matching(kid, alg)
	if !s.fetched.IsZero() && age < s.cacheTTL && len(found) > 0 {
		s.mu.Unlock()
		return found, nil
	}
	reading := s.reading
	if reading == nil && s.limit.AllowN(s.now(), 1) {
		reading = make(chan struct{})
		s.reading = reading
		go s.read(context.WithoutCancel(ctx), reading)
	}
	s.mu.Unlock()
	if reading != nil {
		select {
		case <-reading:
		case <-ctx.Done():
			return nil, &unavailableError{issuer: s.issuer, err: ctx.Err()}
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetched.IsZero() || s.now().Sub(s.fetched) >= s.cacheTTL+s.staleTTL {
		return nil, s.unreachable()
	}
	if found = s.matching(kid, alg); len(found) > 0 {
		return found, nil
	}
	if s.failure != nil { // the key may be a new one
		return nil, s.unreachable()
	}
	return nil, invalid("the issuer has no key %.64q for %s", kid, alg)
}

func (s *keySource) unreachable() error {
	err := s.failure
	if err == nil {
		err = errors.New("its keys have become too old, and it is too early to read them again")
	}
	return &unavailableError{issuer: s.issuer, after: s.interval, err: fmt.Errorf("read the JWK set: %w", err)}
}

func (s *keySource) matching(kid string, alg jose.SignatureAlgorithm) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, k := range s.keys {
		if (kid == "" || k.KeyID == kid) && fits(k, alg) && len(found) < maxKeys {
			found = append(found, k)
		}
	}
	return found
}

// fits reports whether a key may check signatures of an algorithm.
func fits(k jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if (k.Use != "" && k.Use != "sig") || (k.Algorithm != "" && k.Algorithm != string(alg)) {
		return false
	}
	switch key := k.Key.(type) {
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && key.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return (alg == jose.RS256 || alg == jose.PS256) && key.N.BitLen() >= 2048
	}
	return false
}

// read reads the set once and wakes those who wait for it.
func (s *keySource) read(ctx context.Context, done chan struct{}) {
	keys, err := s.load(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.reading = err, nil
	if err == nil {
		s.keys, s.fetched = keys, s.now()
		s.count.WithLabelValues(s.issuer, "ok").Inc()
		s.log.Debug("JWK set read", "issuer", s.issuer, "keys", len(keys))
	} else {
		s.count.WithLabelValues(s.issuer, "error").Inc()
		s.log.Warn("the JWK set of an issuer cannot be read", "issuer", s.issuer, "error", err)
	}
	close(done)
}

func (s *keySource) load(ctx context.Context) ([]jose.JSONWebKey, error) {
	location := s.url
	if location == "" {
		var err error
		if location, err = s.discover(ctx); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequest(http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.fetch.json(ctx, req, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		// A key of an unknown kind must not spoil the others (RFC 7517 §5).
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no public key that can be used", location)
	}
	return keys, nil
}

// discover finds the JWK set of the issuer: OpenID Connect Discovery, then RFC
// 8414, which has another idea of where the path goes.
func (s *keySource) discover(ctx context.Context) (string, error) {
	issuer, err := url.Parse(s.issuer)
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	root := issuer.Scheme + "://" + issuer.Host
	var errs []error
	for _, location := range []string{
		root + path + "/.well-known/openid-configuration",
		root + "/.well-known/oauth-authorization-server" + path,
	} {
		req, err := http.NewRequest(http.MethodGet, location, nil)
		if err != nil {
			return "", err
		}
		var doc struct {
			Issuer  string `json:"issuer"`
			JWKSURL string `json:"jwks_uri"`
		}
		err = s.fetch.json(ctx, req, &doc)
		switch {
		case err != nil:
		case doc.Issuer != s.issuer:
			err = fmt.Errorf("%s is of issuer %.200q", location, doc.Issuer)
		default:
			if err = checkURL(doc.JWKSURL, s.insecure); err == nil {
				return doc.JWKSURL, nil
			}
			err = fmt.Errorf("jwks_uri of %s: %w", location, err)
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}
