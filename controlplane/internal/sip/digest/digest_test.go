package digest

import (
	"strings"
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
		if got := s.Challenge(response(t, c.fields...)); got != c.retry {
			t.Errorf("%s: retry %v", name, got)
			continue
		}
		f := s.Fields("REGISTER", "sip:b")
		if c.retry && (len(f) != 1 || !strings.Contains(f[0].Value(), c.want)) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestAttempts(t *testing.T) {
	s := session()
	if !s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`)) {
		t.Error("the first challenge")
	}
	if s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="2"`)) {
		t.Error("refused credentials are not sent again")
	}
	s = session()
	s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`))
	if !s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="2", stale=TRUE`)) {
		t.Error("a stale nonce")
	}
	if s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="3", stale=true`)) {
		t.Error("stale for ever")
	}
	s.Accepted()
	if !s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="4", stale=true`)) {
		t.Error("after a success everything begins anew")
	}
	if (*Session)(nil).Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`)) || (*Session)(nil).Fields("BYE", "sip:b") != nil {
		t.Error("no account, no answer")
	}
	// Both a proxy and the server want to know.
	s = session()
	s.Challenge(response(t, `WWW-Authenticate: Digest realm="r", nonce="1"`))
	if !s.Challenge(response(t, `Proxy-Authenticate: Digest realm="p", nonce="2"`)) || len(s.Fields("INVITE", "sip:b")) != 2 {
		t.Error("two realms")
	}
}
