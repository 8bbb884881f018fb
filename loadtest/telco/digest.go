package telco

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// digestHashes are the algorithms of RFC 7616 and RFC 8760 that the network
// speaks.
var digestHashes = map[string]func() hash.Hash{
	"MD5":     md5.New,
	"SHA-256": sha256.New,
}

// nonces remembers the nonces in use and the highest nonce count seen with
// each.
type nonces struct {
	lifetime time.Duration
	now      func() time.Time

	mu     sync.Mutex
	issued map[string]*nonceUse
}

type nonceUse struct {
	at   time.Time
	last uint64
}

// maxNonces bounds the memory that unanswered challenges take.
const maxNonces = 10000

func (s *nonces) issue() string {
	nonce := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, use := range s.issued {
		if s.now().Sub(use.at) > s.lifetime || len(s.issued) >= maxNonces {
			delete(s.issued, old)
		}
	}
	s.issued[nonce] = &nonceUse{at: s.now()}
	return nonce
}

// use checks that the nonce is fresh and the count new.
func (s *nonces) use(nonce string, count uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	use := s.issued[nonce]
	if use == nil || s.now().Sub(use.at) > s.lifetime || count <= use.last {
		return false
	}
	use.last = count
	return true
}

// verdict is the outcome of checking credentials.
type verdict int

const (
	absent   verdict = iota // no credentials for our realm
	stale                   // good credentials with a used-up nonce
	wrong                   // bad credentials
	verified                // good
)

// digestParams parses a Digest header value.
func digestParams(value string) (map[string]string, bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return nil, false
	}
	params := map[string]string{}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimLeft(rest, ", \t") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, false
		}
		key, after = strings.ToLower(strings.TrimSpace(key)), strings.TrimLeft(after, " ")
		var val strings.Builder
		i := 0
		if strings.HasPrefix(after, `"`) {
			for i = 1; i < len(after) && after[i] != '"'; i++ {
				if after[i] == '\\' && i+1 < len(after) {
					i++
				}
				val.WriteByte(after[i])
			}
			if i >= len(after) {
				return nil, false
			}
			i++
		} else {
			for ; i < len(after) && after[i] != ',' && after[i] != ' '; i++ {
				val.WriteByte(after[i])
			}
		}
		if _, twice := params[key]; twice {
			return nil, false
		}
		params[key] = val.String()
		rest = after[i:]
	}
	return params, true
}

// digestResponse computes the response of RFC 7616 section 3.4.1 with qop auth.
func digestResponse(newHash func() hash.Hash, user, realm, password, method, uri, nonce, nc, cnonce string) string {
	h := func(parts ...string) string {
		sum := newHash()
		sum.Write([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(sum.Sum(nil))
	}
	return h(h(user, realm, password), nonce, nc, cnonce, "auth", h(method, uri))
}

// authenticator checks digest credentials of the network's realm.
type authenticator struct {
	realm      string
	algorithms []string
	nonces     *nonces
}

// check verifies the credentials in the headers called name and returns the
// user name they are for.
func (a *authenticator) check(req *sip.Request, name string, password func(user string) (string, bool)) (verdict, string) {
	for _, header := range req.GetHeaders(name) {
		p, ok := digestParams(header.Value())
		if !ok || p["realm"] != a.realm {
			continue
		}
		algorithm := p["algorithm"]
		if algorithm == "" {
			algorithm = "MD5"
		}
		newHash, known := a.hash(algorithm)
		count, err := strconv.ParseUint(p["nc"], 16, 32)
		secret, member := password(p["username"])
		if !known || !member || err != nil || count == 0 || !strings.EqualFold(p["qop"], "auth") || !sameTarget(req, p["uri"]) {
			return wrong, p["username"]
		}
		want := digestResponse(newHash, p["username"], a.realm, secret, string(req.Method), p["uri"], p["nonce"], p["nc"], p["cnonce"])
		if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(p["response"]))) != 1 {
			return wrong, p["username"]
		}
		if !a.nonces.use(p["nonce"], count) {
			return stale, p["username"]
		}
		return verified, p["username"]
	}
	return absent, ""
}

func (a *authenticator) hash(algorithm string) (func() hash.Hash, bool) {
	for _, offered := range a.algorithms {
		if strings.EqualFold(offered, algorithm) {
			return digestHashes[offered], true
		}
	}
	return nil, false
}

// sameTarget compares the URI that was signed with the Request-URI, without
// their parameters: elements on the way may touch those.
func sameTarget(req *sip.Request, signed string) bool {
	var uri sip.Uri
	if sip.ParseUri(signed, &uri) != nil {
		return false
	}
	target := &req.Recipient
	if target.Raw() != "" || uri.Raw() != "" {
		return target.Raw() == uri.Raw()
	}
	return uri.User == target.User && strings.EqualFold(uri.Host, target.Host) && uri.Port == target.Port
}

// challenge refuses a request with one challenge per algorithm.
func (a *authenticator) challenge(n *Network, req *sip.Request, tx *sip.ServerTx, code int, isStale bool) {
	name := "WWW-Authenticate"
	if code == 407 {
		name = "Proxy-Authenticate"
	}
	nonce := a.nonces.issue()
	var headers []sip.Header
	for _, algorithm := range a.algorithms {
		value := fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"`, a.realm, nonce, algorithm)
		if isStale {
			value += ", stale=true"
		}
		headers = append(headers, sip.NewHeader(name, value))
	}
	n.refuse(req, tx, code, headers...)
}
