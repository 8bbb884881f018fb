package devoauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signerKey is the key of client "signer".
var signerKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

func clientKeys(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signerKey().Public(), KeyID: "k1", Use: "sig", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func signJWT(t *testing.T, key any, opts *jose.SignerOptions, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// assertion makes a client's assertion; changes come in pairs, nil deletes.
func (b *bench) assert(change ...any) string {
	b.Helper()
	claims := map[string]any{
		"iss": "signer", "sub": "signer", "aud": b.cfg.Issuer + pathToken, "jti": random(),
		"iat": b.now().Unix(), "exp": b.now().Add(time.Minute).Unix(),
	}
	for i := 0; i < len(change); i += 2 {
		if claims[change[i].(string)] = change[i+1]; change[i+1] == nil {
			delete(claims, change[i].(string))
		}
	}
	return signJWT(b.T, signerKey(), nil, claims)
}

func TestClientAuthentication(t *testing.T) {
	b := setup(t)
	cc := func(pairs ...string) url.Values {
		v := url.Values{"grant_type": {grantClient}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	for name, params := range map[string]url.Values{
		"post":   cc("client_id", "server", "client_secret", "s3cret +%"),
		"jwt":    cc("client_assertion_type", assertionType, "client_assertion", b.assert()),
		"issuer": cc("client_assertion_type", assertionType, "client_assertion", b.assert("aud", []string{"x", b.cfg.Issuer})),
	} {
		access, refresh := b.wantToken(b.post(pathToken, params))
		claims := b.claimsOf(access)
		if claims["phone_number"] != nil || claims["sub"] != claims["client_id"] || refresh != "" {
			t.Errorf("%s: 2-legged token %v, refresh token %q", name, claims, refresh)
		}
	}
	b.wantToken(b.post(pathToken, cc(), basic("server", "s3cret +%")))
	r := b.post(pathToken, cc(), basic("server", "wrong"))
	b.wantError(r, 401, "invalid_client")
	if r.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
	used := b.assert()
	b.wantToken(b.post(pathToken, cc("client_assertion_type", assertionType, "client_assertion", used)))
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, assertion := range map[string]string{
		"replayed":       used,
		"too long":       b.assert("exp", b.now().Add(301*time.Second).Unix()),
		"long, no iat":   b.assert("iat", nil, "exp", b.now().Add(311*time.Second).Unix()),
		"expired":        b.assert("iat", nil, "exp", b.now().Add(-clockSkew).Unix()),
		"no exp":         b.assert("exp", nil),
		"no jti":         b.assert("jti", nil),
		"audience":       b.assert("aud", "https://elsewhere.example/token"),
		"subject":        b.assert("sub", "server"),
		"issuer":         b.assert("iss", "server"),
		"not yet":        b.assert("nbf", b.now().Add(time.Minute).Unix()),
		"another's key":  signJWT(t, stranger, nil, map[string]any{"iss": "signer", "sub": "signer", "aud": b.cfg.Issuer, "jti": "1", "exp": b.now().Add(time.Minute).Unix()}),
		"garbage":        "a.b.c",
		"issued in time": b.assert("iat", b.now().Add(time.Minute).Unix()),
	} {
		t.Run(name, func(t *testing.T) {
			b.wantError(b.post(pathToken, cc("client_assertion_type", assertionType, "client_assertion", assertion)), 401, "invalid_client")
		})
	}
	for name, c := range map[string]struct {
		params url.Values
		change func(*http.Request)
		status int
		want   string
	}{
		"nothing":        {cc(), func(*http.Request) {}, 401, "invalid_client"},
		"no secret":      {cc("client_id", "server"), func(*http.Request) {}, 401, "invalid_client"},
		"empty secret":   {cc("client_id", "phone"), basic("phone", ""), 401, "invalid_client"},
		"unknown":        {cc(), basic("nobody", ""), 401, "invalid_client"},
		"two ways":       {cc("client_id", "server", "client_secret", "s3cret +%"), basic("server", "s3cret +%"), 400, "invalid_request"},
		"other id":       {cc("client_id", "other"), basic("server", "s3cret +%"), 400, "invalid_request"},
		"bearer":         {cc("client_id", "server"), func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "invalid_client"},
		"wrong type":     {cc("client_assertion_type", "x", "client_assertion", b.assert()), func(*http.Request) {}, 401, "invalid_client"},
		"not a form":     {cc(), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request"},
		"scope refused":  {cc("scope", "webrtc-call-handling:sessions:read"), basic("narrow", "narrow"), 400, "invalid_scope"},
		"grant refused":  {url.Values{"grant_type": {grantCIBA}, "auth_req_id": {"x"}}, basic("narrow", "narrow"), 400, "unauthorized_client"},
		"scope repeated": {url.Values{"grant_type": {grantClient}, "scope": {"a", "b"}}, basic("narrow", "narrow"), 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			b.wantError(b.post(pathToken, c.params, c.change), c.status, c.want)
		})
	}
	r = b.post(pathToken, cc("scope", "webrtc-registration:sessions:anything"), basic("narrow", "narrow"))
	if access, _ := b.wantToken(r); b.claimsOf(access)["scope"] != "webrtc-registration:sessions:anything" {
		t.Errorf("wildcard scope: %s", r.body)
	}
}

func TestJWTBearer(t *testing.T) {
	b := setup(t)
	ask := func(assertion string, more ...string) reply {
		v := url.Values{"grant_type": {grantJWT}, "assertion": {assertion}}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return b.post(pathToken, v)
	}
	r := ask(b.assert("sub", "tel:"+bob, "scope", "openid webrtc-registration:sessions:read"),
		"client_assertion_type", assertionType, "client_assertion", b.assert())
	access, refresh := b.wantToken(r)
	claims := b.claimsOf(access)
	if claims["phone_number"] != bob || claims["scope"] != "openid webrtc-registration:sessions:read" || refresh != "" || r.json["id_token"] == nil {
		t.Errorf("token %v, answer %s", claims, r.body)
	}
	b.wantToken(ask(b.assert("sub", "tel:"+alice))) // the assertion alone identifies the client
	b.wantError(ask(b.assert("sub", "tel:+4999999999")), 400, "invalid_grant")
	b.wantError(ask(b.assert("sub", "operatortoken:x")), 400, "invalid_grant")
	b.wantError(ask(b.assert("sub", "tel:"+bob, "scope", "admin")), 400, "invalid_scope")
	b.wantError(ask("x.y.z"), 400, "invalid_grant")
}

func TestCIBA(t *testing.T) {
	b := setup(t)
	start := func(change ...string) reply {
		v := url.Values{"login_hint": {"tel:" + alice}, "scope": {"openid webrtc-registration:sessions:read"}}
		for i := 0; i < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		return b.post(pathBackchannel, v, basic("server", "s3cret +%"))
	}
	poll := func(id string) reply {
		return b.post(pathToken, url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}, basic("server", "s3cret +%"))
	}
	id, _ := start().json["auth_req_id"].(string)
	b.wantError(poll(id), 400, "authorization_pending")
	b.wantError(poll(id), 400, "slow_down")
	b.wantError(b.post(pathToken, url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}, basic("other", "other")), 400, "invalid_grant")
	b.pass(2 * time.Second)
	r := poll(id)
	access, refresh := b.wantToken(r)
	if b.claimsOf(access)["phone_number"] != alice || refresh == "" || r.json["id_token"] == nil {
		t.Errorf("CIBA answer %s", r.body)
	}
	b.wantError(poll(id), 400, "invalid_grant")

	id, _ = start().json["auth_req_id"].(string)
	if err := b.Decide(id, false); err != nil {
		t.Fatal(err)
	}
	if b.Decide(id, true) == nil {
		t.Error("decided twice")
	}
	b.wantError(poll(id), 400, "access_denied")

	id, _ = start("requested_expiry", "5").json["auth_req_id"].(string)
	b.pass(5 * time.Second)
	b.wantError(poll(id), 400, "expired_token")

	b.wantError(start("login_hint", "tel:+4999999999"), 400, "unknown_user_id")
	b.wantError(start("login_hint", ""), 400, "invalid_request")
	b.wantError(start("scope", ""), 400, "invalid_request")
	b.wantError(start("id_token_hint", "x"), 400, "invalid_request")
	b.wantError(b.post(pathBackchannel, url.Values{"client_id": {"phone"}, "login_hint": {"tel:" + alice}, "scope": {"openid"}}), 400, "unauthorized_client")
}

func TestDPoP(t *testing.T) {
	b := setup(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key.Public()}
	thumb, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	jkt := base64.RawURLEncoding.EncodeToString(thumb)
	proof := func(key *ecdsa.PrivateKey, change ...any) func(*http.Request) {
		claims := map[string]any{"jti": random(), "htm": "POST", "htu": b.cfg.Issuer + pathToken, "iat": b.now().Unix()}
		for i := 0; i < len(change); i += 2 {
			claims[change[i].(string)] = change[i+1]
		}
		typ := jose.ContentType("dpop+jwt")
		if v, ok := claims["typ"].(string); ok {
			typ = jose.ContentType(v)
		}
		p := signJWT(t, key, (&jose.SignerOptions{EmbedJWK: true}).WithType(typ), claims)
		return func(r *http.Request) { r.Header.Add("DPoP", p) }
	}
	code := func() string {
		return b.login(alice, authParams("client_id", "bound", "dpop_jkt", jkt)).Get("code")
	}
	b.wantError(b.post(pathToken, codeParams(code(), "client_id", "bound")), 400, "invalid_dpop_proof")
	r := b.post(pathToken, codeParams(code(), "client_id", "bound"), proof(key))
	access, refresh := b.wantToken(r)
	cnf, _ := b.claimsOf(access)["cnf"].(map[string]any)
	if r.json["token_type"] != "DPoP" || cnf["jkt"] != jkt {
		t.Errorf("answer %s with cnf %v, want a token bound to %s", r.body, cnf, jkt)
	}
	again := url.Values{"grant_type": {grantRefresh}, "client_id": {"bound"}, "refresh_token": {refresh}}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.wantError(b.post(pathToken, again, proof(other)), 400, "invalid_dpop_proof")
	b.wantToken(b.post(pathToken, again, proof(key)))

	same := proof(key)
	cc := url.Values{"grant_type": {grantClient}}
	b.wantToken(b.post(pathToken, cc, basic("server", "s3cret +%"), same))
	for name, change := range map[string]func(*http.Request){
		"replayed": same,
		"method":   proof(key, "htm", "GET"),
		"endpoint": proof(key, "htu", b.cfg.Issuer+pathRevoke),
		"host":     proof(key, "htu", "https://elsewhere.example/oauth/token"),
		"old":      proof(key, "iat", b.now().Add(-2*time.Minute).Unix()),
		"ahead":    proof(key, "iat", b.now().Add(2*time.Minute).Unix()),
		"no jti":   proof(key, "jti", ""),
		"typ":      proof(key, "typ", "JWT"),
		"garbage":  func(r *http.Request) { r.Header.Set("DPoP", "x") },
		"two":      func(r *http.Request) { proof(key)(r); proof(key)(r) },
	} {
		t.Run(name, func(t *testing.T) {
			b.wantError(b.post(pathToken, cc, basic("server", "s3cret +%"), change), 400, "invalid_dpop_proof")
		})
	}
	b.wantToken(b.post(pathToken, cc, basic("server", "s3cret +%"), proof(key, "htu", b.cfg.Issuer+pathToken+"?x=1#y")))
}

func TestCertificateBinding(t *testing.T) {
	b := setup(t)
	r := httptest.NewRequest("POST", b.cfg.Issuer+pathToken, strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	basic("other", "other")(r)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte("certificate")}}}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	var resp TokenResponse
	if err := json.Unmarshal(w.Body.Bytes(), &resp); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	sum := sha256.Sum256([]byte("certificate"))
	cnf, _ := b.claimsOf(resp.AccessToken)["cnf"].(map[string]any)
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); cnf["x5t#S256"] != want || resp.TokenType != "Bearer" {
		t.Errorf("token of type %s with cnf %v, want it bound to %s", resp.TokenType, cnf, want)
	}
}

func TestRevocation(t *testing.T) {
	b := setup(t)
	code := b.login(alice, authParams()).Get("code")
	access, refresh := b.wantToken(b.post(pathToken, codeParams(code)))
	b.wantError(b.post(pathRevoke, url.Values{"token": {access}}, basic("other", "other")), 400, "invalid_grant")
	b.wantError(b.post(pathRevoke, url.Values{"token": {access}}), 401, "invalid_client")
	b.wantError(b.post(pathRevoke, url.Values{"client_id": {"phone"}}), 400, "invalid_request")
	mine := func(token string) reply {
		return b.post(pathRevoke, url.Values{"token": {token}, "client_id": {"phone"}})
	}
	if r := mine("nonsense"); r.StatusCode != 200 {
		t.Errorf("revoking an unknown token: %d %s", r.StatusCode, r.body)
	}
	if r := mine(access); r.StatusCode != 200 || b.active(access) || !b.active(refresh) {
		t.Errorf("revoking the access token: %d %s", r.StatusCode, r.body)
	}
	access2, refresh2 := b.wantToken(b.post(pathToken, url.Values{"grant_type": {grantRefresh}, "client_id": {"phone"}, "refresh_token": {refresh}}))
	if r := mine(refresh2); r.StatusCode != 200 || b.active(refresh2) || b.active(access2) {
		t.Errorf("revoking the refresh token: %d %s", r.StatusCode, r.body)
	}
}

func TestIntrospection(t *testing.T) {
	b := setup(t)
	code := b.login(alice, authParams("client_id", "opaque")).Get("code")
	access, _ := b.wantToken(b.post(pathToken, codeParams(code, "client_id", ""), basic("opaque", "opaque")))
	if _, err := b.keys.verify(access); err == nil {
		t.Error("the token of a client with opaque tokens is a JWT")
	}
	r := b.post(pathIntrospect, url.Values{"token": {access}}, basic("other", "other"))
	for name, want := range map[string]any{
		"active": true, "token_type": "Bearer", "client_id": "opaque", "phone_number": alice, "iss": b.cfg.Issuer, "aud": "isthmus",
		"exp": float64(b.now().Add(time.Hour).Unix()),
	} {
		if r.json[name] != want {
			t.Errorf("%s is %v, want %v", name, r.json[name], want)
		}
	}
	b.wantError(b.post(pathIntrospect, url.Values{"token": {access}, "client_id": {"phone"}}), 401, "invalid_client")
	if b.active("nonsense") || b.active("a.b.c") {
		t.Error("nonsense is active")
	}
	b.pass(time.Hour)
	if b.active(access) {
		t.Error("an expired token is active")
	}
}

func TestTokenMethod(t *testing.T) {
	b := setup(t)
	ctx := context.Background()
	r, err := b.Token(ctx, TokenRequest{ClientID: "phone", Number: "+15551230000", JKT: "k", X5T: "c", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	claims := b.claimsOf(r.AccessToken)
	cnf, _ := claims["cnf"].(map[string]any)
	if claims["phone_number"] != "+15551230000" || cnf["jkt"] != "k" || cnf["x5t#S256"] != "c" || claims["exp"] != float64(b.now().Add(time.Minute).Unix()) {
		t.Errorf("claims %v", claims)
	}
	old, err := b.Token(ctx, TokenRequest{ClientID: "phone", TTL: -time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if b.active(old.AccessToken) {
		t.Error("a token made expired is active")
	}
	for _, req := range []TokenRequest{{ClientID: "nobody"}, {ClientID: "phone", Number: "123"}, {ClientID: "narrow", Scopes: []string{"openid"}}} {
		if _, err := b.Token(ctx, req); err == nil {
			t.Errorf("%+v: no error", req)
		}
	}
}
