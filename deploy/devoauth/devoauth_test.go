package devoauth

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	alice = "+493012345601"
	bob   = "+493012345602"

	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636 appendix B
	callback  = "http://localhost:5173/"
)

// bench is a server under test, with a clock that stands still.
type bench struct {
	*testing.T
	*Server
	web     *httptest.Server
	browser *http.Client // keeps cookies, follows no redirect
	mu      sync.Mutex
	clock   time.Time
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = b.clock.Add(d)
}

func setup(t *testing.T, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{T: t, clock: time.Now().Truncate(time.Second)}
	var handler http.Handler
	b.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(b.web.Close)
	cfg := Default()
	cfg.Issuer = b.web.URL + "/oauth"
	cfg.Now = b.now
	cfg.Subscribers = []Subscriber{{alice, "Alice Arden"}, {bob, "Bob <Bold>"}}
	cfg.Clients = []Client{
		{ID: "phone", Name: "Softphone", RedirectURIs: []string{callback}},
		{ID: "tablet", RedirectURIs: []string{callback}},
		{ID: "server", Secret: "s3cret +%", RedirectURIs: []string{"https://app.example/cb?x=1", "https://app.example/cb"}},
		{ID: "other", Secret: "other"},
		{ID: "opaque", Secret: "opaque", OpaqueTokens: true, RedirectURIs: []string{callback}},
		{ID: "narrow", Secret: "narrow", GrantTypes: []string{grantClient}, Scopes: []string{"webrtc-registration:*"}},
		{ID: "bound", RequireDPoP: true, RedirectURIs: []string{callback}},
		{ID: "signer", JWKS: clientKeys(t), RedirectURIs: []string{callback}},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Server, handler = s, s.Handler()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.browser = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b
}

// reply is an answer with its body read.
type reply struct {
	*http.Response
	body string
	json map[string]any
}

func (b *bench) do(req *http.Request) reply {
	b.Helper()
	resp, err := b.browser.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	r := reply{Response: resp, body: string(body)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(body, &r.json); err != nil {
			b.Fatalf("answer is not JSON: %v: %s", err, body)
		}
	}
	return r
}

func (b *bench) get(path string, params url.Values) reply {
	b.Helper()
	req, err := http.NewRequest("GET", b.cfg.Issuer+path+"?"+params.Encode(), nil)
	if err != nil {
		b.Fatal(err)
	}
	return b.do(req)
}

// post sends a form; changes are made to the request before it goes.
func (b *bench) post(path string, params url.Values, change ...func(*http.Request)) reply {
	b.Helper()
	req, err := http.NewRequest("POST", b.cfg.Issuer+path, strings.NewReader(params.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range change {
		f(req)
	}
	return b.do(req)
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

func (b *bench) wantError(r reply, status int, code string) {
	b.Helper()
	if r.StatusCode != status || r.json["error"] != code {
		b.Fatalf("answer %d %s, want %d with error %s", r.StatusCode, r.body, status, code)
	}
}

func (b *bench) wantToken(r reply) (access, refresh string) {
	b.Helper()
	if r.StatusCode != 200 {
		b.Fatalf("answer %d %s, want a token", r.StatusCode, r.body)
	}
	if cc := r.Header.Get("Cache-Control"); cc != "no-store" {
		b.Fatalf("Cache-Control %q, want no-store", cc)
	}
	access, _ = r.json["access_token"].(string)
	refresh, _ = r.json["refresh_token"].(string)
	if access == "" {
		b.Fatalf("no access_token in %s", r.body)
	}
	return access, refresh
}

func authParams(change ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {"phone"}, "redirect_uri": {callback}, "state": {"a b&c"},
		"scope":          {"openid webrtc-registration:sessions:create dpv:RequestedServiceProvision"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "nonce": {"n1"},
	}
	for i := 0; i < len(change); i += 2 {
		if v.Del(change[i]); change[i+1] != "" {
			v.Set(change[i], change[i+1])
		}
	}
	return v
}

// login opens the login page and chooses a number; the result is what the
// browser is redirected to.
func (b *bench) login(number string, params url.Values) url.Values {
	b.Helper()
	page := b.get(pathAuthorize, params)
	if page.StatusCode != 200 {
		b.Fatalf("login page: %d %s", page.StatusCode, page.body)
	}
	_, rest, ok := strings.Cut(page.body, `name="request" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	if !ok {
		b.Fatalf("no form in %s", page.body)
	}
	return b.redirected(b.post(pathDecision, url.Values{"request": {id}, "number": {number}}), params.Get("redirect_uri"))
}

func (b *bench) redirected(r reply, to string) url.Values {
	b.Helper()
	loc := r.Header.Get("Location")
	if r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(loc, to) {
		b.Fatalf("answer %d to %q, want a redirect to %s: %s", r.StatusCode, loc, to, r.body)
	}
	u, err := url.Parse(loc)
	if err != nil {
		b.Fatal(err)
	}
	q := u.Query()
	if q.Get("iss") != b.cfg.Issuer {
		b.Fatalf("iss is %q, want %q", q.Get("iss"), b.cfg.Issuer)
	}
	return q
}

func codeParams(code string, change ...string) url.Values {
	v := url.Values{
		"grant_type": {grantCode}, "client_id": {"phone"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {verifier},
	}
	for i := 0; i < len(change); i += 2 {
		if v.Del(change[i]); change[i+1] != "" {
			v.Set(change[i], change[i+1])
		}
	}
	return v
}

// claimsOf reads a JWT of the server under test, with the signature checked.
func (b *bench) claimsOf(token string) map[string]any {
	b.Helper()
	payload, err := b.keys.verify(token)
	if err != nil {
		b.Fatalf("token %s: %v", token, err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		b.Fatal(err)
	}
	return claims
}

func (b *bench) active(token string) bool {
	b.Helper()
	r := b.post(pathIntrospect, url.Values{"token": {token}}, basic("other", "other"))
	if r.StatusCode != 200 {
		b.Fatalf("introspection: %d %s", r.StatusCode, r.body)
	}
	return r.json["active"] == true
}
