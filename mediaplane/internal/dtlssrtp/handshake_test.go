package dtlssrtp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func certificate(t *testing.T) (tls.Certificate, Fingerprint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, Fingerprint{"sha-256", sum[:]}
}

type outcome struct {
	keys srtp.Keys
	err  error
}

// connect runs a handshake between two ends over a network that loses every
// packet for which lose answers true.
func connect(t *testing.T, client, server Config, lose func(n int64) bool) (a, b outcome) {
	t.Helper()
	var sent atomic.Int64
	var toClient, toServer atomic.Pointer[Handshake]
	deliver := func(to *atomic.Pointer[Handshake]) func([]byte) error {
		return func(p []byte) error {
			if h := to.Load(); h != nil && !lose(sent.Add(1)) {
				h.Push(p)
			}
			return nil
		}
	}
	results := [2]chan outcome{make(chan outcome, 1), make(chan outcome, 1)}
	client.Client = true
	s, err := Start(server, deliver(&toClient), func(k srtp.Keys, err error) { results[1] <- outcome{k, err} })
	if err != nil {
		t.Fatal(err)
	}
	toServer.Store(s)
	c, err := Start(client, deliver(&toServer), func(k srtp.Keys, err error) { results[0] <- outcome{k, err} })
	if err != nil {
		t.Fatal(err)
	}
	toClient.Store(c)
	a, b = <-results[0], <-results[1]
	for _, h := range []*Handshake{c, s} {
		h.Close()
		h.Wait()
	}
	return a, b
}

func TestHandshake(t *testing.T) {
	clientCert, clientPrint := certificate(t)
	serverCert, serverPrint := certificate(t)
	_, strange := certificate(t)
	config := func(c tls.Certificate, want Fingerprint, profiles ...srtp.Profile) Config {
		return Config{Certificate: c, Fingerprints: []Fingerprint{want}, Profiles: profiles, Timeout: 10 * time.Second}
	}
	never := func(int64) bool { return false }
	for _, c := range []struct {
		name   string
		client []srtp.Profile
		server []srtp.Profile
		lose   func(int64) bool
		want   srtp.Profile
	}{
		{"the server's order counts", []srtp.Profile{srtp.AES128CMSHA1, srtp.AES128GCM}, []srtp.Profile{srtp.AES128GCM, srtp.AES128CMSHA1}, never, srtp.AES128GCM},
		{"the one in common", []srtp.Profile{srtp.AES256GCM, srtp.AES128CMSHA1}, []srtp.Profile{srtp.AES128GCM, srtp.AES128CMSHA1}, never, srtp.AES128CMSHA1},
		{"with loss", Profiles(), Profiles(), func(n int64) bool { return n%4 == 1 }, srtp.AES128GCM},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := connect(t, config(clientCert, serverPrint, c.client...), config(serverCert, clientPrint, c.server...), c.lose)
			if a.err != nil || b.err != nil {
				t.Fatalf("client %v, server %v", a.err, b.err)
			}
			if a.keys.Profile != c.want || b.keys.Profile != c.want {
				t.Errorf("profiles %s and %s, want %s", a.keys.Profile, b.keys.Profile, c.want)
			}
			if !bytes.Equal(a.keys.Local, b.keys.Remote) || !bytes.Equal(a.keys.Remote, b.keys.Local) || bytes.Equal(a.keys.Local, a.keys.Remote) {
				t.Error("the keys of the two ends do not fit")
			}
			if err := a.keys.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
	short := func(c Config) Config { c.Timeout = 2 * time.Second; return c }
	t.Run("the client's certificate is not the one described", func(t *testing.T) {
		_, b := connect(t, short(config(clientCert, serverPrint, Profiles()...)), config(serverCert, strange, Profiles()...), never)
		if !errors.Is(b.err, ErrFingerprint) {
			t.Errorf("server: %v", b.err)
		}
	})
	t.Run("the server's certificate is not the one described", func(t *testing.T) {
		a, _ := connect(t, config(clientCert, strange, Profiles()...), short(config(serverCert, clientPrint, Profiles()...)), never)
		if !errors.Is(a.err, ErrFingerprint) {
			t.Errorf("client: %v", a.err)
		}
	})
	t.Run("no profile in common", func(t *testing.T) {
		a, b := connect(t, short(config(clientCert, serverPrint, srtp.AES128GCM)), short(config(serverCert, clientPrint, srtp.AES256GCM)), never)
		if a.err == nil || b.err == nil {
			t.Errorf("client %v, server %v", a.err, b.err)
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	cert, print := certificate(t)
	result := make(chan error, 1)
	h, err := Start(Config{Client: true, Certificate: cert, Fingerprints: []Fingerprint{print}, Profiles: Profiles(), Timeout: 50 * time.Millisecond},
		func([]byte) error { return nil }, func(_ srtp.Keys, err error) { result <- err })
	if err != nil {
		t.Fatal(err)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("%v", err)
	}
	h.Wait()
}

func TestHandshakeClosed(t *testing.T) {
	cert, print := certificate(t)
	h, err := Start(Config{Client: true, Certificate: cert, Fingerprints: []Fingerprint{print}, Profiles: Profiles(), Timeout: time.Minute},
		func([]byte) error { return nil }, func(srtp.Keys, error) { t.Error("done was called") })
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	h.Close()
	h.Wait()
}
