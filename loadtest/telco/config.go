package telco

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Config describes a simulated network. Start from Default.
type Config struct {
	Listen           string          `yaml:"listen" help:"host:port of the SIP listener, UDP and TCP; port 0 takes a free one"`
	Advertise        string          `yaml:"advertise" help:"host put into Via, Contact and SDP; needed when listen is a wildcard address"`
	Domain           string          `yaml:"domain" help:"domain of the network, used as realm and in addresses"`
	Gateway          string          `yaml:"gateway" help:"host:port of the gateway's trunk, where calls to subscribers go that have not registered"`
	GatewayTransport string          `yaml:"gateway_transport" help:"transport of calls to the gateway's trunk: udp or tcp"`
	RTPAddress       string          `yaml:"rtp_address" help:"address of RTP sockets; empty takes the host of listen"`
	PortMin          int             `yaml:"port_min" help:"lowest RTP port; 0 with port_max 0 lets the system choose"`
	PortMax          int             `yaml:"port_max" help:"highest RTP port"`
	CountryCode      string          `yaml:"country_code" help:"country code put before local numbers, with a plus sign"`
	Subscribers      []Subscriber    `yaml:"subscribers" help:"subscribers of the network that the gateway serves"`
	Prefixes         []string        `yaml:"prefixes" help:"E.164 prefixes whose numbers are subscribers served by the gateway as well"`
	Numbers          []Number        `yaml:"numbers" help:"further demo numbers, or other scenarios for known ones"`
	Registrar        RegistrarConfig `yaml:"registrar" help:"registrar"`

	RequireRegistration bool `yaml:"require_registration" help:"refuse calls from and to subscribers that are not registered"`
	AuthenticateCalls   bool `yaml:"authenticate_calls" help:"challenge INVITEs of listed subscribers with 407"`
	ReliableProvisional bool `yaml:"reliable_provisional" help:"send 18x responses reliably (RFC 3262) when the caller supports it"`

	RingTime    time.Duration `yaml:"ring_time" help:"how long demo numbers ring before they answer"`
	RingTimeout time.Duration `yaml:"ring_timeout" help:"how long a call may ring before the network gives up"`
	TimeScale   float64       `yaml:"time_scale" help:"factor on the pauses of scenarios; tests set a small one"`

	// Logger receives what happens; nil discards it.
	Logger *slog.Logger `yaml:"-"`
	// Trace, when set, sees every SIP message. It is called from several
	// goroutines and must not block.
	Trace func(direction Direction, remote, message string) `yaml:"-"`
}

// Direction tells Trace which way a message went.
type Direction string

// The two directions, seen from the network.
const (
	Received Direction = "received"
	Sent     Direction = "sent"
)

// Subscriber is a telephone number of the network that the gateway serves.
type Subscriber struct {
	Number   string `yaml:"number" help:"number in E.164 form with a plus sign"`
	Password string `yaml:"password" help:"digest password; empty: registration without authentication"`
}

// RegistrarConfig bounds registrations.
type RegistrarConfig struct {
	Algorithms    []string      `yaml:"algorithms" help:"digest algorithms offered, in order of preference: SHA-256, MD5"`
	MinExpires    time.Duration `yaml:"min_expires" help:"shortest registration accepted; shorter ones get 423"`
	MaxExpires    time.Duration `yaml:"max_expires" help:"longest registration granted"`
	NonceLifetime time.Duration `yaml:"nonce_lifetime" help:"how long a nonce may be used before the answer is stale=true"`
	ServiceRoute  bool          `yaml:"service_route" help:"return a Service-Route (RFC 3608) and echo Path (RFC 3327)"`
}

// Default returns the configuration of the all-in-one's network: a listener on
// a free loopback port, no subscribers and no gateway.
func Default() Config {
	return Config{
		Listen:           "127.0.0.1:0",
		Domain:           "telco.example",
		GatewayTransport: "udp",
		CountryCode:      "+1",
		RingTime:         1500 * time.Millisecond,
		RingTimeout:      3 * time.Minute,
		TimeScale:        1,
		Registrar: RegistrarConfig{
			Algorithms:    []string{"SHA-256", "MD5"},
			MinExpires:    time.Minute,
			MaxExpires:    time.Hour,
			NonceLifetime: 5 * time.Minute,
		},
	}
}

// Validate reports everything that is wrong with the configuration, each
// problem under the name of its key.
func (c Config) Validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	host, _, err := splitHostPort(c.Listen)
	if err != nil {
		bad("listen", "%v", err)
	} else if addr, err := netip.ParseAddr(host); err != nil {
		bad("listen", "%q is not an IP address", host)
	} else if addr.IsUnspecified() && c.Advertise == "" {
		bad("advertise", "is needed because listen %q is a wildcard address", c.Listen)
	}
	if c.Advertise != "" {
		if _, err := netip.ParseAddr(c.Advertise); err != nil {
			bad("advertise", "%q is not an IP address", c.Advertise)
		}
	}
	if c.RTPAddress != "" {
		if _, err := netip.ParseAddr(c.RTPAddress); err != nil {
			bad("rtp_address", "%q is not an IP address", c.RTPAddress)
		}
	}
	if c.Domain == "" || strings.ContainsAny(c.Domain, " \t\r\n\"<>@;") {
		bad("domain", "%q is not a domain name", c.Domain)
	}
	if c.Gateway != "" {
		if _, port, err := splitHostPort(c.Gateway); err != nil {
			bad("gateway", "%v", err)
		} else if port == 0 {
			bad("gateway", "%q has no port", c.Gateway)
		}
	}
	if c.GatewayTransport != "udp" && c.GatewayTransport != "tcp" {
		bad("gateway_transport", "%q is neither udp nor tcp", c.GatewayTransport)
	}
	if c.PortMin != 0 || c.PortMax != 0 {
		if c.PortMin < 1024 || c.PortMax > 65535 || c.PortMax < c.PortMin+1 {
			bad("port_min", "%d to %d is no range of at least two ports between 1024 and 65535", c.PortMin, c.PortMax)
		}
	}
	if !isE164(c.CountryCode + "0000") {
		bad("country_code", "%q is not a plus sign and digits", c.CountryCode)
	}
	for i, s := range c.Subscribers {
		if !isE164(s.Number) {
			bad(fmt.Sprintf("subscribers[%d].number", i), "%q is not an E.164 number with a plus sign", s.Number)
		}
	}
	for i, p := range c.Prefixes {
		if !isE164(p + "0000") {
			bad(fmt.Sprintf("prefixes[%d]", i), "%q is not a plus sign and digits", p)
		}
	}
	for i, n := range c.Numbers {
		if !isE164(n.Number) {
			bad(fmt.Sprintf("numbers[%d].number", i), "%q is not an E.164 number with a plus sign", n.Number)
		}
		if _, ok := scenarios[n.Scenario]; !ok {
			bad(fmt.Sprintf("numbers[%d].scenario", i), "%q is not a scenario; known are %s", n.Scenario, scenarioNames())
		}
	}
	if len(c.Registrar.Algorithms) == 0 {
		bad("registrar.algorithms", "is empty; use SHA-256, MD5 or both")
	}
	for _, a := range c.Registrar.Algorithms {
		if _, ok := digestHashes[a]; !ok {
			bad("registrar.algorithms", "%q is neither SHA-256 nor MD5", a)
		}
	}
	r := c.Registrar
	if r.MinExpires < time.Second || r.MaxExpires < r.MinExpires {
		bad("registrar.min_expires", "%v to %v is no range of whole seconds", r.MinExpires, r.MaxExpires)
	}
	if r.NonceLifetime <= 0 {
		bad("registrar.nonce_lifetime", "%v must be above zero", r.NonceLifetime)
	}
	if c.RingTime < 0 || c.RingTimeout <= 0 {
		bad("ring_timeout", "ring_time %v and ring_timeout %v must not be negative", c.RingTime, c.RingTimeout)
	}
	if c.TimeScale <= 0 {
		bad("time_scale", "%v must be above zero", c.TimeScale)
	}
	return errors.Join(problems...)
}

func splitHostPort(address string) (string, int, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	return host, port, nil
}
