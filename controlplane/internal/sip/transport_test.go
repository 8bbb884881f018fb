package sip

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate/certtest"
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
