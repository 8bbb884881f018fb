package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// testKeys are made once; RSA keys take long.
var testKeys = sync.OnceValue(func() (k struct {
	ec, stranger, p384 *ecdsa.PrivateKey
	rsa, small         *rsa.PrivateKey
}) {
	var errs [5]error
	k.ec, errs[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.stranger, errs[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, errs[2] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.rsa, errs[3] = rsa.GenerateKey(rand.Reader, 2048)
	k.small, errs[4] = rsa.GenerateKey(rand.Reader, 1024)
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return k
})

type object = map[string]any

func segment(v any) string {
	if s, ok := v.(string); ok {
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// forge signs what no library would: any header over any claims with any key.
func forge(header, payload, key any) string {
	input := segment(header) + "." + segment(payload)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	var err error
	switch k := key.(type) {
	case nil:
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, sum[:])
		n := (k.Curve.Params().BitSize + 7) / 8
		err, sig = e, make([]byte, 2*n)
		r.FillBytes(sig[:n])
		s.FillBytes(sig[n:])
	case *rsa.PrivateKey:
		if h, _ := header.(object); h["alg"] == "PS256" {
			sig, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		}
	case []byte:
		sig = mac(sha256.New, k, input)
	default:
		panic(fmt.Sprintf("key %T", key))
	}
	if err != nil {
		panic(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func mac(h func() hash.Hash, key []byte, input string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(input))
	return m.Sum(nil)
}

// with copies an object and changes it; a nil value deletes.
func with(o object, pairs ...any) object {
	o = maps.Clone(o)
	for i := 0; i < len(pairs); i += 2 {
		if o[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
			delete(o, pairs[i].(string))
		}
	}
	return o
}

const forgerIssuer = "https://as.example/realm"

// jwksWire serves a set of keys, raw members included.
func jwksWire(t *testing.T, keys ...any) *wire {
	t.Helper()
	w := newWire(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = json.NewEncoder(rw).Encode(object{"keys": keys})
	})
	return w
}

func publicKey(key crypto.Signer, kid, alg, use string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: alg, Use: use}
}

// forger is an issuer with hand-made tokens.
func forger(t *testing.T, change ...func(*Config)) (v *Validator, header, payload object) {
	t.Helper()
	k := testKeys()
	w := jwksWire(t,
		object{"kty": "OKP", "crv": "X448", "kid": "exotic", "x": "AAAA"}, // must not spoil the rest
		"no key at all",
		publicKey(k.ec, "ec", "ES256", "sig"),
		publicKey(k.rsa, "rsa", "", ""),
		publicKey(k.p384, "p384", "", "sig"),
		publicKey(k.small, "small", "", "sig"),
		publicKey(k.ec, "enc", "", "enc"),
		publicKey(k.rsa, "ps", "PS256", "sig"),
		jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "oct"},
	)
	c := newClock()
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, JWKSURL: w.URL + "/jwks", Audiences: []string{"isthmus", "https://gw.example"}}}
	for _, f := range change {
		f(&cfg)
	}
	now := c.now().Unix()
	return newValidator(t, cfg, c),
		object{"alg": "ES256", "kid": "ec", "typ": "at+jwt"},
		object{"iss": forgerIssuer, "aud": "isthmus", "exp": now + 600, "iat": now, "jti": "1", "client_id": "app", "sub": "x", "scope": "a b", "phone_number": alice}
}

func TestJWTAccepted(t *testing.T) {
	v, h, p := forger(t)
	k := testKeys()
	now := p["iat"].(int64)
	for name, token := range map[string]string{
		"ES256":              forge(h, p, k.ec),
		"RS256":              forge(with(h, "alg", "RS256", "kid", "rsa"), p, k.rsa),
		"PS256":              forge(with(h, "alg", "PS256", "kid", "rsa"), p, k.rsa),
		"PS256 key":          forge(with(h, "alg", "PS256", "kid", "ps"), p, k.rsa),
		"no kid":             forge(with(h, "kid", nil), p, k.ec),
		"no kid, RSA":        forge(with(h, "alg", "RS256", "kid", nil), p, k.rsa),
		"no typ":             forge(with(h, "typ", nil), p, k.ec),
		"typ JWT":            forge(with(h, "typ", "JWT"), p, k.ec),
		"typ in full":        forge(with(h, "typ", "application/AT+JWT"), p, k.ec),
		"audiences":          forge(h, with(p, "aud", []string{"other", "https://gw.example"}), k.ec),
		"azp":                forge(h, with(p, "client_id", nil, "azp", "app"), k.ec),
		"tel:":               forge(h, with(p, "phone_number", "tel:"+alice), k.ec),
		"sub":                forge(h, with(p, "phone_number", nil, "sub", alice), k.ec),
		"sub tel:":           forge(h, with(p, "phone_number", nil, "sub", "tel:"+alice), k.ec),
		"null number":        forge(h, with(p, "phone_number", json.RawMessage("null"), "sub", alice), k.ec),
		"number verified":    forge(h, with(p, "phone_number_verified", true), k.ec),
		"skewed exp":         forge(h, with(p, "exp", now-29), k.ec),
		"skewed nbf":         forge(h, with(p, "nbf", now+30), k.ec),
		"date with fraction": forge(h, with(p, "exp", float64(now)+0.5), k.ec),
		"scp":                forge(h, with(p, "scope", nil, "scp", []string{"a", "b"}), k.ec),
		"scope array":        forge(h, with(p, "scope", []string{"a", "b", "a"}), k.ec),
		"scp string":         forge(h, with(p, "scope", "", "scp", "a  b"), k.ec),
	} {
		t.Run(name, func(t *testing.T) {
			got := v.good(t, bearer(token))
			if got.Owner.Subject != alice || got.Owner.ClientID != "app" || strings.Join(got.Scopes, " ") != "a b" {
				t.Errorf("principal %+v", got)
			}
		})
	}
	for name, token := range map[string]string{
		"no number":       forge(h, with(p, "phone_number", nil), k.ec),
		"sub is the id":   forge(h, with(p, "phone_number", nil, "client_id", alice, "sub", alice), k.ec),
		"sub half number": forge(h, with(p, "phone_number", nil, "sub", alice[1:]), k.ec),
	} {
		t.Run(name, func(t *testing.T) {
			if got := v.good(t, bearer(token)); !got.TwoLegged() {
				t.Errorf("subject %q, want none", got.Owner.Subject)
			}
		})
	}
}

func TestJWTRefused(t *testing.T) {
	v, h, p := forger(t)
	k := testKeys()
	now := p["iat"].(int64)
	good := forge(h, p, k.ec)
	parts := strings.Split(good, ".")
	ecPEM, err := json.Marshal(publicKey(k.ec, "ec", "ES256", "sig"))
	if err != nil {
		t.Fatal(err)
	}
	own := publicKey(k.stranger, "mine", "ES256", "sig")
	flipped := []byte(parts[2])
	flipped[5] ^= 1
	hs512 := segment(with(h, "alg", "HS512")) + "." + segment(p)
	for name, token := range map[string]string{
		"alg none":                  forge(with(h, "alg", "none"), p, nil),
		"alg None":                  forge(with(h, "alg", "None"), p, nil),
		"no alg":                    forge(with(h, "alg", nil), p, k.ec),
		"alg of another type":       forge(with(h, "alg", 5), p, k.ec),
		"HS256 with the public key": forge(with(h, "alg", "HS256"), p, ecPEM),
		"HS256 with an oct key":     forge(with(h, "alg", "HS256", "kid", "oct"), p, []byte("0123456789abcdef0123456789abcdef")),
		"HS512":                     hs512 + "." + base64.RawURLEncoding.EncodeToString(mac(sha512.New, ecPEM, hs512)),
		"RS256 with an EC key":      forge(with(h, "alg", "RS256"), p, k.rsa),
		"ES256 with an RSA key":     forge(with(h, "kid", "rsa"), p, k.ec),
		"ES256 with P-384":          forge(with(h, "kid", "p384"), p, k.p384),
		"ES384":                     forge(with(h, "alg", "ES384", "kid", "p384"), p, k.p384),
		"RSA of 1024 bits":          forge(with(h, "alg", "RS256", "kid", "small"), p, k.small),
		"RS256 with a PS256 key":    forge(with(h, "alg", "RS256", "kid", "ps"), p, k.rsa),
		"encryption key":            forge(with(h, "kid", "enc"), p, k.ec),
		"stranger's key":            forge(h, p, k.stranger),
		"unknown kid":               forge(with(h, "kid", "nobody"), p, k.ec),
		"kid of another type":       forge(with(h, "kid", 1), p, k.ec),
		"jwk in the header":         forge(with(h, "jwk", own, "kid", "mine"), p, k.stranger),
		"true jwk in the header":    forge(with(h, "jwk", publicKey(k.ec, "ec", "", "")), p, k.ec),
		"jku":                       forge(with(h, "jku", "https://evil.example/jwks"), p, k.ec),
		"x5u":                       forge(with(h, "x5u", "https://evil.example/cert"), p, k.ec),
		"x5c":                       forge(with(h, "x5c", []string{"AA"}), p, k.ec),
		"crit":                      forge(with(h, "crit", []string{"exp"}, "exp", 1), p, k.ec),
		"empty crit":                forge(with(h, "crit", []string{}), p, k.ec),
		"b64":                       forge(with(h, "b64", false), p, k.ec),
		"typ of a proof":            forge(with(h, "typ", "dpop+jwt"), p, k.ec),
		"typ of a logout token":     forge(with(h, "typ", "logout+jwt"), p, k.ec),
		"typ of another type":       forge(with(h, "typ", 1), p, k.ec),
		"ID token by nonce":         forge(with(h, "typ", "JWT"), with(p, "nonce", "n"), k.ec),
		"ID token by at_hash":       forge(with(h, "typ", "JWT"), with(p, "at_hash", "x"), k.ec),
		"ID token by Keycloak":      forge(with(h, "typ", "JWT"), with(p, "typ", "ID"), k.ec),
		"refresh token by Keycloak": forge(with(h, "typ", "JWT"), with(p, "typ", "Refresh"), k.ec),
		"other issuer":              forge(h, with(p, "iss", forgerIssuer+"/"), k.ec),
		"no issuer":                 forge(h, with(p, "iss", nil), k.ec),
		"issuer of another type":    forge(h, with(p, "iss", []string{forgerIssuer}), k.ec),
		"other audience":            forge(h, with(p, "aud", "app"), k.ec),
		"no audience":               forge(h, with(p, "aud", nil), k.ec),
		"audience in part":          forge(h, with(p, "aud", "isthmus2"), k.ec),
		"audience of another type":  forge(h, with(p, "aud", object{"a": "isthmus"}), k.ec),
		"expired":                   forge(h, with(p, "exp", now-30), k.ec),
		"no exp":                    forge(h, with(p, "exp", nil), k.ec),
		"exp as a string":           forge(h, with(p, "exp", fmt.Sprint(now+600)), k.ec),
		"exp null":                  forge(h, with(p, "exp", json.RawMessage("null")), k.ec),
		"exp beyond all years":      forge(h, with(p, "exp", 1e300), k.ec),
		"exp negative":              forge(h, with(p, "exp", -1), k.ec),
		"not yet":                   forge(h, with(p, "nbf", now+31), k.ec),
		"nbf as a string":           forge(h, with(p, "nbf", "soon"), k.ec),
		"made ahead":                forge(h, with(p, "iat", now+31), k.ec),
		"no client":                 forge(h, with(p, "client_id", nil), k.ec),
		"client of another type":    forge(h, with(p, "client_id", 7, "azp", "app"), k.ec),
		"empty client":              forge(h, with(p, "client_id", ""), k.ec),
		"number without plus":       forge(h, with(p, "phone_number", alice[1:]), k.ec),
		"number of another type":    forge(h, with(p, "phone_number", 493012345601), k.ec),
		"empty number":              forge(h, with(p, "phone_number", ""), k.ec),
		"number not verified":       forge(h, with(p, "phone_number_verified", false), k.ec),
		"scope of another type":     forge(h, with(p, "scope", object{}), k.ec),
		"scope of numbers":          forge(h, with(p, "scp", []int{1}), k.ec),
		"cnf of another type":       forge(h, with(p, "cnf", "x"), k.ec),
		"cnf empty":                 forge(h, with(p, "cnf", object{}), k.ec),
		"cnf by kid":                forge(h, with(p, "cnf", object{"kid": "x"}), k.ec),
		"cnf unknown":               forge(h, with(p, "cnf", object{"x": segment(strings.Repeat("a", 32))}), k.ec),
		"claim twice":               forge(h, `{"iss":"`+forgerIssuer+`","iss":"x","exp":9999999999,"aud":"isthmus","client_id":"a"}`, k.ec),
		"header member twice":       forge(`{"alg":"none","alg":"ES256","kid":"ec"}`, p, k.ec),
		"claims no object":          forge(h, `["a"]`, k.ec),
		"claims null":               forge(h, `null`, k.ec),
		"trailing data":             forge(h, `{"iss":"`+forgerIssuer+`"}{}`, k.ec),
		"payload changed":           parts[0] + "." + segment(with(p, "phone_number", "+15550000")) + "." + parts[2],
		"signature changed":         parts[0] + "." + parts[1] + "." + string(flipped),
		"signature cut":             parts[0] + "." + parts[1] + "." + parts[2][:40],
		"no signature":              parts[0] + "." + parts[1] + ".",
		"zero signature":            parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"two parts":                 parts[0] + "." + parts[1],
		"four parts":                good + ".x",
		"five parts":                "a.b.c.d.e",
		"dots":                      "..",
		"padded":                    parts[0] + "==." + parts[1] + "." + parts[2],
	} {
		t.Run(name, func(t *testing.T) { v.refuses(t, bearer(token), "invalid_", "") })
	}
	v.good(t, bearer(good)) // nothing of this has hurt
}

func TestRequireATJWT(t *testing.T) {
	v, h, p := forger(t, func(c *Config) { c.Issuers[0].RequireATJWT = true })
	v.good(t, bearer(forge(h, p, testKeys().ec)))
	v.refuses(t, bearer(forge(with(h, "typ", "JWT"), p, testKeys().ec)), codeToken, "not an access token")
}

func TestAlgorithmList(t *testing.T) {
	v, h, p := forger(t, func(c *Config) { c.Issuers[0].Algorithms = []string{"PS256"} })
	v.good(t, bearer(forge(with(h, "alg", "PS256", "kid", "ps"), p, testKeys().rsa)))
	v.refuses(t, bearer(forge(h, p, testKeys().ec)), codeToken, "algorithm")
}

func TestPhoneNumberClaim(t *testing.T) {
	v, h, p := forger(t, func(c *Config) { c.Issuers[0].PhoneNumberClaim = "https://op.example/msisdn" })
	const other = "+15551230000"
	for name, c := range map[string]struct {
		claims object
		want   string
	}{
		"configured first": {with(p, "https://op.example/msisdn", other), other},
		"phone_number":     {with(p, "sub", other), alice},
		"sub":              {with(p, "phone_number", nil, "sub", other), other},
	} {
		if got := v.good(t, bearer(forge(h, c.claims, testKeys().ec))); string(got.Owner.Subject) != c.want {
			t.Errorf("%s: subject %q, want %q", name, got.Owner.Subject, c.want)
		}
	}
	v.refuses(t, bearer(forge(h, with(p, "https://op.example/msisdn", "x"), testKeys().ec)), codeToken, "msisdn")
}

func TestNoSkew(t *testing.T) {
	v, h, p := forger(t, func(c *Config) { c.Issuers[0].ClockSkew = -1 })
	now := p["iat"].(int64)
	v.good(t, bearer(forge(h, with(p, "exp", now+1), testKeys().ec)))
	v.refuses(t, bearer(forge(h, with(p, "exp", now), testKeys().ec)), codeToken, "expired")
}

// FuzzJWT looks for a token that is accepted though its signature is of no key of
// the issuer, and for panics. The real signature is never part of the corpus.
func FuzzJWT(f *testing.F) {
	k := testKeys()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{publicKey(k.ec, "ec", "", ""), publicKey(k.rsa, "rsa", "", "")}}
	c := newClock()
	cfg := Default()
	cfg.Issuers = []Issuer{{Issuer: forgerIssuer, JWKSURL: "https://as.example/jwks", Audiences: []string{"isthmus"}}}
	v, err := New(cfg, Deps{Client: &http.Client{Transport: answers(func(*http.Request) (int, any) { return 200, set })}, Now: c.now})
	if err != nil {
		f.Fatal(err)
	}
	now := c.now().Unix()
	p := object{"iss": forgerIssuer, "aud": "isthmus", "exp": now + int64(24*time.Hour/time.Second), "client_id": "app", "phone_number": alice}
	h := object{"alg": "ES256", "kid": "ec", "typ": "at+jwt"}
	for _, s := range []string{
		forge(h, p, k.stranger), forge(with(h, "alg", "none"), p, nil), forge(with(h, "alg", "RS256", "kid", "rsa"), p, k.small),
		forge(with(h, "jwk", publicKey(k.stranger, "ec", "", "")), p, k.stranger), forge(h, `{"exp":1e999}`, k.stranger), "a.b.c", "..", "",
	} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, token, proof string) {
		for _, scheme := range []string{"Bearer ", "DPoP "} {
			r := request("Authorization", scheme+token, "DPoP", proof)
			if got, err := v.Validate(r.Context(), r); err == nil {
				t.Fatalf("token %q accepted as %+v", token, got)
			}
		}
		// The same claims and proof behind a signature that was checked before.
		if parsed, ok := parseJWT(token); ok {
			_, _ = v.issuers[0].interpret(parsed.claims, c.now())
		}
		_ = v.proofs.check(request("DPoP", proof), token, "x")
	})
}
