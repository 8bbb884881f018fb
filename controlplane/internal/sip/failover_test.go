package sip

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
)

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

var loopback = netip.MustParseAddr("127.0.0.1")

func locateTarget(hostport string) locate.Target {
	return locate.Target{Network: "udp", Addr: netip.MustParseAddrPort(hostport), Host: "127.0.0.1"}
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
