package auth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Config says whose access tokens are accepted.
type Config struct {
	Issuers      []Issuer      `yaml:"issuers" help:"Authorization servers whose access tokens are accepted; at least one."`
	ExternalURLs []string      `yaml:"external_urls" help:"Base URLs under which applications reach the APIs, such as https://gw.example. DPoP proofs must name one of them. Empty: the host that the request names, which is right only without a proxy."`
	DPoP         DPoP          `yaml:"dpop" help:"Proofs of possession (RFC 9449)."`
	Timeout      time.Duration `yaml:"timeout" help:"How long a request to an issuer may take, 100ms to 1m."`
	MaxCached    int           `yaml:"max_cached" help:"Most introspection answers kept of each kind (good, bad), 100 to 10000000."`
}

// Issuer is an authorization server. Fields left out take the default named in
// their help.
type Issuer struct {
	Issuer           string        `yaml:"issuer" help:"Issuer identifier, compared exactly with iss."`
	Tenant           string        `yaml:"tenant" help:"Tenant that its applications belong to; empty: default."`
	JWKSURL          string        `yaml:"jwks_url" help:"URL of its JWK set; empty: found by discovery."`
	Introspection    Introspection `yaml:"introspection" help:"Introspection endpoint, needed for opaque tokens (RFC 7662)."`
	Audiences        []string      `yaml:"audiences" help:"Values of aud of which a token must have one. Needed unless every token is introspected."`
	Algorithms       []string      `yaml:"algorithms" help:"Signature algorithms of JWT access tokens, out of RS256, PS256, ES256; empty: all three."`
	RequireATJWT     bool          `yaml:"require_at_jwt" help:"Accept only JWTs with typ at+jwt (RFC 9068)."`
	PhoneNumberClaim string        `yaml:"phone_number_claim" help:"Claim that holds the subscriber's number; empty: phone_number. Then phone_number and sub are tried, the latter only if it looks like a number."`
	ClockSkew        time.Duration `yaml:"clock_skew" help:"Difference of clocks to tolerate, up to 1m; 0: 30s. Less than 0: none."`
	CacheTTL         time.Duration `yaml:"cache_ttl" help:"How long a JWK set is used before it is read again, 1s to 24h; 0: 10m."`
	StaleTTL         time.Duration `yaml:"stale_ttl" help:"How long after that a JWK set is still used while the issuer cannot be reached, up to 168h; 0: 24h. Less than 0: not at all."`
	RefetchInterval  time.Duration `yaml:"refetch_interval" help:"Least average time between two readings of a JWK set, however many unknown keys are seen, 100ms to 10m; 0: 5s."`
	Insecure         bool          `yaml:"insecure" help:"Allow http URLs to other hosts than this one."`
}

// Introspection is how to ask an issuer about a token (RFC 7662).
type Introspection struct {
	Endpoint     string        `yaml:"endpoint" help:"URL of the introspection endpoint; empty: tokens of this issuer are JWTs."`
	ClientID     string        `yaml:"client_id" help:"Client id of the gateway at the issuer."`
	ClientSecret string        `yaml:"client_secret" secret:"true" help:"Client secret of the gateway, sent as client_secret_basic."`
	JWT          bool          `yaml:"jwt" help:"Introspect JWT access tokens, too, so that revocation is seen; the JWK set is then not used."`
	CacheTTL     time.Duration `yaml:"cache_ttl" help:"How long a good answer is used, never beyond exp, up to 1h; 0: 30s. Less than 0: not kept."`
	NegativeTTL  time.Duration `yaml:"negative_ttl" help:"How long a bad answer is used, up to 1h; 0: 10s. Less than 0: not kept."`
}

// DPoP says what proofs are accepted.
type DPoP struct {
	Algorithms []string      `yaml:"algorithms" help:"Signature algorithms of proofs, out of RS256, PS256, ES256."`
	MaxAge     time.Duration `yaml:"max_age" help:"Greatest age of a proof, 1s to 10m."`
	ClockSkew  time.Duration `yaml:"clock_skew" help:"How far ahead the clock of a device may be, up to 1m."`
	MaxProofs  int           `yaml:"max_proofs" help:"Most proofs remembered to refuse their replay; beyond it requests get 503, 100 to 100000000."`
}

// Default is the configuration but for Issuers.
func Default() Config {
	return Config{
		DPoP:      DPoP{Algorithms: []string{"ES256", "PS256", "RS256"}, MaxAge: time.Minute, ClockSkew: 10 * time.Second, MaxProofs: 500_000},
		Timeout:   5 * time.Second,
		MaxCached: 50_000,
	}
}

// allowed are the algorithms that may be configured. All are asymmetric: with a
// symmetric one, whoever knows the public key could sign.
var allowed = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}

// Validate reports everything that is wrong, by key.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Issuers) == 0 {
		bad("issuers: at least one authorization server is needed")
	}
	seen := map[string]bool{}
	for i, iss := range c.Issuers {
		if err := iss.validate(); err != nil {
			bad("issuers[%d] (%s): %w", i, iss.Issuer, err)
		}
		if seen[iss.Issuer] {
			bad("issuers[%d]: %s is listed twice", i, iss.Issuer)
		}
		seen[iss.Issuer] = true
	}
	for _, s := range c.ExternalURLs {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			bad("external_urls: %q is not an http or https URL without query", s)
		}
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		bad("timeout: %s is outside 100ms to 1m", c.Timeout)
	}
	if c.MaxCached < 100 || c.MaxCached > 10_000_000 {
		bad("max_cached: %d is outside 100 to 10000000", c.MaxCached)
	}
	if len(c.DPoP.Algorithms) == 0 {
		bad("dpop.algorithms: at least one is needed")
	}
	if err := checkAlgorithms(c.DPoP.Algorithms); err != nil {
		bad("dpop.%w", err)
	}
	if c.DPoP.MaxAge < time.Second || c.DPoP.MaxAge > 10*time.Minute {
		bad("dpop.max_age: %s is outside 1s to 10m", c.DPoP.MaxAge)
	}
	if c.DPoP.ClockSkew < 0 || c.DPoP.ClockSkew > time.Minute {
		bad("dpop.clock_skew: %s is outside 0s to 1m", c.DPoP.ClockSkew)
	}
	if c.DPoP.MaxProofs < 100 || c.DPoP.MaxProofs > 100_000_000 {
		bad("dpop.max_proofs: %d is outside 100 to 100000000", c.DPoP.MaxProofs)
	}
	return errors.Join(errs...)
}

func (c Issuer) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for key, s := range map[string]string{"issuer": c.Issuer, "jwks_url": c.JWKSURL, "introspection.endpoint": c.Introspection.Endpoint} {
		if s == "" && key != "issuer" {
			continue
		}
		if err := checkURL(s, c.Insecure); err != nil {
			bad("%s: %w", key, err)
		}
	}
	if c.Introspection.Endpoint != "" && c.Introspection.ClientID == "" {
		bad("introspection.client_id: the endpoint needs the gateway to authenticate")
	}
	if c.Introspection.Endpoint == "" && c.Introspection.JWT {
		bad("introspection.jwt: needs introspection.endpoint")
	}
	if len(c.Audiences) == 0 && !c.Introspection.JWT {
		bad("audiences: at least one is needed, or a token for any other service would do here")
	}
	if slices.Contains(c.Audiences, "") {
		bad("audiences: an empty one is no audience")
	}
	if err := checkAlgorithms(c.Algorithms); err != nil {
		bad("%w", err)
	}
	for _, d := range []struct {
		key            string
		value, low, up time.Duration
	}{
		{"clock_skew", c.ClockSkew, 0, time.Minute},
		{"cache_ttl", c.CacheTTL, time.Second, 24 * time.Hour},
		{"stale_ttl", c.StaleTTL, 0, 168 * time.Hour},
		{"refetch_interval", c.RefetchInterval, 100 * time.Millisecond, 10 * time.Minute},
		{"introspection.cache_ttl", c.Introspection.CacheTTL, 0, time.Hour},
		{"introspection.negative_ttl", c.Introspection.NegativeTTL, 0, time.Hour},
	} {
		off := d.value == 0 || (d.value < 0 && d.low == 0)
		if !off && (d.value < d.low || d.value > d.up) {
			bad("%s: %s is outside %s to %s", d.key, d.value, d.low, d.up)
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills in what was left out; less than 0 becomes 0.
func (c Issuer) withDefaults() Issuer {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
		*d = max(*d, 0)
	}
	fill(&c.ClockSkew, 30*time.Second)
	fill(&c.CacheTTL, 10*time.Minute)
	fill(&c.StaleTTL, 24*time.Hour)
	fill(&c.RefetchInterval, 5*time.Second)
	fill(&c.Introspection.CacheTTL, 30*time.Second)
	fill(&c.Introspection.NegativeTTL, 10*time.Second)
	if c.Tenant == "" {
		c.Tenant = call.DefaultTenant
	}
	if c.PhoneNumberClaim == "" {
		c.PhoneNumberClaim = "phone_number"
	}
	return c
}

// algorithms are the configured names, or every allowed one.
func algorithms(names []string) []jose.SignatureAlgorithm {
	if len(names) == 0 {
		return allowed
	}
	out := make([]jose.SignatureAlgorithm, len(names))
	for i, n := range names {
		out[i] = jose.SignatureAlgorithm(n)
	}
	return out
}

func checkAlgorithms(names []string) error {
	for _, n := range names {
		if !slices.Contains(allowed, jose.SignatureAlgorithm(n)) {
			return fmt.Errorf("algorithms: %q is not one of RS256, PS256, ES256", n)
		}
	}
	return nil
}

func checkURL(s string, insecure bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("%q is not an absolute http or https URL", s)
	case u.Scheme == "http" && !insecure && !isLoopback(u.Hostname()):
		return fmt.Errorf("%q would let the network replace the issuer; use https, or set insecure", s)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
