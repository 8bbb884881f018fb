package devoauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loginCookie remembers in a browser who has logged in, for prompt=none.
const loginCookie = "isthmus_devoauth"

// authRequest is an authorization request that passed every check; it waits for
// the subscriber's choice.
type authRequest struct {
	client      *client
	redirectURI string
	sentURI     string // redirect_uri as sent, empty when omitted
	state       string
	scopes      []string
	nonce       string
	challenge   string
	jkt         string
	prompt      []string
	maxAge      time.Duration // less than 0: any
	hint        string        // number of login_hint
}

// login is a browser in which a subscriber was chosen.
type login struct {
	number  string
	at      time.Time
	allowed map[string][]string // scopes by client
}

// serveAuthorize is the authorization endpoint (RFC 6749 §3.1). Errors about the
// client or its redirect URI are told to the person; all others go back to the
// client (§4.1.2.1).
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	var params url.Values
	var err error
	if r.Method == http.MethodPost {
		params, err = form(r)
	} else {
		params, err = once(r.URL.Query())
	}
	c := s.clients[params.Get("client_id")]
	switch {
	case err != nil:
		s.errorPage(w, "The application sent a request that cannot be read: "+describe(err)+".")
		return
	case c == nil:
		s.errorPage(w, "The application is not known here: its client_id is missing or not configured.")
		return
	}
	redirectURI := params.Get("redirect_uri")
	if redirectURI == "" && len(c.RedirectURIs) == 1 {
		redirectURI = c.RedirectURIs[0]
	}
	if !slices.Contains(c.RedirectURIs, redirectURI) {
		s.errorPage(w, "The redirect_uri of the request is none of those configured for the application "+c.title()+"; they are compared character by character.")
		return
	}
	req, err := s.checkRequest(params, c)
	req.redirectURI = redirectURI
	if err != nil {
		s.sendBack(w, r, req, errorParams(err))
		return
	}
	lg := s.loginOf(r)
	if slices.Contains(req.prompt, "none") {
		s.answerSilently(w, r, req, lg)
		return
	}
	id := random()
	s.pending.put(id, req, s.cfg.Now().Add(s.cfg.LoginTTL))
	s.loginPage(w, id, req, lg)
}

// checkRequest checks what may be told to the client. The result has at least
// client and state, also when there is an error.
func (s *Server) checkRequest(params url.Values, c *client) (*authRequest, error) {
	req := &authRequest{
		client:    c,
		sentURI:   params.Get("redirect_uri"),
		state:     params.Get("state"),
		nonce:     params.Get("nonce"),
		challenge: params.Get("code_challenge"),
		jkt:       params.Get("dpop_jkt"),
		prompt:    strings.Fields(params.Get("prompt")),
		maxAge:    -1,
	}
	for name, code := range map[string]string{
		"request": "request_not_supported", "request_uri": "request_uri_not_supported", "registration": "registration_not_supported",
	} {
		if params.Has(name) {
			return req, refuse(code, "send the parameters themselves")
		}
	}
	switch rt := params.Get("response_type"); {
	case rt == "":
		return req, refuse("invalid_request", "response_type is required")
	case rt != "code":
		return req, refuse("unsupported_response_type", "only response_type code is supported")
	case params.Has("response_mode") && params.Get("response_mode") != "query":
		return req, refuse("invalid_request", "only response_mode query is supported")
	case !c.allows(grantCode):
		return req, refuse("unauthorized_client", "the client may not use authorization codes")
	}
	method := params.Get("code_challenge_method")
	switch {
	case req.challenge == "" && c.public():
		return req, refuse("invalid_request", "code_challenge is required (PKCE, S256)")
	case req.challenge == "" && method != "":
		return req, refuse("invalid_request", "code_challenge_method without code_challenge")
	case req.challenge != "" && method != "S256":
		return req, refuse("invalid_request", "code_challenge_method must be S256")
	case req.challenge != "" && len(req.challenge) != 43:
		return req, refuse("invalid_request", "code_challenge is not a base64url SHA-256")
	}
	if req.jkt != "" && len(req.jkt) != 43 {
		return req, refuse("invalid_request", "dpop_jkt is not a base64url SHA-256")
	}
	for _, p := range req.prompt {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) || (p == "none" && len(req.prompt) > 1) {
			return req, refuse("invalid_request", "prompt is not understood")
		}
	}
	if age := params.Get("max_age"); age != "" {
		n, err := strconv.Atoi(age)
		if err != nil || n < 0 {
			return req, refuse("invalid_request", "max_age is not a number of seconds")
		}
		req.maxAge = time.Duration(n) * time.Second
	}
	if number, ok := s.hinted(params.Get("login_hint")); ok {
		req.hint = number
	}
	var err error
	req.scopes, err = s.scopes(c, params.Get("scope"))
	return req, err
}

// answerSilently answers prompt=none from the browser's login, without a page
// (OpenID Connect Core §3.1.2.6).
func (s *Server) answerSilently(w http.ResponseWriter, r *http.Request, req *authRequest, lg *login) {
	if lg == nil || (req.maxAge >= 0 && s.cfg.Now().Sub(lg.at) > req.maxAge) || (req.hint != "" && req.hint != lg.number) {
		s.sendBack(w, r, req, errorParams(refuse("login_required", "nobody suitable is logged in here")))
		return
	}
	for _, scope := range req.scopes {
		if !slices.Contains(lg.allowed[req.client.ID], scope) {
			s.sendBack(w, r, req, errorParams(refuse("consent_required", "the subscriber has not allowed "+printable(scope))))
			return
		}
	}
	s.sendCode(w, r, req, lg)
}

// serveDecision takes the choice from the login page: a number, or a refusal.
func (s *Server) serveDecision(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.errorPage(w, "The choice was sent by another web site.")
		return
	}
	params, err := form(r)
	if err != nil {
		s.errorPage(w, "The choice cannot be read: "+describe(err)+".")
		return
	}
	number := params.Get("number")
	if _, listed := s.names[number]; !listed && number != "" {
		s.errorPage(w, "There is no such subscriber.")
		return
	}
	req, ok := s.pending.take(params.Get("request"))
	if !ok {
		s.errorPage(w, "This login page has been used or was left open for too long. Go back to the application and start again.")
		return
	}
	if number == "" {
		s.sendBack(w, r, req, errorParams(refuse("access_denied", "the subscriber said no")))
		return
	}
	lg := &login{number: number, at: s.cfg.Now(), allowed: map[string][]string{}}
	if old := s.loginOf(r); old != nil && old.number == number {
		for id, scopes := range old.allowed {
			lg.allowed[id] = scopes
		}
	}
	lg.allowed[req.client.ID] = append(slices.Clone(lg.allowed[req.client.ID]), req.scopes...)
	cookie := random()
	s.logins.put(cookie, lg, lg.at.Add(s.cfg.LoginTTL))
	http.SetCookie(w, &http.Cookie{
		Name: loginCookie, Value: cookie, Path: s.prefix + "/", MaxAge: int(s.cfg.LoginTTL / time.Second),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	s.sendCode(w, r, req, lg)
}

func (s *Server) loginOf(r *http.Request) *login {
	cookie, err := r.Cookie(loginCookie)
	if err != nil {
		return nil
	}
	lg, _ := s.logins.get(cookie.Value)
	return lg
}

func (s *Server) sendCode(w http.ResponseWriter, r *http.Request, req *authRequest, lg *login) {
	now := s.cfg.Now()
	cd := &code{
		grant:       &grant{client: req.client, number: lg.number, scopes: req.scopes, nonce: req.nonce, authTime: lg.at},
		redirectURI: req.sentURI,
		challenge:   req.challenge,
		jkt:         req.jkt,
		expires:     now.Add(s.cfg.CodeTTL),
	}
	value := random()
	s.codes.put(value, cd, now.Add(s.cfg.CodeTTL+s.cfg.AccessTokenTTL)) // to notice a late second use
	s.sendBack(w, r, req, url.Values{"code": {value}})
}

// sendBack redirects to the client with params, state and iss (RFC 9207).
func (s *Server) sendBack(w http.ResponseWriter, r *http.Request, req *authRequest, params url.Values) {
	u, err := url.Parse(req.redirectURI)
	if err != nil {
		s.errorPage(w, "The redirect_uri of the application is malformed.")
		return
	}
	if req.state != "" {
		params.Set("state", req.state)
	}
	params.Set("iss", s.cfg.Issuer)
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += params.Encode()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

func errorParams(err error) url.Values {
	var oe *oauthError
	if !errors.As(err, &oe) {
		oe = refuse("server_error", "the server failed to make the answer")
	}
	return url.Values{"error": {oe.Code}, "error_description": {oe.Description}}
}

func describe(err error) string {
	var oe *oauthError
	if errors.As(err, &oe) {
		return oe.Description
	}
	return err.Error()
}
