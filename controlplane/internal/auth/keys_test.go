package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

// answers is a transport that needs no network.
type answers func(*http.Request) (status int, body any)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a(r)
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(b)), Header: http.Header{}, Request: r}, nil
}

const jwksPath = "/oauth/jwks"

func TestKeyRotation(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "PS256"} {
		t.Run(alg, func(t *testing.T) {
			d := newDemo(t, func(c *devoauth.Config) { c.Algorithm = alg })
			v := d.validator()
			before := d.token(devoauth.TokenRequest{Number: alice})
			for range 5 {
				v.good(t, bearer(before))
			}
			if n := d.served(jwksPath); n != 1 {
				t.Fatalf("JWK set read %d times for 5 requests", n)
			}
			if err := d.Rotate(); err != nil {
				t.Fatal(err)
			}
			v.good(t, bearer(d.token(devoauth.TokenRequest{Number: alice})))
			v.good(t, bearer(before))
			if n := d.served(jwksPath); n != 2 {
				t.Errorf("JWK set read %d times for one new key", n)
			}
		})
	}
}

func TestUnknownKidsDoNotFlood(t *testing.T) {
	d := newDemo(t)
	v := d.validator()
	good := d.token(devoauth.TokenRequest{Number: alice})
	v.good(t, bearer(good))
	flood := func() {
		p := object{"iss": d.issuer(), "aud": "isthmus", "exp": d.clock.now().Unix() + 60, "client_id": "app"}
		for range 50 {
			v.refuses(t, bearer(forge(object{"alg": "ES256", "kid": "nobody"}, p, testKeys().stranger)), codeToken, "no key")
		}
	}
	flood()
	if n := d.served(jwksPath); n != refetchBurst {
		t.Errorf("JWK set read %d times, want %d", n, refetchBurst)
	}
	d.clock.pass(5 * time.Second)
	flood()
	if n := d.served(jwksPath); n != refetchBurst+1 {
		t.Errorf("JWK set read %d times after an interval, want %d", n, refetchBurst+1)
	}
	v.good(t, bearer(good))
	// A key rotated in the middle of a flood is found at the next interval.
	if err := d.Rotate(); err != nil {
		t.Fatal(err)
	}
	d.clock.pass(5 * time.Second)
	v.good(t, bearer(d.token(devoauth.TokenRequest{Number: alice})))
}

func TestIssuerDown(t *testing.T) {
	d := newDemo(t)
	v := d.validator()
	good := d.token(devoauth.TokenRequest{Number: alice, TTL: 23 * time.Hour})
	d.setCut(true)
	for range 20 {
		v.unavailable(t, bearer(good))
	}
	if n := d.served("/oauth/.well-known/openid-configuration"); n != refetchBurst {
		t.Errorf("asked %d times while the issuer is down, want %d", n, refetchBurst)
	}
	// What needs no issuer is still refused.
	v.refuses(t, bearer("a.b.c"), codeToken, "")
	v.refuses(t, request(), "", "")

	d.setCut(false)
	d.clock.pass(5 * time.Second)
	v.good(t, bearer(good))

	// Down again: the keys at hand are good for cache_ttl and stale_ttl.
	d.setCut(true)
	d.clock.pass(22 * time.Hour)
	v.good(t, bearer(good))
	p := object{"iss": d.issuer(), "aud": "isthmus", "exp": d.clock.now().Unix() + 60, "client_id": "app"}
	v.unavailable(t, bearer(forge(object{"alg": "ES256", "kid": "perhaps new"}, p, testKeys().stranger)))
	d.clock.pass(2*time.Hour + 10*time.Minute)
	long := forge(object{"alg": "ES256", "kid": "x"}, with(p, "exp", d.clock.now().Unix()+60), testKeys().stranger)
	v.unavailable(t, bearer(long))
}

func TestStaleKeysAreReadAgain(t *testing.T) {
	k := testKeys()
	var mu sync.Mutex
	keys := []jose.JSONWebKey{publicKey(k.ec, "ec", "", "")}
	w := newWire(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: keys})
	})
	c := newClock()
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, JWKSURL: w.URL, Audiences: []string{"isthmus"}, CacheTTL: time.Minute, StaleTTL: -1}}
	v := newValidator(t, cfg, c)
	token := bearer(forge(object{"alg": "ES256", "kid": "ec"},
		object{"iss": forgerIssuer, "aud": "isthmus", "exp": c.now().Unix() + 3600, "client_id": "app"}, k.ec))
	v.good(t, token)
	mu.Lock()
	keys = []jose.JSONWebKey{publicKey(k.stranger, "new", "", "")} // the old key is withdrawn
	mu.Unlock()
	v.good(t, token)
	c.pass(time.Minute)
	v.refuses(t, token, codeToken, "no key")
	w.setCut(true)
	c.pass(time.Minute)
	v.unavailable(t, token) // stale_ttl is off
}

func TestConcurrentFirstUse(t *testing.T) {
	d := newDemo(t)
	v := d.validator()
	token := d.token(devoauth.TokenRequest{Number: alice})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := v.Validate(context.Background(), bearer(token)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := d.served(jwksPath); n != 1 {
		t.Errorf("JWK set read %d times", n)
	}
}

func TestCallerGone(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, JWKSURL: "https://as.example/jwks", Audiences: []string{"isthmus"}}}
	v, err := New(cfg, Deps{Client: &http.Client{Transport: answers(func(*http.Request) (int, any) {
		close(entered)
		<-release
		return 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{publicKey(testKeys().ec, "ec", "", "")}}
	})}})
	if err != nil {
		t.Fatal(err)
	}
	r := bearer(forge(object{"alg": "ES256", "kid": "ec"},
		object{"iss": forgerIssuer, "aud": "isthmus", "exp": time.Now().Unix() + 3600, "client_id": "app"}, testKeys().ec))
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() {
		_, err := v.Validate(ctx, r)
		first <- err
	}()
	<-entered
	cancel()
	if err := <-first; err == nil {
		t.Error("accepted before the keys were read")
	}
	close(release)
	v.good(t, r) // the reading went on for the others
}

func TestDiscovery(t *testing.T) {
	k := testKeys()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{publicKey(k.ec, "ec", "", "")}}
	const jwks = "https://keys.example/jwks"
	doc := func(issuer, jwksURI string) object { return object{"issuer": issuer, "jwks_uri": jwksURI} }
	for name, c := range map[string]struct {
		docs map[string]any
		ok   bool
	}{
		"OpenID Connect": {map[string]any{"https://as.example/realm/.well-known/openid-configuration": doc(forgerIssuer, jwks)}, true},
		"RFC 8414":       {map[string]any{"https://as.example/.well-known/oauth-authorization-server/realm": doc(forgerIssuer, jwks)}, true},
		"of another": {map[string]any{
			"https://as.example/realm/.well-known/openid-configuration":       doc("https://evil.example", jwks),
			"https://as.example/.well-known/oauth-authorization-server/realm": doc(forgerIssuer, jwks),
		}, true},
		"nowhere":        {nil, false},
		"no jwks_uri":    {map[string]any{"https://as.example/realm/.well-known/openid-configuration": doc(forgerIssuer, "")}, false},
		"plain http":     {map[string]any{"https://as.example/realm/.well-known/openid-configuration": doc(forgerIssuer, "http://keys.example/jwks")}, false},
		"no object":      {map[string]any{"https://as.example/realm/.well-known/openid-configuration": "hello"}, false},
		"slash at issue": {map[string]any{"https://as.example/realm/.well-known/openid-configuration": doc(forgerIssuer+"/", jwks)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			cfg.Issuers = []Issuer{{Issuer: forgerIssuer, Audiences: []string{"isthmus"}}}
			v, err := New(cfg, Deps{Client: &http.Client{Transport: answers(func(r *http.Request) (int, any) {
				if r.URL.String() == jwks {
					return 200, set
				}
				if d, ok := c.docs[r.URL.String()]; ok {
					return 200, d
				}
				return 404, nil
			})}})
			if err != nil {
				t.Fatal(err)
			}
			r := bearer(forge(object{"alg": "ES256", "kid": "ec"},
				object{"iss": forgerIssuer, "aud": "isthmus", "exp": time.Now().Unix() + 3600, "client_id": "app"}, k.ec))
			if c.ok {
				v.good(t, r)
			} else {
				v.unavailable(t, r)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	w := newWire(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{publicKey(testKeys().ec, "ec", "", "")}})
			return
		}
		http.Redirect(rw, r, "/elsewhere", http.StatusFound)
	})
	c := newClock()
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, JWKSURL: w.URL + "/jwks", Audiences: []string{"isthmus"}}}
	v := newValidator(t, cfg, c)
	v.unavailable(t, bearer(forge(object{"alg": "ES256", "kid": "ec"},
		object{"iss": forgerIssuer, "aud": "isthmus", "exp": c.now().Unix() + 3600, "client_id": "app"}, testKeys().ec)))
	if w.served("/elsewhere") != 0 {
		t.Error("a redirect was followed")
	}
}
