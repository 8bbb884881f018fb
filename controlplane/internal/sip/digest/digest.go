// Package digest answers Digest challenges of SIP (RFC 3261 22, RFC 7616, RFC
// 8760): of several challenges of a realm it takes the strongest algorithm it
// knows, with qop=auth when that is offered.
package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
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
	proxy bool
	// count of the answers to the nonce (nc).
	count int
	// proven: credentials with this nonce have passed.
	proven bool
	// stales are the nonces called stale in a row without one that passed.
	stales int
}

// NewSession makes a Session; cnonce makes a fresh random string.
func NewSession(c Credentials, cnonce func() string) *Session {
	return &Session{credentials: c, cnonce: cnonce}
}

// Has reports whether the session answers with the credentials.
func (s *Session) Has(c Credentials) bool { return s != nil && s.credentials == c }

// maxStales bounds the answers to a server that calls every nonce stale.
const maxStales = 1

// Challenge takes the challenges of a 401 or 407 to req and reports whether it is
// worth to send that again: credentials that were refused are not, unless their
// nonce was good before or is called stale.
func (s *Session) Challenge(req *sip.Request, res *sip.Response) bool {
	if s == nil || s.credentials.Username == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for _, f := range []struct {
		name, answer string
		proxy        bool
	}{{"WWW-Authenticate", "Authorization", false}, {"Proxy-Authenticate", "Proxy-Authorization", true}} {
		best := map[string]challenge{}
		for _, v := range header.Values(res, f.name) {
			if c, ok := parse(v); ok && c.rank > best[c.realm].rank {
				best[c.realm] = c
			}
		}
		for _, c := range best {
			sent := ""
			for _, v := range header.Values(req, f.answer) {
				if had, ok := parse(v); ok && had.realm == c.realm {
					sent = had.nonce
				}
			}
			if s.take(c, f.proxy, sent) {
				found = true
			}
		}
	}
	return found
}

// take notes a challenge to a request that was sent with a nonce, empty for none.
func (s *Session) take(c challenge, proxy bool, sent string) bool {
	for _, r := range s.realms {
		if r.realm != c.realm || r.proxy != proxy {
			continue
		}
		if sent != "" && sent != r.nonce {
			return true // another request has brought a newer nonce meanwhile
		}
		again := sent == "" || c.nonce != r.nonce && (r.proven || c.stale && r.stales < maxStales)
		if r.proven {
			r.stales = 0
		}
		if sent != "" {
			r.stales++
		}
		r.challenge, r.count, r.proven = c, 0, false
		return again
	}
	s.realms = append(s.realms, &realm{challenge: c, proxy: proxy})
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
		r.proven, r.stales = r.count > 0, 0
	}
}

// stored is one realm as it is kept with a dialog.
type stored struct {
	Realm     string `json:"realm"`
	Nonce     string `json:"nonce"`
	Opaque    string `json:"opaque,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	QOP       bool   `json:"qop,omitempty"`
	Proxy     bool   `json:"proxy,omitempty"`
	Count     int    `json:"count"`
	Proven    bool   `json:"proven,omitempty"`
}

// skip is how far nonce counts jump when a session is taken over: the last process
// may have used some that it had no time to store.
const skip = 1000

// Marshal is what another process needs to go on; nil when there was no challenge.
// It holds no credentials.
func (s *Session) Marshal() []byte {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.realms) == 0 {
		return nil
	}
	var out []stored
	for _, r := range s.realms {
		out = append(out, stored{r.realm, r.nonce, r.opaque, r.algorithm, r.qop, r.proxy, r.count, r.proven})
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and numbers cannot fail
	}
	return b
}

// Unmarshal takes over what Marshal made. What cannot be read is left out: the
// server will ask again.
func (s *Session) Unmarshal(b []byte) {
	var all []stored
	if s == nil || len(b) == 0 || json.Unmarshal(b, &all) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.realms = nil
	for _, o := range all {
		a, ok := algorithms[strings.ToUpper(algorithmOr(o.Algorithm))]
		if !ok {
			continue
		}
		c := challenge{realm: o.Realm, nonce: o.Nonce, opaque: o.Opaque, algorithm: o.Algorithm, qop: o.QOP, noQOP: !o.QOP, rank: a.rank}
		s.realms = append(s.realms, &realm{challenge: c, proxy: o.Proxy, count: o.Count + skip, proven: o.Proven})
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
