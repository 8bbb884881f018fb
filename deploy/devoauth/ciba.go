package devoauth

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// backchannelAuth is a CIBA authentication request. The simulated subscriber
// approves at a set time, unless Decide was faster.
type backchannelAuth struct {
	grant    *grant
	expires  time.Time
	approve  time.Time // zero: only Decide decides
	decided  bool
	allowed  bool
	lastPoll time.Time
}

func (s *Server) serveBackchannel(w http.ResponseWriter, r *http.Request) {
	answer, err := s.backchannel(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// backchannel takes an authentication request (OpenID Connect CIBA §7.1) with
// login_hint=tel:+E164, the form that every CAMARA operator supports.
func (s *Server) backchannel(r *http.Request) (map[string]any, error) {
	params, err := form(r)
	if err != nil {
		return nil, err
	}
	c, err := s.authenticate(r, params, pathBackchannel)
	if err != nil {
		return nil, err
	}
	if c.public() || !c.allows(grantCIBA) {
		return nil, refuse("unauthorized_client", "the client may not use backchannel authentication")
	}
	for _, name := range []string{"request", "login_hint_token", "id_token_hint"} {
		if params.Has(name) {
			return nil, refuse("invalid_request", name+" is not supported")
		}
	}
	if !params.Has("login_hint") {
		return nil, refuse("invalid_request", "login_hint is required")
	}
	if !params.Has("scope") {
		return nil, refuse("invalid_request", "scope is required")
	}
	scopes, err := s.scopes(c, params.Get("scope"))
	if err != nil {
		return nil, err
	}
	number, ok := s.hinted(params.Get("login_hint"))
	if !ok {
		return nil, refuse("unknown_user_id", "login_hint is not a subscriber as tel:+E164")
	}
	ttl := s.cfg.CIBA.TTL
	if asked := params.Get("requested_expiry"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 {
			return nil, refuse("invalid_request", "requested_expiry is not a positive number of seconds")
		}
		ttl = min(ttl, time.Duration(n)*time.Second)
	}
	now := s.cfg.Now()
	auth := &backchannelAuth{
		grant:   &grant{client: c, number: number, scopes: scopes, authTime: now},
		expires: now.Add(ttl),
	}
	if s.cfg.CIBA.ApproveAfter >= 0 {
		auth.approve = now.Add(s.cfg.CIBA.ApproveAfter)
	}
	id := random()
	s.backward.put(id, auth, auth.expires.Add(time.Minute)) // to answer expired_token for a while
	return map[string]any{
		"auth_req_id": id,
		"expires_in":  int64(ttl / time.Second),
		"interval":    int64(s.cfg.CIBA.Interval / time.Second),
	}, nil
}

// Decide approves or denies a backchannel authentication request in the
// subscriber's place. It fails when the request is unknown or already decided.
func (s *Server) Decide(authReqID string, approve bool) error {
	auth, ok := s.backward.get(authReqID)
	if !ok {
		return errors.New("decide on a backchannel request: no such auth_req_id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if auth.decided {
		return errors.New("decide on a backchannel request: it has been decided before")
	}
	auth.decided, auth.allowed = true, approve
	return nil
}

// tokenByCIBA answers a poll (OpenID Connect CIBA §10, §11).
func (s *Server) tokenByCIBA(r *http.Request, params url.Values, c *client) (TokenResponse, error) {
	var none TokenResponse
	id := params.Get("auth_req_id")
	if id == "" {
		return none, refuse("invalid_request", "auth_req_id is required")
	}
	b, err := s.bind(r, c, pathToken)
	if err != nil {
		return none, err
	}
	auth, ok := s.backward.get(id)
	if !ok || auth.grant.client != c {
		return none, refuse("invalid_grant", "auth_req_id is unknown, used, or another client's")
	}
	if why := s.poll(auth); why != "" {
		if why == "access_denied" {
			s.backward.delete(id)
		}
		return none, refuse(why, "see OpenID Connect CIBA section 11")
	}
	if _, ok := s.backward.take(id); !ok {
		return none, refuse("invalid_grant", "auth_req_id is unknown, used, or another client's")
	}
	return s.issue(auth.grant, auth.grant.scopes, b, id, true)
}

// poll says why there is no token yet; empty when there is one.
func (s *Server) poll(auth *backchannelAuth) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	if !now.Before(auth.expires) {
		return "expired_token"
	}
	early := !auth.lastPoll.IsZero() && now.Sub(auth.lastPoll) < s.cfg.CIBA.Interval
	auth.lastPoll = now
	if early {
		return "slow_down"
	}
	if !auth.decided && !auth.approve.IsZero() && !now.Before(auth.approve) {
		auth.decided, auth.allowed = true, true
	}
	switch {
	case !auth.decided:
		return "authorization_pending"
	case !auth.allowed:
		return "access_denied"
	}
	return ""
}
