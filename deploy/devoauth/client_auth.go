package devoauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is the longest life of a client's assertion (CAMARA Security
	// and Interoperability Profile).
	assertionLife = 300 * time.Second
	// clockSkew is granted to the clocks of clients.
	clockSkew = 10 * time.Second
)

// client is a configured Client with its keys parsed.
type client struct {
	Client
	keys []jose.JSONWebKey
}

func (c *client) allows(grant string) bool {
	if len(c.GrantTypes) > 0 {
		return slices.Contains(c.GrantTypes, grant)
	}
	return !c.public() || grant == grantCode || grant == grantRefresh
}

// authenticate finds the client of a form request and checks its credentials:
// client_secret_basic, client_secret_post, private_key_jwt, or none for a public
// client, and only one of them (RFC 6749 §2.3).
func (s *Server) authenticate(r *http.Request, form url.Values, endpoint string) (*client, error) {
	_, _, basic := r.BasicAuth()
	methods := 0
	for _, used := range []bool{r.Header.Get("Authorization") != "", form.Has("client_secret"), form.Has("client_assertion")} {
		if used {
			methods++
		}
	}
	if methods > 1 {
		return nil, refuse("invalid_request", "more than one client authentication method")
	}
	switch {
	case basic:
		return s.basicClient(r, form)
	case r.Header.Get("Authorization") != "":
		return nil, refuseClient("the Authorization header is not of scheme Basic")
	case form.Has("client_assertion"):
		return s.assertedClient(form, endpoint)
	}
	id := form.Get("client_id")
	if id == "" {
		return nil, refuseClient("no client authentication")
	}
	c := s.clients[id]
	if form.Has("client_secret") {
		return checkSecret(c, form.Get("client_secret"))
	}
	if c == nil || !c.public() {
		return nil, refuseClient("unknown client, or one that must authenticate")
	}
	return c, nil
}

func (s *Server) basicClient(r *http.Request, form url.Values) (*client, error) {
	rawID, rawSecret, _ := r.BasicAuth()
	id, err1 := url.QueryUnescape(rawID)
	secret, err2 := url.QueryUnescape(rawSecret)
	if err1 != nil || err2 != nil {
		return nil, refuseClient("the Basic credentials are not form-encoded")
	}
	if form.Has("client_id") && form.Get("client_id") != id {
		return nil, refuse("invalid_request", "client_id differs from the Basic credentials")
	}
	return checkSecret(s.clients[id], secret)
}

func checkSecret(c *client, secret string) (*client, error) {
	want := "" // an unknown client takes the same time as a wrong secret
	if c != nil {
		want = c.Secret
	}
	a, b := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || want == "" {
		return nil, refuseClient("unknown client or wrong secret")
	}
	return c, nil
}

// assertedClient checks private_key_jwt (RFC 7523 §3, OpenID Connect Core §9).
func (s *Server) assertedClient(form url.Values, endpoint string) (*client, error) {
	if form.Get("client_assertion_type") != assertionType {
		return nil, refuseClient("client_assertion_type is not " + assertionType)
	}
	c, claims, why := s.assertion(form.Get("client_assertion"), endpoint)
	if why != "" {
		return nil, refuseClient("client_assertion: " + why)
	}
	if claims.Subject != c.ID {
		return nil, refuseClient("client_assertion: sub is not the client")
	}
	if form.Has("client_id") && form.Get("client_id") != c.ID {
		return nil, refuse("invalid_request", "client_id differs from the client assertion")
	}
	return c, nil
}

type assertionClaims struct {
	Issuer   string    `json:"iss"`
	Subject  string    `json:"sub"`
	Audience oneOrMany `json:"aud"`
	Expires  *float64  `json:"exp"`
	Issued   *float64  `json:"iat"`
	NotYet   *float64  `json:"nbf"`
	ID       string    `json:"jti"`
	Scope    string    `json:"scope"`
}

// oneOrMany is a JSON string or an array of strings, as aud may be.
type oneOrMany []string

func (l *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// assertion checks a JWT that a client signed: known issuer, signature, audience,
// a life of at most 300 s, and that it was not used before. A refusal is told in
// the last result.
func (s *Server) assertion(token, endpoint string) (*client, assertionClaims, string) {
	var claims assertionClaims
	jws, err := jose.ParseSignedCompact(token, asymmetric)
	if err != nil {
		return nil, claims, "not a JWS signed with ES256, PS256 or RS256"
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return nil, claims, "the claims are not of the right types"
	}
	c := s.clients[claims.Issuer]
	if c == nil || len(c.keys) == 0 {
		return nil, claims, "iss is not a client with keys"
	}
	if !verifiedBy(jws, c.keys) {
		return nil, claims, "the signature matches no key of the client"
	}
	now := s.cfg.Now()
	at := func(f *float64) time.Time { return time.UnixMilli(int64(*f * 1000)) }
	switch {
	case !slices.ContainsFunc(claims.Audience, func(a string) bool { return s.isAudience(a, endpoint) }):
		return nil, claims, "aud is neither the issuer nor the endpoint"
	case claims.Expires == nil:
		return nil, claims, "exp is required"
	case !now.Before(at(claims.Expires).Add(clockSkew)):
		return nil, claims, "it has expired"
	case at(claims.Expires).After(now.Add(assertionLife + clockSkew)):
		return nil, claims, "exp is more than 300 s ahead"
	case claims.Issued != nil && at(claims.Issued).After(now.Add(clockSkew)):
		return nil, claims, "iat lies ahead"
	case claims.Issued != nil && at(claims.Expires).Sub(at(claims.Issued)) > assertionLife:
		return nil, claims, "it lives more than 300 s"
	case claims.NotYet != nil && at(claims.NotYet).After(now.Add(clockSkew)):
		return nil, claims, "nbf lies ahead"
	case claims.ID == "" || len(claims.ID) > 512:
		return nil, claims, "jti must have 1 to 512 characters"
	case !s.seen.add("assertion "+c.ID+" "+claims.ID, struct{}{}, at(claims.Expires).Add(clockSkew)):
		return nil, claims, "jti was used before"
	}
	return c, claims, ""
}

func verifiedBy(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) bool {
	kid := jws.Signatures[0].Header.KeyID
	for _, k := range keys {
		if kid != "" && k.KeyID != "" && k.KeyID != kid {
			continue
		}
		if _, err := jws.Verify(k.Key); err == nil {
			return true
		}
	}
	return false
}

// isAudience accepts the issuer identifier, the token endpoint and the endpoint
// in use (OpenID Connect CIBA §7.1).
func (s *Server) isAudience(aud, endpoint string) bool {
	return aud == s.cfg.Issuer || s.isEndpoint(aud, pathToken) || s.isEndpoint(aud, endpoint)
}

// scopes returns the scopes to grant for a request: those asked for, or all that
// the client may have when it asked for none (RFC 6749 §3.3).
func (s *Server) scopes(c *client, asked string) ([]string, error) {
	allowed := c.Scopes
	if len(allowed) == 0 {
		allowed = s.cfg.Scopes
	}
	if strings.TrimSpace(asked) == "" {
		var all []string
		for _, a := range allowed {
			if !strings.HasSuffix(a, "*") && a != scopeOpenID {
				all = append(all, a)
			}
		}
		return all, nil
	}
	var granted []string
	purpose := ""
	for _, scope := range strings.Fields(asked) {
		if value, ok := strings.CutPrefix(scope, "dpv:"); ok {
			if value == "" || (purpose != "" && purpose != scope) {
				return nil, refuse("invalid_scope", "exactly one purpose dpv:<value> is allowed")
			}
			purpose = scope
		} else if !slices.ContainsFunc(allowed, func(a string) bool { return scopeMatches(a, scope) }) {
			return nil, refuse("invalid_scope", "the client may not have scope "+printable(scope))
		}
		if !slices.Contains(granted, scope) {
			granted = append(granted, scope)
		}
	}
	return granted, nil
}

func scopeMatches(pattern, scope string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(scope, start)
	}
	return pattern == scope
}

// printable cuts s to what an error_description may hold (RFC 6749 §5.2).
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 100)]
}
