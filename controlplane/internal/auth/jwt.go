package auth

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// jwt is a JWT access token, nothing of it verified.
type jwt struct {
	compact string
	header  map[string]json.RawMessage
	claims  claims
}

// parseJWT reads a token if it has the form of a signed JWT. Anything else,
// encrypted JWTs included, counts as opaque. Objects with a member twice are no
// JWT either (RFC 8725 §2.4 names the trouble they make).
func parseJWT(token string) (*jwt, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	t := &jwt{compact: token}
	if !decodeObject(parts[0], &t.header) || !decodeObject(parts[1], (*map[string]json.RawMessage)(&t.claims)) {
		return nil, false
	}
	if _, ok := t.header["alg"]; !ok {
		return nil, false
	}
	return t, true
}

func decodeObject(part string, into *map[string]json.RawMessage) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil && *into != nil
}

func (t *jwt) issuer() string {
	s, _ := t.claims.text("iss")
	return s
}

// head is a member of the header that must be a string if it is there.
func (t *jwt) head(name string) (string, error) {
	raw, ok := t.header[name]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", invalid("%s in the JWT header is not a string", name)
	}
	return s, nil
}

// verify checks a JWT that claims to be of this issuer.
func (i *issuer) verify(ctx context.Context, t *jwt, now time.Time) (access, error) {
	alg, kid, err := i.checkHeader(t)
	if err != nil {
		return access{}, err
	}
	keys, err := i.keys.find(ctx, kid, alg)
	if err != nil {
		return access{}, err
	}
	jws, err := jose.ParseSignedCompact(t.compact, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return access{}, invalid("malformed JWT: %v", err)
	}
	good := slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool {
		_, err := jws.Verify(k.Key)
		return err == nil
	})
	if !good {
		return access{}, invalid("the signature of the JWT is wrong")
	}
	if err := refuseOtherTokens(t.claims); err != nil {
		return access{}, err
	}
	a, err := i.interpret(t.claims, now)
	if err != nil {
		return access{}, err
	}
	if _, ok := t.claims["exp"]; !ok {
		return access{}, invalid("JWT without exp")
	}
	if !t.claims.audienceIn(i.Audiences) {
		return access{}, invalid("JWT for another audience")
	}
	return a, nil
}

// checkHeader lets only the configured algorithms pass, and nothing by which a
// token would choose its own key or demand rules that are not known here.
func (i *issuer) checkHeader(t *jwt) (alg jose.SignatureAlgorithm, kid string, err error) {
	for _, name := range []string{"jwk", "jku", "x5u", "x5c", "crit", "b64", "enc", "zip"} {
		if _, ok := t.header[name]; ok {
			return "", "", invalid("JWT header with %s", name)
		}
	}
	name, err := t.head("alg")
	if err != nil {
		return "", "", err
	}
	alg = jose.SignatureAlgorithm(name)
	if !slices.Contains(algorithms(i.Algorithms), alg) {
		return "", "", invalid("JWT signed with algorithm %.20q", name)
	}
	typ, err := t.head("typ")
	if err != nil {
		return "", "", err
	}
	switch typ = strings.TrimPrefix(strings.ToLower(typ), "application/"); {
	case typ == "at+jwt":
	case (typ == "" || typ == "jwt") && !i.RequireATJWT:
	default:
		return "", "", invalid("JWT of type %.40q is not an access token", typ)
	}
	kid, err = t.head("kid")
	return alg, kid, err
}

// refuseOtherTokens tells ID tokens, and what else an issuer signs, from access
// tokens when typ does not.
func refuseOtherTokens(c claims) error {
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash", "events"} {
		if _, ok := c[name]; ok {
			return invalid("JWT with %s is an ID token or another token that is not for APIs", name)
		}
	}
	// Keycloak writes the kind of token into a claim.
	if kind, ok := c.text("typ"); ok && slices.Contains([]string{"id", "refresh", "offline", "logout"}, strings.ToLower(kind)) {
		return invalid("JWT with the claim typ %q is not an access token", kind)
	}
	return nil
}
