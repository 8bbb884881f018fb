package devoauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Grant types.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
	grantJWT     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantCIBA    = "urn:openid:params:grant-type:ciba"
)

var allGrants = []string{grantCode, grantRefresh, grantClient, grantJWT, grantCIBA}

func isGrant(s string) bool { return slices.Contains(allGrants, s) }

// code is an authorization code. It is kept after its use, so that a second use
// is noticed (RFC 6749 §4.1.2).
type code struct {
	grant       *grant
	redirectURI string // as sent in the authorization request, may be empty
	challenge   string // PKCE S256
	jkt         string // dpop_jkt, RFC 9449 §10
	expires     time.Time
	used        bool
}

// form reads a form body; a parameter sent twice is refused (RFC 6749 §3.2).
func form(r *http.Request) (url.Values, error) {
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/x-www-form-urlencoded" {
		return nil, refuse("invalid_request", "the body must be application/x-www-form-urlencoded")
	}
	if err := r.ParseForm(); err != nil {
		return nil, refuse("invalid_request", "the body is malformed or too long")
	}
	return once(r.PostForm)
}

func once(v url.Values) (url.Values, error) {
	for name, values := range v {
		if len(values) > 1 {
			return nil, refuse("invalid_request", "parameter "+printable(name)+" is sent more than once")
		}
		if values[0] == "" { // without a value it counts as omitted
			delete(v, name)
		}
	}
	return v, nil
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	resp, err := s.token(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

func (s *Server) token(r *http.Request) (TokenResponse, error) {
	var none TokenResponse
	params, err := form(r)
	if err != nil {
		return none, err
	}
	kind := params.Get("grant_type")
	if kind == "" {
		return none, refuse("invalid_request", "grant_type is required")
	}
	if !isGrant(kind) {
		return none, refuse("unsupported_grant_type", "grant_type is not one of "+strings.Join(allGrants, ", "))
	}
	if kind == grantJWT && !params.Has("client_assertion") && r.Header.Get("Authorization") == "" && !params.Has("client_secret") {
		return s.tokenByAssertion(r, params, nil) // the assertion speaks for its client, RFC 7521 §4.1
	}
	c, err := s.authenticate(r, params, pathToken)
	if err != nil {
		return none, err
	}
	if !c.allows(kind) {
		return none, refuse("unauthorized_client", "the client may not use this grant type")
	}
	switch kind {
	case grantCode:
		return s.tokenByCode(r, params, c)
	case grantRefresh:
		return s.tokenByRefresh(r, params, c)
	case grantClient:
		return s.tokenForClient(r, params, c)
	case grantCIBA:
		return s.tokenByCIBA(r, params, c)
	default:
		return s.tokenByAssertion(r, params, c)
	}
}

func (s *Server) tokenByCode(r *http.Request, params url.Values, c *client) (TokenResponse, error) {
	var none TokenResponse
	b, err := s.bind(r, c, pathToken)
	if err != nil {
		return none, err
	}
	bad := func(why string) (TokenResponse, error) { return none, refuse("invalid_grant", why) }
	if !params.Has("code") {
		return none, refuse("invalid_request", "code is required")
	}
	cd, ok := s.codes.get(params.Get("code"))
	if !ok || cd.grant.client != c {
		return bad("the code is unknown, expired, or another client's")
	}
	s.mu.Lock()
	used := cd.used
	cd.used = true // whatever comes of it: one try each
	s.mu.Unlock()
	if used {
		cd.grant.revoked.Store(true)
		return bad("the code was used before; every token made from it is revoked")
	}
	if !s.cfg.Now().Before(cd.expires) {
		return bad("the code has expired")
	}
	if got := params.Get("redirect_uri"); got != cd.redirectURI && (cd.redirectURI != "" || !slices.Contains(c.RedirectURIs, got)) {
		return bad("redirect_uri differs from the one of the authorization request")
	}
	if why := checkVerifier(cd.challenge, params.Get("code_verifier")); why != "" {
		return bad(why)
	}
	if cd.jkt != "" && cd.jkt != b.jkt {
		return none, refuse("invalid_dpop_proof", "the proof key is not that of dpop_jkt")
	}
	if c.public() {
		cd.grant.jkt = b.jkt
	}
	return s.issue(cd.grant, cd.grant.scopes, b, "", true)
}

// checkVerifier compares a PKCE verifier with its S256 challenge (RFC 7636 §4.6)
// and says what is wrong. A verifier without a challenge means that somebody
// removed the challenge from the authorization request (RFC 9700 §4.8.2).
func checkVerifier(challenge, verifier string) string {
	if challenge == "" {
		if verifier != "" {
			return "code_verifier was sent for a code without code_challenge"
		}
		return ""
	}
	if len(verifier) < 43 || len(verifier) > 128 {
		return "code_verifier must have 43 to 128 characters"
	}
	sum := sha256.Sum256([]byte(verifier))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) != 1 {
		return "code_verifier does not match code_challenge"
	}
	return ""
}

func (s *Server) tokenByRefresh(r *http.Request, params url.Values, c *client) (TokenResponse, error) {
	var none TokenResponse
	b, err := s.bind(r, c, pathToken)
	if err != nil {
		return none, err
	}
	if !params.Has("refresh_token") {
		return none, refuse("invalid_request", "refresh_token is required")
	}
	rt, ok := s.refresh.get(params.Get("refresh_token"))
	if !ok || rt.grant.client != c || rt.grant.revoked.Load() {
		return none, refuse("invalid_grant", "the refresh token is unknown, expired, revoked, or another client's")
	}
	if rt.grant.jkt != "" && rt.grant.jkt != b.jkt {
		return none, refuse("invalid_dpop_proof", "the refresh token is bound to another proof key")
	}
	scopes := rt.grant.scopes
	if asked := strings.Fields(params.Get("scope")); len(asked) > 0 {
		for _, scope := range asked {
			if !slices.Contains(rt.grant.scopes, scope) {
				return none, refuse("invalid_scope", "scope "+printable(scope)+" was not granted")
			}
		}
		scopes = asked
	}
	s.mu.Lock()
	used := rt.used
	rt.used = true
	s.mu.Unlock()
	if used {
		rt.grant.revoked.Store(true)
		return none, refuse("invalid_grant", "the refresh token was used before; the whole grant is revoked")
	}
	return s.issue(rt.grant, scopes, b, "", true)
}

func (s *Server) tokenForClient(r *http.Request, params url.Values, c *client) (TokenResponse, error) {
	b, err := s.bind(r, c, pathToken)
	if err != nil {
		return TokenResponse{}, err
	}
	scopes, err := s.scopes(c, params.Get("scope"))
	if err != nil {
		return TokenResponse{}, err
	}
	scopes = slices.DeleteFunc(scopes, func(scope string) bool { return scope == scopeOpenID || scope == "offline_access" })
	return s.issue(&grant{client: c, scopes: scopes, authTime: s.cfg.Now()}, scopes, b, "", false)
}

// tokenByAssertion is the JWT bearer grant (RFC 7523 §2.1) as CAMARA profiles it:
// the client signs, sub is the subscriber as tel:+E164, the scope stands in the
// assertion, no refresh token.
func (s *Server) tokenByAssertion(r *http.Request, params url.Values, c *client) (TokenResponse, error) {
	var none TokenResponse
	if !params.Has("assertion") {
		return none, refuse("invalid_request", "assertion is required")
	}
	signer, claims, why := s.assertion(params.Get("assertion"), pathToken)
	if why != "" {
		return none, refuse("invalid_grant", "assertion: "+why)
	}
	if c != nil && signer != c {
		return none, refuse("invalid_grant", "assertion: iss is not the authenticated client")
	}
	if id := params.Get("client_id"); id != "" && id != signer.ID {
		return none, refuse("invalid_request", "client_id differs from iss of the assertion")
	}
	if !signer.allows(grantJWT) {
		return none, refuse("unauthorized_client", "the client may not use this grant type")
	}
	number, ok := s.hinted(claims.Subject)
	if !ok {
		return none, refuse("invalid_grant", "assertion: sub is not a subscriber as tel:+E164")
	}
	b, err := s.bind(r, signer, pathToken)
	if err != nil {
		return none, err
	}
	asked := claims.Scope
	if asked == "" {
		asked = params.Get("scope")
	}
	scopes, err := s.scopes(signer, asked)
	if err != nil {
		return none, err
	}
	g := &grant{client: signer, number: number, scopes: scopes, authTime: s.cfg.Now()}
	return s.issue(g, scopes, b, "", false)
}

// hinted resolves a login hint tel:+E164 to a subscriber.
func (s *Server) hinted(hint string) (number string, ok bool) {
	number, _ = strings.CutPrefix(hint, "tel:")
	if !isE164(number) {
		return "", false
	}
	_, listed := s.names[number]
	return number, listed || s.cfg.AnyNumber
}
