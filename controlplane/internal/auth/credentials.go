package auth

import (
	"net/http"
	"strings"
)

// Schemes of the Authorization header.
const (
	schemeBearer = "bearer"
	schemeDPoP   = "dpop"
)

// maxToken is the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// credentials reads the scheme, in lower case, and the token of a request. Only
// the Authorization header counts; a token in the query is refused even beside
// it, because it is in somebody's log by now.
func credentials(r *http.Request) (scheme, token string, err error) {
	if r.URL.Query().Has("access_token") {
		return "", "", refused(codeRequest, "access token in the query")
	}
	headers := r.Header.Values("Authorization")
	switch len(headers) {
	case 0:
		return "", "", refused("", "no Authorization header")
	case 1:
	default:
		return "", "", refused(codeRequest, "%d Authorization headers", len(headers))
	}
	scheme, token, _ = strings.Cut(strings.TrimSpace(headers[0]), " ")
	scheme, token = strings.ToLower(scheme), strings.TrimLeft(token, " ")
	switch {
	case scheme != schemeBearer && scheme != schemeDPoP:
		return "", "", refused("", "Authorization of another scheme: %.20q", scheme)
	case token == "":
		return scheme, "", refused(codeRequest, "Authorization without a token")
	case len(token) > maxToken:
		return scheme, "", invalid("token of %d bytes", len(token))
	case !isToken68(token):
		return scheme, "", refused(codeRequest, "token with characters that none may have")
	}
	return scheme, token, nil
}

// isToken68 checks the syntax b64token of RFC 6750 §2.1.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return body != ""
}
