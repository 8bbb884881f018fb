package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cucumber/godog"
	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

func (w *world) bindTokens(sc *godog.ScenarioContext) {
	sc.Step(`^the token of `+who+` has only the scopes? (.+)$`, func(name, list string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		if list, err = w.expand(a, list); err != nil {
			return err
		}
		return w.renew(a, devoauth.TokenRequest{Scopes: strings.Split(list, ", ")})
	})
	sc.Step(`^the token of `+who+` lacks the scope `+path+`$`, func(name, scope string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		if scope, err = w.expand(a, scope); err != nil {
			return err
		}
		var rest []string
		for _, s := range strings.Fields(allScopes()) {
			if s != scope {
				rest = append(rest, s)
			}
		}
		return w.renew(a, devoauth.TokenRequest{Scopes: rest})
	})
	sc.Step(`^`+who+` has a fresh token$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		old := a.token
		if err := w.renew(a, devoauth.TokenRequest{}); err != nil {
			return err
		}
		if a.token == old {
			return fmt.Errorf("the token is the same")
		}
		return nil
	})
	sc.Step(`^the authorization server has changed its key$`, func() error { return w.site.tokens.server.Rotate() })
	sc.Step(`^`+who+` has revoked its token$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		return w.site.tokens.revoke(a.client, a.token)
	})
	sc.Step(`^`+who+` has a forged token with (.+)$`, w.forge)
	sc.Step(`^`+who+` has a token that is bound to a key$`, func(name string) error {
		return w.bound(name, func(r *devoauth.TokenRequest) (err error) {
			r.JKT, err = thumbprint(w.site.tokens.key)
			return err
		})
	})
	sc.Step(`^`+who+` has a token that is bound to its certificate$`, func(name string) error {
		return w.bound(name, func(r *devoauth.TokenRequest) error { r.X5T = w.site.device.hash; return nil })
	})
	sc.Step(`^the next request is sent with that certificate$`, func() error { w.next.secure = true; return nil })
	sc.Step(`^the next request, (\S+) `+path+`, has a proof with (.+)$`, w.prove)
	sc.Step(`^the proof is sent again$`, func() error {
		w.next.header = http.Header{"Dpop": {w.vars["proof"]}, "Authorization": {w.vars["authorization"]}}
		return nil
	})
}

func (w *world) renew(a *actor, r devoauth.TokenRequest) (err error) {
	r.ClientID, r.Number = a.client, a.tokenNumber
	a.token, err = w.site.tokens.token(r)
	return err
}

func (w *world) bound(name string, to func(*devoauth.TokenRequest) error) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	var r devoauth.TokenRequest
	if err := to(&r); err != nil {
		return err
	}
	return w.renew(a, r)
}

// forge makes a token that has one flaw.
func (w *world) forge(name, flaw string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	i := w.site.tokens
	f := i.proper(a.tokenNumber)
	hour := time.Now().Add(time.Hour).Unix()
	own := jose.JSONWebKey{Key: i.stranger.Public(), KeyID: "own", Algorithm: "ES256"}
	flaws := map[string]func(){
		"no flaw":                         func() {},
		"two audiences, one of them ours": func() { f.claims["aud"] = []string{"elsewhere", audience} },
		"azp for client_id":               func() { delete(f.claims, "client_id"); f.claims["azp"] = a.client },
		"scp for scope":                   func() { f.claims["scp"] = strings.Fields(allScopes()); delete(f.claims, "scope") },
		"typ JWT":                         func() { f.header["typ"] = "JWT" },
		"its number in sub":               func() { delete(f.claims, "phone_number"); f.claims["sub"] = "tel:" + a.number },
		"an end 10 seconds ago":           func() { f.claims["exp"] = time.Now().Add(-10 * time.Second).Unix() },
		"a start in 10 seconds":           func() { f.claims["nbf"] = time.Now().Add(10 * time.Second).Unix() },

		"an end an hour ago":       func() { f.claims["exp"] = time.Now().Add(-time.Hour).Unix() },
		"a start in an hour":       func() { f.claims["nbf"] = hour },
		"no end":                   func() { delete(f.claims, "exp") },
		"another audience":         func() { f.claims["aud"] = "elsewhere" },
		"no audience":              func() { delete(f.claims, "aud") },
		"an unknown issuer":        func() { f.claims["iss"] = "https://issuer.example" },
		"no issuer":                func() { delete(f.claims, "iss") },
		"the issuer that is down":  func() { f.claims["iss"] = unreachable },
		"no client":                func() { delete(f.claims, "client_id") },
		"a number that is none":    func() { f.claims["phone_number"] = "0199" },
		"alg none":                 func() { f.header["alg"] = "none"; f.key = nil },
		"alg none and a signature": func() { f.header["alg"] = "none" },
		"alg nOnE":                 func() { f.header["alg"] = "nOnE"; f.key = nil },
		"another key":              func() { f.key = i.stranger },
		"an unknown key id":        func() { f.header["kid"] = "unknown" },
		"a key in the header":      func() { f.header["jwk"] = own; f.header["kid"] = "own"; f.key = i.stranger },
		"a key URL in the header":  func() { f.header["jku"] = i.forge() + "/jwks" },
		"a certificate URL":        func() { f.header["x5u"] = i.forge() + "/jwks" },
		"an unknown crit":          func() { f.header["crit"] = []string{"x"}; f.header["x"] = 1 },
		"typ id_token":             func() { f.header["typ"] = "id_token+jwt" },
		"typ dpop+jwt":             func() { f.header["typ"] = "dpop+jwt" },
		"a nonce":                  func() { f.claims["nonce"] = "n" },
		"an access token's hash":   func() { f.claims["at_hash"] = "h" },
		"an unknown binding":       func() { f.claims["cnf"] = map[string]any{"kid": "x"} },
		"HS256 with the public key": func() {
			public, _ := x509.MarshalPKIXPublicKey(i.key.Public())
			f.key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
		},
		"HS256 with the key's point": func() {
			f.key, _ = i.key.PublicKey.Bytes()
		},
	}
	apply, ok := flaws[flaw]
	switch {
	case ok:
		apply()
		a.token, err = f.sign()
		return err
	case flaw == "a changed payload":
		if a.token, err = f.sign(); err != nil {
			return err
		}
		f.claims["phone_number"] = newNumber(subscribers)
		claims, err := json.Marshal(f.claims)
		parts := strings.Split(a.token, ".")
		a.token = parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims) + "." + parts[2]
		return err
	case strings.HasPrefix(flaw, "the text "):
		a.token = strings.Trim(strings.TrimPrefix(flaw, "the text "), `"`)
		return nil
	}
	return fmt.Errorf("there is no flaw %q", flaw)
}

// prove adds a proof of possession to the next request.
func (w *world) prove(method, path, flaw string) error {
	a, err := w.actor("the device")
	if err != nil {
		return err
	}
	if path, err = w.expand(a, path); err != nil {
		return err
	}
	key, url := w.site.tokens.key, w.gateway.url+path
	changes := map[string]any{}
	switch flaw {
	case "no flaw":
	case "another key":
		key = w.site.tokens.stranger
	case "another method":
		method = "PATCH"
	case "another path":
		url += "/other"
	case "another token":
		changes["ath"] = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
	case "an old date":
		changes["iat"] = time.Now().Add(-time.Hour).Unix()
	default:
		return fmt.Errorf("there is no flaw %q", flaw)
	}
	p, err := proof(key, method, url, a.token, changes)
	if err != nil {
		return err
	}
	w.vars["proof"], w.vars["authorization"] = p, "DPoP "+a.token
	w.next.header = http.Header{"Dpop": {p}, "Authorization": {"DPoP " + a.token}}
	return nil
}

// boundClient shows the device's certificate.
func (s *site) boundClient() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: s.ca.Pool, Certificates: []tls.Certificate{s.device.pair}, MinVersion: tls.VersionTLS12,
	}}}
}
