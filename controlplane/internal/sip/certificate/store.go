// Package certificate holds the certificates of SIP over TLS: the gateway's own,
// and the authorities that it believes. Files that changed are read again at the
// next handshake, so a renewed certificate is in use without a restart and without
// a lost connection; files that cannot be used leave the last good ones in place.
//
// A peer's certificate is judged by RFC 5922: its SIP identities are the SIP URIs
// of the subject alternative name, or its DNS names when there is no SIP URI, and
// one of them must be the domain that the request was meant for, to the letter:
// wildcards match nothing but themselves.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Config names the files of one identity.
type Config struct {
	Certificate string `yaml:"certificate" help:"PEM file with the certificate and its chain; read again when it changes"`
	Key         string `yaml:"key" help:"PEM file with the key of certificate"`
	CA          string `yaml:"ca" help:"PEM file with the authorities that servers must be certified by; empty for the system's"`
}

// Server says what is asked of those who connect.
type Server struct {
	// ClientCA names a PEM file; empty believes no client certificate.
	ClientCA string
	// Require a client certificate; otherwise one is asked for.
	Require bool
}

// Store is one identity in service.
type Store struct {
	cfg    Config
	server Server
	least  uint16
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	current *snapshot
	stamps  []stamp
	checked time.Time
	// failed is the state of the files that could not be used, to complain once.
	failed []stamp
}

// snapshot is what the files held at one time.
type snapshot struct {
	pair     *tls.Certificate
	roots    *x509.CertPool // nil for the system's
	accept   *tls.Config    // nil without a certificate
	notAfter time.Time
}

// stamp tells whether a file has changed.
type stamp struct {
	size     int64
	modified time.Time
}

// checkEvery bounds how often the files are looked at.
const checkEvery = time.Second

// Open reads the files. least is the lowest version of TLS, at least 1.2. now may
// be nil.
func Open(cfg Config, server Server, least uint16, log *slog.Logger, now func() time.Time) (*Store, error) {
	if least < tls.VersionTLS12 {
		least = tls.VersionTLS12
	}
	if now == nil {
		now = time.Now
	}
	s := &Store{cfg: cfg, server: server, least: least, log: log, now: now}
	stamps, err := s.stat()
	if err != nil {
		return nil, err
	}
	if s.current, err = s.read(); err != nil {
		return nil, err
	}
	s.stamps, s.checked = stamps, now()
	return s, nil
}

func (s *Store) files() []string {
	return []string{s.cfg.Certificate, s.cfg.Key, s.cfg.CA, s.server.ClientCA}
}

func (s *Store) stat() ([]stamp, error) {
	var out []stamp
	for _, f := range s.files() {
		if f == "" {
			out = append(out, stamp{})
			continue
		}
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		out = append(out, stamp{info.Size(), info.ModTime()})
	}
	return out, nil
}

func (s *Store) read() (*snapshot, error) {
	n := &snapshot{}
	if s.cfg.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.Certificate, s.cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		n.pair, n.notAfter = &pair, pair.Leaf.NotAfter
	}
	var err error
	if n.roots, err = pool("ca", s.cfg.CA); err != nil {
		return nil, err
	}
	if n.pair == nil {
		return n, nil
	}
	n.accept = &tls.Config{MinVersion: s.least, Certificates: []tls.Certificate{*n.pair}}
	if s.server.ClientCA != "" {
		if n.accept.ClientCAs, err = pool("client_ca", s.server.ClientCA); err != nil {
			return nil, err
		}
		n.accept.ClientAuth = tls.VerifyClientCertIfGiven
		if s.server.Require {
			n.accept.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return n, nil
}

func pool(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s has no certificate", key, file)
	}
	return p, nil
}

// get answers what is in force, after a look at the files.
func (s *Store) get() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.checked) < checkEvery {
		return s.current
	}
	s.checked = s.now()
	stamps, err := s.stat()
	if err == nil && same(stamps, s.stamps) {
		s.failed = nil
		return s.current
	}
	if err == nil && s.failed != nil && same(stamps, s.failed) {
		return s.current
	}
	var fresh *snapshot
	if err == nil {
		fresh, err = s.read()
	}
	if err != nil {
		// Certificate and key are two files: between the two writes they do not
		// fit, and the next look finds them changed again.
		s.log.Error("sip: changed certificate files cannot be used, the last ones stay in use", "certificate", s.cfg.Certificate, "error", err)
		s.failed = stamps
		return s.current
	}
	s.current, s.stamps, s.failed = fresh, stamps, nil
	s.log.Info("sip: certificate read again", "certificate", s.cfg.Certificate, "not_after", fresh.notAfter)
	return fresh
}

func same(a, b []stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].size != b[i].size || !a[i].modified.Equal(b[i].modified) {
			return false
		}
	}
	return true
}

// NotAfter is when the certificate in force ends; zero without one.
func (s *Store) NotAfter() time.Time { return s.get().notAfter }

// Server is the configuration of a listener. It needs a certificate.
func (s *Store) Server() (*tls.Config, error) {
	if s.get().accept == nil {
		return nil, errors.New("a certificate and its key are needed to listen with TLS")
	}
	return &tls.Config{MinVersion: s.least, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.get().accept, nil
	}}, nil
}

// Client is the configuration of a connection to a server that must have one of
// the names as its identity; serverName is the name that is asked for (SNI), empty
// for none.
func (s *Store) Client(serverName string, names []string) *tls.Config {
	now := s.get()
	c := &tls.Config{
		MinVersion: s.least, ServerName: serverName,
		// The usual check of host names is not that of RFC 5922: VerifyConnection
		// has the right one, and the chain is verified there too.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verify(state.PeerCertificates, now.roots, names, s.now())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if now.pair == nil {
				return &tls.Certificate{}, nil
			}
			return now.pair, nil
		},
	}
	return c
}
