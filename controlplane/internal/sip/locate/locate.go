// Package locate finds where a SIP request can go (RFC 3263): from a host, with or
// without port and transport, by NAPTR, SRV and address records to an ordered list
// of targets, of which the next is tried when one does not answer. Answers of the
// DNS are kept for their TTL, absences too; when the DNS fails, what it said last
// goes on (RFC 8767). Health remembers which targets did not answer.
package locate

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Target is one place to send a request to.
type Target struct {
	// Network is "udp", "tcp" or "tls".
	Network string
	Addr    netip.AddrPort
	// Host is the name that was asked for, before the DNS: the identity that a
	// TLS server must prove (RFC 5922 4).
	Host string
}

func (t Target) String() string { return t.Network + " " + t.Addr.String() }

// Query is what a URI, or a trunk's target, says.
type Query struct {
	// Host is a name or an address, without brackets.
	Host string
	// Port is 0 when none was given.
	Port uint16
	// Transport is "udp", "tcp" or "tls", empty when none was given.
	Transport string
	// Secure: a sips URI, TLS only.
	Secure bool
}

// Config of a Locator.
type Config struct {
	// Servers are host:port of recursive resolvers; empty for those of the system,
	// with its hosts file and search domains.
	Servers []string
	// Timeout of one question to one server. Above 0.
	Timeout time.Duration
	// Networks that the gateway serves, in the order of preference where the DNS
	// leaves the choice.
	Networks []string
	// IPv4 and IPv6 tell which families can be reached. PreferIPv6 puts these
	// addresses first.
	IPv4, IPv6, PreferIPv6 bool
	// Rand answers a number from 0 to limit-1; nil for a random one. It must be
	// safe for concurrent use.
	Rand func(limit int) int
	// Now may be nil.
	Now func() time.Time
}

// Locator answers queries. It is safe for concurrent use.
type Locator struct {
	cfg   Config
	cache *cache
}

// New makes a Locator.
func New(cfg Config) (*Locator, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.IntN
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	exchange, err := newExchange(cfg.Servers, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	return &Locator{cfg: cfg, cache: newCache(exchange, cfg.Now)}, nil
}

// Literal answers a query that needs no DNS.
func (l *Locator) Literal(q Query) ([]Target, bool) {
	a, err := netip.ParseAddr(q.Host)
	if err != nil {
		return nil, false
	}
	network := l.numeric(q)
	return []Target{{Network: network, Addr: netip.AddrPortFrom(a.Unmap(), portOr(q.Port, network)), Host: q.Host}}, true
}

// numeric is the transport of a query without NAPTR (RFC 3263 4.1).
func (l *Locator) numeric(q Query) string {
	switch {
	case q.Secure || q.Transport == "tls":
		return "tls"
	case q.Transport != "":
		return q.Transport
	case len(l.cfg.Networks) > 0 && !slices.Contains(l.cfg.Networks, "udp"):
		return l.cfg.Networks[0]
	}
	return "udp"
}

func portOr(port uint16, network string) uint16 {
	switch {
	case port != 0:
		return port
	case network == "tls":
		return 5061
	}
	return 5060
}

// Locate answers the targets of a query in the order in which to try them. It
// asks the DNS when it must; an empty list comes with an error.
func (l *Locator) Locate(ctx context.Context, q Query) ([]Target, error) {
	q.Host = strings.TrimSuffix(strings.ToLower(q.Host), ".")
	if t, ok := l.Literal(q); ok {
		return t, nil
	}
	if _, ok := dns.IsDomainName(q.Host); !ok || q.Host == "" {
		return nil, fmt.Errorf("%q is not a host", q.Host)
	}
	if q.Port != 0 {
		network := l.numeric(q)
		return l.addresses(ctx, q.Host, q.Host, network, q.Port)
	}
	var services []service
	if q.Transport == "" {
		services = l.naptr(ctx, q)
	}
	if services == nil {
		services = l.usual(q)
	}
	var all []Target
	var last error
	for _, s := range services {
		targets, err := l.service(ctx, q.Host, s)
		if err != nil {
			last = err
			continue
		}
		all = append(all, targets...)
	}
	if len(all) > 0 {
		return all, nil
	}
	network := l.numeric(q)
	all, err := l.addresses(ctx, q.Host, q.Host, network, portOr(0, network))
	if err != nil && last != nil {
		err = last
	}
	return all, err
}

// service is a name whose SRV records lead to servers of one network.
type service struct{ network, name string }

var labels = map[string]string{"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}

// usual lists the services to try without NAPTR.
func (l *Locator) usual(q Query) []service {
	switch {
	case q.Secure || q.Transport == "tls":
		return []service{{"tls", labels["tls"] + q.Host}}
	case q.Transport != "":
		return []service{{q.Transport, labels[q.Transport] + q.Host}}
	}
	var out []service
	for _, n := range l.cfg.Networks {
		out = append(out, service{n, labels[n] + q.Host})
	}
	return out
}

var naptrServices = map[string]string{"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}

// naptr asks which services a domain has; nil when it does not say, or when its
// name server does not know such records.
func (l *Locator) naptr(ctx context.Context, q Query) []service {
	records, err := l.cache.ask(ctx, q.Host, dns.TypeNAPTR)
	if err != nil {
		return nil
	}
	var found []*dns.NAPTR
	for _, r := range records {
		n, ok := r.(*dns.NAPTR)
		if !ok || !strings.EqualFold(n.Flags, "s") {
			continue
		}
		network := naptrServices[strings.ToLower(n.Service)]
		if network != "" && slices.Contains(l.cfg.Networks, network) && (!q.Secure || network == "tls") {
			found = append(found, n)
		}
	}
	slices.SortStableFunc(found, func(a, b *dns.NAPTR) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference))
	})
	var out []service
	for _, n := range found {
		out = append(out, service{naptrServices[strings.ToLower(n.Service)], strings.ToLower(strings.TrimSuffix(n.Replacement, "."))})
	}
	return out
}

// service resolves the SRV records of one service, in the order of RFC 2782.
func (l *Locator) service(ctx context.Context, host string, s service) ([]Target, error) {
	records, err := l.cache.ask(ctx, s.name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	var servers []*dns.SRV
	for _, r := range records {
		if srv, ok := r.(*dns.SRV); ok && srv.Target != "." { // "." says that there is no service
			servers = append(servers, srv)
		}
	}
	servers = l.shuffle(servers)
	found := make([][]Target, len(servers))
	var group errgroup.Group
	group.SetLimit(8)
	for i, srv := range servers {
		group.Go(func() error {
			// One server without an address does not spoil the others.
			found[i], _ = l.addresses(ctx, host, strings.TrimSuffix(strings.ToLower(srv.Target), "."), s.network, srv.Port)
			return nil
		})
	}
	_ = group.Wait()
	out := slices.Concat(found...)
	if len(servers) > 0 && len(out) == 0 {
		return nil, fmt.Errorf("no server of %s has an address", s.name)
	}
	return out, nil
}

// shuffle orders SRV records by priority, and among equals by chance according to
// their weights (RFC 2782).
func (l *Locator) shuffle(in []*dns.SRV) []*dns.SRV {
	in = slices.Clone(in)
	slices.SortStableFunc(in, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight))
	})
	var out []*dns.SRV
	for len(in) > 0 {
		n := 1
		for n < len(in) && in[n].Priority == in[0].Priority {
			n++
		}
		group := in[:n]
		in = in[n:]
		for len(group) > 0 {
			sum := 0
			for _, s := range group {
				sum += int(s.Weight)
			}
			chosen, running, drawn := 0, 0, l.cfg.Rand(sum+1)
			for i, s := range group {
				if running += int(s.Weight); running >= drawn {
					chosen = i
					break
				}
			}
			out = append(out, group[chosen])
			group = slices.Concat(group[:chosen], group[chosen+1:])
		}
	}
	return out
}

// addresses resolves a name in the families that can be reached.
func (l *Locator) addresses(ctx context.Context, host, name, network string, port uint16) ([]Target, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []Target{{Network: network, Addr: netip.AddrPortFrom(a.Unmap(), port), Host: host}}, nil
	}
	var families []uint16
	for _, f := range []struct {
		on   bool
		kind uint16
	}{{l.cfg.IPv6 && l.cfg.PreferIPv6, dns.TypeAAAA}, {l.cfg.IPv4, dns.TypeA}, {l.cfg.IPv6 && !l.cfg.PreferIPv6, dns.TypeAAAA}} {
		if f.on {
			families = append(families, f.kind)
		}
	}
	found := make([][]dns.RR, len(families))
	errs := make([]error, len(families))
	var group errgroup.Group
	for i, kind := range families {
		group.Go(func() error {
			found[i], errs[i] = l.cache.ask(ctx, name, kind)
			return nil
		})
	}
	_ = group.Wait()
	var out []Target
	for _, r := range slices.Concat(found...) {
		var a netip.Addr
		switch r := r.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(r.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(r.AAAA)
		}
		if a.IsValid() {
			out = append(out, Target{Network: network, Addr: netip.AddrPortFrom(a.Unmap(), port), Host: host})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the name %s has no address", name)
}
