package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "+493012345601"

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// wire is the HTTP side of an issuer. It can be cut and counts what it serves.
type wire struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.Handler
	cut     bool
	count   map[string]int // by path
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{count: map[string]int{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.count[r.URL.Path]++
		handler, cut := w.handler, w.cut
		w.mu.Unlock()
		if cut {
			http.Error(rw, "out of order", http.StatusBadGateway)
			return
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

func (w *wire) served(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[path]
}

// demo is a running demo authorization server.
type demo struct {
	*devoauth.Server
	*wire
	clock *clock
	t     *testing.T
}

func newDemo(t *testing.T, change ...func(*devoauth.Config)) *demo {
	t.Helper()
	d := &demo{wire: newWire(t), clock: newClock(), t: t}
	cfg := devoauth.Default()
	cfg.Issuer = d.URL + "/oauth"
	cfg.Now = d.clock.now
	cfg.Clients = []devoauth.Client{
		{ID: "app", Secret: "app"},
		{ID: "opaque", Secret: "opaque", OpaqueTokens: true},
		{ID: "gateway", Secret: "se/cr et"},
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if d.Server, err = devoauth.New(cfg); err != nil {
		t.Fatal(err)
	}
	d.handler = d.Handler()
	return d
}

func (d *demo) issuer() string { return d.URL + "/oauth" }

func (d *demo) token(req devoauth.TokenRequest) string {
	d.t.Helper()
	if req.ClientID == "" {
		req.ClientID = "app"
	}
	r, err := d.Token(context.Background(), req)
	if err != nil {
		d.t.Fatal(err)
	}
	return r.AccessToken
}

// validator trusts the demo server; change adapts the configuration.
func (d *demo) validator(change ...func(*Config)) *Validator {
	d.t.Helper()
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: d.issuer(), Audiences: []string{"isthmus"}}}
	for _, f := range change {
		f(&cfg)
	}
	return newValidator(d.t, cfg, d.clock)
}

func withIntrospection(d *demo) func(*Config) {
	return func(c *Config) {
		c.Issuers[0].Introspection = Introspection{Endpoint: d.issuer() + "/introspect", ClientID: "gateway", ClientSecret: "se/cr et"}
	}
}

func newValidator(t *testing.T, cfg Config, clock *clock) *Validator {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	v, err := New(cfg, Deps{Client: &http.Client{Transport: transport}, Now: clock.now, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const target = "https://gw.example/webrtc-registration/v0.4/sessions"

// request is one as a server receives it.
func request(header ...string) *http.Request {
	r := httptest.NewRequest("POST", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func bearer(token string) *http.Request { return request("Authorization", "Bearer "+token) }

func (v *Validator) good(t *testing.T, r *http.Request) gateway.Principal {
	t.Helper()
	p, err := v.Validate(context.Background(), r)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return p
}

// refuses checks that a request is unauthenticated, with this error code in the
// challenge of the scheme that was used; an empty code stands for none.
func (v *Validator) refuses(t *testing.T, r *http.Request, code, reason string) {
	t.Helper()
	p, err := v.Validate(context.Background(), r)
	var ae *gateway.AuthError
	if !errors.As(err, &ae) {
		t.Fatalf("accepted as %+v, error %v; want it refused", p, err)
	}
	if ae.Unavailable {
		t.Fatalf("answered as unavailable: %v", err)
	}
	if !strings.HasPrefix(ae.Challenge, `Bearer realm="isthmus"`) || !strings.Contains(ae.Challenge, `DPoP algs="ES256 PS256 RS256"`) {
		t.Errorf("challenge %q does not offer both schemes", ae.Challenge)
	}
	if got := strings.Contains(ae.Challenge, "error="); got != (code != "") || !strings.Contains(ae.Challenge, code) {
		t.Errorf("challenge %q, want error %q", ae.Challenge, code)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("refused because %q, want %q", err, reason)
	}
}

func (v *Validator) unavailable(t *testing.T, r *http.Request) {
	t.Helper()
	p, err := v.Validate(context.Background(), r)
	var ae *gateway.AuthError
	if !errors.As(err, &ae) || !ae.Unavailable {
		t.Fatalf("%+v, error %v; want it answered as unavailable", p, err)
	}
}

func TestCredentials(t *testing.T) {
	d := newDemo(t)
	v := d.validator()
	good := d.token(devoauth.TokenRequest{Number: alice})
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  ", " bEaReR "} {
		v.good(t, request("Authorization", scheme+good))
	}
	for name, c := range map[string]struct {
		r    *http.Request
		code string
	}{
		"nothing":            {request(), ""},
		"another scheme":     {request("Authorization", "Basic "+good), ""},
		"no scheme":          {request("Authorization", good), ""},
		"no token":           {request("Authorization", "Bearer"), codeRequest},
		"only spaces":        {request("Authorization", "Bearer   "), codeRequest},
		"two headers":        {request("Authorization", "Bearer "+good, "Authorization", "Bearer "+good), codeRequest},
		"two in one":         {request("Authorization", "Bearer "+good+", Bearer "+good), codeRequest},
		"two tokens":         {request("Authorization", "Bearer "+good+" "+good), codeRequest},
		"line break":         {request("Authorization", "Bearer "+good[:10]+"\r\n"+good[10:]), codeRequest},
		"only padding":       {request("Authorization", "Bearer ==="), codeRequest},
		"padding":            {request("Authorization", "Bearer "+good+"="), codeToken},
		"far too long":       {request("Authorization", "Bearer "+strings.Repeat("a", maxToken+1)), codeToken},
		"opaque":             {request("Authorization", "Bearer abc"), codeToken},
		"in the query":       {httptest.NewRequest("GET", target+"?access_token="+good, nil), codeRequest},
		"also in the query":  {withQuery(bearer(good), "access_token="+good), codeRequest},
		"with a blank query": {withQuery(bearer(good), "access_token"), codeRequest},
	} {
		t.Run(name, func(t *testing.T) { v.refuses(t, c.r, c.code, "") })
	}
}

func withQuery(r *http.Request, query string) *http.Request {
	r.URL.RawQuery = query
	return r
}

func TestPrincipal(t *testing.T) {
	d := newDemo(t)
	v := d.validator(func(c *Config) { c.Issuers[0].Tenant = "north" })
	p := v.good(t, bearer(d.token(devoauth.TokenRequest{
		Number: alice, Scopes: []string{"webrtc-registration:sessions:create", "dpv:X"}, TTL: time.Minute,
	})))
	o := p.Owner
	if o.Tenant != "north" || o.Issuer != d.issuer() || o.ClientID != "app" || o.Subject != alice {
		t.Errorf("owner %+v", o)
	}
	if !p.Has("webrtc-registration:sessions:create") || !p.Has("dpv:X") || len(p.Scopes) != 2 {
		t.Errorf("scopes %q", p.Scopes)
	}
	if !p.Expires.Equal(d.clock.now().Add(time.Minute)) {
		t.Errorf("expires %s", p.Expires)
	}
	if p := v.good(t, bearer(d.token(devoauth.TokenRequest{}))); !p.TwoLegged() {
		t.Errorf("a client's own token has subject %q", p.Owner.Subject)
	}
	expired := d.token(devoauth.TokenRequest{Number: alice, TTL: -29 * time.Second})
	v.good(t, bearer(expired)) // within the tolerance of 30 s
	d.clock.pass(time.Second)
	v.refuses(t, bearer(expired), codeToken, "expired")
}

func TestConfig(t *testing.T) {
	good := Default()
	good.Issuers = []Issuer{{Issuer: "https://as.example", Audiences: []string{"isthmus"}}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"issuers":                    func(c *Config) { c.Issuers = nil },
		"listed twice":               func(c *Config) { c.Issuers = append(c.Issuers, c.Issuers...) },
		"issuer:":                    func(c *Config) { c.Issuers[0].Issuer = "as.example" },
		"use https":                  func(c *Config) { c.Issuers[0].Issuer = "http://as.example" },
		"jwks_url":                   func(c *Config) { c.Issuers[0].JWKSURL = "ftp://as.example" },
		"audiences":                  func(c *Config) { c.Issuers[0].Audiences = nil },
		"an empty one":               func(c *Config) { c.Issuers[0].Audiences = []string{""} },
		"algorithms":                 func(c *Config) { c.Issuers[0].Algorithms = []string{"HS256"} },
		`"none"`:                     func(c *Config) { c.Issuers[0].Algorithms = []string{"none"} },
		"clock_skew":                 func(c *Config) { c.Issuers[0].ClockSkew = 61 * time.Second },
		"refetch_interval":           func(c *Config) { c.Issuers[0].RefetchInterval = time.Millisecond },
		"introspection.client_id":    func(c *Config) { c.Issuers[0].Introspection.Endpoint = "https://as.example/i" },
		"introspection.jwt":          func(c *Config) { c.Issuers[0].Introspection.JWT = true },
		"introspection.cache_ttl":    func(c *Config) { c.Issuers[0].Introspection.CacheTTL = 2 * time.Hour },
		"external_urls":              func(c *Config) { c.ExternalURLs = []string{"gw.example"} },
		"timeout":                    func(c *Config) { c.Timeout = 0 },
		"max_cached":                 func(c *Config) { c.MaxCached = 0 },
		"dpop.algorithms: at least":  func(c *Config) { c.DPoP.Algorithms = nil },
		`dpop.algorithms: "EdDSA"`:   func(c *Config) { c.DPoP.Algorithms = []string{"EdDSA"} },
		"dpop.max_age":               func(c *Config) { c.DPoP.MaxAge = time.Hour },
		"dpop.clock_skew":            func(c *Config) { c.DPoP.ClockSkew = -1 },
		"dpop.max_proofs":            func(c *Config) { c.DPoP.MaxProofs = 1 },
		"introspection.negative_ttl": func(c *Config) { c.Issuers[0].Introspection.NegativeTTL = 2 * time.Hour },
	} {
		c := good
		c.Issuers = []Issuer{good.Issuers[0]}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error is %v", key, err)
		}
		if _, err := New(c, Deps{}); err == nil {
			t.Errorf("%s: a validator was made", key)
		}
	}
	c := good
	c.Issuers = []Issuer{{Issuer: "http://as.example", Insecure: true, Introspection: Introspection{Endpoint: "http://as.example/i", ClientID: "x", JWT: true}}}
	if err := c.Validate(); err != nil {
		t.Errorf("introspection alone: %v", err)
	}
}
