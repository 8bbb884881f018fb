package devoauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Config says who the subscribers and the applications are and how tokens are
// made. Default gives a usable one but for Issuer, Subscribers and Clients.
type Config struct {
	Issuer         string        `yaml:"issuer" help:"issuer identifier: an absolute URL without query; its path is where the server is mounted"`
	Origins        []string      `yaml:"origins" help:"further origins (scheme://host:port) under which the same server is reached; discovery asked through one of them names endpoints on it"`
	Audience       string        `yaml:"audience" help:"aud of every access token, the identifier of the API"`
	Subscribers    []Subscriber  `yaml:"subscribers" help:"the people to choose from on the login page"`
	AnyNumber      bool          `yaml:"any_number" help:"accept login hints and assertions for numbers that are not listed (for load tests)"`
	Clients        []Client      `yaml:"clients" help:"the applications that may ask for tokens"`
	Scopes         []string      `yaml:"scopes" help:"scopes that clients without a list of their own may ask for; empty: those of the WebRTC APIs, openid and offline_access"`
	Algorithm      string        `yaml:"algorithm" help:"signature algorithm of tokens: ES256, RS256 or PS256"`
	KeyFile        string        `yaml:"key_file" help:"file that keeps the signing keys, made when missing; empty: new keys at every start"`
	RotateAfter    time.Duration `yaml:"rotate_after" help:"age at which the signing key is replaced; 0: only on request"`
	AccessTokenTTL time.Duration `yaml:"access_token_ttl" help:"life of access tokens and ID tokens, 1s to 24h"`
	RefreshTTL     time.Duration `yaml:"refresh_token_ttl" help:"life of a refresh token since its last use, 1s to 8760h"`
	CodeTTL        time.Duration `yaml:"code_ttl" help:"life of an authorization code, 1s to 10m"`
	LoginTTL       time.Duration `yaml:"login_ttl" help:"how long a login page may be left open, and a browser stays logged in for prompt=none, 1m to 168h"`
	CIBA           CIBA          `yaml:"ciba" help:"backchannel authentication (CIBA, poll mode)"`
	MaxEntries     int           `yaml:"max_entries" help:"most codes, tokens and logins kept of each kind; the oldest make room, 100 to 10000000"`

	// Now is the clock; nil is time.Now.
	Now func() time.Time `yaml:"-"`
}

// CIBA configures OpenID Connect Client-Initiated Backchannel Authentication.
type CIBA struct {
	TTL          time.Duration `yaml:"ttl" help:"life of an authentication request, 1s to 1h"`
	Interval     time.Duration `yaml:"interval" help:"least time between two polls, 0s to 1m"`
	ApproveAfter time.Duration `yaml:"approve_after" help:"when the simulated subscriber approves; negative: only the Decide method decides"`
}

// Subscriber is a person of the demo network.
type Subscriber struct {
	Number string `yaml:"number" help:"E.164 number with plus sign"`
	Name   string `yaml:"name" help:"name shown on the login page"`
}

// Client is an application. One without Secret and keys is public: it must use
// PKCE and cannot use grants that need authentication.
type Client struct {
	ID           string   `yaml:"id" help:"client_id"`
	Name         string   `yaml:"name" help:"name shown on the login page; empty: the id"`
	Secret       string   `yaml:"secret" secret:"true" help:"client secret (client_secret_basic, client_secret_post)"`
	JWKS         string   `yaml:"jwks" help:"JSON Web Key Set with the client's public keys (private_key_jwt, JWT bearer)"`
	RedirectURIs []string `yaml:"redirect_uris" help:"redirect URIs, compared exactly"`
	GrantTypes   []string `yaml:"grant_types" help:"grant types the client may use; empty: authorization_code and refresh_token for a public client, all for others"`
	Scopes       []string `yaml:"scopes" help:"scopes the client may ask for, a final * matches any ending; empty: those of the server"`
	OpaqueTokens bool     `yaml:"opaque_tokens" help:"issue opaque access tokens, readable only by introspection"`
	RequireDPoP  bool     `yaml:"require_dpop" help:"refuse token requests without a DPoP proof"`
}

// Default is the configuration but for Issuer, Subscribers and Clients.
func Default() Config {
	return Config{
		Audience:       "isthmus",
		Algorithm:      string(jose.ES256),
		AccessTokenTTL: time.Hour,
		RefreshTTL:     24 * time.Hour,
		CodeTTL:        time.Minute,
		LoginTTL:       time.Hour,
		CIBA:           CIBA{TTL: 2 * time.Minute, Interval: 2 * time.Second, ApproveAfter: time.Second},
		MaxEntries:     200_000,
	}
}

// DefaultScopes are those of the CAMARA WebRTC APIs (releases r2.2 and r3.1),
// openid and offline_access.
func DefaultScopes() []string {
	scopes := []string{"openid", "offline_access"}
	for _, api := range []string{"webrtc-registration", "webrtc-call-handling"} {
		for _, action := range []string{"create", "read", "write", "delete"} {
			scopes = append(scopes, api+":sessions:"+action)
		}
	}
	for _, api := range []string{"webrtc-events-subscriptions", "webrtc-events"} {
		for _, event := range []string{"session-invitation", "session-status", "registration-ends"} {
			scopes = append(scopes, api+":org.camaraproject."+api+".v0."+event+":create")
		}
		for _, action := range []string{"read", "update", "delete"} {
			scopes = append(scopes, api+":"+action)
		}
	}
	return scopes
}

// Validate reports everything that is wrong, by key.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkIssuer(c.Issuer); err != nil {
		bad("issuer: %w", err)
	}
	for _, o := range c.Origins {
		if u, err := url.Parse(o); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != o {
			bad("origins: %q is not of the form scheme://host[:port]", o)
		}
	}
	if c.Audience == "" {
		bad("audience: must not be empty, resource servers compare it")
	}
	if _, ok := signers[jose.SignatureAlgorithm(c.Algorithm)]; !ok {
		bad("algorithm: %q is not one of ES256, RS256, PS256", c.Algorithm)
	}
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			bad("%s: %s is outside %s to %s", key, d, low, high)
		}
	}
	within("access_token_ttl", c.AccessTokenTTL, time.Second, 24*time.Hour)
	within("refresh_token_ttl", c.RefreshTTL, time.Second, 8760*time.Hour)
	within("code_ttl", c.CodeTTL, time.Second, 10*time.Minute)
	within("login_ttl", c.LoginTTL, time.Minute, 168*time.Hour)
	within("ciba.ttl", c.CIBA.TTL, time.Second, time.Hour)
	within("ciba.interval", c.CIBA.Interval, 0, time.Minute)
	if c.RotateAfter < 0 {
		bad("rotate_after: %s is negative", c.RotateAfter)
	}
	if c.MaxEntries < 100 || c.MaxEntries > 10_000_000 {
		bad("max_entries: %d is outside 100 to 10000000", c.MaxEntries)
	}
	numbers := map[string]bool{}
	for i, s := range c.Subscribers {
		if !isE164(s.Number) {
			bad("subscribers[%d].number: %q is not an E.164 number with plus sign", i, s.Number)
		}
		if numbers[s.Number] {
			bad("subscribers[%d].number: %s is listed twice", i, s.Number)
		}
		numbers[s.Number] = true
	}
	ids := map[string]bool{}
	for i, cl := range c.Clients {
		if ids[cl.ID] {
			bad("clients[%d].id: %q is listed twice", i, cl.ID)
		}
		ids[cl.ID] = true
		if err := cl.validate(); err != nil {
			bad("clients[%d] (%s): %w", i, cl.ID, err)
		}
	}
	return errors.Join(errs...)
}

func checkIssuer(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("%q is not an absolute http or https URL", s)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.ForceQuery:
		return fmt.Errorf("%q has a query, fragment or user part", s)
	case strings.HasSuffix(s, "/"):
		return fmt.Errorf("%q ends with a slash; endpoints are appended to it", s)
	}
	return nil
}

func (c Client) validate() error {
	var errs []error
	if c.ID == "" || strings.ContainsFunc(c.ID, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		errs = append(errs, errors.New("id: must be printable ASCII and not empty"))
	}
	if c.Secret != "" && c.JWKS != "" {
		errs = append(errs, errors.New("secret and jwks: one way to authenticate is enough"))
	}
	if _, err := parseJWKS(c.JWKS); err != nil {
		errs = append(errs, fmt.Errorf("jwks: %w", err))
	}
	for _, s := range c.RedirectURIs {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme == "" || u.Fragment != "" || strings.Contains(s, "#"):
			errs = append(errs, fmt.Errorf("redirect_uris: %q is not an absolute URI without fragment", s))
		case u.Scheme == "http" && !isLoopback(u.Hostname()):
			errs = append(errs, fmt.Errorf("redirect_uris: %q sends codes over http to another host; use https", s))
		case u.Scheme == "javascript" || u.Scheme == "data":
			errs = append(errs, fmt.Errorf("redirect_uris: scheme of %q is not allowed", s))
		}
	}
	for _, g := range c.GrantTypes {
		if !isGrant(g) {
			errs = append(errs, fmt.Errorf("grant_types: %q is not one of %s", g, strings.Join(allGrants, ", ")))
		} else if c.public() && g != grantCode && g != grantRefresh {
			errs = append(errs, fmt.Errorf("grant_types: %s needs a client that authenticates; give it a secret or jwks", g))
		}
	}
	return errors.Join(errs...)
}

func (c Client) public() bool { return c.Secret == "" && c.JWKS == "" }

// parseJWKS reads a set of public keys; an empty string is no key.
func parseJWKS(s string) ([]jose.JSONWebKey, error) {
	if s == "" {
		return nil, nil
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(s), &set); err != nil {
		return nil, err
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("holds no key")
	}
	for _, k := range set.Keys {
		if !k.Valid() || !k.IsPublic() {
			return nil, fmt.Errorf("key %q is not a public key", k.KeyID)
		}
	}
	return set.Keys, nil
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isE164 reports whether s is + and 5 to 15 digits, the first not 0, which is
// the form of a phone number in the CAMARA APIs.
func isE164(s string) bool {
	if len(s) < 6 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	for _, r := range s[1:] {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
