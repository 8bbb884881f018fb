package media

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// relay is a target: it forwards between ports of its own, and does to packets
// what a test asks for.
type relay struct {
	t     *testing.T
	conns []*net.UDPConn
	done  sync.WaitGroup
}

// harm does something to the n-th packet, and forwards it or does not.
type harm func(n int, packet []byte, forward func([]byte))

func newRelay(t *testing.T) *relay {
	r := &relay{t: t}
	t.Cleanup(func() {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.done.Wait()
	})
	return r
}

// port opens a port of the relay on an address.
func (r *relay) port(ip netip.Addr) *net.UDPConn {
	r.t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetReadBuffer(1 << 20)
	r.conns = append(r.conns, c)
	return c
}

func address(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// forward sends what arrives at in out of another port.
func (r *relay) forward(in, out *net.UDPConn, to netip.AddrPort, h harm) {
	r.done.Go(func() {
		b := make([]byte, 2048)
		for n := 0; ; n++ {
			size, err := in.Read(b)
			if err != nil {
				return
			}
			send := func(p []byte) { _, _ = out.WriteToUDPAddrPort(p, to) }
			if h == nil {
				send(b[:size])
				continue
			}
			h(n, b[:size], send)
		}
	})
}

// free is a port that nothing has.
func free(t *testing.T, ip netip.Addr) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return address(c)
}
