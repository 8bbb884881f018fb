// Package kamailio runs Kamailio as the operator's proxy and registrar between
// the gateway and the far end of end-to-end tests.
package kamailio

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

//go:embed kamailio.cfg
var text string

var configuration = template.Must(template.New("kamailio.cfg").Parse(text))

// Config of a proxy.
type Config struct {
	// Port to listen on, UDP and TCP; 0 takes a free one.
	Port int
	// Routes lead numbers to peers.
	Routes []Route
	// Accounts that register and authenticate.
	Accounts []Account
	// Algorithm of the digest, MD5 or SHA-256.
	Algorithm string
	// TLS is served and spoken beside UDP and TCP; nil for neither.
	TLS *TLS
}

// TLS of a proxy: mutual, as both sides of a connection need a certificate of the
// authority.
type TLS struct {
	Port                 int
	Certificate, Key, CA string
}

// Route leads a number, as it stands in Request-URIs, to a peer.
type Route struct {
	Number    string
	Address   string // host:port
	Transport string // udp (empty), tcp or tls
}

// Account of a subscriber.
type Account struct{ User, Password string }

// Domain of the accounts; also the digest realm.
const Domain = "carrier.example"

// Proxy is a running Kamailio.
type Proxy struct {
	*process.Process
	t    testing.TB
	port int
}

// Start runs Kamailio until the test ends; it is skipped when Kamailio is not
// installed.
func Start(t testing.TB, c Config) *Proxy {
	t.Helper()
	path := process.Find(t, "kamailio", "kamailio")
	if c.Port == 0 {
		c.Port = port.Free(t)
	}
	for i, r := range c.Routes {
		if r.Transport == "" {
			c.Routes[i].Transport = "udp"
		}
	}
	dir := t.TempDir()
	var out strings.Builder
	err := configuration.Execute(&out, struct {
		Config
		Address, Domain, Dir string
	}{c, fmt.Sprintf("127.0.0.1:%d", c.Port), Domain, dir})
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS != nil {
		profile := fmt.Sprintf("method = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\nprivate_key = %s\ncertificate = %s\nca_list = %s\n",
			c.TLS.Key, c.TLS.Certificate, c.TLS.CA)
		if err := os.WriteFile(filepath.Join(dir, "tls.cfg"), []byte("[server:default]\n"+profile+"\n[client:default]\n"+profile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, port: c.Port}
	p.Process = process.Start(t, process.Config{
		Name: "kamailio", Path: path, Dir: dir,
		Args: []string{"-f", file, "-DD", "-E", "-m", "32", "-M", "4", "-Y", dir, "-w", dir, "-P", filepath.Join(dir, "pid")},
	})
	if err := p.ping(20 * time.Second); err != nil {
		t.Fatalf("kamailio does not answer: %v", err)
	}
	return p
}

// Address of the proxy, host:port.
func (p *Proxy) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// AwaitLog waits until the proxy has logged the text.
func (p *Proxy) AwaitLog(within time.Duration, text string) {
	p.t.Helper()
	p.AwaitOutput(within, text)
}

func (p *Proxy) ping(within time.Duration) error {
	return condition.Until(within, func() error {
		if !p.Running() {
			return nil // the next step of the test will say so
		}
		return options(p.Address())
	})
}

var errSilent = errors.New("no answer to OPTIONS")
