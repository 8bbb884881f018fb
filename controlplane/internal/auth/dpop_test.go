package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

func thumbprint(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	b, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var proofs int

// proofFor makes the parts of a good proof.
func proofFor(token string, now time.Time) (header, claims object) {
	proofs++
	return object{"typ": "dpop+jwt", "alg": "ES256", "jwk": publicKey(testKeys().ec, "", "", "")},
		object{"jti": fmt.Sprint(proofs), "htm": "POST", "htu": target, "iat": now.Unix(), "ath": hashOf(token)}
}

func TestDPoP(t *testing.T) {
	d := newDemo(t)
	v := d.validator(func(c *Config) { c.ExternalURLs = []string{"https://gw.example", "https://10.0.0.1:8443/base/"} })
	k := testKeys()
	token := d.token(devoauth.TokenRequest{Number: alice, JKT: thumbprint(t, k.ec)})
	unbound := d.token(devoauth.TokenRequest{Number: alice})
	now := d.clock.now()
	sent := func(token, proof string) *http.Request {
		return request("Authorization", "DPoP "+token, "DPoP", proof)
	}
	h, p := proofFor(token, now)
	used := forge(h, p, k.ec)
	v.good(t, sent(token, used))
	v.refuses(t, sent(token, used), codeProof, "used before")

	for name, change := range map[string][]any{
		"query and fragment": {"htu", target + "?a=b#c"},
		"port and case":      {"htu", "HTTPS://GW.Example:443/webrtc-registration/v0.4/sessions"},
		"needless codes":     {"htu", "https://gw.example/webrtc%2dregistration/v0%2E4/sessions"},
		"below a base":       {"htu", "https://10.0.0.1:8443/base/webrtc-registration/v0.4/sessions"},
		"rather old":         {"iat", now.Add(-70 * time.Second).Unix()},
		"a little ahead":     {"iat", now.Add(10 * time.Second).Unix()},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := proofFor(token, now)
			v.good(t, sent(token, forge(h, with(p, change...), k.ec)))
		})
	}
	for name, c := range map[string]struct {
		header, claims []any
		key            any
	}{
		"method":               {claims: []any{"htm", "GET"}},
		"method in small":      {claims: []any{"htm", "post"}},
		"no method":            {claims: []any{"htm", nil}},
		"other path":           {claims: []any{"htu", target + "/1"}},
		"path in case":         {claims: []any{"htu", "https://gw.example/Webrtc-registration/v0.4/sessions"}},
		"other host":           {claims: []any{"htu", "https://evil.example/webrtc-registration/v0.4/sessions"}},
		"other scheme":         {claims: []any{"htu", "http://gw.example/webrtc-registration/v0.4/sessions"}},
		"other port":           {claims: []any{"htu", "https://gw.example:8443/webrtc-registration/v0.4/sessions"}},
		"user in the URL":      {claims: []any{"htu", "https://a@gw.example/webrtc-registration/v0.4/sessions"}},
		"not a URL":            {claims: []any{"htu", "%"}},
		"no htu":               {claims: []any{"htu", nil}},
		"old":                  {claims: []any{"iat", now.Add(-71 * time.Second).Unix()}},
		"ahead":                {claims: []any{"iat", now.Add(11 * time.Second).Unix()}},
		"no iat":               {claims: []any{"iat", nil}},
		"iat as text":          {claims: []any{"iat", "now"}},
		"no jti":               {claims: []any{"jti", nil}},
		"empty jti":            {claims: []any{"jti", ""}},
		"of another token":     {claims: []any{"ath", hashOf(unbound)}},
		"no ath":               {claims: []any{"ath", nil}},
		"another key":          {header: []any{"jwk", publicKey(k.stranger, "", "", "")}, key: k.stranger},
		"signed by another":    {key: k.stranger},
		"no jwk":               {header: []any{"jwk", nil}},
		"private jwk":          {header: []any{"jwk", jose.JSONWebKey{Key: k.ec}}},
		"symmetric jwk":        {header: []any{"jwk", jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}, "alg", "HS256"}, key: []byte("0123456789abcdef0123456789abcdef")},
		"alg none":             {header: []any{"alg", "none"}},
		"alg of another key":   {header: []any{"alg", "RS256"}, key: k.rsa},
		"typ":                  {header: []any{"typ", "JWT"}},
		"no typ":               {header: []any{"typ", nil}},
		"crit":                 {header: []any{"crit", []string{"x"}, "x", 1}},
		"jku":                  {header: []any{"jku", "https://evil.example"}},
		"longer than allowed":  {claims: []any{"pad", string(make([]byte, maxProof))}},
		"jti beyond its limit": {claims: []any{"jti", fmt.Sprintf("%0600d", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := proofFor(token, now)
			if c.key == nil {
				c.key = k.ec
			}
			v.refuses(t, sent(token, forge(with(h, c.header...), with(p, c.claims...), c.key)), codeProof, "")
		})
	}
	t.Run("headers", func(t *testing.T) {
		v.refuses(t, request("Authorization", "DPoP "+token), codeProof, "0 DPoP headers")
		v.refuses(t, sent(token, "x"), codeProof, "not a JWT")
		h, p := proofFor(token, now)
		twice := sent(token, forge(h, p, k.ec))
		twice.Header.Add("DPoP", twice.Header.Get("DPoP"))
		v.refuses(t, twice, codeProof, "2 DPoP headers")
	})
	t.Run("schemes", func(t *testing.T) {
		h, p := proofFor(token, now)
		v.refuses(t, request("Authorization", "Bearer "+token, "DPoP", forge(h, p, k.ec)), codeToken, "Bearer")
		h, p = proofFor(unbound, now)
		v.refuses(t, sent(unbound, forge(h, p, k.ec)), codeToken, "not bound")
		v.good(t, request("Authorization", "Bearer "+unbound, "DPoP", "whatever"))
	})
	t.Run("forwarding headers are not believed", func(t *testing.T) {
		h, p := proofFor(token, now)
		r := sent(token, forge(h, with(p, "htu", "https://evil.example/webrtc-registration/v0.4/sessions"), k.ec))
		r.Host = "evil.example"
		r.Header.Set("X-Forwarded-Host", "evil.example")
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("Forwarded", "host=evil.example;proto=https")
		v.refuses(t, r, codeProof, "htu")
	})
	t.Run("refused proofs are not used up", func(t *testing.T) {
		h, p := proofFor(token, now)
		proof := forge(h, p, k.ec)
		r := sent(token, proof)
		r.Method = "PUT"
		v.refuses(t, r, codeProof, "htm")
		v.good(t, sent(token, proof))
	})
}

func TestDPoPWithoutExternalURL(t *testing.T) {
	d := newDemo(t)
	v := d.validator()
	k := testKeys()
	token := d.token(devoauth.TokenRequest{Number: alice, JKT: thumbprint(t, k.ec)})
	ask := func(htu string) *http.Request {
		h, p := proofFor(token, d.clock.now())
		r := httptest.NewRequest("POST", "/a/b", nil)
		r.Host, r.URL.Path = "localhost:8080", "/b" // as behind StripPrefix
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", forge(h, with(p, "htu", htu), k.ec))
		return r
	}
	v.good(t, ask("http://localhost:8080/a/b"))
	v.refuses(t, ask("http://localhost:8080/b"), codeProof, "htu")
	v.refuses(t, ask("https://localhost:8080/a/b"), codeProof, "htu")
}

func TestTooManyProofs(t *testing.T) {
	d := newDemo(t)
	v := d.validator(func(c *Config) { c.DPoP.MaxProofs = 100; c.ExternalURLs = []string{"https://gw.example"} })
	k := testKeys()
	token := d.token(devoauth.TokenRequest{Number: alice, JKT: thumbprint(t, k.ec)})
	ask := func() *http.Request {
		h, p := proofFor(token, d.clock.now())
		return request("Authorization", "DPoP "+token, "DPoP", forge(h, p, k.ec))
	}
	for range 50 {
		v.good(t, ask())
	}
	v.unavailable(t, ask())
	d.clock.pass(2 * time.Minute)
	v.good(t, ask())
}

// TestReplayGuard: within its life a name is taken once, whatever the times.
func TestReplayGuard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const life = time.Minute
		g := replayGuard{life: life, max: 1 << 20}
		now := time.Unix(1_000_000, 0)
		last := map[byte]time.Time{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "seconds")) * time.Second)
			name := rapid.Byte().Draw(t, "name") % 8
			fresh, _ := g.take([32]byte{name}, now)
			taken, ok := last[name]
			if fresh && ok && now.Sub(taken) <= life {
				t.Fatalf("name taken again after %s", now.Sub(taken))
			}
			if !fresh && (!ok || now.Sub(taken) > 3*life) {
				t.Fatalf("name refused %s after its last use (used: %v)", now.Sub(taken), ok)
			}
			if fresh {
				last[name] = now
			}
		}
	})
}

func TestCertificateBound(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d))
	cert := &x509.Certificate{Raw: []byte("the certificate of the app")}
	other := &x509.Certificate{Raw: []byte("another certificate")}
	for _, client := range []string{"app", "opaque"} {
		t.Run(client, func(t *testing.T) {
			r := bearer(d.token(devoauth.TokenRequest{ClientID: client, Number: alice, X5T: hashOf(string(cert.Raw))}))
			r.TLS = nil
			v.refuses(t, r, codeToken, "certificate")
			r.TLS = &tls.ConnectionState{}
			v.refuses(t, r, codeToken, "certificate")
			r.TLS.PeerCertificates = []*x509.Certificate{other, cert}
			v.refuses(t, r, codeToken, "certificate")
			r.TLS.PeerCertificates = []*x509.Certificate{cert}
			v.good(t, r)
		})
	}
}

func TestDPoPOpaque(t *testing.T) {
	d := newDemo(t)
	v := d.validator(withIntrospection(d))
	k := testKeys()
	token := d.token(devoauth.TokenRequest{ClientID: "opaque", Number: alice, JKT: thumbprint(t, k.ec)})
	h, p := proofFor(token, d.clock.now())
	v.good(t, request("Authorization", "DPoP "+token, "DPoP", forge(h, p, k.ec)))
	v.refuses(t, bearer(token), codeToken, "bound to a DPoP key")
}
