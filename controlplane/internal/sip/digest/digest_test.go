package digest

import (
	"strings"
	"sync"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// The vectors are those of RFC 7616 3.9.1, with the method and URI of HTTP.
func TestAnswerVectors(t *testing.T) {
	cred := Credentials{Username: "Mufasa", Password: "Circle of Life"}
	for algorithm, want := range map[string]string{
		"MD5":     "8ca523f5e9506fed4657c9700eebdbec",
		"SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		c := challenge{realm: "http-auth@example.org", nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
			opaque: "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", algorithm: algorithm, qop: true}
		got := answer(c, cred, "GET", "/dir/index.html", 1, "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
		if !strings.Contains(got, `response="`+want+`"`) || !strings.Contains(got, "nc=00000001") || !strings.Contains(got, `opaque="FQhe`) {
			t.Errorf("%s: %s", algorithm, got)
		}
	}
	// RFC 2617 without qop, RFC 2069's formula.
	got := answer(challenge{realm: "testrealm@host.com", nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093", noQOP: true},
		Credentials{Username: "Mufasa", Password: "Circle Of Life"}, "GET", "/dir/index.html", 1, "x")
	if !strings.Contains(got, `response="670fd8c2df070c60b045671b8b24ff02"`) {
		t.Errorf("without qop: %s", got)
	}
}

func response(t *testing.T, fields ...string) *sip.Response {
	t.Helper()
	m, err := sip.ParseMessage([]byte("SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n" +
		strings.Join(fields, "\r\n") + "\r\nContent-Length: 0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Response)
}

func session() *Session {
	return NewSession(Credentials{Username: `u"x`, Password: "p"}, func() string { return "cn" })
}

func TestChoice(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		retry  bool
		want   string
	}{
		"strongest":        {[]string{`WWW-Authenticate: Digest realm="r", nonce="a", algorithm=SHA-256, qop="auth"`, `WWW-Authenticate: Digest realm="r", nonce="b", algorithm=MD5`}, true, "algorithm=SHA-256"},
		"unknown left out": {[]string{`WWW-Authenticate: Digest realm="r", nonce="a", algorithm=AKAv1-MD5`, `WWW-Authenticate: Digest realm="r", nonce="b"`}, true, `nonce="b"`},
		"only unknown":     {[]string{`WWW-Authenticate: Digest realm="r", nonce="a", algorithm=X`}, false, ""},
		"auth-int only":    {[]string{`WWW-Authenticate: Digest realm="r", nonce="a", qop="auth-int"`}, false, ""},
		"other scheme":     {[]string{`WWW-Authenticate: Basic realm="r"`}, false, ""},
		"none":             {[]string{`X: y`}, false, ""},
		"comma in realm":   {[]string{`WWW-Authenticate: Digest realm="a, b", nonce="c\"d"`}, true, `realm="a, b", nonce="c\"d"`},
		"user quoted":      {[]string{`WWW-Authenticate: Digest realm="r", nonce="a"`}, true, `username="u\"x"`},
	} {
		s := session()
		if got := s.Challenge(request(""), response(t, c.fields...)); got != c.retry {
			t.Errorf("%s: retry %v", name, got)
			continue
		}
		f := s.Fields("REGISTER", "sip:b")
		if c.retry && (len(f) != 1 || !strings.Contains(f[0].Value(), c.want)) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// request that carries credentials for a nonce, or none.
func request(nonce string) *sip.Request {
	r := sip.NewRequest(sip.INVITE, sip.Uri{Host: "b"})
	if nonce != "" {
		r.AppendHeader(sip.NewHeader("Authorization", `Digest username="u", realm="r", nonce="`+nonce+`", uri="sip:b", response="x"`))
	}
	return r
}

func TestAttempts(t *testing.T) {
	type challenge struct {
		sent, nonce, more string
		retry             bool
	}
	const passed = "passed"
	for name, steps := range map[string][]challenge{
		"refused credentials are not sent again":       {{"", "1", "", true}, {"1", "2", "", false}},
		"the same nonce again":                         {{"", "1", "", true}, {"1", "1", ", stale=true", false}},
		"a stale nonce, once":                          {{"", "1", "", true}, {"1", "2", ", stale=TRUE", true}, {"2", "3", ", stale=true", false}},
		"a success in between":                         {{"", "1", "", true}, {"1", "2", ", stale=true", true}, {sent: passed}, {"2", "3", ", stale=true", true}},
		"a nonce that was good, not called stale":      {{"", "1", "", true}, {sent: passed}, {"1", "2", "", true}, {"2", "3", "", false}},
		"two requests at once, before any credentials": {{"", "1", "", true}, {"", "2", "", true}},
		"two requests at once, with an old nonce":      {{"", "1", "", true}, {sent: passed}, {"1", "2", ", stale=true", true}, {"1", "3", ", stale=true", true}},
	} {
		s := session()
		for i, c := range steps {
			if c.sent == passed {
				s.Fields("INVITE", "sip:b")
				s.Accepted()
				continue
			}
			got := s.Challenge(request(c.sent), response(t, `WWW-Authenticate: Digest realm="r", nonce="`+c.nonce+`"`+c.more))
			if got != c.retry {
				t.Errorf("%s: challenge %d is worth another try: %t", name, i+1, got)
			}
		}
	}
	none := (*Session)(nil)
	if none.Challenge(request(""), response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`)) || none.Fields("BYE", "sip:b") != nil || none.Marshal() != nil {
		t.Error("no account, no answer")
	}
	// Both a proxy and the server want to know.
	s := session()
	s.Challenge(request(""), response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`))
	if !s.Challenge(request("1"), response(t, `Proxy-Authenticate: Digest realm="p", nonce="2"`)) || len(s.Fields("INVITE", "sip:b")) != 2 {
		t.Error("two realms")
	}
}

// A session goes on in another process: same nonces, counts that were not used.
func TestTakenOver(t *testing.T) {
	s := session()
	s.Challenge(request(""), response(t, `WWW-Authenticate: Digest realm="r", nonce="1", opaque="o", algorithm=SHA-256, qop="auth"`,
		`Proxy-Authenticate: Digest realm="p", nonce="2"`))
	s.Fields("INVITE", "sip:b")
	s.Accepted()
	next := session()
	next.Unmarshal(s.Marshal())
	f := next.Fields("BYE", "sip:b")
	if len(f) != 2 || !strings.Contains(f[0].Value(), `nonce="1"`) || !strings.Contains(f[0].Value(), "nc=000003ea") ||
		!strings.Contains(f[0].Value(), `opaque="o"`) || f[1].Name() != "Proxy-Authorization" {
		t.Errorf("went on with %v", f)
	}
	if !next.Challenge(request("1"), response(t, `WWW-Authenticate: Digest realm="r", nonce="3"`)) {
		t.Error("a nonce that was good before may run out")
	}
	next.Unmarshal([]byte("spoiled"))
	if len(next.Fields("BYE", "sip:b")) != 2 {
		t.Error("what cannot be read took away what there was")
	}
}

// No nonce count is used twice, whoever asks at the same time: a server takes the
// second for a replay.
func TestNonceCounts(t *testing.T) {
	s := NewSession(Credentials{Username: "u", Password: "p"}, func() string { return "c" })
	req := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: "r.example"})
	if !s.Challenge(req, response(t, `WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"`)) {
		t.Fatal("the challenge was not taken")
	}
	const many = 200
	counts := make(chan string, many)
	var group sync.WaitGroup
	for range many {
		group.Go(func() {
			_, rest, _ := strings.Cut(s.Fields("BYE", "sip:x@y")[0].Value(), "nc=")
			count, _, _ := strings.Cut(rest, ",")
			counts <- count
		})
	}
	group.Wait()
	close(counts)
	seen := map[string]bool{}
	for c := range counts {
		if seen[c] || len(c) != 8 {
			t.Errorf("nc=%s is used twice, or has not eight digits", c)
		}
		seen[c] = true
	}
}
