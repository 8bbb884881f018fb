package tap_test

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// peer reads what the tap sends.
type peer struct {
	network string
	addr    netip.AddrPort
	conn    net.Conn
	udp     net.PacketConn
	tcp     net.Listener
}

func listen(t *testing.T, network string) *peer {
	t.Helper()
	p := &peer{network: network}
	var err error
	var local net.Addr
	if network == "udp" {
		if p.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err == nil {
			local = p.udp.LocalAddr()
			t.Cleanup(func() { p.udp.Close() })
		}
	} else if p.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		local = p.tcp.Addr()
		t.Cleanup(func() { p.tcp.Close() })
	}
	if err != nil {
		t.Fatal(err)
	}
	p.addr = netip.MustParseAddrPort(local.String())
	return p
}

// read answers how much came until the deadline.
func (p *peer) read(t *testing.T, deadline time.Time) int {
	t.Helper()
	buf := make([]byte, 4096)
	if p.udp != nil {
		if err := p.udp.SetReadDeadline(deadline); err != nil {
			t.Error(err)
		}
		n, _, _ := p.udp.ReadFrom(buf) // nothing came, then
		return n
	}
	if p.conn == nil {
		conn, err := p.tcp.Accept()
		if err != nil {
			t.Error(err)
			return 0
		}
		p.conn = conn
		t.Cleanup(func() { conn.Close() })
	}
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		t.Error(err)
	}
	n, _ := p.conn.Read(buf) // nothing came, then
	return n
}

// What is told of a message is told before the peer can have it, so that an answer
// can never be told of first.
func TestSendingComesFirst(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			p := listen(t, network)
			var order []string
			sent := make(chan error, 1)
			hooks := tap.Hooks{
				Message: func(tap.Inbound) {},
				Refused: func(*validate.Problem, tap.Inbound) bool { return true },
				Sending: func(sip.Message, string, tap.Route) {
					order = append(order, "sending")
					if n := p.read(t, time.Now()); n != 0 {
						t.Errorf("%d octets have left already", n)
					}
				},
				Sent: func(_ sip.Message, _ tap.Route, err error) {
					order = append(order, "sent")
					sent <- err
				},
			}
			tp, err := tap.Listen(tap.Config{
				Listeners:   []tap.Listener{{Network: network, Address: "127.0.0.1:0", Key: "sip.listeners[0].address"}},
				DialTimeout: time.Minute, WriteTimeout: time.Minute, MaxStreams: 4, Logger: slog.New(slog.DiscardHandler),
			}, hooks)
			if err != nil {
				t.Fatal(err)
			}
			defer tp.Close()
			tp.Serve()
			req := sip.NewRequest(sip.OPTIONS, sip.Uri{Scheme: "sip", Host: "example.invalid"})
			failed := make(chan error, 1)
			tp.Send(req, tap.Route{Network: network, Addr: p.addr}, func(err error) { failed <- err })
			select {
			case err := <-sent:
				if err != nil {
					t.Fatal(err)
				}
			case err := <-failed:
				t.Fatal(err)
			}
			if n := p.read(t, time.Now().Add(time.Minute)); n == 0 {
				t.Error("nothing has arrived")
			}
			if len(order) != 2 || order[0] != "sending" {
				t.Errorf("the hooks were called as %v", order)
			}
		})
	}
}

// A message that cannot be written is told of as such.
func TestSentTellsOfFailure(t *testing.T) {
	sent := make(chan error, 1)
	tp, err := tap.Listen(tap.Config{
		Listeners:   []tap.Listener{{Network: "udp", Address: "127.0.0.1:0", Key: "sip.listeners[0].address"}},
		DialTimeout: time.Minute, WriteTimeout: time.Minute, MaxStreams: 1, Logger: slog.New(slog.DiscardHandler),
	}, tap.Hooks{
		Sending: func(sip.Message, string, tap.Route) {},
		Sent:    func(_ sip.Message, _ tap.Route, err error) { sent <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tp.Close()
	req := sip.NewRequest(sip.OPTIONS, sip.Uri{Scheme: "sip", Host: "example.invalid"})
	failed := make(chan error, 1)
	// A socket of the loopback address reaches no other network.
	tp.Send(req, tap.Route{Network: "udp", Addr: netip.MustParseAddrPort("198.18.0.1:5060")}, func(err error) { failed <- err })
	if told, err := <-sent, <-failed; told == nil || !errors.Is(err, told) {
		t.Errorf("told of %v, failed with %v", told, err)
	}
}
