// Package digest answers Digest challenges of SIP (RFC 3261 22, RFC 7616, RFC
// 8760): of several challenges of a realm it takes the strongest algorithm it
// knows, with qop=auth when that is offered.
package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// Credentials of an account.
type Credentials struct{ Username, Password string }

// challenge is one WWW-Authenticate or Proxy-Authenticate.
type challenge struct {
	realm, nonce, opaque, algorithm string
	qop, noQOP, stale               bool
	rank                            int
}

// algorithms by strength.
var algorithms = map[string]struct {
	rank int
	new  func() hash.Hash
	sess bool
}{
	"MD5": {1, md5.New, false}, "MD5-SESS": {2, md5.New, true},
	"SHA-256": {3, sha256.New, false}, "SHA-256-SESS": {4, sha256.New, true},
	"SHA-512-256": {5, sha512.New512_256, false}, "SHA-512-256-SESS": {6, sha512.New512_256, true},
}

func parse(value string) (challenge, bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return challenge{}, false
	}
	var c challenge
	qop := ""
	hasQOP := false
	for _, part := range header.Split(rest, ',') {
		k, v, _ := strings.Cut(part, "=")
		v = header.Unquote(strings.TrimSpace(v))
		switch strings.ToLower(strings.TrimSpace(k)) {
		case "realm":
			c.realm = v
		case "nonce":
			c.nonce = v
		case "opaque":
			c.opaque = v
		case "algorithm":
			c.algorithm = v
		case "stale":
			c.stale = strings.EqualFold(v, "true")
		case "qop":
			qop, hasQOP = v, true
		}
	}
	a, ok := algorithms[strings.ToUpper(algorithmOr(c.algorithm))]
	if !ok || c.nonce == "" {
		return challenge{}, false
	}
	c.rank = a.rank
	c.noQOP = !hasQOP
	for _, q := range strings.Split(qop, ",") {
		c.qop = c.qop || strings.EqualFold(strings.TrimSpace(q), "auth")
	}
	return c, c.qop || c.noQOP
}

func algorithmOr(a string) string {
	if a == "" {
		return "MD5"
	}
	return a
}

// Session holds the challenges of one dialog or registration, by realm, and
// answers them in every following request too. It is safe for concurrent use.
type Session struct {
	credentials Credentials
	// cnonce makes client nonces.
	cnonce func() string

	mu     sync.Mutex
	realms []*realm
}

type realm struct {
	challenge
	proxy    bool
	count    int
	attempts int
}

// NewSession makes a Session; cnonce makes a fresh random string.
func NewSession(c Credentials, cnonce func() string) *Session {
	return &Session{credentials: c, cnonce: cnonce}
}

// maxAttempts bounds the answers to one realm's challenges without a success in
// between: the first, and one more when the server calls the nonce stale.
const maxAttempts = 2

// Challenge takes the challenges of a 401 or 407 and reports whether it is worth
// to send the request again.
func (s *Session) Challenge(res *sip.Response) bool {
	if s == nil || s.credentials.Username == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for _, f := range []struct {
		name  string
		proxy bool
	}{{"WWW-Authenticate", false}, {"Proxy-Authenticate", true}} {
		best := map[string]challenge{}
		for _, v := range header.Values(res, f.name) {
			if c, ok := parse(v); ok && c.rank > best[c.realm].rank {
				best[c.realm] = c
			}
		}
		for _, c := range best {
			if s.take(c, f.proxy) {
				found = true
			}
		}
	}
	return found
}

func (s *Session) take(c challenge, proxy bool) bool {
	for _, r := range s.realms {
		if r.realm != c.realm || r.proxy != proxy {
			continue
		}
		fresh := c.nonce != r.nonce
		r.challenge, r.count = c, 0
		r.attempts++
		return r.attempts == 1 || fresh && c.stale && r.attempts <= maxAttempts
	}
	s.realms = append(s.realms, &realm{challenge: c, proxy: proxy, attempts: 1})
	return true
}

// Accepted notes that a request with credentials passed.
func (s *Session) Accepted() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.realms {
		r.attempts = 0
	}
}

// Fields are the Authorization and Proxy-Authorization of a request.
func (s *Session) Fields(method, uri string) []sip.Header {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []sip.Header
	for _, r := range s.realms {
		name := "Authorization"
		if r.proxy {
			name = "Proxy-Authorization"
		}
		r.count++
		out = append(out, sip.NewHeader(name, answer(r.challenge, s.credentials, method, uri, r.count, s.cnonce())))
	}
	return out
}

// answer computes the response (RFC 7616 3.4).
func answer(c challenge, cred Credentials, method, uri string, count int, cnonce string) string {
	a := algorithms[strings.ToUpper(algorithmOr(c.algorithm))]
	h := func(parts ...string) string {
		d := a.new()
		io.WriteString(d, strings.Join(parts, ":"))
		return hex.EncodeToString(d.Sum(nil))
	}
	ha1 := h(cred.Username, c.realm, cred.Password)
	if a.sess {
		ha1 = h(ha1, c.nonce, cnonce)
	}
	ha2 := h(method, uri)
	nc := fmt.Sprintf("%08x", count)
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s", header.Quote(cred.Username), header.Quote(c.realm), header.Quote(c.nonce), header.Quote(uri))
	if c.qop {
		fmt.Fprintf(&b, `, response="%s", cnonce="%s", qop=auth, nc=%s`, h(ha1, c.nonce, nc, cnonce, "auth", ha2), cnonce, nc)
	} else {
		fmt.Fprintf(&b, `, response="%s"`, h(ha1, c.nonce, ha2))
		if a.sess {
			fmt.Fprintf(&b, `, cnonce="%s"`, cnonce)
		}
	}
	if c.algorithm != "" {
		b.WriteString(", algorithm=" + c.algorithm)
	}
	if c.opaque != "" {
		b.WriteString(", opaque=" + header.Quote(c.opaque))
	}
	return b.String()
}
