package sip

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate/certtest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// secured is a Network with a TLS listener and a phone that proves to be
// carrier.example.
func secured(t *testing.T, change ...func(*Config)) *bundle {
	t.Helper()
	authority := certtest.New(t)
	dir := t.TempDir()
	peer := certificate.Config(authority.Issue(dir, "carrier", "sip:carrier.example"))
	s, err := certificate.Open(peer, certificate.Server{ClientCA: peer.CA, Require: true}, 0, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	own := authority.Issue(dir, "gateway", "gateway.example")
	change = append([]func(*Config){func(c *Config) {
		c.Listeners = []Listener{{Network: "tls", Address: "127.0.0.1:0"}, {Network: "udp", Address: "127.0.0.1:0"}}
		c.TLS.Config, c.TLS.ClientCA, c.TLS.RequireClient = certificate.Config(own), own.CA, true
		c.Trunks[0].Domain, c.Trunks[0].AllowedNames = "carrier.example", []string{"carrier.example"}
	}}, change...)
	return setupWith(t, newTLSPhone(t, s), change...)
}

// A call each way over mutual TLS: both sides prove their names.
func TestTLS(t *testing.T) {
	b := secured(t)
	invite := b.invite(t, "c1")
	if via := invite.Via(); via.Transport != "TLS" {
		t.Errorf("Via %s", via.Value())
	}
	if got := invite.req().Contact().Address.String(); !strings.HasSuffix(got, ";transport=tls") {
		t.Errorf("Contact %s", got)
	}
	b.p.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	b.p.request("ACK")
	if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")

	b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	b.p.response(100)
	in := b.l.want("incoming").incoming
	if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := b.p.response(200)
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
	b.l.want("confirmed")
	// In the middle of the dialog the connections break: new ones are made.
	b.p.hangUp()
	if err := b.n.End(t.Context(), in.CallID, call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")
}

// With sips URIs nothing leaves TLS, and Contact says so.
func TestSIPS(t *testing.T) {
	b := secured(t, func(c *Config) { c.Trunks[0].SIPS = true })
	invite := b.invite(t, "c1")
	for what, got := range map[string]string{
		"Request-URI": invite.req().Recipient.String(), "Contact": invite.req().Contact().Address.String(),
		"From": invite.From().Address.String(), "To": invite.To().Address.String(),
	} {
		if !strings.HasPrefix(got, "sips:") {
			t.Errorf("%s %s", what, got)
		}
	}
	b.p.reply(invite, 486, "a")
	b.l.want("ended")
	text := strings.ReplaceAll(b.inviteText("in1", "+15550100", offerSDP), "sip:", "sips:")
	b.p.send(b.addr, strings.ReplaceAll(text, ";transport=tls", ""))
	in := b.l.want("incoming").incoming
	if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := b.p.response(200)
	if got := ok.res().Contact().Address.String(); !strings.HasPrefix(got, "sips:") {
		t.Errorf("Contact of the answer %s", got)
	}
	b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
	b.l.want("confirmed")
	if err := b.n.End(t.Context(), in.CallID, call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")
}

// A server that is not who it should be gets nothing, and a client that does not
// prove a name that is allowed neither.
func TestForeignCertificates(t *testing.T) {
	b := secured(t, func(c *Config) {
		c.Trunks[0].TLS.ServerName = "other.example"
		c.Trunks[0].AllowedNames = []string{"other.example"}
	})
	_, err := b.n.Invite(t.Context(), outgoing("c1"))
	if !errors.Is(err, gateway.ErrNetworkDown) || !strings.Contains(err.Error(), "is for carrier.example, not for other.example") {
		t.Errorf("%v", err)
	}
	b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	b.p.response(403)
	c, err := tls.Dial("tcp", b.addr, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, err = c.Read(make([]byte, 1)) // TLS 1.3: the server's verdict comes after
		c.Close()
	}
	if err == nil {
		t.Error("a client without certificate got in")
	}
	b.waitFor(t, "count of handshakes", func() bool { return testutil.ToFloat64(b.n.metrics.rejected.WithLabelValues("tls_handshake")) >= 1 })
}

// dead is the address of a target that never answers.
func dead(t *testing.T) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// A dead target costs one call some time, and the next ones none; once it is back
// it is used again.
func TestFailover(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Targets = append([]string{dead(t)}, c.Trunks[0].Targets...)
		c.Timers.Attempt, c.Timers.Penalty = 100*time.Millisecond, time.Hour
	})
	end := func(id string, invite received) {
		t.Helper()
		b.p.reply(invite, 486, "a")
		b.l.want("ended")
	}
	invite := b.invite(t, "c1")
	if invite.CSeq().SeqNo == 0 {
		t.Error("no CSeq")
	}
	end("c1", invite)
	first := locateTarget(b.cfg.Trunks[0].Targets[0])
	if !b.n.health.Down(first) {
		t.Error("the dead target is not remembered")
	}
	end("c2", b.invite(t, "c2"))
	legs, err := b.n.targets(t.Context(), b.n.set().All()[0])
	if err != nil || len(legs) != 2 || legs[1] != first {
		t.Errorf("order %v, %v", legs, err)
	}
}

// Requests in a dialog follow its route set by the same rules: the name of a
// Record-Route leads to two addresses, of which the first is dead.
func TestFailoverWithinDialog(t *testing.T) {
	p := newPhone(t, "udp")
	_, port, _ := net.SplitHostPort(p.addr())
	zone := nameServer(t, "proxy.example. 60 IN A 127.0.0.9", "proxy.example. 60 IN A 127.0.0.1")
	b := setupWith(t, p, func(c *Config) {
		c.DNS.Servers = []string{zone}
		c.Timers.Attempt = 100 * time.Millisecond
	})
	invite := b.invite(t, "c1")
	b.p.reply(invite, 200, "a", "Record-Route: <sip:proxy.example:"+port+";lr>", answerSDP)
	b.l.want("answered")
	if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	bye := b.p.request("BYE")
	if got := bye.req().Route().Address.Host; got != "proxy.example" {
		t.Errorf("Route to %s", got)
	}
	b.p.reply(bye, 200, "")
	b.l.want("ended")
}

// nameServer serves the records on the loopback until the test ends.
func nameServer(t *testing.T, lines ...string) string {
	t.Helper()
	var mu sync.Mutex
	records := map[dns.Question][]dns.RR{}
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		q := dns.Question{Name: rr.Header().Name, Qtype: rr.Header().Rrtype, Qclass: dns.ClassINET}
		records[q] = append(records[q], rr)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		mu.Lock()
		m.Answer = slices.Clone(records[r.Question[0]])
		mu.Unlock()
		_ = w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { s.Shutdown() })
	return pc.LocalAddr().String()
}

// A trunk given by a domain: SRV by priority, with a dead server first.
func TestServiceRecords(t *testing.T) {
	p := newPhone(t, "udp")
	_, port, _ := net.SplitHostPort(p.addr())
	_, nobody, _ := net.SplitHostPort(dead(t))
	zone := nameServer(t,
		"carrier.example. 60 IN NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.carrier.example.",
		"_sip._udp.carrier.example. 60 IN SRV 20 0 "+port+" b.carrier.example.",
		"_sip._udp.carrier.example. 60 IN SRV 10 0 "+nobody+" a.carrier.example.",
		"a.carrier.example. 60 IN A 127.0.0.1", "b.carrier.example. 60 IN A 127.0.0.1")
	b := setupWith(t, p, func(c *Config) {
		c.DNS.Servers = []string{zone}
		c.Trunks[0].Targets, c.Trunks[0].Transport = []string{"carrier.example"}, "auto"
		c.Timers.Attempt = 100 * time.Millisecond
	})
	invite := b.invite(t, "c1")
	b.p.reply(invite, 486, "a")
	b.l.want("ended")
	// Its servers may send calls.
	b.waitFor(t, "peers", func() bool { return b.n.set().ByPeer(loopback, nil, nil) != nil })
}

// When a trunk fails the next one that takes the number goes on, with its own
// domain and policy.
func TestFailoverToAnotherTrunk(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		second := c.Trunks[0]
		second.Name, second.Domain, second.Numbers = "second", "second.example", "digits"
		second.Identity, second.SessionExpires = "none", 0
		c.Trunks[0].Targets = []string{dead(t)}
		c.Trunks = append(c.Trunks, second)
		c.Timers.T1, c.Timers.T2 = 5*time.Millisecond, 20*time.Millisecond
	})
	invite := b.invite(t, "c1")
	if got := invite.req().Recipient.String(); got != "sip:15550199@second.example;user=phone" {
		t.Errorf("Request-URI %s", got)
	}
	if got := invite.From().Address.String(); got != "sip:15550100@second.example;user=phone" {
		t.Errorf("From %s", got)
	}
	for _, name := range []string{"P-Asserted-Identity", "Session-Expires"} {
		if len(invite.GetHeaders(name)) > 0 {
			t.Errorf("%s of the first trunk", name)
		}
	}
	b.p.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	if calls := trunkCallsOf(b); calls["test"] != 0 || calls["second"] != 1 {
		t.Errorf("calls by trunk: %v", calls)
	}
	if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	bye := b.p.request("BYE")
	if got := bye.From().Address.String(); got != "sip:15550100@second.example;user=phone" {
		t.Errorf("From of the BYE %s", got)
	}
	b.p.reply(bye, 200, "")
	b.l.want("ended")
	if calls := trunkCallsOf(b); calls["second"] != 0 {
		t.Errorf("calls by trunk at the end: %v", calls)
	}
}

func trunkCallsOf(b *bundle) map[string]int {
	out := map[string]int{}
	for _, t := range b.n.set().All() {
		out[t.Name] = t.Calls()
	}
	return out
}

// A trunk that asks for a pause gets it.
func TestRetryAfter(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 503, "a", "Retry-After: 30")
	b.l.want("ended")
	var rejected *gateway.RejectedError
	if _, err := b.n.Invite(t.Context(), outgoing("c2")); !errors.As(err, &rejected) || rejected.Signal.Code != 503 {
		t.Errorf("a call within the pause: %v", err)
	}
}

func TestTrunkLimits(t *testing.T) {
	b := setup(t, "udp", func(c *Config) { c.Trunks[0].Limits.Calls = 1 })
	invite := b.invite(t, "c1")
	var rejected *gateway.RejectedError
	if _, err := b.n.Invite(t.Context(), outgoing("c2")); !errors.As(err, &rejected) || rejected.Signal.Code != 503 {
		t.Errorf("a call above the limit: %v", err)
	}
	b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	if len(b.p.response(503).GetHeaders("Retry-After")) == 0 {
		t.Error("503 without Retry-After")
	}
	for direction, want := range map[string]float64{"in": 1, "out": 1} {
		if got := testutil.ToFloat64(b.n.metrics.limited.WithLabelValues("test", direction, "calls")); got != want {
			t.Errorf("%s: %v refusals counted", direction, got)
		}
	}
	b.p.reply(invite, 486, "a")
	b.l.want("ended")
	b.p.send(b.addr, b.inviteText("in2", "+15550100", offerSDP))
	b.p.response(100)
	_ = b.n.End(t.Context(), b.l.want("incoming").callID, call.CauseBusy)
	b.p.response(486)
}

// Requests above 1300 octets leave UDP, where the target listens on TCP.
func TestLargeRequests(t *testing.T) {
	large := func(id string) gateway.Invite {
		in := outgoing(id)
		in.SDP += strings.Repeat("a=x-filling:0123456789012345678901234567890123456789\r\n", 25)
		return in
	}
	t.Run("TCP", func(t *testing.T) {
		p := newPhone(t, "tcp")
		b := setupWith(t, p, func(c *Config) { c.Trunks[0].Transport = "udp" })
		if _, err := b.n.Invite(t.Context(), large("c1")); err != nil {
			t.Fatal(err)
		}
		invite := p.request("INVITE")
		if invite.Via().Transport != "TCP" || strings.Contains(invite.req().Contact().Address.String(), "tcp") {
			t.Errorf("Via %s, Contact %s", invite.Via().Value(), invite.req().Contact().Value())
		}
		p.reply(invite, 486, "a")
		b.l.want("ended")
	})
	t.Run("refused", func(t *testing.T) {
		b := setup(t, "udp")
		for i := range 2 {
			if _, err := b.n.Invite(t.Context(), large(fmt.Sprint("c", i))); err != nil {
				t.Fatal(err)
			}
			invite := b.p.request("INVITE")
			if invite.Via().Transport != "UDP" {
				t.Errorf("Via %s", invite.Via().Value())
			}
			b.p.reply(invite, 486, "a")
			b.p.request("ACK")
			b.l.want("ended")
		}
	})
}

// Trunks and accounts change without a restart; calls that are up go on.
func TestReload(t *testing.T) {
	b := setup(t, "udp")
	invite := b.invite(t, "c1")
	b.p.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	other := newPhone(t, "udp")
	cfg := b.cfg
	cfg.Trunks = slices.Clone(cfg.Trunks)
	cfg.Trunks[0].Targets, cfg.Trunks[0].Domain = []string{other.addr()}, "new.example"
	if err := b.n.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := b.n.Invite(t.Context(), outgoing("c2")); err != nil {
		t.Fatal(err)
	}
	fresh := other.request("INVITE")
	if fresh.req().Recipient.Host != "new.example" {
		t.Errorf("Request-URI %s", fresh.req().Recipient.String())
	}
	if calls := trunkCallsOf(b); calls["test"] != 2 {
		t.Errorf("calls: %v", calls)
	}
	bad := cfg
	bad.Trunks = []trunk.Config{{}}
	if err := b.n.Reload(bad); err == nil || !strings.Contains(err.Error(), "sip.trunks[0].name") {
		t.Errorf("a bad configuration: %v", err)
	}
	bad = cfg
	bad.Timers.T1 *= 2
	if err := b.n.Reload(bad); !errors.Is(err, ErrRestart) {
		t.Errorf("what needs a restart: %v", err)
	}
	other.reply(fresh, 486, "a")
	if e := b.l.want("ended"); e.callID != "c2" {
		t.Errorf("%+v", e)
	}
	if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
		t.Fatal(err)
	}
	b.p.reply(b.p.request("BYE"), 200, "")
	b.l.want("ended")
}

// Both families, on sockets of their own.
func TestIPv6(t *testing.T) {
	if c, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6")
	} else {
		c.Close()
	}
	p := newPhone(t, "udp")
	p.close()
	p = &phone{t: t, network: "udp", in: make(chan received, 1000), conns: map[string]net.Conn{}}
	var err error
	if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback}); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.readUDP)
	t.Cleanup(p.close)
	b := setupWith(t, p, func(c *Config) {
		c.Listeners = append(c.Listeners, Listener{Network: "udp", Address: "[::1]:0"})
		c.Trunks[0].Domain = ""
	})
	b.addr = b.n.Bound()[2].HostPort()
	invite := b.invite(t, "c1")
	if host := invite.Via().Host; strings.Trim(host, "[]") != "::1" {
		t.Errorf("Via host %s", host)
	}
	if host := invite.req().Contact().Address.Host; strings.Trim(host, "[]") != "::1" {
		t.Errorf("Contact host %s", host)
	}
	b.p.reply(invite, 200, "a", answerSDP)
	b.l.want("answered")
	b.p.request("ACK")
	b.p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	b.p.response(100)
	in := b.l.want("incoming").incoming
	for _, id := range []string{in.CallID, "c1"} {
		if err := b.n.End(t.Context(), id, call.CauseBusy); err != nil {
			t.Fatal(err)
		}
	}
	b.p.response(486)
	b.p.reply(b.p.request("BYE"), 200, "")
}

var loopback = netip.MustParseAddr("127.0.0.1")

func locateTarget(hostport string) locate.Target {
	return locate.Target{Network: "udp", Addr: netip.MustParseAddrPort(hostport), Host: "127.0.0.1"}
}

// Whoever floods is refused, then not even heard; the trunk's peers go on.
func TestFlood(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Guard.BlockAfter, c.Guard.Unknown.Invite = 5, 0.5
		c.Trunks[0].AllowedPeers = []string{"127.0.0.1"}
	})
	stranger, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 77)})
	if err != nil {
		t.Skip("this machine has one loopback address only")
	}
	defer stranger.Close()
	to, err := net.ResolveUDPAddr("udp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		text := crlf(strings.ReplaceAll(b.inviteText(fmt.Sprint("f", i), "+15550100", offerSDP), b.p.addr(), stranger.LocalAddr().String()))
		if _, err := stranger.WriteToUDP([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	reason := func(r string) float64 { return testutil.ToFloat64(b.n.metrics.rejected.WithLabelValues(r)) }
	b.waitFor(t, "block", func() bool { return reason("blocked") == 10 })
	if reason("peer") != 5 || reason("flood_invite") != 5 {
		t.Errorf("%v refused as no peer, %v as a flood", reason("peer"), reason("flood_invite"))
	}
	if b.n.guard.Blocked(time.Now()) != 1 {
		t.Error("the source is not counted as blocked")
	}
	b.p.reply(b.invite(t, "c1"), 486, "a")
	b.l.want("ended")
	b.p.send(b.addr, b.options("alive"))
	b.p.answer("OPTIONS")
}

// Nothing that is sent names an address that is not advertised, nor the program
// when the configuration does not want it named.
func TestTopologyIsHidden(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, func(c *Config) {
		for i := range c.Listeners {
			c.Listeners[i].Advertise = "gw.operator.example"
		}
		c.UserAgent = ""
	})
	b.addr = b.n.Bound()[0].Local.String()
	hidden := func(r received) {
		t.Helper()
		head, _, _ := strings.Cut(r.String(), "\r\n\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			if strings.Contains(line, p.addr()) {
				continue // the phone's own: Request-URI, or Via with what it was seen as
			}
			if strings.Contains(line, "127.0.0.1") || strings.HasPrefix(line, "User-Agent") || strings.HasPrefix(line, "Server") {
				t.Errorf("%s tells %q", strings.SplitN(head, "\r\n", 2)[0], line)
			}
		}
	}
	invite := b.invite(t, "c1")
	hidden(invite)
	p.reply(invite, 200, "a", answerSDP)
	hidden(p.request("ACK"))
	b.l.want("answered")
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	bye := p.request("BYE")
	hidden(bye)
	p.reply(bye, 200, "")
	b.l.want("ended")
	p.send(b.addr, b.inviteText("in1", "+15550100", offerSDP))
	hidden(p.response(100))
	in := b.l.want("incoming").incoming
	if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
		t.Fatal(err)
	}
	hidden(p.response(200))
}

// One socket for both families.
func TestDualStack(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	c.Close()
	four := newPhone(t, "udp")
	six := &phone{t: t, network: "udp", in: make(chan received, 1000), conns: map[string]net.Conn{}}
	if six.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback}); err != nil {
		t.Fatal(err)
	}
	six.wg.Go(six.readUDP)
	t.Cleanup(six.close)
	b := setupWith(t, four, func(c *Config) {
		c.Listeners = []Listener{{Network: "udp", Address: "[::]:0", Advertise: "gw.operator.example"}}
		other := c.Trunks[0]
		other.Name, other.Targets, other.Prefixes = "six", []string{six.addr()}, []string{"+49"}
		c.Trunks = append(c.Trunks, other)
	})
	port := b.n.Bound()[0].Local.Port()
	for _, side := range []struct {
		p        *phone
		receiver string
		at       string
	}{{four, "+15550199", fmt.Sprintf("127.0.0.1:%d", port)}, {six, "+4930123456", fmt.Sprintf("[::1]:%d", port)}} {
		in := outgoing("out-" + side.receiver)
		in.Receiver = call.Number(side.receiver).Address()
		if _, err := b.n.Invite(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		invite := side.p.request("INVITE")
		if host := invite.req().Contact().Address.Host; host != "gw.operator.example" {
			t.Errorf("Contact %s", host)
		}
		side.p.reply(invite, 486, "a")
		b.l.want("ended")
		b.p, b.addr = side.p, side.at
		side.p.send(side.at, b.options("o"+side.receiver))
		side.p.answer("OPTIONS")
	}
}

// responder answers OPTIONS with 200 and INVITE with 486 while it is awake.
type responder struct {
	conn    *net.UDPConn
	awake   atomic.Bool
	invites atomic.Int32
}

func newResponder(t *testing.T) *responder {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &responder{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			m, err := sip.ParseMessage(buf[:n])
			req, ok := m.(*sip.Request)
			if err != nil || !ok || !r.awake.Load() || req.Method == sip.ACK {
				continue
			}
			code := 200
			if req.Method == sip.INVITE {
				code = 486
				r.invites.Add(1)
			}
			_, _ = conn.WriteToUDPAddrPort([]byte(sip.NewResponseFromRequest(req, code, "Said", nil).String()), from)
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return r
}

// A target that does not answer OPTIONS is used last, and first again when it does.
func TestTargetGoesAndComes(t *testing.T) {
	first := newResponder(t)
	first.awake.Store(true)
	addr := first.conn.LocalAddr().String()
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Targets = append([]string{addr}, c.Trunks[0].Targets...)
		c.Trunks[0].OptionsPing, c.Trunks[0].PingMisses = 30*time.Millisecond, 2
		c.Timers.T1, c.Timers.T2, c.Timers.Penalty = time.Millisecond, 4*time.Millisecond, time.Hour
		c.Timers.Attempt = time.Hour // nobody waits for a target that is known to be dead
	})
	up := func() float64 { return testutil.ToFloat64(b.n.metrics.targetUp.WithLabelValues("test", addr)) }
	b.waitFor(t, "target up", func() bool { return up() == 1 })
	call := func(id string) {
		t.Helper()
		if _, err := b.n.Invite(t.Context(), outgoing(id)); err != nil {
			t.Fatal(err)
		}
	}
	call("c1")
	b.l.want("ended")
	if first.invites.Load() == 0 {
		t.Error("the first target did not get the call")
	}
	first.awake.Store(false)
	b.waitFor(t, "target down", func() bool { return up() == 0 && b.n.health.Down(locateTarget(addr)) })
	call("c2")
	b.p.reply(b.p.request("INVITE"), 486, "a")
	b.l.want("ended")
	first.awake.Store(true)
	b.waitFor(t, "target up again", func() bool { return up() == 1 && !b.n.health.Down(locateTarget(addr)) })
	before := first.invites.Load()
	call("c3")
	b.l.want("ended")
	if first.invites.Load() == before {
		t.Error("the first target is not used again")
	}
}
