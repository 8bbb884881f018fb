package devoauth

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCodeFlow(t *testing.T) {
	b := setup(t)
	q := b.login(alice, authParams())
	if q.Get("state") != "a b&c" {
		t.Fatalf("state came back as %q", q.Get("state"))
	}
	r := b.post(pathToken, codeParams(q.Get("code")))
	access, refresh := b.wantToken(r)
	if refresh == "" {
		t.Fatal("no refresh token")
	}
	claims := b.claimsOf(access)
	for name, want := range map[string]any{
		"iss": b.cfg.Issuer, "aud": "isthmus", "client_id": "phone", "phone_number": alice,
		"scope": "openid webrtc-registration:sessions:create dpv:RequestedServiceProvision",
		"iat":   float64(b.now().Unix()), "exp": float64(b.now().Add(time.Hour).Unix()),
	} {
		if claims[name] != want {
			t.Errorf("claim %s of the access token is %v, want %v", name, claims[name], want)
		}
	}
	if sub, _ := claims["sub"].(string); sub == "" || strings.Contains(sub, alice[1:]) {
		t.Errorf("sub is %q, want something opaque", sub)
	}
	id := b.claimsOf(r.json["id_token"].(string))
	sum := sha256.Sum256([]byte(access))
	for name, want := range map[string]any{
		"aud": "phone", "nonce": "n1", "sub": claims["sub"], "name": "Alice Arden",
		"at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
	} {
		if id[name] != want {
			t.Errorf("claim %s of the ID token is %v, want %v", name, id[name], want)
		}
	}
	if cors := r.Header.Get("Access-Control-Allow-Origin"); cors != "*" {
		t.Errorf("token endpoint allows origin %q", cors)
	}

	access2, refresh2 := b.wantToken(b.post(pathToken, url.Values{
		"grant_type": {grantRefresh}, "client_id": {"phone"}, "refresh_token": {refresh}, "scope": {"webrtc-registration:sessions:create"},
	}))
	if got := b.claimsOf(access2)["scope"]; got != "webrtc-registration:sessions:create" {
		t.Errorf("narrowed scope is %v", got)
	}
	if refresh2 == refresh || refresh2 == "" {
		t.Errorf("refresh token was not replaced: %q", refresh2)
	}
	b.wantError(b.post(pathToken, url.Values{
		"grant_type": {grantRefresh}, "client_id": {"phone"}, "refresh_token": {refresh2}, "scope": {"webrtc-registration:sessions:delete"},
	}), 400, "invalid_scope")
	if !b.active(access2) {
		t.Fatal("a fresh token is not active")
	}
	// The first refresh token comes back: somebody has stolen one of them.
	b.wantError(b.post(pathToken, url.Values{"grant_type": {grantRefresh}, "client_id": {"phone"}, "refresh_token": {refresh}}), 400, "invalid_grant")
	b.wantError(b.post(pathToken, url.Values{"grant_type": {grantRefresh}, "client_id": {"phone"}, "refresh_token": {refresh2}}), 400, "invalid_grant")
	if b.active(access) || b.active(access2) {
		t.Fatal("tokens of a revoked grant are still active")
	}
}

func TestCodeReplayRevokes(t *testing.T) {
	b := setup(t)
	code := b.login(alice, authParams()).Get("code")
	access, refresh := b.wantToken(b.post(pathToken, codeParams(code)))
	if !b.active(access) || !b.active(refresh) {
		t.Fatal("fresh tokens are not active")
	}
	b.pass(30 * time.Minute) // long after the code itself has expired
	b.wantError(b.post(pathToken, codeParams(code)), 400, "invalid_grant")
	if b.active(access) || b.active(refresh) {
		t.Fatal("the tokens of a code used twice are still active")
	}
}

func TestCodeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		auth, token []string
		wait        time.Duration
		want        string
	}{
		"wrong verifier":     {token: []string{"code_verifier", strings.Repeat("x", 43)}, want: "invalid_grant"},
		"no verifier":        {token: []string{"code_verifier", ""}, want: "invalid_grant"},
		"other redirect URI": {token: []string{"redirect_uri", "http://localhost:5173/x"}, want: "invalid_grant"},
		"no redirect URI":    {token: []string{"redirect_uri", ""}, want: "invalid_grant"},
		"other client":       {token: []string{"client_id", "tablet"}, want: "invalid_grant"},
		"unknown code":       {token: []string{"code", "nonsense"}, want: "invalid_grant"},
		"expired":            {wait: time.Minute, want: "invalid_grant"},
		"no grant type":      {token: []string{"grant_type", ""}, want: "invalid_request"},
		"other grant type":   {token: []string{"grant_type", "password"}, want: "unsupported_grant_type"},
		"client's own":       {token: []string{"grant_type", grantClient}, want: "unauthorized_client"},
		"other proof key":    {auth: []string{"dpop_jkt", strings.Repeat("A", 43)}, want: "invalid_dpop_proof"},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			code := b.login(alice, authParams(c.auth...)).Get("code")
			b.pass(c.wait)
			b.wantError(b.post(pathToken, codeParams(code, c.token...)), 400, c.want)
		})
	}
}

func TestVerifierWithoutChallenge(t *testing.T) {
	b := setup(t)
	code := b.login(alice, authParams("client_id", "opaque", "code_challenge", "", "code_challenge_method", "")).Get("code")
	b.wantError(b.post(pathToken, codeParams(code, "client_id", ""), basic("opaque", "opaque")), 400, "invalid_grant")
}

func TestAuthorizeErrors(t *testing.T) {
	b := setup(t)
	for name, c := range map[string]struct {
		params url.Values
		want   string // error sent to the client; empty: told to the person
	}{
		"unknown client":         {params: authParams("client_id", "nobody")},
		"no client":              {params: authParams("client_id", "")},
		"redirect URI with path": {params: authParams("redirect_uri", callback+"x")},
		"redirect URI in case":   {params: authParams("redirect_uri", "http://LOCALHOST:5173/")},
		"redirect URI unclear":   {params: authParams("client_id", "server", "redirect_uri", "")},
		"twice":                  {params: url.Values{"client_id": {"phone", "phone"}}},
		"no response type":       {params: authParams("response_type", ""), want: "invalid_request"},
		"implicit":               {params: authParams("response_type", "token"), want: "unsupported_response_type"},
		"response mode":          {params: authParams("response_mode", "fragment"), want: "invalid_request"},
		"no PKCE":                {params: authParams("code_challenge", "", "code_challenge_method", ""), want: "invalid_request"},
		"plain PKCE":             {params: authParams("code_challenge_method", "plain"), want: "invalid_request"},
		"default PKCE is plain":  {params: authParams("code_challenge_method", ""), want: "invalid_request"},
		"short challenge":        {params: authParams("code_challenge", "abc"), want: "invalid_request"},
		"scope":                  {params: authParams("scope", "openid admin"), want: "invalid_scope"},
		"two purposes":           {params: authParams("scope", "dpv:A dpv:B"), want: "invalid_scope"},
		"empty purpose":          {params: authParams("scope", "dpv:"), want: "invalid_scope"},
		"prompt":                 {params: authParams("prompt", "none login"), want: "invalid_request"},
		"max age":                {params: authParams("max_age", "-1"), want: "invalid_request"},
		"request object":         {params: authParams("request", "x.y."), want: "request_not_supported"},
		"not logged in":          {params: authParams("prompt", "none"), want: "login_required"},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.get(pathAuthorize, c.params)
			if c.want == "" {
				if r.StatusCode != 400 || r.Header.Get("Location") != "" || !strings.Contains(r.body, "cannot go on") {
					t.Fatalf("answer %d to %q, want a page that explains", r.StatusCode, r.Header.Get("Location"))
				}
				return
			}
			q := b.redirected(r, callback)
			if q.Get("error") != c.want || q.Get("state") != "a b&c" || q.Has("code") {
				t.Fatalf("redirected with %v, want error %s and the state", q, c.want)
			}
		})
	}
}

func TestRedirectKeepsQuery(t *testing.T) {
	b := setup(t)
	q := b.login(bob, authParams("client_id", "server", "redirect_uri", "https://app.example/cb?x=1"))
	if q.Get("x") != "1" || q.Get("code") == "" {
		t.Fatalf("redirected with %v", q)
	}
}

func TestLoginPage(t *testing.T) {
	b := setup(t)
	r := b.get(pathAuthorize, authParams("login_hint", "tel:"+bob))
	for _, want := range []string{"Alice Arden", "Bob &lt;Bold&gt;", "Softphone", `value="&#43;` + alice[1:] + `"`, "Register this device", "dpv:RequestedServiceProvision"} {
		if !strings.Contains(r.body, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
	if strings.Contains(r.body, "<script") || strings.Contains(r.body, "ZgotmplZ") {
		t.Error("the page holds a script or a value that the template refused")
	}
	if !strings.Contains(r.body, `value="&#43;`+bob[1:]+`" class="last"`) {
		t.Error("the hinted subscriber is not offered first")
	}
	if !strings.Contains(r.body, ">suggested<") {
		t.Error("the page does not say why that one stands out")
	}
	if rp := r.Header.Get("Referrer-Policy"); rp != "same-origin" {
		t.Errorf("Referrer-Policy %q would take the origin from the form", rp)
	}
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("the page may be framed: %q", csp)
	}
	_, rest, _ := strings.Cut(r.body, `name="request" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	decide := func(number string, change ...func(*http.Request)) reply {
		return b.post(pathDecision, url.Values{"request": {id}, "number": {number}}, change...)
	}
	if r := decide(alice, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); r.StatusCode != 400 {
		t.Errorf("a choice sent by another site: %d", r.StatusCode)
	}
	if r := decide("+4911111111"); r.StatusCode != 400 {
		t.Errorf("a number that is not listed: %d", r.StatusCode)
	}
	if q := b.redirected(decide(""), callback); q.Get("error") != "access_denied" {
		t.Errorf("saying no: %v", q)
	}
	if r := decide(alice); r.StatusCode != 400 {
		t.Errorf("second use of a login page: %d", r.StatusCode)
	}
}

func TestLastLoginStandsOut(t *testing.T) {
	b := setup(t)
	b.login(bob, authParams())
	if body := b.get(pathAuthorize, authParams()).body; !strings.Contains(body, `value="&#43;`+bob[1:]+`" class="last"`) || !strings.Contains(body, ">last used<") {
		t.Error("who was chosen before does not stand out")
	}
}

func TestPromptNone(t *testing.T) {
	b := setup(t)
	b.login(alice, authParams())
	silent := func(change ...string) url.Values {
		return b.redirected(b.get(pathAuthorize, authParams(append(change, "prompt", "none")...)), callback)
	}
	code := silent().Get("code")
	access, _ := b.wantToken(b.post(pathToken, codeParams(code)))
	if got := b.claimsOf(access)["phone_number"]; got != alice {
		t.Errorf("silent login as %v", got)
	}
	if q := silent("scope", "webrtc-call-handling:sessions:create"); q.Get("error") != "consent_required" {
		t.Errorf("scopes not allowed before: %v", q)
	}
	if q := silent("login_hint", "tel:"+bob); q.Get("error") != "login_required" {
		t.Errorf("another subscriber asked for: %v", q)
	}
	b.pass(2 * time.Minute)
	if q := silent("max_age", "60"); q.Get("error") != "login_required" {
		t.Errorf("login too old: %v", q)
	}
	b.pass(time.Hour)
	if q := silent(); q.Get("error") != "login_required" {
		t.Errorf("login expired: %v", q)
	}
}
