package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// queueLength bounds what waits for one stream; a peer that takes nothing for so
// long is cut off.
const queueLength = 512

type outgoing struct {
	m      sip.Message
	text   string
	route  Route
	failed func(error)
}

// stream is one connection, accepted or to be dialled. A writer goroutine keeps
// the order of Send and dials before the first message; a reader follows the
// framing of RFC 3261 18.3.
type stream struct {
	t        *Tap
	listener int
	addr     string
	queue    chan outgoing

	mu     sync.Mutex
	conn   net.Conn
	err    error
	closed chan struct{}
	pong   chan struct{}
}

func (t *Tap) newStream(listener int, addr string, conn net.Conn) (*stream, error) {
	s := &stream{t: t, listener: listener, addr: addr, conn: conn,
		queue: make(chan outgoing, queueLength), closed: make(chan struct{}), pong: make(chan struct{}, 1)}
	// Caller holds t.mu.
	if t.closed {
		return nil, errClosed
	}
	if t.count >= t.cfg.MaxStreams {
		return nil, fmt.Errorf("there are %d stream connections, the most that are allowed", t.count)
	}
	t.count++
	t.streams[addr] = s
	t.wg.Add(1)
	go s.run()
	return s, nil
}

// streamFor finds or makes the stream of a route.
func (t *Tap) streamFor(r Route) (*stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.stream != nil && r.stream.alive() {
		return r.stream, nil
	}
	if s, ok := t.streams[r.Addr]; ok && s.alive() {
		return s, nil
	}
	return t.newStream(r.Listener, r.Addr, nil)
}

func (t *Tap) accept(i int) {
	for {
		conn, err := t.tcp[i].Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.cfg.Logger.Warn("sip: cannot accept a connection", "error", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of descriptors, for instance
			case <-t.ctx.Done():
				return
			}
			continue
		}
		t.mu.Lock()
		_, err = t.newStream(i, conn.RemoteAddr().String(), conn)
		t.mu.Unlock()
		if err != nil {
			t.cfg.Logger.Warn("sip: connection refused", "remote", conn.RemoteAddr(), "error", err)
			conn.Close()
		}
	}
}

func (s *stream) alive() bool {
	select {
	case <-s.closed:
		return false
	default:
		return true
	}
}

func (s *stream) enqueue(o outgoing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	select {
	case s.queue <- o:
		return nil
	default:
		return fmt.Errorf("tcp %s takes no more messages", s.addr)
	}
}

func (s *stream) close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	close(s.closed)
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *stream) run() {
	defer s.t.wg.Done()
	err := s.connect()
	if err == nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.read()
		}()
		err = s.write()
		s.close(err)
		<-done
	} else {
		s.close(err)
	}
	s.t.mu.Lock()
	s.t.count--
	if s.t.streams[s.addr] == s {
		delete(s.t.streams, s.addr)
	}
	s.t.mu.Unlock()
	for {
		select {
		case o := <-s.queue:
			if o.failed != nil {
				o.failed(err)
			}
		default:
			return
		}
	}
}

func (s *stream) connect() error {
	if s.conn != nil {
		return nil
	}
	addr, pending, err := s.t.resolve(s.addr)
	if pending {
		addr, err = s.t.lookup(s.addr)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.t.ctx, s.t.cfg.DialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("cannot connect to tcp %s: %w", s.addr, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		conn.Close()
		return s.err
	}
	s.conn = conn
	return nil
}

// write sends what is queued until the stream is closed.
func (s *stream) write() error {
	for {
		var o outgoing
		select {
		case o = <-s.queue:
		case <-s.pong:
			o = outgoing{text: "\r\n"}
		case <-s.closed:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.err
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.t.cfg.WriteTimeout))
		if _, err := s.conn.Write([]byte(o.text)); err != nil {
			err = fmt.Errorf("cannot send to tcp %s: %w", s.addr, err)
			if o.failed != nil {
				o.failed(err)
			}
			return err
		}
		if o.m != nil {
			s.t.hooks.Sent(o.m, o.text, o.route)
		}
	}
}

func (s *stream) read() {
	remote := s.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	in := Inbound{Listener: s.listener, Network: "tcp", Remote: remote, stream: s}
	var buf []byte
	chunk := make([]byte, 16<<10)
	for {
		if idle := s.t.cfg.IdleTimeout; idle > 0 {
			_ = s.conn.SetReadDeadline(time.Now().Add(idle))
		}
		n, err := s.conn.Read(chunk)
		if err != nil {
			s.close(fmt.Errorf("tcp %s was closed: %w", s.addr, err))
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			buf = s.keepAlive(buf)
			if len(buf) == 0 {
				break
			}
			length, problem := validate.Frame(buf)
			if problem != nil {
				// Without a boundary the rest cannot be read.
				s.t.refuse(buf, problem, in)
				s.close(problem)
				return
			}
			if length == 0 {
				break
			}
			raw := buf[:length]
			m, problem := s.t.parser.Message(raw)
			if problem != nil {
				s.t.refuse(raw, problem, in)
			} else {
				x := in
				x.Message, x.Text = m, string(raw)
				s.t.hand(x)
			}
			buf = buf[length:]
		}
		if len(buf) == 0 {
			buf = nil // let a large message's memory go
		}
	}
}

// keepAlive removes CRLFs between messages and answers a double one with a single
// one (RFC 5626 4.4.1).
func (s *stream) keepAlive(buf []byte) []byte {
	if len(buf) >= 4 && string(buf[:4]) == "\r\n\r\n" {
		select {
		case s.pong <- struct{}{}:
		default:
		}
	}
	for len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n' {
		buf = buf[2:]
	}
	return buf
}
