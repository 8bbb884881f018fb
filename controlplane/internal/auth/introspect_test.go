package auth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

const introspectPath = "/oauth/introspect"

func TestOpaqueTokens(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d))
	token := d.token(devoauth.TokenRequest{ClientID: "opaque", Number: alice, TTL: 40 * time.Second})
	p := v.good(t, bearer(token))
	if p.Owner.Subject != alice || p.Owner.ClientID != "opaque" || p.Owner.Issuer != d.issuer() || len(p.Scopes) == 0 {
		t.Errorf("principal %+v", p)
	}
	if !p.Expires.Equal(d.clock.now().Add(40 * time.Second)) {
		t.Errorf("expires %s", p.Expires)
	}
	for range 5 {
		v.good(t, bearer(token))
	}
	if n := d.served(introspectPath); n != 1 {
		t.Errorf("introspected %d times within the cache's life", n)
	}
	d.clock.pass(30 * time.Second)
	v.good(t, bearer(token))
	if n := d.served(introspectPath); n != 2 {
		t.Errorf("introspected %d times after the cache's life", n)
	}
	d.clock.pass(10 * time.Second) // exp comes before the end of the cache's life
	v.refuses(t, bearer(token), codeToken, "not active")

	if p := v.good(t, bearer(d.token(devoauth.TokenRequest{ClientID: "opaque"}))); !p.TwoLegged() {
		t.Errorf("a client's own token has subject %q", p.Owner.Subject)
	}
}

func TestNegativeCache(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d))
	for range 10 {
		v.refuses(t, bearer("nonsense"), codeToken, "not active")
	}
	if n := d.served(introspectPath); n != 1 {
		t.Errorf("introspected %d times", n)
	}
	d.clock.pass(10 * time.Second)
	v.refuses(t, bearer("nonsense"), codeToken, "not active")
	if n := d.served(introspectPath); n != 2 {
		t.Errorf("introspected %d times", n)
	}
}

func TestIntrospectionDown(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d))
	token := d.token(devoauth.TokenRequest{ClientID: "opaque", Number: alice})
	v.good(t, bearer(token))
	d.setCut(true)
	v.good(t, bearer(token)) // from the cache
	v.unavailable(t, bearer("nonsense"))
	d.clock.pass(30 * time.Second)
	v.unavailable(t, bearer(token))
	d.setCut(false)
	v.good(t, bearer(token)) // an error is not kept
}

func TestIntrospectionRefusesGateway(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d), func(c *Config) { c.Issuers[0].Introspection.ClientSecret = "wrong" })
	v.unavailable(t, bearer(d.token(devoauth.TokenRequest{ClientID: "opaque"})))
}

func TestIntrospectedJWT(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d), func(c *Config) { c.Issuers[0].Introspection.JWT = true })
	token := d.token(devoauth.TokenRequest{Number: alice})
	v.good(t, bearer(token))
	if d.served(jwksPath) != 0 {
		t.Error("the JWK set was read")
	}
	req, err := http.NewRequest("POST", d.issuer()+"/revoke", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("app", "app")
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("revocation: %s", resp.Status)
	}
	d.clock.pass(30 * time.Second)
	v.refuses(t, bearer(token), codeToken, "not active")
}

func TestSeveralIssuers(t *testing.T) {
	a, b := newDemo(t), newDemo(t)
	b.clock = a.clock
	v := a.validator(withIntrospection(a), func(c *Config) {
		c.Issuers[0].Tenant = "a"
		c.Issuers = append(c.Issuers, Issuer{
			Issuer: b.issuer(), Tenant: "b", Audiences: []string{"isthmus"},
			Introspection: Introspection{Endpoint: b.issuer() + "/introspect", ClientID: "gateway", ClientSecret: "se/cr et"},
		})
	})
	opaqueB := b.token(devoauth.TokenRequest{ClientID: "opaque", Number: alice})
	for want, token := range map[string]string{
		"a": a.token(devoauth.TokenRequest{Number: alice}), "b": b.token(devoauth.TokenRequest{Number: alice}),
	} {
		if p := v.good(t, bearer(token)); p.Owner.Tenant != want {
			t.Errorf("JWT of %s is of tenant %s", want, p.Owner.Tenant)
		}
	}
	if p := v.good(t, bearer(opaqueB)); p.Owner.Tenant != "b" {
		t.Errorf("opaque token of b is of tenant %s", p.Owner.Tenant)
	}
	// The first issuer is down: what the second knows is good, anything else
	// might be a token of the first.
	a.setCut(true)
	v.good(t, bearer(b.token(devoauth.TokenRequest{ClientID: "opaque", Number: alice})))
	v.unavailable(t, bearer("nonsense"))
	v.good(t, bearer(b.token(devoauth.TokenRequest{Number: alice})))
	a.setCut(false)
	b.setCut(true)
	v.unavailable(t, bearer("other"))
}

func TestIntrospectionAnswers(t *testing.T) {
	var answer any
	c := newClock()
	now := c.now().Unix()
	w := newWire(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "gw%3A1" || secret != "p%2Bw" || r.PostFormValue("token") == "" {
			http.Error(rw, "who are you", http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(rw).Encode(answer)
	})
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, Audiences: []string{"isthmus"}, Introspection: Introspection{
		Endpoint: w.URL + "/introspect", ClientID: "gw:1", ClientSecret: "p+w", CacheTTL: -1, NegativeTTL: -1,
	}}}
	v := newValidator(t, cfg, c)
	good := object{"active": true, "client_id": "app", "scope": "a b", "phone_number": alice}
	n := 0
	next := func() *http.Request { n++; return bearer("token-" + strconv.Itoa(n)) }
	for name, a := range map[string]object{
		"least":     good,
		"full":      with(good, "iss", forgerIssuer, "aud", []string{"isthmus"}, "exp", now+60, "nbf", now, "token_type", "Bearer"),
		"in skew":   with(good, "exp", now-10),
		"lowercase": with(good, "token_type", "bearer"),
	} {
		answer = a
		p := v.good(t, next())
		if p.Owner.Subject != alice || len(p.Scopes) != 2 || p.Owner.ClientID != "app" {
			t.Errorf("%s: principal %+v", name, p)
		}
		if a["exp"] == nil && !p.Expires.Equal(c.now().Add(unknownLife)) {
			t.Errorf("%s: expires %s", name, p.Expires)
		}
	}
	for name, a := range map[string]any{
		"inactive":         object{"active": false},
		"active as text":   with(good, "active", "true"),
		"no active":        with(good, "active", nil),
		"no client":        with(good, "client_id", nil),
		"other issuer":     with(good, "iss", "https://evil.example"),
		"issuer no text":   with(good, "iss", 1),
		"other audience":   with(good, "aud", "x"),
		"expired":          with(good, "exp", now-31),
		"not yet":          with(good, "nbf", now+31),
		"exp as text":      with(good, "exp", "x"),
		"refresh token":    with(good, "token_type", "refresh_token"),
		"number malformed": with(good, "phone_number", "123"),
		"cnf unknown":      with(good, "cnf", object{"x": "y"}),
		"bound to a key":   with(good, "cnf", object{"jkt": segment(strings.Repeat("k", 32))}),
	} {
		t.Run(name, func(t *testing.T) {
			answer = a
			v.refuses(t, next(), codeToken, "")
		})
	}
	for name, a := range map[string]any{"no object": "x", "array": []int{1}, "too long": strings.Repeat("x", maxAnswer)} {
		t.Run(name, func(t *testing.T) {
			answer = a
			v.unavailable(t, next())
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newClock()
	kept := newCache[int](100, c.now)
	for i := range 1000 {
		kept.put(strconv.Itoa(i), i, c.now().Add(time.Minute))
	}
	if len(kept.items) != 100 || kept.order.Len() != 100 {
		t.Errorf("%d items, %d in order", len(kept.items), kept.order.Len())
	}
	if v, ok := kept.get("999"); !ok || v != 999 {
		t.Error("the youngest is gone")
	}
	if _, ok := kept.get("899"); ok {
		t.Error("the oldest is there")
	}
	c.pass(time.Minute)
	if _, ok := kept.get("999"); ok || len(kept.items) != 99 {
		t.Error("an expired value is there")
	}
}
