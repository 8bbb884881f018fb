// Package authority makes the certificates of end-to-end tests: a certificate
// authority of the test's own and a certificate for the loopback address.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority with one certificate, good for servers and
// clients.
type Authority struct {
	// CA, Certificate and Key are PEM files.
	CA, Certificate, Key string
	// Pool trusts the authority.
	Pool *x509.CertPool
	// Pair is the server certificate.
	Pair tls.Certificate

	t      testing.TB
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// Issue makes a certificate for the names, with its key, in files of that name; it
// replaces those that there are.
func (a *Authority) Issue(file string, names ...string) (certificate, key string) {
	a.t.Helper()
	a.serial++
	private, cert := newCertificate(a.t, &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: file}, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return writePEM(a.t, a.dir, file+".pem", "CERTIFICATE", cert.Raw), writePEM(a.t, a.dir, file+"-key.pem", "PRIVATE KEY", der)
}

// New makes an authority that lives as long as the test.
func New(t testing.TB) *Authority {
	t.Helper()
	dir := t.TempDir()
	caKey, ca := newCertificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "end-to-end test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	key, server := newCertificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, caKey)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{
		CA:          writePEM(t, dir, "ca.pem", "CERTIFICATE", ca.Raw),
		Certificate: writePEM(t, dir, "server.pem", "CERTIFICATE", server.Raw),
		Key:         writePEM(t, dir, "server-key.pem", "PRIVATE KEY", private),
		Pool:        x509.NewCertPool(),
		Pair:        tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: key, Leaf: server},
		t:           t, dir: dir, cert: ca, key: caKey, serial: 2,
	}
	a.Pool.AddCert(ca)
	return a
}

func newCertificate(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, made
}

func writePEM(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
