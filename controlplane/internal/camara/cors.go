package camara

import (
	"net/http"
	"slices"
	"strings"
)

var (
	corsMethods = strings.Join([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, ", ")
	corsAllowed = strings.Join([]string{"Authorization", "Content-Type", "x-correlator", "registrationId", "x-ringback", "DPoP", "Last-Event-ID"}, ", ")
	corsExposed = strings.Join([]string{"x-correlator", "Retry-After", "WWW-Authenticate", "DPoP-Nonce"}, ", ")
)

// CORS lets web pages of the given origins ("*" for all) use what next serves:
// the APIs, and the notification relay. It answers preflight requests itself.
// Cookies are never involved, so credentials are not allowed.
func CORS(origins []string, next http.Handler) http.Handler {
	all := slices.Contains(origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		header := w.Header()
		if !all {
			header.Add("Vary", "Origin")
		}
		allowed := origin != "" && (all || slices.Contains(origins, origin))
		if allowed {
			if all {
				origin = "*"
			}
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Expose-Headers", corsExposed)
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if allowed {
			header.Set("Access-Control-Allow-Methods", corsMethods)
			header.Set("Access-Control-Allow-Headers", corsAllowed)
			header.Set("Access-Control-Max-Age", "7200")
		}
		correlator, _ := correlatorOf(r)
		header.Set(correlatorHeader, correlator)
		w.WriteHeader(http.StatusNoContent)
	})
}
