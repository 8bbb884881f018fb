package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/auth"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/ladder"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/media"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/notify"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/relay"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

// Config of a control-plane process.
type Config struct {
	HTTP     []Listener     `yaml:"http" help:"Where the APIs, the relay and the message ladder are served."`
	Admin    string         `yaml:"admin" help:"Host and port for health (/healthz, /readyz), metrics (/metrics) and the operator's message ladder (/ladder/stream); empty serves none. It asks for no credentials: keep it internal."`
	Nodes    Nodes          `yaml:"nodes" help:"Media nodes."`
	API      camara.Config  `yaml:"api" help:"The CAMARA APIs."`
	Auth     auth.Config    `yaml:"auth" help:"Access tokens."`
	Calls    gateway.Config `yaml:"calls" help:"Rules of registrations, calls and subscriptions."`
	SIP      sip.Config     `yaml:"sip" help:"The operator's SIP network."`
	Notify   notify.Config  `yaml:"notify" help:"Delivery of events."`
	Relay    relay.Config   `yaml:"relay" help:"The Notification Relay for device applications."`
	Store    store.Config   `yaml:"store" help:"The database."`
	Ladder   ladder.Config  `yaml:"ladder" help:"The live message ladder."`
	Shutdown Shutdown       `yaml:"shutdown" help:"The end of the process."`
}

// Parts of the configuration that programs build for themselves.
type (
	// Trunk is a connection to the operator's SIP network.
	Trunk = trunk.Config
	// Issuer is an authorization server whose tokens are accepted.
	Issuer = auth.Issuer
	// Application may act for numbers with a token of its own.
	Application = gateway.Application
)

// Listener is one address of the APIs.
type Listener struct {
	Address     string `yaml:"address" help:"Host and port to listen on (TCP). Port 0 lets the system choose."`
	Certificate string `yaml:"certificate" help:"File with the certificate chain (PEM); empty serves plaintext: on loopback, or the APIs behind a proxy."`
	Key         string `yaml:"key" help:"File with the key of certificate (PEM)."`
	// mutual: nobody is served without a certificate of ClientCA.
	mutual   bool
	ClientCA string `yaml:"client_ca" help:"File with certificate authorities (PEM): callers' certificates are checked against them. Media nodes must show one then; clients of the APIs may, for tokens bound to it (RFC 8705)."`
}

// Nodes is where media nodes announce themselves, and how they are dealt with.
type Nodes struct {
	Listen       Listener `yaml:"listen" help:"Where media nodes announce themselves. Plaintext only on loopback."`
	media.Config `yaml:",inline"`
}

// Shutdown says how the process ends.
type Shutdown struct {
	KeepCalls bool          `yaml:"keep_calls" help:"Leave calls running for the next process to take over, instead of ending them."`
	Grace     time.Duration `yaml:"grace" help:"How long calls and outstanding events are waited for."`
}

// Default answers the defaults. They lack what only the operator knows: issuers,
// trunks and the secret shared with the media nodes.
func Default() Config {
	c := Config{
		HTTP:     []Listener{{Address: "127.0.0.1:8080"}},
		Admin:    "127.0.0.1:9090",
		Nodes:    Nodes{Listen: Listener{Address: "127.0.0.1:7071"}, Config: media.Default()},
		API:      camara.Default(),
		Auth:     auth.Default(),
		Calls:    gateway.Default(),
		SIP:      sip.Default(),
		Notify:   notify.Default(),
		Relay:    relay.Default(),
		Store:    store.Default(),
		Ladder:   ladder.Default(),
		Shutdown: Shutdown{Grace: 10 * time.Second},
	}
	// What passes through the network is the operator's to see, not the apps'.
	c.Ladder.Enabled = false
	return c
}

// Validate names every key that cannot be used.
func (c Config) Validate() error {
	var errs []error
	part := func(key string, err error) {
		if err != nil {
			errs = append(errs, prefixed(key, err)...)
		}
	}
	if len(c.HTTP) == 0 {
		errs = append(errs, errors.New("http: give at least one listener"))
	}
	for i, l := range c.HTTP {
		part(fmt.Sprintf("http[%d]", i), l.validate())
	}
	if c.Admin != "" {
		part("admin", checkHostPort(c.Admin))
	}
	part("nodes.listen", c.Nodes.Listen.validate())
	part("nodes", c.Nodes.Validate())
	if c.Nodes.Listen.Certificate == "" && !isLoopback(c.Nodes.Listen.Address) {
		errs = append(errs, fmt.Errorf("nodes.listen.certificate: must be given, since %s can be reached from other machines", c.Nodes.Listen.Address))
	}
	if c.Nodes.SharedSecret == "" && c.Nodes.Listen.ClientCA == "" {
		errs = append(errs, errors.New("nodes.shared_secret: give it, or nodes.listen.client_ca for mutual TLS"))
	}
	part("api", c.API.Validate())
	part("auth", c.Auth.Validate())
	part("calls", c.Calls.Validate())
	if err := c.SIP.Validate(); err != nil {
		// Its keys begin with sip already.
		errs = append(errs, err)
	}
	if c.Calls.Emergency && !slices.ContainsFunc(c.SIP.Trunks, func(t Trunk) bool { return t.Emergency }) {
		errs = append(errs, errors.New("calls.emergency: needs a trunk for such calls: set emergency: true on one of sip.trunks"))
	}
	part("notify", c.Notify.Validate())
	part("relay", c.Relay.Validate())
	part("store", c.Store.Validate())
	part("ladder", c.Ladder.Validate())
	if c.Shutdown.Grace < 0 || c.Shutdown.Grace > 10*time.Minute {
		errs = append(errs, fmt.Errorf("shutdown.grace: must be 0 to 10m, is %s", c.Shutdown.Grace))
	}
	return errors.Join(errs...)
}

// prefixed puts a key before each of the joined errors.
func prefixed(key string, err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, prefixed(key, e)...)
		}
		return out
	}
	return []error{fmt.Errorf("%s.%w", key, err)}
}

func (l Listener) validate() error {
	if err := checkHostPort(l.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if (l.Certificate == "") != (l.Key == "") {
		return errors.New("certificate, key: give both or neither")
	}
	if l.ClientCA != "" && l.Certificate == "" {
		return errors.New("client_ca: needs certificate and key")
	}
	return nil
}

func checkHostPort(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%q is not host:port", address)
	}
	return nil
}

// isLoopback reports whether only this machine can reach a listening address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
