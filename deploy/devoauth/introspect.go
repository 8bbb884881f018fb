package devoauth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// serveIntrospect answers RFC 7662 requests of clients that authenticate.
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	params, c, err := s.aboutToken(r, pathIntrospect)
	if err == nil && c.public() {
		err = refuseClient("introspection needs a client that authenticates")
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	token := params.Get("token")
	if claims, ok := s.findAccess(token); ok {
		tokenType := "Bearer"
		if claims.Confirm["jkt"] != "" {
			tokenType = "DPoP"
		}
		writeJSON(w, http.StatusOK, struct {
			Active    bool   `json:"active"`
			TokenType string `json:"token_type"`
			accessClaims
		}{true, tokenType, claims})
		return
	}
	if rt, ok := s.refresh.get(token); ok && !s.spent(rt) {
		writeJSON(w, http.StatusOK, map[string]any{
			"active":    true,
			"client_id": rt.grant.client.ID,
			"scope":     strings.Join(rt.grant.scopes, " "),
			"iss":       s.cfg.Issuer,
			"sub":       s.subject(rt.grant),
		})
		return
	}
	writeJSON(w, http.StatusOK, map[string]bool{"active": false})
}

// serveRevoke revokes an access token, or a refresh token with its whole grant
// (RFC 7009). An unknown token is no error.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	params, c, err := s.aboutToken(r, pathRevoke)
	if err == nil {
		err = s.revoke(params.Get("token"), c)
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

// aboutToken reads the request that introspection and revocation have in common.
func (s *Server) aboutToken(r *http.Request, endpoint string) (url.Values, *client, error) {
	params, err := form(r)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.authenticate(r, params, endpoint)
	if err != nil {
		return nil, nil, err
	}
	if !params.Has("token") {
		return nil, nil, refuse("invalid_request", "token is required")
	}
	return params, c, nil
}

func (s *Server) revoke(token string, c *client) error {
	foreign := refuse("invalid_grant", "the token was issued to another client")
	if rt, ok := s.refresh.get(token); ok {
		if rt.grant.client != c {
			return foreign
		}
		rt.grant.revoked.Store(true)
		s.refresh.delete(token)
		return nil
	}
	claims, ok := s.findAccess(token)
	if !ok {
		return nil
	}
	if claims.ClientID != c.ID {
		return foreign
	}
	s.revoked.put(claims.ID, struct{}{}, time.Unix(claims.Expires, 0))
	return nil
}

// findAccess returns the claims of a living access token. A JWT that is not on
// the shelf but signed by this server is good as well: another process with the
// same key file may have made it.
func (s *Server) findAccess(token string) (claims accessClaims, ok bool) {
	at, ok := s.access.get(token)
	if !ok {
		if strings.Count(token, ".") != 2 {
			return claims, false
		}
		payload, err := s.keys.verify(token)
		if err != nil || json.Unmarshal(payload, &claims) != nil || claims.ID == "" {
			return claims, false
		}
		at, ok = s.access.get(claims.ID)
	}
	if ok {
		claims = at.claims
		if at.grant.revoked.Load() {
			return claims, false
		}
	}
	if _, revoked := s.revoked.get(claims.ID); revoked {
		return claims, false
	}
	return claims, s.cfg.Now().Unix() < claims.Expires
}

func (s *Server) spent(rt *refreshToken) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rt.used || rt.grant.revoked.Load()
}
