package devoauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const scopeOpenID = "openid"

// grant is what a subscriber allowed a client, or what the client may do for
// itself when number is empty. All tokens made from it die with it.
type grant struct {
	client   *client
	number   string
	scopes   []string
	nonce    string
	authTime time.Time
	jkt      string // key that refresh tokens of a public client are bound to
	revoked  atomic.Bool
}

// binding ties an access token to a key; both may be empty.
type binding struct {
	jkt string // RFC 9449 §6
	x5t string // RFC 8705 §3
}

type accessToken struct {
	grant  *grant
	claims accessClaims
}

type refreshToken struct {
	grant *grant
	used  bool
}

// TokenResponse is the answer of the token endpoint (RFC 6749 §5.1).
type TokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"` // Bearer, or DPoP when bound to a proof key
	ExpiresIn    int64  `json:"expires_in"` // seconds
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
}

// accessClaims are the claims of an access token (RFC 9068 §2.2); introspection
// answers with the same.
type accessClaims struct {
	Issuer      string            `json:"iss"`
	Subject     string            `json:"sub"`
	Audience    string            `json:"aud"`
	Expires     int64             `json:"exp"`
	Issued      int64             `json:"iat"`
	NotBefore   int64             `json:"nbf"`
	ID          string            `json:"jti"`
	ClientID    string            `json:"client_id"`
	Scope       string            `json:"scope"`
	PhoneNumber string            `json:"phone_number,omitempty"`
	Confirm     map[string]string `json:"cnf,omitempty"`
}

type idClaims struct {
	Issuer      string `json:"iss"`
	Subject     string `json:"sub"`
	Audience    string `json:"aud"`
	AuthParty   string `json:"azp"`
	Expires     int64  `json:"exp"`
	Issued      int64  `json:"iat"`
	AuthTime    int64  `json:"auth_time"`
	Nonce       string `json:"nonce,omitempty"`
	AccessHash  string `json:"at_hash"`
	Name        string `json:"name,omitempty"`
	PhoneNumber string `json:"phone_number,omitempty"`
	RequestID   string `json:"urn:openid:params:jwt:claim:auth_req_id,omitempty"`
}

// issueAccess makes the access token alone.
func (s *Server) issueAccess(g *grant, scopes []string, b binding, ttl time.Duration) (TokenResponse, error) {
	if ttl == 0 {
		ttl = s.cfg.AccessTokenTTL
	}
	now := s.cfg.Now()
	exp := now.Add(ttl)
	claims := accessClaims{
		Issuer:      s.cfg.Issuer,
		Subject:     s.subject(g),
		Audience:    s.cfg.Audience,
		Expires:     exp.Unix(),
		Issued:      min(now.Unix(), exp.Unix()),
		NotBefore:   min(now.Unix(), exp.Unix()),
		ID:          random(),
		ClientID:    g.client.ID,
		Scope:       strings.Join(scopes, " "),
		PhoneNumber: g.number,
	}
	tokenType := "Bearer"
	if b.x5t != "" {
		claims.Confirm = map[string]string{"x5t#S256": b.x5t}
	}
	if b.jkt != "" {
		tokenType = "DPoP"
		if claims.Confirm == nil {
			claims.Confirm = map[string]string{}
		}
		claims.Confirm["jkt"] = b.jkt
	}
	token, key := random(), claims.ID
	if g.client.OpaqueTokens {
		key = token
	} else {
		payload, err := json.Marshal(claims)
		if err != nil {
			return TokenResponse{}, err
		}
		if token, err = s.keys.sign(payload, "at+jwt", exp); err != nil {
			return TokenResponse{}, err
		}
	}
	s.access.put(key, &accessToken{grant: g, claims: claims}, exp)
	return TokenResponse{
		AccessToken: token,
		TokenType:   tokenType,
		ExpiresIn:   int64(ttl / time.Second),
		Scope:       claims.Scope,
	}, nil
}

// issue makes the whole answer: access token, ID token with scope openid, and a
// refresh token when the subscriber took part and the client may use it.
func (s *Server) issue(g *grant, scopes []string, b binding, requestID string, withRefresh bool) (TokenResponse, error) {
	resp, err := s.issueAccess(g, scopes, b, 0)
	if err != nil {
		return resp, err
	}
	if g.number != "" && slices.Contains(scopes, scopeOpenID) {
		if resp.IDToken, err = s.idToken(g, resp.AccessToken, requestID); err != nil {
			return resp, err
		}
	}
	if withRefresh && g.client.allows(grantRefresh) {
		resp.RefreshToken = random()
		s.refresh.put(resp.RefreshToken, &refreshToken{grant: g}, s.cfg.Now().Add(s.cfg.RefreshTTL))
	}
	return resp, nil
}

func (s *Server) idToken(g *grant, access, requestID string) (string, error) {
	now := s.cfg.Now()
	exp := now.Add(s.cfg.AccessTokenTTL)
	hash := sha256.Sum256([]byte(access))
	payload, err := json.Marshal(idClaims{
		Issuer:      s.cfg.Issuer,
		Subject:     s.subject(g),
		Audience:    g.client.ID,
		AuthParty:   g.client.ID,
		Expires:     exp.Unix(),
		Issued:      now.Unix(),
		AuthTime:    g.authTime.Unix(),
		Nonce:       g.nonce,
		AccessHash:  base64.RawURLEncoding.EncodeToString(hash[:16]),
		Name:        s.names[g.number],
		PhoneNumber: g.number,
		RequestID:   requestID,
	})
	if err != nil {
		return "", err
	}
	return s.keys.sign(payload, "JWT", exp)
}

// subject is the opaque sub of a grant: a keyed hash that says nothing about the
// number, or the client itself when no subscriber took part (RFC 9068 §2.2).
func (s *Server) subject(g *grant) string {
	if g.number == "" {
		return g.client.ID
	}
	mac := hmac.New(sha256.New, s.keys.subject)
	mac.Write([]byte(g.number))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// bind collects the keys that the request of a token shows.
func (s *Server) bind(r *http.Request, c *client, endpoint string) (binding, error) {
	var b binding
	var err error
	if b.jkt, err = s.proof(r, endpoint); err != nil {
		return b, err
	}
	if b.jkt == "" && c.RequireDPoP {
		return b, refuse("invalid_dpop_proof", "the client must send a DPoP proof")
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
		b.x5t = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return b, nil
}

// random is an unguessable name of 128 bits.
func random() string { return rand.Text() }
