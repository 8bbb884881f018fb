package sip

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/guard"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Config of the SIP network.
type Config struct {
	Listeners []Listener     `yaml:"listeners" help:"addresses to serve SIP on"`
	TLS       TLS            `yaml:"tls" help:"certificates of TLS listeners, and of connections to trunks without certificates of their own"`
	Trunks    []trunk.Config `yaml:"trunks" help:"connections to the operator's network"`
	Routes    []trunk.Route  `yaml:"routes" help:"which calls take which trunks, in the order in which they are asked; calls that none fits go by the trunks' prefixes"`
	DNS       DNS            `yaml:"dns" help:"how names of trunks and peers are resolved (RFC 3263)"`
	Guard     guard.Config   `yaml:"guard" help:"protection from floods, in messages per second of one source"`
	Timers    Timers         `yaml:"timers" help:"protocol timers"`
	UserAgent string         `yaml:"user_agent" help:"User-Agent and Server header; empty for none"`
	// MaxCalls bounds the calls in this process.
	MaxCalls     int `yaml:"max_calls" help:"calls at a time in this process; more are answered with 503, but emergency calls are always taken"`
	RegisterRate int `yaml:"register_rate" help:"numbers registered anew per second after a restart, at most; they are spread over half of their lifetime otherwise"`
	MaxStreams   int `yaml:"max_streams" help:"TCP and TLS connections at a time"`
	// MaxPerSource bounds connections that others opened.
	MaxPerSource int `yaml:"max_streams_per_source" help:"TCP and TLS connections at a time that one address may open"`
}

// TLS of the listeners.
type TLS struct {
	certificate.Config `yaml:",inline"`
	ClientCA           string `yaml:"client_ca" help:"PEM file with the authorities that clients must be certified by; empty: client certificates are not asked for"`
	RequireClient      bool   `yaml:"require_client" help:"refuse connections without a client certificate (mutual TLS)"`
	MinVersion         string `yaml:"min_version" help:"lowest version of TLS: 1.2 or 1.3"`
}

func (t TLS) least() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// DNS of the SIP network.
type DNS struct {
	Servers    []string      `yaml:"servers" help:"recursive name servers, host:port; empty for those of the system, with its hosts file"`
	Timeout    time.Duration `yaml:"timeout" help:"wait for one answer of one server"`
	PreferIPv6 bool          `yaml:"prefer_ipv6" help:"try IPv6 addresses of a name before IPv4"`
}

// Listener is one address to serve.
type Listener struct {
	Network   string `yaml:"network" help:"udp, tcp or tls"`
	Address   string `yaml:"address" help:"ip:port to listen on; port 0 takes a free one"`
	Advertise string `yaml:"advertise" help:"host or host:port for Via and Contact; needed when the address is unspecified (0.0.0.0, ::)"`
}

// Timers of the protocol.
type Timers struct {
	T1 time.Duration `yaml:"t1" help:"round-trip estimate (RFC 3261 17.1.1.1); 64 times it ends an unanswered transaction"`
	T2 time.Duration `yaml:"t2" help:"longest retransmission interval"`
	T4 time.Duration `yaml:"t4" help:"longest life of a message in the network"`
	// Invite bounds an outgoing call's set-up.
	Invite  time.Duration `yaml:"invite" help:"longest set-up of an outgoing call, after which it is cancelled"`
	Attempt time.Duration `yaml:"attempt" help:"wait for any response from one target before the next is tried"`
	Ringing time.Duration `yaml:"ringing" help:"time between repeated ringing responses, so that proxies do not give up"`
	Dial    time.Duration `yaml:"dial" help:"longest connection set-up and name resolution"`
	Idle    time.Duration `yaml:"idle" help:"TCP and TLS connections without traffic are closed after this; 0 keeps them"`
	Message time.Duration `yaml:"message" help:"longest time that one message may take on a TCP or TLS connection"`
	Penalty time.Duration `yaml:"penalty" help:"time for which a target that did not answer is tried last"`
}

// Default listens on 127.0.0.1:5060, UDP and TCP, without a trunk.
func Default() Config {
	return Config{
		Listeners: []Listener{{Network: "udp", Address: "127.0.0.1:5060"}, {Network: "tcp", Address: "127.0.0.1:5060"}},
		Timers: Timers{
			T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second,
			Invite: 3 * time.Minute, Attempt: 3 * time.Second, Ringing: time.Minute,
			Dial: 4 * time.Second, Idle: 10 * time.Minute, Message: 32 * time.Second, Penalty: 30 * time.Second,
		},
		TLS:          TLS{MinVersion: "1.2"},
		DNS:          DNS{Timeout: time.Second},
		Guard:        guard.Default(),
		UserAgent:    "Isthmus",
		MaxCalls:     20000,
		RegisterRate: 100,
		MaxStreams:   4096,
		MaxPerSource: 256,
	}
}

// Validate checks the configuration; errors name the key, relative to sip.
func (c Config) Validate() error {
	for _, f := range []func() error{c.validateListeners, c.validateTLS, c.validateTrunks, c.validateTimers, c.validateRest} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateListeners() error {
	if len(c.Listeners) == 0 {
		return fmt.Errorf("sip.listeners: at least one is needed")
	}
	for i, l := range c.Listeners {
		key := fmt.Sprintf("sip.listeners[%d]", i)
		if l.Network != "udp" && l.Network != "tcp" && l.Network != "tls" {
			return fmt.Errorf("%s.network: %q is not udp, tcp or tls", key, l.Network)
		}
		if l.Network == "tls" && c.TLS.Certificate == "" {
			return fmt.Errorf("sip.tls.certificate: is needed by %s", key)
		}
		a, err := netip.ParseAddrPort(l.Address)
		if err != nil {
			return fmt.Errorf("%s.address: %q is not ip:port", key, l.Address)
		}
		if a.Addr().IsUnspecified() && l.Advertise == "" {
			return fmt.Errorf("%s.advertise: must say how peers reach %s", key, l.Address)
		}
		if l.Advertise != "" && !advertisable(l.Advertise) {
			return fmt.Errorf("%s.advertise: %q is neither a host nor host:port", key, l.Advertise)
		}
	}
	return nil
}

func (c Config) validateTLS() error {
	if c.TLS.MinVersion != "1.2" && c.TLS.MinVersion != "1.3" {
		return fmt.Errorf("sip.tls.min_version: %q is neither 1.2 nor 1.3", c.TLS.MinVersion)
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return fmt.Errorf("sip.tls: certificate and key belong together")
	}
	if c.TLS.RequireClient && c.TLS.ClientCA == "" {
		return fmt.Errorf("sip.tls.require_client: needs client_ca")
	}
	return nil
}

func (c Config) validateTrunks() error {
	names := map[string]bool{}
	for i, t := range c.Trunks {
		key := fmt.Sprintf("sip.trunks[%d]", i)
		t = t.Complete()
		if err := t.Validate(key); err != nil {
			return err
		}
		if names[t.Name] {
			return fmt.Errorf("%s.name: %q is used twice", key, t.Name)
		}
		names[t.Name] = true
		served := t.Transport == "auto"
		for _, l := range c.Listeners {
			served = served || l.Network == t.Transport
		}
		if !served {
			return fmt.Errorf("%s.transport: there is no %s listener in sip.listeners", key, t.Transport)
		}
		if len(t.AllowedNames) > 0 && c.TLS.ClientCA == "" {
			return fmt.Errorf("%s.allowed_names: needs sip.tls.client_ca", key)
		}
	}
	for i, r := range c.Routes {
		if err := r.Validate(fmt.Sprintf("sip.routes[%d]", i), c.Trunks); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateTimers() error {
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"t1", c.Timers.T1}, {"t2", c.Timers.T2}, {"t4", c.Timers.T4}, {"invite", c.Timers.Invite},
		{"attempt", c.Timers.Attempt}, {"ringing", c.Timers.Ringing}, {"dial", c.Timers.Dial},
		{"message", c.Timers.Message}, {"penalty", c.Timers.Penalty}} {
		if d.v <= 0 {
			return fmt.Errorf("sip.timers.%s: must be above 0", d.name)
		}
	}
	if c.Timers.T2 < c.Timers.T1 {
		return fmt.Errorf("sip.timers.t2: must not be below t1")
	}
	if c.Timers.Idle < 0 {
		return fmt.Errorf("sip.timers.idle: must not be negative")
	}
	return nil
}

func (c Config) validateRest() error {
	if c.DNS.Timeout <= 0 {
		return fmt.Errorf("sip.dns.timeout: must be above 0")
	}
	for i, s := range c.DNS.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("sip.dns.servers[%d]: %q is not host:port", i, s)
		}
	}
	if err := c.Guard.Validate("sip.guard"); err != nil {
		return err
	}
	if c.MaxCalls < 1 {
		return fmt.Errorf("sip.max_calls: must be at least 1")
	}
	if c.RegisterRate < 1 {
		return fmt.Errorf("sip.register_rate: must be at least 1")
	}
	if c.MaxStreams < 1 {
		return fmt.Errorf("sip.max_streams: must be at least 1")
	}
	if c.MaxPerSource < 1 {
		return fmt.Errorf("sip.max_streams_per_source: must be at least 1")
	}
	for _, r := range c.UserAgent {
		if r < ' ' || r > '~' {
			return fmt.Errorf("sip.user_agent: only printable ASCII is allowed")
		}
	}
	return nil
}

func advertisable(s string) bool {
	host := s
	if h, _, err := net.SplitHostPort(s); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, r := range host {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-') {
			return false
		}
	}
	return host != ""
}
