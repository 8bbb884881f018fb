package sip

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Config of the SIP network.
type Config struct {
	Listeners []Listener     `yaml:"listeners" help:"addresses to serve SIP on"`
	Trunks    []trunk.Config `yaml:"trunks" help:"connections to the operator's network"`
	Timers    Timers         `yaml:"timers" help:"protocol timers"`
	UserAgent string         `yaml:"user_agent" help:"User-Agent and Server header; empty for none"`
	// MaxCalls bounds the calls in this process.
	MaxCalls   int `yaml:"max_calls" help:"calls at a time in this process; more are answered with 503, but emergency calls are always taken"`
	MaxStreams int `yaml:"max_streams" help:"TCP connections at a time"`
}

// Listener is one address to serve.
type Listener struct {
	Network   string `yaml:"network" help:"udp or tcp"`
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
	Idle    time.Duration `yaml:"idle" help:"TCP connections without traffic are closed after this; 0 keeps them"`
}

// Default listens on 127.0.0.1:5060, UDP and TCP, without a trunk.
func Default() Config {
	return Config{
		Listeners: []Listener{{Network: "udp", Address: "127.0.0.1:5060"}, {Network: "tcp", Address: "127.0.0.1:5060"}},
		Timers: Timers{
			T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second,
			Invite: 3 * time.Minute, Attempt: 3 * time.Second, Ringing: time.Minute,
			Dial: 4 * time.Second, Idle: 10 * time.Minute,
		},
		UserAgent:  "Isthmus",
		MaxCalls:   20000,
		MaxStreams: 4096,
	}
}

// Validate checks the configuration; errors name the key, relative to sip.
func (c Config) Validate() error {
	if len(c.Listeners) == 0 {
		return fmt.Errorf("sip.listeners: at least one is needed")
	}
	for i, l := range c.Listeners {
		key := fmt.Sprintf("sip.listeners[%d]", i)
		if l.Network != "udp" && l.Network != "tcp" {
			return fmt.Errorf("%s.network: %q is not udp or tcp", key, l.Network)
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
		served := false
		for _, l := range c.Listeners {
			served = served || l.Network == t.Transport
		}
		if !served {
			return fmt.Errorf("%s.transport: there is no %s listener in sip.listeners", key, t.Transport)
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"t1", c.Timers.T1}, {"t2", c.Timers.T2}, {"t4", c.Timers.T4}, {"invite", c.Timers.Invite},
		{"attempt", c.Timers.Attempt}, {"ringing", c.Timers.Ringing}, {"dial", c.Timers.Dial}} {
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
	if c.MaxCalls < 1 {
		return fmt.Errorf("sip.max_calls: must be at least 1")
	}
	if c.MaxStreams < 1 {
		return fmt.Errorf("sip.max_streams: must be at least 1")
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
