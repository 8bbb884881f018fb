//go:build !linux

package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
)

// Socket is one bound UDP socket.
type Socket struct {
	conn  *net.UDPConn
	local netip.AddrPort
}

// Listen binds addr; port 0 lets the system choose. bufferBytes sizes the
// system's receive and send buffers; 0 keeps its default.
func Listen(addr netip.AddrPort, bufferBytes int) (*Socket, error) {
	network := "udp6"
	if addr.Addr().Unmap().Is4() {
		network = "udp4"
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("bind UDP %s: %w", addr, err)
	}
	if bufferBytes > 0 {
		_ = conn.SetReadBuffer(bufferBytes)
		_ = conn.SetWriteBuffer(bufferBytes)
	}
	bound := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &Socket{conn: conn, local: netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())}, nil
}

// ListenGroup binds one socket: only Linux spreads packets over several.
func ListenGroup(addr netip.AddrPort, bufferBytes, _ int) ([]*Socket, error) {
	s, err := Listen(addr, bufferBytes)
	if err != nil {
		return nil, err
	}
	return []*Socket{s}, nil
}

// Local is the bound address with the port that the system chose.
func (s *Socket) Local() netip.AddrPort { return s.local }

// Send writes one datagram.
func (s *Socket) Send(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

// Close ends the reading of the socket and gives its port back.
func (s *Socket) Close() error { return s.conn.Close() }

// Batch sends at once: only Linux sends many datagrams in one call.
type Batch struct{}

// Pick answers the one socket of a group.
func (*Batch) Pick(group []*Socket) *Socket { return group[0] }

// Send writes one datagram.
func (*Batch) Send(s *Socket, b []byte, to netip.AddrPort) error { return s.Send(b, to) }

// Flush does nothing.
func (*Batch) Flush() {}

// Loop reads sockets, each in a goroutine of its own.
type Loop struct {
	done    chan struct{}
	mu      sync.Mutex
	closed  bool
	readers sync.WaitGroup
}

// NewLoop makes a loop.
func NewLoop(int, func(packets int)) (*Loop, error) { return &Loop{done: make(chan struct{})}, nil }

// Add makes the loop read a socket until that is closed.
func (l *Loop) Add(s *Socket, r Receiver) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	l.readers.Go(func() {
		buf := make([]byte, MaxPacket+1)
		for {
			n, from, err := s.conn.ReadFromUDPAddrPort(buf)
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
			case n > MaxPacket:
				r.Oversize()
			default:
				r.Handle(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil)
			}
		}
	})
	return nil
}

// Run waits for Close.
func (l *Loop) Run() error {
	<-l.done
	return nil
}

// Close ends Run. Sockets have to be closed too.
func (l *Loop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.done)
	}
	return nil
}
