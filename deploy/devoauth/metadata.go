package devoauth

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// serveMetadata answers both discovery documents (RFC 8414, OpenID Connect
// Discovery). A request through one of the further origins is told the endpoints
// on that origin; the issuer is the same everywhere.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	base := s.cfg.Issuer
	for _, b := range s.bases {
		if u, err := url.Parse(b); err == nil && u.Host == r.Host && (u.Scheme == "https") == (r.TLS != nil) {
			base = b
			break
		}
	}
	authMethods := []string{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}
	w.Header().Set("Cache-Control", "max-age=300")
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                                   s.cfg.Issuer,
		"authorization_endpoint":                                   base + pathAuthorize,
		"token_endpoint":                                           base + pathToken,
		"jwks_uri":                                                 base + pathJWKS,
		"introspection_endpoint":                                   base + pathIntrospect,
		"revocation_endpoint":                                      base + pathRevoke,
		"backchannel_authentication_endpoint":                      base + pathBackchannel,
		"backchannel_token_delivery_modes_supported":               []string{"poll"},
		"backchannel_user_code_parameter_supported":                false,
		"scopes_supported":                                         s.cfg.Scopes,
		"response_types_supported":                                 []string{"code"},
		"response_modes_supported":                                 []string{"query"},
		"grant_types_supported":                                    allGrants,
		"code_challenge_methods_supported":                         []string{"S256"},
		"subject_types_supported":                                  []string{"public"},
		"id_token_signing_alg_values_supported":                    []string{s.cfg.Algorithm},
		"token_endpoint_auth_methods_supported":                    authMethods,
		"token_endpoint_auth_signing_alg_values_supported":         asymmetric,
		"revocation_endpoint_auth_methods_supported":               authMethods,
		"revocation_endpoint_auth_signing_alg_values_supported":    asymmetric,
		"introspection_endpoint_auth_methods_supported":            authMethods[1:],
		"introspection_endpoint_auth_signing_alg_values_supported": asymmetric,
		"dpop_signing_alg_values_supported":                        asymmetric,
		"tls_client_certificate_bound_access_tokens":               true,
		"authorization_response_iss_parameter_supported":           true,
		"claims_supported":                                         []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "name", "phone_number"},
		"prompt_values_supported":                                  []string{"none", "login", "consent", "select_account"},
		"claims_parameter_supported":                               false,
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
	})
}

func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	set := s.keys.public()
	slices.Reverse(set.Keys) // the one that signs first
	w.Header().Set("Cache-Control", "max-age=300")
	writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: set.Keys})
}
