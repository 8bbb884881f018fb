package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
)

// Who announces media nodes must show a certificate; who uses the APIs may.
func TestClientCertificates(t *testing.T) {
	ours, stranger := authority.New(t), authority.New(t)
	pem, err := os.ReadFile(ours.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	with := func(a *authority.Authority) []tls.Certificate {
		pair, err := tls.LoadX509KeyPair(a.Certificate, a.Key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	for _, c := range []struct {
		name         string
		mutual       bool
		certificates []tls.Certificate
		served       bool
	}{
		{"nodes, ours", true, with(ours), true},
		{"nodes, none", true, nil, false},
		{"nodes, a stranger's", true, with(stranger), false},
		{"apis, ours", false, with(ours), true},
		{"apis, none", false, nil, true},
		{"apis, a stranger's", false, with(stranger), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := Listener{Address: "127.0.0.1:0", Certificate: ours.Certificate, Key: ours.Key, ClientCA: ours.CA, mutual: c.mutual}
			s, err := listen(l, "http[0]", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.run(ctx) }()
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: c.certificates}}
			res, err := (&http.Client{Transport: transport}).Get("https://" + s.Listener.Addr().String())
			if served := err == nil && res.StatusCode == http.StatusOK; served != c.served {
				t.Errorf("served: %v, %v", served, err)
			}
			if err == nil {
				res.Body.Close()
			}
			transport.CloseIdleConnections()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestATakenPortNamesItsKey(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	s, err := listen(Listener{Address: "127.0.0.1:0"}, "http[0]", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Listener.Close()
	_, err = listen(Listener{Address: s.Listener.Addr().String()}, "nodes.listen", nil, log)
	if err == nil || !strings.HasPrefix(err.Error(), "nodes.listen.address: ") {
		t.Fatalf("error %v", err)
	}
}
