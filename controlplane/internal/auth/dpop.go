package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxProof is the longest DPoP header that is looked at, in bytes.
const maxProof = 8 << 10

// proofChecker checks DPoP proofs (RFC 9449 §4.3) and remembers them.
type proofChecker struct {
	cfg   DPoP
	bases []string
	now   func() time.Time
	seen  replayGuard
}

func newProofChecker(cfg DPoP, bases []string, now func() time.Time) *proofChecker {
	return &proofChecker{
		cfg:   cfg,
		bases: bases,
		now:   now,
		seen:  replayGuard{life: cfg.MaxAge + 2*cfg.ClockSkew, max: max(cfg.MaxProofs/2, 1)},
	}
}

func badProof(format string, args ...any) error { return refused(codeProof, format, args...) }

// check judges the proof of a request made with a token that is bound to jkt.
func (p *proofChecker) check(r *http.Request, token, jkt string) error {
	headers := r.Header.Values("DPoP")
	if len(headers) != 1 || len(headers[0]) > maxProof {
		return badProof("%d DPoP headers, or one that is too long", len(headers))
	}
	proof, ok := parseJWT(headers[0])
	if !ok {
		return badProof("the DPoP header is not a JWT")
	}
	key, alg, err := p.header(proof)
	if err != nil {
		return err
	}
	thumb, err := key.Thumbprint(crypto.SHA256)
	if err != nil || base64.RawURLEncoding.EncodeToString(thumb) != jkt {
		return badProof("the proof is of another key than the token is bound to")
	}
	jws, err := jose.ParseSignedCompact(headers[0], []jose.SignatureAlgorithm{alg})
	if err != nil {
		return badProof("malformed proof: %v", err)
	}
	if _, err := jws.Verify(key.Key); err != nil {
		return badProof("the signature of the proof is wrong")
	}
	return p.claims(r, token, jkt, proof.claims)
}

// header returns the key and algorithm of a proof. Here, other than in an access
// token, the key comes in the header; what counts is its thumbprint.
func (p *proofChecker) header(t *jwt) (key jose.JSONWebKey, alg jose.SignatureAlgorithm, err error) {
	for _, name := range []string{"jku", "x5u", "x5c", "crit", "b64", "enc", "zip"} {
		if _, ok := t.header[name]; ok {
			return key, "", badProof("proof with %s in its header", name)
		}
	}
	if typ, _ := t.head("typ"); typ != "dpop+jwt" {
		return key, "", badProof("proof of type %.40q", typ)
	}
	name, _ := t.head("alg")
	if !slices.Contains(p.cfg.Algorithms, name) {
		return key, "", badProof("proof signed with algorithm %.20q", name)
	}
	alg = jose.SignatureAlgorithm(name)
	if key.UnmarshalJSON(t.header["jwk"]) != nil || !isPublic(key) || !fits(key, alg) {
		return key, "", badProof("the jwk of the proof is not a public key for %s", alg)
	}
	return key, alg, nil
}

// isPublic is stricter than JSONWebKey.IsPublic in that it names the kinds.
func isPublic(k jose.JSONWebKey) bool {
	switch k.Key.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return k.Valid()
	}
	return false
}

// claims checks what a proof says about the request. It is remembered only when
// everything is right, so that nobody can use up a proof but its maker.
func (p *proofChecker) claims(r *http.Request, token, jkt string, c claims) error {
	if htm, _ := c.text("htm"); htm != r.Method {
		return badProof("htm is not the method of the request")
	}
	htu, _ := c.text("htu")
	if !p.isTarget(r, htu) {
		return badProof("htu %.200q is not the URL of the request", htu)
	}
	sum := sha256.Sum256([]byte(token))
	if ath, _ := c.text("ath"); ath != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return badProof("ath is not the hash of the access token")
	}
	now := p.now()
	iat, there, err := c.date("iat")
	switch {
	case err != nil || !there:
		return badProof("iat is missing or not a date")
	case iat.Before(now.Add(-p.cfg.MaxAge - p.cfg.ClockSkew)):
		return badProof("the proof is %s old", now.Sub(iat).Round(time.Second))
	case iat.After(now.Add(p.cfg.ClockSkew)):
		return badProof("the proof was made %s ahead of time", iat.Sub(now).Round(time.Second))
	}
	jti, ok := c.text("jti")
	if !ok || len(jti) > 512 {
		return badProof("jti must have 1 to 512 characters")
	}
	fresh, full := p.seen.take(sha256.Sum256([]byte(jkt+" "+jti)), now)
	switch {
	case full:
		return &unavailableError{after: p.cfg.MaxAge, err: errors.New("too many DPoP proofs to remember; raise dpop.max_proofs")}
	case !fresh:
		return badProof("the proof was used before")
	}
	return nil
}

// isTarget compares htu with the URL of the request below each external URL. The
// comparison leaves out query and fragment and is made after normalization (RFC
// 9449 §4.3, RFC 3986 §6.2.2 and §6.2.3). No forwarding header is looked at.
func (p *proofChecker) isTarget(r *http.Request, htu string) bool {
	got, ok := normalize(htu)
	if !ok {
		return false
	}
	target := r.URL
	if r.RequestURI != "" { // as received, whatever was stripped from r.URL since
		u, err := url.ParseRequestURI(r.RequestURI)
		if err != nil {
			return false
		}
		target = u
	}
	bases := p.bases
	if len(bases) == 0 {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		bases = []string{scheme + "://" + r.Host}
	}
	return slices.ContainsFunc(bases, func(base string) bool {
		want, ok := normalize(strings.TrimSuffix(base, "/") + target.EscapedPath())
		return ok && want == got
	})
}

func normalize(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" || u.User != nil {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if scheme != "http" && scheme != "https" {
		return "", false
	}
	if port := u.Port(); (scheme == "https" && port == "443") || (scheme == "http" && port == "80") || strings.HasSuffix(host, ":") {
		host = host[:strings.LastIndexByte(host, ':')]
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + normalizePath(path), true
}

// normalizePath decodes what need not be encoded and writes the other codes in
// capitals.
func normalizePath(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		code := strings.ToUpper(path[i : i+3])
		if c, err := url.PathUnescape(code); err == nil && isUnreserved(c[0]) {
			b.WriteByte(c[0])
		} else {
			b.WriteString(code)
		}
		i += 2
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// clientCertificate is the SHA-256 thumbprint of the TLS client certificate of a
// connection, empty when there is none (RFC 8705 §3.1).
func clientCertificate(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
