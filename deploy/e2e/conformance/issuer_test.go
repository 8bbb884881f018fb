package conformance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

// Applications that the authorization server knows.
const (
	phoneApp  = "phone-app"
	otherApp  = "other-app"
	serverApp = "server-app"
	opaqueApp = "opaque-app"
	// gatewayApp is the gateway itself, which introspects.
	gatewayApp = "gateway"
)

// audience of tokens that are for the gateway.
const audience = "isthmus"

// issuer makes access tokens: proper ones by an authorization server, and forged
// ones with the keys of a second issuer that the gateway trusts as well, so that
// a forged token is wrong in nothing but what the scenario is about.
type issuer struct {
	server *devoauth.Server
	url    string
	secret string
	key    *ecdsa.PrivateKey
	// stranger is a key that no issuer publishes.
	stranger *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{secret: "of the gateway", key: newKey(t), stranger: newKey(t)}
	mux := http.NewServeMux()
	listener := httptest.NewServer(mux)
	t.Cleanup(listener.Close)
	i.url = listener.URL
	c := devoauth.Default()
	c.Issuer = i.url + "/oauth"
	c.Audience = audience
	for _, id := range []string{phoneApp, otherApp, serverApp, opaqueApp, gatewayApp} {
		c.Clients = append(c.Clients, devoauth.Client{ID: id, Secret: i.secret, OpaqueTokens: id == opaqueApp})
	}
	server, err := devoauth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	i.server = server
	mux.Handle("/oauth/", server.Handler())
	mux.HandleFunc("/forge/jwks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: i.key.Public(), KeyID: "forge", Algorithm: "ES256", Use: "sig"},
		}})
	})
	return i
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// unreachable is an issuer whose keys nobody serves.
const unreachable = "http://127.0.0.1:1/unreachable"

// trusted is the gateway's configuration of issuers.
func (i *issuer) trusted() []settings {
	return []settings{
		{
			"issuer": i.url + "/oauth", "jwks_url": i.url + "/oauth/jwks", "audiences": []string{audience}, "refetch_interval": "100ms",
			"introspection": settings{
				"endpoint": i.url + "/oauth/introspect", "client_id": gatewayApp, "client_secret": i.secret, "negative_ttl": "-1s", "cache_ttl": "1s",
			},
		},
		{"issuer": i.forge(), "jwks_url": i.url + "/forge/jwks", "audiences": []string{audience}, "refetch_interval": "100ms"},
		{"issuer": unreachable, "audiences": []string{audience}},
	}
}

func (i *issuer) forge() string { return i.url + "/forge" }

// token asks the authorization server.
func (i *issuer) token(r devoauth.TokenRequest) (string, error) {
	answer, err := i.server.Token(context.Background(), r)
	return answer.AccessToken, err
}

// revoke a token as its application does (RFC 7009).
func (i *issuer) revoke(client, token string) error {
	form := url.Values{"token": {token}, "client_id": {client}, "client_secret": {i.secret}}
	answer, err := http.PostForm(i.url+"/oauth/revoke", form)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("revoke: %s", answer.Status)
	}
	return nil
}

// forgery is a token before it is signed.
type forgery struct {
	header, claims map[string]any
	key            any
}

// proper is a forgery with nothing wrong.
func (i *issuer) proper(number string) forgery {
	now := time.Now()
	return forgery{
		header: map[string]any{"alg": "ES256", "kid": "forge", "typ": "at+jwt"},
		claims: map[string]any{
			"iss": i.forge(), "sub": "someone", "aud": audience, "client_id": phoneApp, "jti": uuid.NewString(),
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"phone_number": number, "scope": allScopes(),
		},
		key: i.key,
	}
}

func allScopes() string {
	all := ""
	for _, s := range devoauth.DefaultScopes() {
		if s != "openid" && s != "offline_access" {
			all += s + " "
		}
	}
	return all
}

// sign makes a compact JWS with exactly the given header.
func (f forgery) sign() (string, error) {
	head, err := json.Marshal(f.header)
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(f.claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	var signature []byte
	switch k := f.key.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, k, digest[:])
		if err != nil {
			return "", err
		}
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case []byte:
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: k}, nil)
		if err != nil {
			return "", err
		}
		jws, err := signer.Sign(claims)
		if err != nil {
			return "", err
		}
		return jws.CompactSerialize()
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// proof of possession for one request (RFC 9449 section 4.2).
func proof(key *ecdsa.PrivateKey, method, url, token string, changes map[string]any) (string, error) {
	hash := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"jti": uuid.NewString(), "htm": method, "htu": url, "iat": time.Now().Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(hash[:]),
	}
	for k, v := range changes {
		claims[k] = v
	}
	return forgery{
		header: map[string]any{"alg": "ES256", "typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: key.Public()}},
		claims: claims, key: key,
	}.sign()
}

// thumbprint of a public key (RFC 7638).
func thumbprint(key *ecdsa.PrivateKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// deviceCertificate is the TLS client certificate of a device.
type deviceCertificate struct {
	ca   string
	pair tls.Certificate
	// hash is the thumbprint that tokens are bound to (RFC 8705 section 3.1).
	hash string
}

func newDeviceCertificate(t *testing.T) *deviceCertificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "devices.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return &deviceCertificate{
		ca: file, pair: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		hash: base64.RawURLEncoding.EncodeToString(sum[:]),
	}
}
