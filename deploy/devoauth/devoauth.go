// Package devoauth is the demo OAuth 2.0 and OpenID Connect authorization server
// of the all-in-one and of tests. It stands in for an operator's server: instead
// of asking for a password it lists the demo subscribers to choose from, and it
// keeps everything but its signing keys in memory. What it answers follows the
// standards closely, so that an application that works with it also works with
// the real one.
//
// It serves discovery (RFC 8414, OpenID Connect Discovery), a JWK set, the
// authorization endpoint (code flow with PKCE, RFC 7636; iss, RFC 9207), the
// token endpoint with the grants authorization_code, refresh_token,
// client_credentials, JWT bearer (RFC 7523) and CIBA in poll mode, the
// backchannel endpoint, introspection (RFC 7662) and revocation (RFC 7009).
// Access tokens are JWTs of RFC 9068 (or opaque, by client), bound to a DPoP key
// (RFC 9449) or TLS client certificate (RFC 8705) when the request shows one.
//
// Every token belongs to a grant, and a grant that is abused dies as a whole:
//
//	authorize ─► code ──► access token, refresh token ──► access token, refresh token …
//	              │ used twice                │ used twice, or revoked
//	              └────────► grant revoked ◄──┘
package devoauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Paths of the endpoints below the issuer.
const (
	pathAuthorize   = "/authorize"
	pathDecision    = "/authorize/decision"
	pathToken       = "/token"
	pathBackchannel = "/bc-authorize"
	pathIntrospect  = "/introspect"
	pathRevoke      = "/revoke"
	pathJWKS        = "/jwks"
	pathOpenID      = "/.well-known/openid-configuration"
	pathRFC8414     = "/.well-known/oauth-authorization-server"
)

// maxForm is the most that is read of a request body, in bytes.
const maxForm = 64 << 10

// Server is the authorization server. It is safe for concurrent use and has no
// goroutines of its own.
type Server struct {
	cfg     Config
	bases   []string // issuer URL, then the same path on the other origins
	prefix  string   // path of the issuer
	clients map[string]*client
	names   map[string]string // subscriber number to name
	keys    *keyRing

	mu       sync.Mutex               // guards the use-once marks of what the shelves hold
	pending  *shelf[*authRequest]     // login pages by id
	logins   *shelf[*login]           // browsers by cookie
	codes    *shelf[*code]            // authorization codes
	refresh  *shelf[*refreshToken]    // refresh tokens
	access   *shelf[*accessToken]     // access tokens by jti, or by value when opaque
	revoked  *shelf[struct{}]         // jti of revoked access tokens
	backward *shelf[*backchannelAuth] // CIBA requests by auth_req_id
	seen     *shelf[struct{}]         // jti of proofs and assertions
}

// New makes a server. It reads or makes Config.KeyFile.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = DefaultScopes()
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keys, err := newKeyRing(cfg)
	if err != nil {
		return nil, err
	}
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		bases:    []string{cfg.Issuer},
		prefix:   issuer.Path,
		clients:  map[string]*client{},
		names:    map[string]string{},
		keys:     keys,
		pending:  newShelf[*authRequest](cfg.MaxEntries, cfg.Now),
		logins:   newShelf[*login](cfg.MaxEntries, cfg.Now),
		codes:    newShelf[*code](cfg.MaxEntries, cfg.Now),
		refresh:  newShelf[*refreshToken](cfg.MaxEntries, cfg.Now),
		access:   newShelf[*accessToken](cfg.MaxEntries, cfg.Now),
		revoked:  newShelf[struct{}](cfg.MaxEntries, cfg.Now),
		backward: newShelf[*backchannelAuth](cfg.MaxEntries, cfg.Now),
		seen:     newShelf[struct{}](cfg.MaxEntries, cfg.Now),
	}
	for _, o := range cfg.Origins {
		s.bases = append(s.bases, o+s.prefix)
	}
	for _, c := range cfg.Clients {
		keys, err := parseJWKS(c.JWKS)
		if err != nil {
			return nil, fmt.Errorf("devoauth configuration: jwks of client %s: %w", c.ID, err)
		}
		s.clients[c.ID] = &client{Client: c, keys: keys}
	}
	for _, sub := range cfg.Subscribers {
		s.names[sub.Number] = sub.Name
	}
	return s, nil
}

// Rotate makes a new signing key. The old ones stay in the JWK set until the
// last token that they signed has expired.
func (s *Server) Rotate() error { return s.keys.rotate() }

// Patterns are the http.ServeMux patterns below which Handler answers: the path
// of the issuer, and the well-known documents that RFC 8414 §3.1 puts before it.
func (s *Server) Patterns() []string {
	if s.prefix == "" {
		return []string{"/"}
	}
	return []string{s.prefix + "/", pathRFC8414 + s.prefix, pathOpenID + s.prefix}
}

// Handler serves every endpoint at its full path (see Patterns).
func (s *Server) Handler() http.Handler {
	const open, closed = true, false // to scripts of any origin
	mux := http.NewServeMux()
	handle := func(path string, cors bool, serve http.HandlerFunc, methods ...string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if cors && allowOrigin(w, r, methods) {
				return
			}
			if !slices.Contains(methods, r.Method) {
				w.Header().Set("Allow", strings.Join(methods, ", "))
				writeError(w, r, &oauthError{Code: "invalid_request", Description: "method not allowed", Status: http.StatusMethodNotAllowed})
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			serve(w, r)
		})
	}
	p := s.prefix
	handle(p+pathOpenID, open, s.serveMetadata, "GET", "HEAD")
	handle(p+pathRFC8414, open, s.serveMetadata, "GET", "HEAD")
	if p != "" {
		handle(pathRFC8414+p, open, s.serveMetadata, "GET", "HEAD")
		handle(pathOpenID+p, open, s.serveMetadata, "GET", "HEAD")
	}
	handle(p+pathJWKS, open, s.serveJWKS, "GET", "HEAD")
	handle(p+pathToken, open, s.serveToken, "POST")
	handle(p+pathRevoke, open, s.serveRevoke, "POST")
	handle(p+pathAuthorize, closed, s.serveAuthorize, "GET", "HEAD", "POST")
	handle(p+pathDecision, closed, s.serveDecision, "POST")
	handle(p+pathBackchannel, closed, s.serveBackchannel, "POST")
	handle(p+pathIntrospect, closed, s.serveIntrospect, "POST")
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, &oauthError{Code: "invalid_request", Description: "no such endpoint", Status: http.StatusNotFound})
	})
	return mux
}

// allowOrigin opens an endpoint to browser applications of any origin; nothing
// here depends on cookies. It reports whether it answered a preflight request.
func allowOrigin(w http.ResponseWriter, r *http.Request, methods []string) bool {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, DPoP-Nonce")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP, x-correlator")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// TokenRequest asks Token for an access token.
type TokenRequest struct {
	ClientID string
	Number   string   // E.164; empty: a token for the client alone (2-legged)
	Scopes   []string // empty: all that the client may have
	// TTL is the life; 0 is Config.AccessTokenTTL, less than 0 makes a token
	// that has expired already.
	TTL time.Duration
	// JKT and X5T bind the token to the key of a DPoP proof or to a TLS client
	// certificate: SHA-256 thumbprints, base64url.
	JKT, X5T string
}

// Token issues an access token without asking anybody: for the command line and
// for tests. The number need not be listed as a subscriber. It fails on an
// unknown client, scopes that the client may not have, or a malformed number.
func (s *Server) Token(ctx context.Context, req TokenRequest) (TokenResponse, error) {
	if err := ctx.Err(); err != nil {
		return TokenResponse{}, err
	}
	c := s.clients[req.ClientID]
	if c == nil {
		return TokenResponse{}, fmt.Errorf("issue a token: client %q is not configured", req.ClientID)
	}
	if req.Number != "" && !isE164(req.Number) {
		return TokenResponse{}, fmt.Errorf("issue a token: %q is not an E.164 number with plus sign", req.Number)
	}
	scopes, err := s.scopes(c, strings.Join(req.Scopes, " "))
	if err != nil {
		return TokenResponse{}, fmt.Errorf("issue a token to %s: %w", req.ClientID, err)
	}
	g := &grant{client: c, number: req.Number, scopes: scopes, authTime: s.cfg.Now()}
	return s.issueAccess(g, scopes, binding{jkt: req.JKT, x5t: req.X5T}, req.TTL)
}
