// Package trunk knows the operator's side: the trunks of the configuration, which
// one a call takes and who may send calls, and how numbers, identities and
// privacy are written on each (RFC 3261, 3323, 3325, 3966). It is pure.
package trunk

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// Config of one trunk.
type Config struct {
	Name    string   `yaml:"name" help:"name of the trunk in logs and metrics; unique"`
	Tenant  string   `yaml:"tenant" help:"tenant that incoming calls of this trunk belong to"`
	Label   string   `yaml:"label" help:"free text that tells people what the trunk is for; routes may name all trunks of a label by it"`
	Mode    string   `yaml:"mode" help:"trunk: all numbers are routed to the gateway; register: each number registers with its own account"`
	Targets []string `yaml:"targets" help:"where requests go, in the order of preference: host:port, an address, or a domain whose SRV records say where (RFC 3263); in mode register the outbound proxies, empty for the registrar"`
	// Transport of requests that open a dialog.
	Transport string `yaml:"transport" help:"udp, tcp, tls, or auto: what the NAPTR and SRV records of the targets prefer"`
	Domain    string `yaml:"domain" help:"host part of the Request-URI, From and To of calls and registrations"`
	Registrar string `yaml:"registrar" help:"mode register: where REGISTER goes, written as targets are; empty for the first target"`
	TLS       TLS    `yaml:"tls" help:"certificates of this trunk"`
	SIPS      bool   `yaml:"sips" help:"address calls with sips URIs: TLS on every hop (RFC 5630)"`
	// LargeRequests is RFC 3261 18.1.1.
	LargeRequests string        `yaml:"large_requests" help:"requests above 1300 bytes on a UDP trunk: tcp (where the target refuses it: UDP again) or udp"`
	KeepAlive     time.Duration `yaml:"keep_alive" help:"time between keep-alives (RFC 5626: CRLF by UDP and on connections that the gateway opened); 0 for none"`
	// Credentials by number, in E.164 form; the key * stands for all others.
	Credentials map[string]Credentials `yaml:"credentials" help:"digest accounts by number (+E164); the key * serves all numbers without one"`
	// AllowedPeers are addresses or prefixes.
	AllowedPeers []string `yaml:"allowed_peers" help:"addresses or prefixes (CIDR) that may send calls on this trunk; empty: those of targets and registrar"`
	AllowedNames []string `yaml:"allowed_names" help:"names, one of which the TLS certificate of a peer that sends calls must prove (RFC 5922); allowed_peers counts beside it only when it is given"`
	Limits       Limits   `yaml:"limits" help:"how much the trunk carries"`
	Prefixes     []string `yaml:"prefixes" help:"number prefixes (+49, +4930, empty string for all) whose calls take this trunk; the longest wins, the others follow when it fails"`
	Numbers      string   `yaml:"numbers" help:"how E.164 numbers are written in SIP URIs: plus (+15550100) or digits (15550100)"`
	Rewrite      Rewrite  `yaml:"rewrite" help:"number formats of the trunk that numbers cannot express"`
	CalleeFrom   string   `yaml:"callee_from" help:"where an incoming call names the called party: request_uri or to"`
	Identity     string   `yaml:"identity" help:"how the caller is named to the trunk: asserted (P-Asserted-Identity), preferred (P-Preferred-Identity) or none; empty: asserted in mode trunk, preferred in mode register"`
	IdentityTel  bool     `yaml:"identity_tel" help:"assert a tel URI beside the SIP URI"`
	Trusted      bool     `yaml:"trusted" help:"believe P-Asserted-Identity of incoming calls (RFC 3325); otherwise From counts"`
	Privacy      string   `yaml:"privacy" help:"privacy of anonymous calls: id (Privacy: id, From anonymous) or none (refuse anonymous calls)"`
	Reliable     string   `yaml:"reliable" help:"100rel: off, supported or required"`
	// SessionExpires is rounded down to seconds.
	SessionExpires time.Duration `yaml:"session_expires" help:"session timer to propose (RFC 4028), at least 90s; 0 for none"`
	MinSE          time.Duration `yaml:"min_se" help:"shortest session timer to accept, at least 90s"`
	Digits         string        `yaml:"digits" help:"INFO body for digits when telephone-event is not negotiated: dtmf-relay or dtmf"`
	DeclineCode    int           `yaml:"decline_code" help:"status for calls that the user declines: 603 or 486"`
	FollowRedirect bool          `yaml:"follow_redirects" help:"follow 3xx responses; otherwise they fail the call"`
	FollowRefer    bool          `yaml:"follow_refer" help:"let the far end hand a call over to another party (REFER); otherwise that is refused with 405"`
	OptionsPing    time.Duration `yaml:"options_ping" help:"time between OPTIONS to each target; 0 for none"`
	PingMisses     int           `yaml:"ping_misses" help:"unanswered OPTIONS after which a target is used last"`
	Expires        time.Duration `yaml:"expires" help:"mode register: lifetime to ask for"`
	Outbound       bool          `yaml:"outbound" help:"mode register: name the gateway's instance and flow in Contact (RFC 5626)"`
	RegEvent       bool          `yaml:"reg_event" help:"mode register: subscribe to the registrar's reg event (RFC 3680) also if it does not offer it by Allow-Events"`
	Emergency      bool          `yaml:"emergency" help:"emergency calls (urn:service:sos) take this trunk, and no other"`
	Location       string        `yaml:"location" help:"calls that carry their caller's location, when it is known (RFC 6442): never, emergency or always"`
	EarlyMedia     string        `yaml:"early_media" help:"media before the answer: any (what P-Early-Media of a trusted trunk does not forbid) or authorized (only what it allows)"`
	Preconditions  string        `yaml:"preconditions" help:"quality-of-service preconditions (RFC 3312): refuse (420 or 580 when they are mandatory) or met (declare this side's reservation done)"`
	Charging       bool          `yaml:"charging_vector" help:"send P-Charging-Vector with a charging identity of the gateway's own (RFC 7315)"`
	AccessNetwork  string        `yaml:"access_network" help:"P-Access-Network-Info of calls and registrations, for instance IEEE-802.11; empty for none"`
	VisitedNetwork string        `yaml:"visited_network" help:"P-Visited-Network-ID of calls and registrations; empty for none"`
	// Media of its calls.
	Media MediaConfig `yaml:"media" help:"what the trunk wants of the media of its calls"`
	// ResourcePriority is one r-value of RFC 4412.
	ResourcePriority string `yaml:"resource_priority" help:"Resource-Priority of emergency calls, for instance esnet.0 (RFC 7135); empty for none"`
}

// TLS of one trunk.
type TLS struct {
	certificate.Config `yaml:",inline"`
	ServerName         string `yaml:"server_name" help:"identity that the certificate of the trunk's servers must have; empty for the target's host or the domain"`
}

// Own reports whether the trunk has certificates of its own.
func (t TLS) Own() bool { return t.Config != certificate.Config{} }

// Limits of a trunk; emergency calls count but are never refused.
type Limits struct {
	Calls int `yaml:"calls" help:"calls at a time, both directions, in this process; 0 for any number"`
	// Rate is per second; the bucket holds Burst.
	Rate  float64 `yaml:"rate" help:"new calls per second, both directions, in this process; 0 for any number"`
	Burst int     `yaml:"burst" help:"new calls at once above the rate; 0 for one second's"`
}

// Credentials of an account.
type Credentials struct {
	Username string `yaml:"username" help:"digest user name"`
	Password string `yaml:"password" help:"digest password" secret:"true"`
}

// Modes, and other words of the configuration.
const (
	ModeTrunk    = "trunk"
	ModeRegister = "register"

	LocationNever     = "never"
	LocationEmergency = "emergency"
	LocationAlways    = "always"

	PreconditionsRefuse = "refuse"
	PreconditionsMet    = "met"

	EarlyMediaAny        = "any"
	EarlyMediaAuthorized = "authorized"
)

// Default is a trunk to which only name, domain and targets need to be added.
func Default() Config {
	return Config{
		Name: "default", Tenant: call.DefaultTenant, Mode: ModeTrunk, Transport: "udp",
		Prefixes: []string{""}, Numbers: "plus", CalleeFrom: "request_uri",
		Trusted: true, Privacy: "id", Reliable: "supported",
		SessionExpires: 30 * time.Minute, MinSE: 90 * time.Second, Digits: "dtmf-relay",
		DeclineCode: 603, PingMisses: 3, Expires: time.Hour, Location: LocationEmergency, Media: defaultMedia(),
		EarlyMedia: EarlyMediaAny, Preconditions: PreconditionsRefuse, Charging: true, Outbound: true,
		LargeRequests: "tcp",
	}
}

// UnmarshalYAML begins with the defaults, so that a key that is left out has its
// default also where that is not the zero value.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Config
	p := plain(Default())
	if err := unmarshal(&p); err != nil {
		return err
	}
	*c = Config(p)
	return nil
}

// Complete fills the keys of a trunk that are empty and depend on others, or may
// not be empty.
func (c Config) Complete() Config {
	d := Default()
	str := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	str(&c.Tenant, d.Tenant)
	str(&c.Mode, d.Mode)
	str(&c.Transport, d.Transport)
	str(&c.Numbers, d.Numbers)
	str(&c.CalleeFrom, d.CalleeFrom)
	str(&c.Privacy, d.Privacy)
	str(&c.Reliable, d.Reliable)
	str(&c.Digits, d.Digits)
	str(&c.Location, d.Location)
	str(&c.Media.SRTP, d.Media.SRTP)
	str(&c.Media.RTCP, d.Media.RTCP)
	str(&c.Media.Ringback, d.Media.Ringback)
	str(&c.Media.RingbackTone, d.Media.RingbackTone)
	str(&c.Media.AddressFamily, d.Media.AddressFamily)
	str(&c.EarlyMedia, d.EarlyMedia)
	str(&c.LargeRequests, d.LargeRequests)
	str(&c.Preconditions, d.Preconditions)
	if c.Identity == "" {
		c.Identity = "asserted"
		if c.Mode == ModeRegister {
			c.Identity = "preferred"
		}
	}
	if c.Prefixes == nil {
		c.Prefixes = d.Prefixes
	}
	if c.MinSE == 0 {
		c.MinSE = d.MinSE
	}
	if c.DeclineCode == 0 {
		c.DeclineCode = d.DeclineCode
	}
	if c.PingMisses == 0 {
		c.PingMisses = d.PingMisses
	}
	if c.Expires == 0 {
		c.Expires = d.Expires
	}
	if c.Registrar == "" && len(c.Targets) > 0 {
		c.Registrar = c.Targets[0]
	}
	if len(c.Targets) == 0 && c.Registrar != "" {
		c.Targets = []string{c.Registrar}
	}
	if c.Domain == "" && len(c.Targets) > 0 {
		if t, err := ParseTarget(c.Targets[0]); err == nil {
			c.Domain = t.uriHost()
		}
	}
	return c
}

// Validate checks a completed trunk; key is its place in the configuration.
func (c Config) Validate(key string) error {
	bad := func(name, format string, args ...any) error {
		return fmt.Errorf("%s.%s: %s", key, name, fmt.Sprintf(format, args...))
	}
	oneOf := func(name, v string, allowed ...string) error {
		if !slices.Contains(allowed, v) {
			return bad(name, "%q is not one of %s", v, strings.Join(allowed, ", "))
		}
		return nil
	}
	fieldText := func(name, v string) error {
		if v != header.Printable(v) {
			return bad(name, "%q cannot stand in a header field", v)
		}
		return nil
	}
	if c.Name == "" {
		return bad("name", "must not be empty")
	}
	for _, e := range []error{
		oneOf("mode", c.Mode, ModeTrunk, ModeRegister),
		oneOf("transport", c.Transport, "udp", "tcp", "tls", "auto"),
		oneOf("large_requests", c.LargeRequests, "tcp", "udp"),
		oneOf("numbers", c.Numbers, "plus", "digits"),
		oneOf("callee_from", c.CalleeFrom, "request_uri", "to"),
		oneOf("identity", c.Identity, "asserted", "preferred", "none"),
		oneOf("privacy", c.Privacy, "id", "none"),
		oneOf("reliable", c.Reliable, "off", "supported", "required"),
		oneOf("digits", c.Digits, "dtmf-relay", "dtmf"),
		oneOf("early_media", c.EarlyMedia, EarlyMediaAny, EarlyMediaAuthorized),
		oneOf("preconditions", c.Preconditions, PreconditionsRefuse, PreconditionsMet),
		fieldText("access_network", c.AccessNetwork),
		fieldText("visited_network", c.VisitedNetwork),
		oneOf("location", c.Location, LocationNever, LocationEmergency, LocationAlways),
	} {
		if e != nil {
			return e
		}
	}
	if err := c.Media.validate(bad); err != nil {
		return err
	}
	if len(c.Targets) == 0 {
		return bad("targets", "at least one is needed")
	}
	for i, t := range c.Targets {
		if _, err := ParseTarget(t); err != nil {
			return bad(fmt.Sprintf("targets[%d]", i), "%v", err)
		}
	}
	if _, err := ParseTarget(c.Registrar); err != nil {
		return bad("registrar", "%v", err)
	}
	if c.SIPS && c.Transport != "tls" && c.Transport != "auto" {
		return bad("sips", "needs transport tls or auto")
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return bad("tls", "certificate and key belong together")
	}
	for i, n := range c.AllowedNames {
		if !hostName(n) {
			return bad(fmt.Sprintf("allowed_names[%d]", i), "%q is not a name", n)
		}
	}
	if c.Limits.Calls < 0 || c.Limits.Rate < 0 || c.Limits.Burst < 0 {
		return bad("limits", "must not be negative")
	}
	if err := c.Rewrite.validate(); err != nil {
		return bad("rewrite", "%v", err)
	}
	if c.KeepAlive != 0 && c.KeepAlive < time.Second {
		return bad("keep_alive", "must be 0 or at least 1s")
	}
	if c.Domain == "" || strings.ContainsAny(c.Domain, " \r\n\t<>;@\"") {
		return bad("domain", "%q is not a host", c.Domain)
	}
	for n, cred := range c.Credentials {
		if n != "*" {
			if _, err := call.ParseNumber(n); err != nil {
				return bad("credentials", "%q is neither a number (+15550100) nor *", n)
			}
		}
		if cred.Username == "" || strings.ContainsAny(cred.Username+cred.Password, "\r\n") {
			return bad("credentials."+n, "user name is missing, or a line break in it or in the password")
		}
	}
	for i, p := range c.AllowedPeers {
		if _, err := peer(p); err != nil {
			return bad(fmt.Sprintf("allowed_peers[%d]", i), "%q is neither an address nor a prefix", p)
		}
	}
	if c.SessionExpires != 0 && c.SessionExpires < 90*time.Second {
		return bad("session_expires", "must be 0 or at least 90s (RFC 4028)")
	}
	if c.MinSE < 90*time.Second || c.SessionExpires != 0 && c.MinSE > c.SessionExpires {
		return bad("min_se", "must be at least 90s and not above session_expires")
	}
	if c.DeclineCode != 603 && c.DeclineCode != 486 {
		return bad("decline_code", "must be 603 or 486")
	}
	if c.OptionsPing < 0 || c.PingMisses < 1 {
		return bad("options_ping", "must not be negative, and ping_misses at least 1")
	}
	if c.Expires < time.Second {
		return bad("expires", "must be at least 1s")
	}
	if c.ResourcePriority != "" && !resourcePriority.MatchString(c.ResourcePriority) {
		return bad("resource_priority", "%q is not namespace.priority, as in esnet.0", c.ResourcePriority)
	}
	return nil
}

// resourcePriority is an r-value (RFC 4412 3.1).
var resourcePriority = regexp.MustCompile("^[-A-Za-z0-9!%*_+`'~]+\\.[-A-Za-z0-9!%*_+`'~]+$")

func peer(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}
