package devoauth

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// proofWindow is how far iat of a DPoP proof may be from now.
const proofWindow = time.Minute

// asymmetric are the algorithms accepted for proofs and client assertions.
var asymmetric = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.RS256}

// proof verifies the DPoP proof of a token request (RFC 9449 §4.3) and returns
// the thumbprint of its key, or an empty string when none was sent.
func (s *Server) proof(r *http.Request, endpoint string) (string, error) {
	headers := r.Header.Values("DPoP")
	if len(headers) == 0 {
		return "", nil
	}
	bad := func(why string) (string, error) { return "", refuse("invalid_dpop_proof", why) }
	if len(headers) > 1 {
		return bad("more than one DPoP header")
	}
	jws, err := jose.ParseSignedCompact(headers[0], asymmetric)
	if err != nil {
		return bad("not a JWS signed with ES256, PS256 or RS256")
	}
	head := jws.Signatures[0].Protected
	if typ, _ := head.ExtraHeaders[jose.HeaderType].(string); typ != "dpop+jwt" {
		return bad("typ is not dpop+jwt")
	}
	key := head.JSONWebKey
	if key == nil {
		return bad("the header has no jwk")
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return bad("the signature does not match the jwk")
	}
	var claims struct {
		JTI string   `json:"jti"`
		HTM string   `json:"htm"`
		HTU string   `json:"htu"`
		IAT *float64 `json:"iat"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.IAT == nil {
		return bad("jti, htm, htu and iat are required")
	}
	if claims.JTI == "" || len(claims.JTI) > 512 {
		return bad("jti must have 1 to 512 characters")
	}
	if claims.HTM != r.Method {
		return bad("htm is not the method of the request")
	}
	if !s.isEndpoint(claims.HTU, endpoint) {
		return bad("htu is not the URL of the endpoint")
	}
	now := s.cfg.Now()
	iat := time.UnixMilli(int64(*claims.IAT * 1000))
	if iat.Before(now.Add(-proofWindow)) || iat.After(now.Add(proofWindow)) {
		return bad("iat is more than a minute from now")
	}
	thumb, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return bad("the jwk has no thumbprint")
	}
	jkt := base64.RawURLEncoding.EncodeToString(thumb)
	if !s.seen.add("dpop "+jkt+" "+claims.JTI, struct{}{}, iat.Add(proofWindow)) {
		return bad("the proof was used before")
	}
	return jkt, nil
}

// isEndpoint reports whether a URL, without query and fragment, is that of the
// endpoint below the issuer or below one of the further origins.
func (s *Server) isEndpoint(got, endpoint string) bool {
	u, err := url.Parse(got)
	if err != nil {
		return false
	}
	u.RawQuery, u.Fragment, u.ForceQuery = "", "", false
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if (u.Scheme == "https" && u.Port() == "443") || (u.Scheme == "http" && u.Port() == "80") {
		u.Host = u.Host[:strings.LastIndexByte(u.Host, ':')]
	}
	for _, base := range s.bases {
		if u.String() == strings.ToLower(base[:len(base)-len(s.prefix)])+s.prefix+endpoint {
			return true
		}
	}
	return false
}
