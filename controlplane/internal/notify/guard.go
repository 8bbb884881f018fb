package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Resolver looks host names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Guard keeps apps from making the gateway send requests into networks that they
// cannot reach themselves (server-side request forgery). It implements
// gateway.Sinks.
type Guard struct {
	resolver Resolver
	networks []netip.Prefix
	hosts    []string
	origins  map[string]bool
}

var _ gateway.Sinks = (*Guard)(nil)

// NewGuard makes a guard with the allow lists of the configuration.
func NewGuard(c Config) (*Guard, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return newGuard(c, nil)
}

func newGuard(c Config, r Resolver) (*Guard, error) {
	networks, err1 := parseNetworks(c.AllowNetworks)
	origins, err2 := parseOrigins(c.AllowOrigins)
	if err := errors.Join(err1, err2, checkHosts(c.AllowHosts)); err != nil {
		return nil, err
	}
	if r == nil {
		r = net.DefaultResolver
	}
	return &Guard{resolver: r, networks: networks, hosts: c.AllowHosts, origins: origins}, nil
}

// resolveWithin bounds the lookup that a client waits for.
const resolveWithin = 2 * time.Second

// Check refuses a sink that is no https URL or whose host has an address that is
// not public, unless that is allowed. A name that cannot be looked up now is not
// refused: it is judged again at every delivery.
func (g *Guard) Check(ctx context.Context, sink string) error {
	u, err := parseSink(sink)
	if err != nil {
		return err
	}
	if g.trusted(u) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	addresses, err := g.lookup(ctx, u.Hostname())
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if err := g.judge(a); err != nil {
			return err
		}
	}
	return nil
}

// addresses of a sink that a connection may be made to now.
func (g *Guard) addresses(ctx context.Context, u *url.URL) ([]netip.Addr, error) {
	found, err := g.lookup(ctx, u.Hostname())
	if err != nil {
		return nil, err
	}
	if g.trusted(u) {
		return found, nil
	}
	var allowed []netip.Addr
	var refused error
	for _, a := range found {
		if err := g.judge(a); err != nil {
			refused = err
			continue
		}
		allowed = append(allowed, a)
	}
	if len(allowed) == 0 {
		return nil, refused
	}
	return allowed, nil
}

func parseSink(sink string) (*url.URL, error) {
	u, err := url.Parse(sink)
	switch {
	case err != nil:
		return nil, errors.New("the sink is not a URL")
	case u.Scheme != "https":
		return nil, errors.New("the sink must be an https URL")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("the sink names no host")
	case u.User != nil:
		return nil, errors.New("the sink must not hold a user name or password")
	case u.Fragment != "" || strings.Contains(sink, "#"):
		return nil, errors.New("the sink must not have a fragment")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the sink's port is not between 1 and 65535")
		}
	}
	return u, nil
}

// originOf is scheme, host and port, spelled in one way.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return "https://" + net.JoinHostPort(hostOf(u), port)
}

func hostOf(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }

// trusted reports whether the addresses of this origin do not matter.
func (g *Guard) trusted(u *url.URL) bool {
	if g.origins[originOf(u)] {
		return true
	}
	host := hostOf(u)
	for _, h := range g.hosts {
		h = strings.ToLower(h)
		if suffix, wild := strings.CutPrefix(h, "*"); host == h || wild && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func (g *Guard) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	found, err := g.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up the sink's host: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the sink's host %s has no address", host)
	}
	return found, nil
}

// ErrForbidden is the cause when a sink is where none may be.
var ErrForbidden = errors.New("the sink's address is not public")

// judge refuses an address that is not public and not in an allowed network.
func (g *Guard) judge(a netip.Addr) error {
	if a.Zone() != "" {
		return fmt.Errorf("%w: it has a zone", ErrForbidden)
	}
	a = a.Unmap()
	for _, p := range g.networks {
		if p.Contains(a) {
			return nil
		}
	}
	if !public(a) {
		return fmt.Errorf("%w: private, loopback, link-local, shared and reserved networks are refused", ErrForbidden)
	}
	return nil
}

// Networks that are not globally reachable (IANA special-purpose address
// registries, RFC 6890).
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// Global unicast is the only public part of IPv6.
var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
)

func public(a netip.Addr) bool {
	if nat64.Contains(a) {
		// The IPv4 address inside is where it leads (RFC 6052).
		b := a.As16()
		return public(netip.AddrFrom4([4]byte(b[12:])))
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}
