package certificate

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate/certtest"
)

// shake makes the two ends meet and answers the state of each.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type end struct {
		state tls.ConnectionState
		err   error
	}
	accepted := make(chan end, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			accepted <- end{err: err}
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		err = s.Handshake()
		if err == nil {
			_, err = io.WriteString(s, "x") // the client's certificate is judged after its handshake
		}
		accepted <- end{s.ConnectionState(), err}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tc := tls.Client(c, client)
	err = tc.Handshake()
	if err == nil {
		_, err = io.ReadFull(tc, make([]byte, 1))
	}
	state := tc.ConnectionState()
	c.Close()
	e := <-accepted
	return e.state, state, errors.Join(err, e.err)
}

func open(t *testing.T, cfg Config, server Server, now func() time.Time, log io.Writer) *Store {
	t.Helper()
	s, err := Open(cfg, server, 0, slog.New(slog.NewTextHandler(log, nil)), now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func server(t *testing.T, s *Store) *tls.Config {
	t.Helper()
	c, err := s.Server()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The identity of RFC 5922 7.1 and 7.2, case by case.
func TestServerIdentity(t *testing.T) {
	i := certtest.New(t)
	dir := t.TempDir()
	client := open(t, Config(i.Issue(dir, "client", "client.example")), Server{}, nil, io.Discard)
	for name, c := range map[string]struct {
		names []string
		want  []string
		ok    bool
	}{
		"dns name":                       {[]string{"sbc.example"}, []string{"sbc.example"}, true},
		"in any case":                    {[]string{"SBC.example"}, []string{"sbc.Example."}, true},
		"sip uri":                        {[]string{"sip:carrier.example"}, []string{"carrier.example"}, true},
		"a sip uri hides dns names":      {[]string{"sip:carrier.example", "sbc.example"}, []string{"sbc.example"}, false},
		"a sip uri with a user is none":  {[]string{"sip:joe@carrier.example", "sbc.example"}, []string{"carrier.example"}, false},
		"another scheme is none":         {[]string{"https://carrier.example", "sbc.example"}, []string{"sbc.example"}, true},
		"no wildcard":                    {[]string{"*.carrier.example"}, []string{"sbc.carrier.example"}, false},
		"a wildcard to the letter":       {[]string{"*.carrier.example"}, []string{"*.carrier.example"}, true},
		"address":                        {[]string{"127.0.0.1"}, []string{"127.0.0.1"}, true},
		"IPv6 address":                   {[]string{"::1"}, []string{"[::1]"}, true},
		"one of several that would do":   {[]string{"b.example"}, []string{"a.example", "b.example"}, true},
		"another name":                   {[]string{"a.example"}, []string{"b.example"}, false},
		"the common name does not count": {nil, []string{"server"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config(i.Issue(t.TempDir(), "server", c.names...)), Server{}, nil, io.Discard)
			_, _, err := shake(t, server(t, s), client.Client("", c.want))
			if (err == nil) != c.ok {
				t.Errorf("certificate for %q, wanted %q: %v", c.names, c.want, err)
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		s := open(t, Config(certtest.New(t).Issue(t.TempDir(), "server", "a.example")), Server{}, nil, io.Discard)
		if _, _, err := shake(t, server(t, s), client.Client("", []string{"a.example"})); err == nil {
			t.Error("accepted")
		}
	})
}

func TestClientCertificates(t *testing.T) {
	i := certtest.New(t)
	dir := t.TempDir()
	own := Config(i.Issue(dir, "server", "gw.example"))
	s := open(t, own, Server{ClientCA: own.CA, Require: true}, nil, io.Discard)
	peer := open(t, Config(i.Issue(dir, "peer", "sip:carrier.example")), Server{}, nil, io.Discard)
	state, _, err := shake(t, server(t, s), peer.Client("gw.example", []string{"gw.example"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := Names(state.PeerCertificates[0]); !slices.Equal(got, []string{"carrier.example"}) {
		t.Errorf("the peer's names are %q", got)
	}
	nobody := open(t, Config{CA: own.CA}, Server{}, nil, io.Discard)
	if _, _, err := shake(t, server(t, s), nobody.Client("gw.example", []string{"gw.example"})); err == nil {
		t.Error("a client without certificate was let in")
	}
	stranger := open(t, Config(certtest.New(t).Issue(t.TempDir(), "x", "carrier.example")), Server{}, nil, io.Discard)
	c := stranger.Client("gw.example", []string{"gw.example"})
	c.VerifyConnection = nil
	if _, _, err := shake(t, server(t, s), c); err == nil {
		t.Error("a client of another authority was let in")
	}
	old := peer.Client("gw.example", []string{"gw.example"})
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if _, _, err := shake(t, server(t, s), old); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	old = peer.Client("gw.example", []string{"gw.example"})
	old.MaxVersion = tls.VersionTLS12
	if _, _, err := shake(t, server(t, s), old); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
}

func TestReload(t *testing.T) {
	i := certtest.New(t)
	dir := t.TempDir()
	cfg := Config(i.Issue(dir, "server", "one.example"))
	now := time.Now()
	var log bytes.Buffer
	s := open(t, cfg, Server{}, func() time.Time { return now }, &log)
	accept := server(t, s)
	shown := func() string {
		t.Helper()
		_, client, err := shake(t, accept, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return client.PeerCertificates[0].DNSNames[0]
	}
	change := func(name string) {
		t.Helper()
		i.Issue(dir, "server", name)
		now = now.Add(2 * checkEvery)
		later := now
		for _, f := range []string{cfg.Certificate, cfg.Key} {
			if err := os.Chtimes(f, later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := shown(); got != "one.example" {
		t.Fatalf("shown %s", got)
	}
	change("two.example")
	if got := shown(); got != "two.example" {
		t.Errorf("after the change: %s", got)
	}
	if !s.NotAfter().After(now) {
		t.Error("the end of the certificate is not known")
	}
	if err := os.WriteFile(cfg.Key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkEvery)
	for range 3 {
		if got := shown(); got != "two.example" {
			t.Errorf("after a bad key: %s", got)
		}
		now = now.Add(2 * checkEvery)
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("%d complaints about one bad file:\n%s", n, log.String())
	}
	change("three.example")
	if got := shown(); got != "three.example" {
		t.Errorf("after it was mended: %s", got)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	i := certtest.New(t)
	good := Config(i.Issue(t.TempDir(), "a", "a.example"))
	for want, cfg := range map[string]Config{
		"no such file":       {Certificate: "/nonexistent", Key: good.Key},
		"certificate":        {Certificate: good.Certificate, Key: good.CA},
		"has no certificate": {CA: good.Key},
	} {
		if _, err := Open(cfg, Server{}, 0, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	s, err := Open(Config{}, Server{}, 0, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Server(); err == nil {
		t.Error("a listener without a certificate")
	}
}
