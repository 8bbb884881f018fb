package devoauth

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestMetadata(t *testing.T) {
	b := setup(t, func(c *Config) { c.Origins = []string{"http://phone.test:9"} })
	root := strings.TrimSuffix(b.cfg.Issuer, "/oauth")
	for _, url := range []string{
		b.cfg.Issuer + pathOpenID, b.cfg.Issuer + pathRFC8414, root + pathRFC8414 + "/oauth", root + pathOpenID + "/oauth",
	} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := b.do(req)
		if r.StatusCode != 200 || r.json["issuer"] != b.cfg.Issuer || r.json["token_endpoint"] != b.cfg.Issuer+"/token" {
			t.Errorf("%s: %d %s", url, r.StatusCode, r.body)
		}
		if r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: closed to other origins", url)
		}
		req.Host = "phone.test:9"
		if r := b.do(req); r.json["issuer"] != b.cfg.Issuer || r.json["token_endpoint"] != "http://phone.test:9/oauth/token" {
			t.Errorf("through another origin: %s", r.body)
		}
		req.Host = "evil.test"
		if r := b.do(req); r.json["token_endpoint"] != b.cfg.Issuer+"/token" {
			t.Errorf("through an unknown origin: %s", r.body)
		}
	}
}

func TestPreflightAndMethods(t *testing.T) {
	b := setup(t)
	for path, want := range map[string]int{pathToken: 204, pathRevoke: 204, pathJWKS: 204, pathOpenID: 204, pathIntrospect: 405, "/nothing": 404} {
		req, err := http.NewRequest("OPTIONS", b.cfg.Issuer+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := b.do(req)
		if r.StatusCode != want {
			t.Errorf("OPTIONS %s: %d, want %d", path, r.StatusCode, want)
		}
		if want == 204 && !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "DPoP") {
			t.Errorf("OPTIONS %s does not allow the DPoP header", path)
		}
	}
	if r := b.get(pathToken, nil); r.StatusCode != 405 || r.Header.Get("Allow") != "POST" {
		t.Errorf("GET of the token endpoint: %d, Allow %q", r.StatusCode, r.Header.Get("Allow"))
	}
}

func TestRotation(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "PS256"} {
		t.Run(alg, func(t *testing.T) {
			b := setup(t, func(c *Config) { c.Algorithm = alg })
			keys := func() int { return len(b.get(pathJWKS, nil).json["keys"].([]any)) }
			issue := func() string {
				r, err := b.Token(context.Background(), TokenRequest{ClientID: "phone", Number: alice})
				if err != nil {
					t.Fatal(err)
				}
				return r.AccessToken
			}
			before := issue()
			if err := b.Rotate(); err != nil {
				t.Fatal(err)
			}
			after := issue()
			if keys() != 2 {
				t.Errorf("%d keys after a rotation", keys())
			}
			if strings.Split(before, ".")[0] == strings.Split(after, ".")[0] {
				t.Error("the new key does not sign")
			}
			b.claimsOf(before)
			b.claimsOf(after)
			b.pass(time.Hour)
			if keys() != 1 {
				t.Errorf("%d keys after the last token of the old one has died", keys())
			}
			if body := b.get(pathJWKS, nil).body; strings.Contains(body, `"d":`) {
				t.Error("the JWK set holds a private key")
			}
		})
	}
}

func TestRotationByAge(t *testing.T) {
	b := setup(t, func(c *Config) { c.RotateAfter = 30 * time.Minute })
	first, err := b.Token(context.Background(), TokenRequest{ClientID: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	b.pass(30 * time.Minute)
	second, err := b.Token(context.Background(), TokenRequest{ClientID: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Split(first.AccessToken, ".")[0] == strings.Split(second.AccessToken, ".")[0] {
		t.Error("the key was not replaced at its age")
	}
	b.claimsOf(first.AccessToken)
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "keys.json")
	b := setup(t, func(c *Config) { c.KeyFile = file })
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", st, err)
	}
	cfg := b.cfg
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// What another process signs is good here, and the other way round.
	r, err := second.Token(context.Background(), TokenRequest{ClientID: "phone", Number: alice})
	if err != nil {
		t.Fatal(err)
	}
	if !b.active(r.AccessToken) {
		t.Error("a token of a second process with the same keys is not active")
	}
	if a, z := b.subject(&grant{number: alice}), second.subject(&grant{number: alice}); a != z {
		t.Errorf("subjects differ: %s and %s", a, z)
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	third, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(third.keys.public().Keys); n != 2 {
		t.Errorf("%d keys read after a rotation, want 2", n)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged key file: %v", err)
	}
}

func TestShelf(t *testing.T) {
	now := time.Unix(0, 0)
	s := newShelf[int](2, func() time.Time { return now })
	s.put("a", 1, now.Add(time.Minute))
	s.put("b", 2, now.Add(time.Hour))
	if s.add("a", 9, now.Add(time.Hour)) {
		t.Error("added over a living value")
	}
	s.put("c", 3, now.Add(time.Hour))
	if _, ok := s.get("a"); ok || s.len() != 2 {
		t.Error("the oldest did not make room")
	}
	now = now.Add(time.Hour)
	if _, ok := s.get("b"); ok {
		t.Error("an expired value is there")
	}
	if !s.add("c", 4, now.Add(time.Hour)) {
		t.Error("not added over an expired value")
	}
	if v, ok := s.take("c"); !ok || v != 4 || s.len() != 0 {
		t.Errorf("took %d, %v, %d left", v, ok, s.len())
	}
}

func TestConfig(t *testing.T) {
	good := Default()
	good.Issuer = "https://as.example/oauth"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"issuer":                   func(c *Config) { c.Issuer = "as.example" },
		"ends with a slash":        func(c *Config) { c.Issuer += "/" },
		"origins":                  func(c *Config) { c.Origins = []string{"https://x.example/path"} },
		"audience":                 func(c *Config) { c.Audience = "" },
		"algorithm":                func(c *Config) { c.Algorithm = "HS256" },
		"access_token_ttl":         func(c *Config) { c.AccessTokenTTL = 0 },
		"ciba.interval":            func(c *Config) { c.CIBA.Interval = -1 },
		"subscribers[0].number":    func(c *Config) { c.Subscribers = []Subscriber{{Number: "0301234"}} },
		"subscribers[1].number":    func(c *Config) { c.Subscribers = []Subscriber{{Number: alice}, {Number: alice}} },
		"clients[1].id":            func(c *Config) { c.Clients = []Client{{ID: "a"}, {ID: "a"}} },
		"redirect_uris":            func(c *Config) { c.Clients = []Client{{ID: "a", RedirectURIs: []string{"http://x.example/"}}} },
		"jwks":                     func(c *Config) { c.Clients = []Client{{ID: "a", JWKS: `{"keys":[]}`}} },
		"grant_types":              func(c *Config) { c.Clients = []Client{{ID: "a", Secret: "s", GrantTypes: []string{"password"}}} },
		"needs a client that auth": func(c *Config) { c.Clients = []Client{{ID: "a", GrantTypes: []string{grantClient}}} },
		"max_entries":              func(c *Config) { c.MaxEntries = 1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error is %v", key, err)
		}
	}
	text, err := yaml.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := yaml.UnmarshalWithOptions(text, &back, yaml.Strict()); err != nil || back.Validate() != nil || back.CIBA != good.CIBA {
		t.Errorf("read back from YAML: %v, %+v", err, back)
	}
}
