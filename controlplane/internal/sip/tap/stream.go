package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
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
	// fresh: the stream was dialled for this message, or it has been moved to
	// another stream already: when it fails there is no other try.
	fresh bool
	// last: nothing follows, the peer is told so.
	last bool
}

// stream is one connection, accepted or to be dialled. A writer goroutine keeps
// the order of Send and dials before the first message; a reader follows the
// framing of RFC 3261 18.3.
type stream struct {
	t     *Tap
	route Route
	// key under which it is found; an alias (RFC 5923) adds another.
	key      string
	accepted bool
	queue    chan outgoing

	mu     sync.Mutex
	conn   net.Conn
	names  []string // of the peer's certificate
	alias  string
	err    error
	closed chan struct{}
	pong   chan struct{}
	// written since the peer was heard last; when it hangs up now, it may not have
	// read them.
	written []sent
	// heard is told of every pong of the peer.
	heard chan struct{}
	// crlfs counts those since the last message; the reader's own.
	crlfs int
}

// sent is a message and when it was written.
type sent struct {
	outgoing
	at time.Time
}

// What was written in the last moments before a peer hung up is sent again: as a
// message comes with its branch, a peer that has it takes it for a retransmission.
const (
	lastMoments = 5 * time.Second
	maxWritten  = 64
)

// peer lists the names that the other end has proved.
func (s *stream) peer() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names
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
		return fmt.Errorf("%s takes no more messages", s)
	}
}

func (s *stream) String() string { return s.route.Network + " " + s.route.Addr.String() }

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
	s.t.remove(s)
	s.mu.Lock()
	written := s.written
	s.mu.Unlock()
	for _, w := range written {
		// What went twice is left to its transaction: the answer may still come on
		// a connection of the peer's.
		if !w.fresh && !errors.Is(err, errClosed) && time.Since(w.at) < lastMoments {
			s.t.missed(w.outgoing, err)
		}
	}
	for {
		select {
		case o := <-s.queue:
			s.t.missed(o, err)
		default:
			return
		}
	}
}

// connect dials, and shakes hands when that is asked for.
func (s *stream) connect() error {
	patience := s.t.cfg.DialTimeout
	if s.route.Patience > 0 {
		patience = s.route.Patience
	}
	ctx, cancel := context.WithTimeout(s.t.ctx, patience)
	defer cancel()
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = s.dial(ctx); err != nil {
			return fmt.Errorf("cannot connect to %s: %w", s, err)
		}
	}
	names, err := shake(ctx, conn)
	if err != nil {
		conn.Close()
		if s.t.ctx.Err() == nil && s.accepted {
			s.t.hooks.Refused(&validate.Problem{Reason: "tls_handshake", Detail: err.Error()}, Inbound{Listener: s.route.Listener, Network: s.route.Network, Remote: s.route.Addr})
		}
		return fmt.Errorf("cannot connect to %s: %w", s, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		conn.Close()
		return s.err
	}
	s.conn, s.names = conn, names
	return nil
}

func (s *stream) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if s.route.Network != "tls" {
		return d.DialContext(ctx, "tcp", s.route.Addr.String())
	}
	if s.t.cfg.Client == nil {
		return nil, errors.New("TLS is not configured")
	}
	config, err := s.t.cfg.Client(s.route)
	if err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, "tcp", s.route.Addr.String())
	if err != nil {
		return nil, err
	}
	return tls.Client(conn, config), nil
}

// shake makes the TLS handshake, if any, and answers what the peer proved.
func shake(ctx context.Context, conn net.Conn) ([]string, error) {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if peers := c.ConnectionState().PeerCertificates; len(peers) > 0 {
		return certificate.Names(peers[0]), nil
	}
	return nil, nil
}

// pongWait is how long a ping may be unanswered (RFC 5626 4.4.1).
const pongWait = 10 * time.Second

// write sends what is queued until the stream is closed, and pings.
func (s *stream) write() error {
	var ping, late <-chan time.Time
	if s.route.KeepAlive > 0 {
		ticker := time.NewTicker(s.route.KeepAlive)
		defer ticker.Stop()
		ping = ticker.C
	}
	answers := false // a peer that never answered a ping does not know them
	for {
		var o outgoing
		select {
		case o = <-s.queue:
		case <-s.pong:
			o = outgoing{text: "\r\n", fresh: true}
		case <-ping:
			o = outgoing{text: "\r\n\r\n", fresh: true}
			if answers && late == nil {
				late = time.After(min(pongWait, s.route.KeepAlive))
			}
		case <-s.heard:
			answers, late = true, nil
			continue
		case <-late:
			return fmt.Errorf("%s does not answer keep-alives any more", s)
		case <-s.closed:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.err
		}
		if o.last {
			if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			continue
		}
		if err := s.send(o); err != nil {
			s.t.missed(o, err)
			return err
		}
	}
}

// send writes one message. When it fails the stream is closed.
func (s *stream) send(o outgoing) error {
	if o.m != nil {
		s.note(o) // before it is answered
		s.t.hooks.Sending(o.m, o.text, o.route)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.t.cfg.WriteTimeout))
	_, err := s.conn.Write([]byte(o.text))
	if err != nil {
		err = fmt.Errorf("cannot send to %s: %w", s, err)
		s.close(err)
	}
	if o.m != nil {
		if err != nil {
			s.forget() // it is missed
		}
		s.t.hooks.Sent(o.m, o.route, err)
	}
	return err
}

// forget drops what was noted last.
func (s *stream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = s.written[:max(0, len(s.written)-1)]
}

// note remembers a message that is written.
func (s *stream) note(o outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.written) >= maxWritten {
		s.written = s.written[1:]
	}
	s.written = append(s.written, sent{o, time.Now()})
}
