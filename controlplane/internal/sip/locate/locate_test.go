package locate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// zone is a name server with the records of a text, which counts questions.
type zone struct {
	mu        sync.Mutex
	records   map[question][]dns.RR
	questions atomic.Int32
	fail      atomic.Bool
}

func newZone(t *testing.T, text string) *zone {
	t.Helper()
	z := &zone{records: map[question][]dns.RR{}}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		q := question{strings.TrimSuffix(rr.Header().Name, "."), rr.Header().Rrtype}
		z.records[q] = append(z.records[q], rr)
	}
	return z
}

func (z *zone) exchange(_ context.Context, name string, kind uint16) (answer, error) {
	z.questions.Add(1)
	if z.fail.Load() {
		return answer{}, errors.New("the name server is gone")
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	a := answer{records: z.records[question{name, kind}], life: time.Minute}
	for _, r := range a.records {
		a.life = time.Duration(r.Header().Ttl) * time.Second
	}
	return a, nil
}

// locator over a zone that serves all networks and families.
func (z *zone) locator(cfg Config) *Locator {
	if cfg.Networks == nil {
		cfg.Networks = []string{"udp", "tcp", "tls"}
	}
	if !cfg.IPv4 && !cfg.IPv6 {
		cfg.IPv4, cfg.IPv6 = true, true
	}
	if cfg.Rand == nil {
		cfg.Rand = func(int) int { return 0 }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Locator{cfg: cfg, cache: newCache(z.exchange, cfg.Now)}
}

const carrier = `
naptr.example. 60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.naptr.example.
naptr.example. 60 IN NAPTR 10 20 "s" "SIP+D2T" "" _sip._tcp.naptr.example.
naptr.example. 60 IN NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.naptr.example.
naptr.example. 60 IN NAPTR 5 10 "s" "SIP+D2S" "" _sip._sctp.naptr.example.
naptr.example. 60 IN NAPTR 5 10 "u" "E2U+sip" "!^.*$!sip:x@y.example!" .
_sip._udp.naptr.example. 60 IN SRV 10 0 5060 a.naptr.example.
_sip._tcp.naptr.example. 60 IN SRV 10 0 5070 a.naptr.example.
_sips._tcp.naptr.example. 60 IN SRV 10 0 5071 a.naptr.example.
a.naptr.example. 60 IN A 192.0.2.1
a.naptr.example. 60 IN AAAA 2001:db8::1
_sip._udp.srv.example. 60 IN SRV 20 0 5080 c.srv.example.
_sip._udp.srv.example. 60 IN SRV 10 0 5070 b.srv.example.
_sip._udp.srv.example. 60 IN SRV 10 0 5060 gone.srv.example.
b.srv.example. 60 IN A 192.0.2.2
c.srv.example. 60 IN A 192.0.2.3
srv.example. 60 IN A 192.0.2.9
plain.example. 60 IN A 192.0.2.4
plain.example. 60 IN A 192.0.2.5
_sip._udp.none.example. 60 IN SRV 0 0 0 .
none.example. 60 IN A 192.0.2.6
_sip._udp.broken.example. 60 IN SRV 0 0 5060 gone.broken.example.
`

// The decisions of RFC 3263 4.1 and 4.2.
func TestLocate(t *testing.T) {
	z := newZone(t, carrier)
	for name, c := range map[string]struct {
		q    Query
		cfg  Config
		want string
		err  string
	}{
		"address":                       {Query{Host: "192.0.2.7"}, Config{}, "udp 192.0.2.7:5060", ""},
		"address, TLS":                  {Query{Host: "192.0.2.7", Transport: "tls"}, Config{}, "tls 192.0.2.7:5061", ""},
		"address, sips":                 {Query{Host: "192.0.2.7", Secure: true}, Config{}, "tls 192.0.2.7:5061", ""},
		"IPv6 address":                  {Query{Host: "2001:db8::7", Port: 5062, Transport: "tcp"}, Config{}, "tcp [2001:db8::7]:5062", ""},
		"address, TLS only served":      {Query{Host: "192.0.2.7"}, Config{Networks: []string{"tls"}}, "tls 192.0.2.7:5061", ""},
		"port: no SRV":                  {Query{Host: "srv.example", Port: 5099}, Config{}, "udp 192.0.2.9:5099", ""},
		"port and transport":            {Query{Host: "srv.example", Port: 5099, Transport: "tcp"}, Config{}, "tcp 192.0.2.9:5099", ""},
		"NAPTR by order and preference": {Query{Host: "naptr.example"}, Config{IPv4: true}, "tls 192.0.2.1:5071, tcp 192.0.2.1:5070, udp 192.0.2.1:5060", ""},
		"NAPTR of what is served":       {Query{Host: "naptr.example"}, Config{IPv4: true, Networks: []string{"udp"}}, "udp 192.0.2.1:5060", ""},
		"NAPTR, sips":                   {Query{Host: "naptr.example", Secure: true}, Config{IPv4: true}, "tls 192.0.2.1:5071", ""},
		"transport: its SRV":            {Query{Host: "naptr.example", Transport: "tcp"}, Config{IPv4: true}, "tcp 192.0.2.1:5070", ""},
		"TLS: SRV of sips":              {Query{Host: "naptr.example", Transport: "tls"}, Config{IPv4: true}, "tls 192.0.2.1:5071", ""},
		"both families":                 {Query{Host: "naptr.example", Transport: "udp"}, Config{}, "udp 192.0.2.1:5060, udp [2001:db8::1]:5060", ""},
		"IPv6 first":                    {Query{Host: "naptr.example", Transport: "udp"}, Config{IPv4: true, IPv6: true, PreferIPv6: true}, "udp [2001:db8::1]:5060, udp 192.0.2.1:5060", ""},
		"IPv6 only":                     {Query{Host: "naptr.example", Transport: "udp"}, Config{IPv6: true}, "udp [2001:db8::1]:5060", ""},
		"SRV by priority, one lost":     {Query{Host: "SRV.example."}, Config{}, "udp 192.0.2.2:5070, udp 192.0.2.3:5080", ""},
		"addresses without SRV":         {Query{Host: "plain.example", Transport: "tcp"}, Config{}, "tcp 192.0.2.4:5060, tcp 192.0.2.5:5060", ""},
		"TLS without SRV":               {Query{Host: "plain.example", Transport: "tls"}, Config{}, "tls 192.0.2.4:5061, tls 192.0.2.5:5061", ""},
		"no service at all":             {Query{Host: "none.example", Transport: "udp"}, Config{}, "udp 192.0.2.6:5060", ""},
		"SRV to nowhere":                {Query{Host: "broken.example", Transport: "udp"}, Config{}, "", "no server of _sip._udp.broken.example has an address"},
		"unknown":                       {Query{Host: "unknown.example"}, Config{}, "", "the name unknown.example has no address"},
		"no host":                       {Query{Host: strings.Repeat("a", 70) + ".example"}, Config{}, "", "is not a host"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := z.locator(c.cfg).Locate(t.Context(), c.q)
			var text []string
			for _, g := range got {
				text = append(text, g.String())
				if want := strings.TrimSuffix(strings.ToLower(c.q.Host), "."); g.Host != want {
					t.Errorf("the identity to prove is %q", g.Host)
				}
			}
			if s := strings.Join(text, ", "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			if (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// Weights are shares (RFC 2782).
func TestWeights(t *testing.T) {
	z := newZone(t, `
_sip._udp.w.example. 60 IN SRV 10 70 5060 a.w.example.
_sip._udp.w.example. 60 IN SRV 10 30 5060 b.w.example.
_sip._udp.w.example. 60 IN SRV 10 0 5060 c.w.example.
_sip._udp.w.example. 60 IN SRV 20 100 5060 d.w.example.
a.w.example. 60 IN A 192.0.2.1
b.w.example. 60 IN A 192.0.2.2
c.w.example. 60 IN A 192.0.2.3
d.w.example. 60 IN A 192.0.2.4
`)
	r := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	l := z.locator(Config{Rand: func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}})
	first := map[string]int{}
	for range 2000 {
		got, err := l.Locate(t.Context(), Query{Host: "w.example", Transport: "udp"})
		if err != nil || len(got) != 4 {
			t.Fatal(got, err)
		}
		first[got[0].Addr.Addr().String()]++
		if got[3].Addr.Addr().String() != "192.0.2.4" {
			t.Fatal("the lower priority came before the last")
		}
	}
	if a, b := first["192.0.2.1"], first["192.0.2.2"]; a < 1250 || a > 1500 || b < 450 || b > 750 {
		t.Errorf("of 2000, weight 70 got %d, weight 30 %d", a, b)
	}
	if first["192.0.2.3"] > 100 {
		t.Errorf("weight 0 came first %d times", first["192.0.2.3"])
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, "a.example. 10 IN A 192.0.2.1\n")
		l := z.locator(Config{IPv4: true})
		ask := func(host string) error {
			_, err := l.Locate(t.Context(), Query{Host: host, Port: 5060})
			return err
		}
		asked := func(what string, n int32) {
			t.Helper()
			if got := z.questions.Swap(0); got != n {
				t.Errorf("%s: %d questions, want %d", what, got, n)
			}
		}
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { _ = ask("a.example") })
		}
		group.Wait()
		asked("ten at once", 1)
		time.Sleep(9 * time.Second)
		_ = ask("a.example")
		asked("within the TTL", 0)
		time.Sleep(2 * time.Second)
		_ = ask("a.example")
		asked("after the TTL", 1)
		for range 2 {
			if ask("b.example") == nil {
				t.Error("an absent name was found")
			}
		}
		asked("an absence", 1)
		time.Sleep(time.Minute)
		_ = ask("b.example")
		asked("an absence after its life", 1)

		z.fail.Store(true)
		if err := ask("a.example"); err != nil {
			t.Errorf("the last answer is not used while the DNS fails: %v", err)
		}
		if err := ask("a.example"); err != nil {
			t.Errorf("at the second time: %v", err)
		}
		asked("a failure is remembered", 1)
		if err := ask("c.example"); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("without an answer: %v", err)
		}
		z.fail.Store(false)
		time.Sleep(failureLife + time.Second)
		_ = ask("a.example")
		asked("after the failure", 2)
		z.fail.Store(true)
		time.Sleep(staleLife + time.Minute)
		if ask("a.example") == nil {
			t.Error("an answer is used for ever")
		}
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth(nil)
		a := Target{Network: "udp", Addr: netip.MustParseAddrPort("192.0.2.1:5060")}
		b := Target{Network: "udp", Addr: netip.MustParseAddrPort("192.0.2.2:5060")}
		first := func(want Target) {
			t.Helper()
			if got := h.Order([]Target{a, b}); got[0] != want || len(got) != 2 {
				t.Errorf("order %v", got)
			}
		}
		first(a)
		if !h.Failed(a, time.Minute) || h.Failed(a, time.Minute) {
			t.Error("going down is told once")
		}
		first(b)
		time.Sleep(time.Minute)
		first(a) // it is tried again
		if !h.Answered(a) || h.Answered(a) {
			t.Error("coming up is told once")
		}
		for i := range 3 {
			if got := h.Missed(b, 3, time.Minute); got != (i == 2) {
				t.Errorf("miss %d: %v", i+1, got)
			}
		}
		if !h.Down(b) || h.Down(a) {
			t.Error("down after three misses")
		}
		h.Missed(a, 3, time.Minute)
		h.Answered(a)
		h.Missed(a, 3, time.Minute)
		h.Missed(a, 3, time.Minute)
		if h.Down(a) {
			t.Error("an answer between misses does not count")
		}
	})
}

// A real name server on the loopback, with an answer that does not fit a datagram.
func TestExchange(t *testing.T) {
	var many strings.Builder
	for i := range 60 {
		fmt.Fprintf(&many, "_sip._udp.big.example. 60 IN SRV 10 0 5060 a-server-with-a-long-name-%d.big.example.\n", i)
	}
	z := newZone(t, many.String()+"a.example. 60 IN A 192.0.2.1\n")
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		q := question{strings.TrimSuffix(r.Question[0].Name, "."), r.Question[0].Qtype}
		m.Answer = z.records[q]
		if q.name == "refused.example" {
			m.Rcode = dns.RcodeRefused
		}
		if len(m.Answer) == 0 && m.Rcode == 0 {
			soa, _ := dns.NewRR("example. 60 IN SOA a. b. 1 2 3 4 17")
			m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
		}
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m)
	})
	pc, ln := bothPorts(t)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	// The first server does not exist: the second is asked.
	x, err := newExchange([]string{"127.0.0.1:1", pc.LocalAddr().String()}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := x(t.Context(), "a.example", dns.TypeA); err != nil || len(a.records) != 1 || a.life != time.Minute {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := x(t.Context(), "_sip._udp.big.example", dns.TypeSRV); err != nil || len(a.records) != 60 {
		t.Errorf("%d records, %v", len(a.records), err)
	}
	if a, err := x(t.Context(), "absent.example", dns.TypeA); err != nil || len(a.records) != 0 || a.life != 17*time.Second {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := x(t.Context(), "refused.example", dns.TypeA); err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Errorf("%v", err)
	}
	if _, err := newExchange([]string{"192.0.2.1"}, time.Second); err == nil {
		t.Error("a server without port")
	}
}

// Without configured servers, the names of this machine are found.
func TestSystem(t *testing.T) {
	l, err := New(Config{Timeout: 200 * time.Millisecond, Networks: []string{"udp"}, IPv4: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Locate(t.Context(), Query{Host: "localhost", Port: 5060})
	if err != nil || !slices.ContainsFunc(got, func(t Target) bool { return t.Addr.Addr().IsLoopback() }) {
		t.Errorf("localhost: %v, %v", got, err)
	}
}

// bothPorts opens one port for UDP and TCP.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}
