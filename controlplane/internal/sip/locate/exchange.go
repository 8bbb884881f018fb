package locate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// systemLife is how long addresses of the system's resolver are kept: it does not
// tell their TTL.
const systemLife = 30 * time.Second

// newExchange asks the servers one after another, twice.
func newExchange(servers []string, timeout time.Duration) (exchange, error) {
	for _, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fmt.Errorf("name server %q is not host:port", s)
		}
	}
	x := &resolvers{servers: servers, udp: &dns.Client{Net: "udp", Timeout: timeout, UDPSize: 1232}, tcp: &dns.Client{Net: "tcp", Timeout: timeout}}
	if len(servers) == 0 {
		x.system = net.DefaultResolver
		x.servers = systemServers()
	}
	return x.exchange, nil
}

// systemServers are those of resolv.conf, read once: a machine's resolver does not
// move.
func systemServers() []string {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range c.Servers {
		out = append(out, net.JoinHostPort(s, c.Port))
	}
	return out
}

type resolvers struct {
	servers  []string
	udp, tcp *dns.Client
	// system also knows the hosts file and search domains; nil when the servers
	// were configured.
	system *net.Resolver
}

func (x *resolvers) exchange(ctx context.Context, name string, kind uint16) (answer, error) {
	a, err := x.ask(ctx, name, kind)
	if x.system == nil || err == nil && len(a.records) > 0 || kind != dns.TypeA && kind != dns.TypeAAAA {
		return a, err
	}
	if s, ok := x.asSystem(ctx, name, kind); ok {
		return s, nil
	}
	return a, err
}

func (x *resolvers) ask(ctx context.Context, name string, kind uint16) (answer, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(1232, false)
	err := errors.New("no name server is known")
	for range 2 {
		for _, server := range x.servers {
			r, _, e := x.udp.ExchangeContext(ctx, m, server)
			if e == nil && r.Truncated {
				r, _, e = x.tcp.ExchangeContext(ctx, m, server)
			}
			switch {
			case ctx.Err() != nil:
				return answer{}, ctx.Err()
			case e != nil:
				err = fmt.Errorf("name server %s: %w", server, e)
			case r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError:
				return read(r, kind), nil
			default:
				err = fmt.Errorf("name server %s answers %s", server, dns.RcodeToString[r.Rcode])
			}
		}
	}
	return answer{}, err
}

// read takes the records of a kind and the time they live, for an absence that of
// the zone (RFC 2308 5).
func read(r *dns.Msg, kind uint16) answer {
	var a answer
	for _, rr := range r.Answer {
		life := time.Duration(rr.Header().Ttl) * time.Second
		if rr.Header().Rrtype != kind && rr.Header().Rrtype != dns.TypeCNAME {
			continue
		}
		if a.life == 0 || life < a.life {
			a.life = life
		}
		if rr.Header().Rrtype == kind {
			a.records = append(a.records, rr)
		}
	}
	if len(a.records) > 0 {
		return a
	}
	a.life = systemLife
	for _, rr := range r.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			a.life = time.Duration(min(soa.Minttl, soa.Header().Ttl)) * time.Second
		}
	}
	return a
}

// asSystem asks as other programs of the machine do.
func (x *resolvers) asSystem(ctx context.Context, name string, kind uint16) (answer, bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*x.udp.Timeout)
	defer cancel()
	network := "ip4"
	if kind == dns.TypeAAAA {
		network = "ip6"
	}
	found, err := x.system.LookupNetIP(ctx, network, name)
	if err != nil {
		return answer{}, false
	}
	a := answer{life: systemLife}
	for _, ip := range found {
		a.records = append(a.records, record(name, ip.Unmap()))
	}
	return a, len(a.records) > 0
}

func record(name string, ip netip.Addr) dns.RR {
	h := dns.RR_Header{Name: dns.Fqdn(name), Class: dns.ClassINET}
	if ip.Is4() {
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: ip.AsSlice()}
	}
	h.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: h, AAAA: ip.AsSlice()}
}
