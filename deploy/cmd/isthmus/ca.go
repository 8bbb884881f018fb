package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Files of the local certificate authority in the data directory.
const (
	caFile      = "ca.pem"
	caKeyFile   = "ca-key.pem"
	certFile    = "server.pem"
	certKeyFile = "server-key.pem"
)

// localCA makes sure that the data directory has a certificate authority and a
// certificate of it for this machine's names, and makes what is missing or stale.
func localCA(dir string) error {
	ca, caKey, err := loadPair(filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		ca, caKey, err = makeCertificate(dir, caFile, caKeyFile, &x509.Certificate{
			Subject: pkix.Name{CommonName: "Isthmus local CA"}, NotAfter: time.Now().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}, nil, nil)
	}
	if err != nil {
		return fmt.Errorf("local certificate authority: %w", err)
	}
	names, addresses := []string{"localhost"}, localAddresses()
	have, _, err := loadPair(filepath.Join(dir, certFile), filepath.Join(dir, certKeyFile))
	if err == nil && time.Until(have.NotAfter) > 24*time.Hour && covers(have, addresses) && have.CheckSignatureFrom(ca) == nil {
		return nil
	}
	_, _, err = makeCertificate(dir, certFile, certKeyFile, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Isthmus"}, NotAfter: time.Now().AddDate(1, 0, 0),
		DNSNames: names, IPAddresses: addresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	if err != nil {
		return fmt.Errorf("certificate of this machine: %w", err)
	}
	return nil
}

// localAddresses are those by which this machine may be called.
func localAddresses() []net.IP {
	out := []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.IsGlobalUnicast() && !slices.ContainsFunc(out, n.IP.Equal) {
			out = append(out, n.IP)
		}
	}
	return out
}

func covers(c *x509.Certificate, addresses []net.IP) bool {
	for _, a := range addresses {
		if !slices.ContainsFunc(c.IPAddresses, a.Equal) {
			return false
		}
	}
	return true
}

// makeCertificate signs a certificate with the parent, or with its own key when
// there is none, and writes both files.
func makeCertificate(dir, certName, keyName string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	if err := writePEM(filepath.Join(dir, keyName), "PRIVATE KEY", private, 0o600); err != nil {
		return nil, nil, err
	}
	if err := writePEM(filepath.Join(dir, certName), "CERTIFICATE", der, 0o644); err != nil {
		return nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	return made, key, err
}

func writePEM(name, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func loadPair(certName, keyName string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certDER, err := readPEM(certName)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := readPEM(keyName)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certName, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", keyName, err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s: is no ECDSA key", keyName)
	}
	return cert, private, nil
}

func readPEM(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: is no PEM file", name)
	}
	return block.Bytes, nil
}
