package telco

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// traceFunc sees a message on the wire.
type traceFunc func(direction Direction, remote, message string)

// tracedPacketConn is a UDP socket whose datagrams are traced.
type tracedPacketConn struct {
	net.PacketConn
	trace traceFunc
	ready chan struct{} // closed when the transport reads for the first time
	once  sync.Once
	muted atomic.Bool
}

// mute drops what is received from now on.
func (c *tracedPacketConn) mute() { c.muted.Store(true) }

// ReadFrom implements net.PacketConn.
func (c *tracedPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.once.Do(func() { close(c.ready) })
	n, from, err := c.PacketConn.ReadFrom(p)
	for err == nil && c.muted.Load() {
		n, from, err = c.PacketConn.ReadFrom(p)
	}
	if err == nil && n > 4 { // up to two CRLF are a keep-alive
		c.trace(Received, "udp:"+from.String(), string(p[:n]))
	}
	return n, from, err
}

// WriteTo implements net.PacketConn.
func (c *tracedPacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.trace(Sent, "udp:"+to.String(), string(p))
	return c.PacketConn.WriteTo(p, to)
}

// tracedListener hands out the connections it accepts and, through dial, those
// the network opens itself. So both kinds are read by the same transport, are
// found by the peer's address, and are traced alike.
type tracedListener struct {
	net.Listener
	trace  traceFunc
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	open map[string]*tracedConn // by remote address
	// dialing serialises dials, so that two requests to one peer share the
	// connection.
	dialing sync.Mutex
	failed  error
	accept  sync.WaitGroup
}

func newTracedListener(l net.Listener, trace traceFunc) *tracedListener {
	t := &tracedListener{
		Listener: l,
		trace:    trace,
		queue:    make(chan net.Conn),
		closed:   make(chan struct{}),
		open:     map[string]*tracedConn{},
	}
	t.accept.Go(t.acceptLoop)
	return t
}

func (t *tracedListener) acceptLoop() {
	for {
		conn, err := t.Listener.Accept()
		if err != nil {
			t.mu.Lock()
			t.failed = err
			t.mu.Unlock()
			t.once.Do(func() { close(t.closed) })
			return
		}
		if !t.hand(t.wrap(conn)) {
			conn.Close()
			return
		}
	}
}

func (t *tracedListener) wrap(conn net.Conn) *tracedConn {
	c := &tracedConn{Conn: conn, listener: t, remote: conn.RemoteAddr().String(), ready: make(chan struct{})}
	t.mu.Lock()
	t.open[c.remote] = c
	t.mu.Unlock()
	return c
}

func (t *tracedListener) hand(c *tracedConn) bool {
	select {
	case t.queue <- c:
		return true
	case <-t.closed:
		return false
	}
}

// Accept implements net.Listener.
func (t *tracedListener) Accept() (net.Conn, error) {
	select {
	case c := <-t.queue:
		return c, nil
	case <-t.closed:
		t.mu.Lock()
		defer t.mu.Unlock()
		return nil, errors.Join(net.ErrClosed, t.failed)
	}
}

// Close implements net.Listener. It closes the connections as well.
func (t *tracedListener) Close() error {
	t.once.Do(func() { close(t.closed) })
	err := t.Listener.Close()
	t.accept.Wait()
	t.mu.Lock()
	open := make([]*tracedConn, 0, len(t.open))
	for _, c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	return err
}

// dial makes sure that there is a connection to address, an IP and port, which
// the transport reads.
func (t *tracedListener) dial(ctx context.Context, address string) error {
	t.dialing.Lock()
	defer t.dialing.Unlock()
	t.mu.Lock()
	c := t.open[address]
	t.mu.Unlock()
	if c == nil {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", address, err)
		}
		c = t.wrap(conn)
		if !t.hand(c) {
			c.Close()
			return fmt.Errorf("connect to %s: %w", address, net.ErrClosed)
		}
	}
	select {
	case <-c.ready: // read for the first time: the transport knows it
		return nil
	case <-t.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tracedConn is a TCP connection whose writes are traced. What is read is
// traced after framing, in tapResponse.
type tracedConn struct {
	net.Conn
	listener *tracedListener
	remote   string
	ready    chan struct{}
	once     sync.Once
}

// Read implements net.Conn.
func (c *tracedConn) Read(p []byte) (int, error) {
	c.once.Do(func() { close(c.ready) })
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *tracedConn) Write(p []byte) (int, error) {
	if len(p) > 4 {
		c.listener.trace(Sent, "tcp:"+c.remote, string(p))
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn.
func (c *tracedConn) Close() error {
	c.listener.mu.Lock()
	if c.listener.open[c.remote] == c {
		delete(c.listener.open, c.remote)
	}
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
