package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
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

// streamKey is that of streams to be dialled, with what they must prove; those
// that were accepted have neither identity nor names.
func streamKey(network, identity string, addr netip.AddrPort, names []string) string {
	return network + "|" + identity + "|" + addr.String() + "|" + strings.Join(names, ",")
}

// newStream begins a stream; the caller holds t.mu.
func (t *Tap) newStream(r Route, conn net.Conn) (*stream, error) {
	s := &stream{t: t, route: r, conn: conn, accepted: conn != nil, key: streamKey(r.Network, r.Identity, r.Addr, r.Names),
		queue: make(chan outgoing, queueLength), closed: make(chan struct{}), pong: make(chan struct{}, 1), heard: make(chan struct{}, 1)}
	if t.closed {
		return nil, errClosed
	}
	if t.count >= t.cfg.MaxStreams {
		return nil, fmt.Errorf("there are %d stream connections, the most that are allowed", t.count)
	}
	if s.accepted {
		if n := t.sources[r.Addr.Addr()]; n >= t.cfg.MaxPerSource {
			return nil, fmt.Errorf("there are %d stream connections from this address, the most that are allowed", n)
		}
		t.sources[r.Addr.Addr()]++
	}
	t.count++
	t.streams[s.key] = s
	t.wg.Add(1)
	go s.run()
	return s, nil
}

// writeStream queues a message for the stream of its route, which it makes when
// there is none.
func (t *Tap) writeStream(o outgoing) error {
	t.mu.Lock()
	s := t.existing(o.route)
	if s == nil {
		var err error
		r := o.route
		r.stream = nil
		if s, err = t.newStream(r, nil); err != nil {
			t.mu.Unlock()
			return err
		}
		o.fresh = true
	}
	t.mu.Unlock()
	return s.enqueue(o)
}

// existing finds a live stream for a route: the one that it came by, one dialled
// for the same purpose, or one that the peer opened from that address, provided
// that it has proved to be who is meant. The caller holds t.mu.
func (t *Tap) existing(r Route) *stream {
	if r.stream != nil && r.stream.alive() {
		return r.stream
	}
	if s := t.streams[streamKey(r.Network, r.Identity, r.Addr, r.Names)]; s != nil && s.alive() {
		return s
	}
	if s := t.streams[streamKey(r.Network, "", r.Addr, nil)]; s != nil && s.alive() && (r.Network != "tls" || certificate.Matches(s.peer(), r.Names)) {
		return s
	}
	return nil
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
		remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
		if !t.admit(remote.Addr()) {
			conn.Close()
			continue
		}
		if t.bound[i].Network == "tls" {
			conn = tls.Server(conn, t.cfg.Listeners[i].TLS)
		}
		t.mu.Lock()
		_, err = t.newStream(Route{Network: t.bound[i].Network, Listener: i, Addr: remote}, conn)
		t.mu.Unlock()
		if err != nil {
			t.hooks.Refused(&validate.Problem{Reason: "connections", Detail: err.Error()}, Inbound{Listener: i, Network: t.bound[i].Network, Remote: remote})
			conn.Close()
		}
	}
}

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
		if time.Since(w.at) < lastMoments && !errors.Is(err, errClosed) {
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

// remove forgets a stream that is closed.
func (t *Tap) remove(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	for _, key := range []string{s.key, s.alias} {
		if t.streams[key] == s {
			delete(t.streams, key)
		}
	}
	if !s.accepted {
		return
	}
	from := s.route.Addr.Addr()
	if t.sources[from]--; t.sources[from] <= 0 {
		delete(t.sources, from)
	}
}

// missed gives a message that a stream did not take a second chance on another:
// the peer may have closed the old one in the very moment.
func (t *Tap) missed(o outgoing, err error) {
	if !o.fresh && !errors.Is(err, errClosed) {
		o.fresh, o.route.stream = true, nil
		if err = t.writeStream(o); err == nil {
			return
		}
	}
	if o.failed != nil {
		o.failed(err)
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
		if o.m != nil {
			s.note(o) // before it is answered
			s.t.hooks.Sending(o.m, o.text, o.route)
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.t.cfg.WriteTimeout))
		_, err := s.conn.Write([]byte(o.text))
		if err != nil {
			err = fmt.Errorf("cannot send to %s: %w", s, err)
		}
		if o.m != nil {
			s.t.hooks.Sent(o.m, o.route, err)
		}
		if err != nil {
			return err
		}
	}
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

func (s *stream) read() {
	in := Inbound{Listener: s.route.Listener, Network: s.route.Network, Remote: s.route.Addr, Names: s.peer(), stream: s}
	var buf []byte
	var begun time.Time // when the message that is not complete began
	chunk := make([]byte, 16<<10)
	for {
		_ = s.conn.SetReadDeadline(s.deadline(begun))
		n, err := s.conn.Read(chunk)
		if err != nil {
			s.close(fmt.Errorf("%s was closed: %w", s, err))
			return
		}
		if !s.t.admit(in.Remote.Addr()) {
			s.close(errors.New("the source is blocked"))
			return
		}
		s.mu.Lock()
		s.written = nil
		s.mu.Unlock()
		if len(buf) == 0 {
			begun = time.Now()
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
				s.part(problem)
				return
			}
			if length == 0 {
				break
			}
			s.message(buf[:length], in)
			buf = buf[length:]
			begun = time.Now()
		}
		if len(buf) == 0 {
			buf, begun = nil, time.Time{} // let a large message's memory go
		}
	}
}

// farewell bounds how long the end of a peer's stream is awaited.
const farewell = time.Second

// part ends a stream after all that is queued for it. What the peer still sends is
// read and dropped: closing on it would reset the connection, and the peer would
// not see the last answer.
func (s *stream) part(problem error) {
	if s.enqueue(outgoing{last: true, fresh: true}) == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(farewell))
		_, _ = io.CopyN(io.Discard, s.conn, 1<<20)
	}
	s.close(problem)
}

// deadline of the next read: idle streams may wait longer than half a message.
func (s *stream) deadline(begun time.Time) time.Time {
	if !begun.IsZero() {
		return begun.Add(s.t.cfg.MessageTimeout)
	}
	if idle := s.t.cfg.IdleTimeout; idle > 0 {
		return time.Now().Add(idle)
	}
	return time.Time{}
}

// message takes one message of the stream.
func (s *stream) message(raw []byte, in Inbound) {
	m, problem := s.t.parser.Message(raw)
	if problem != nil {
		s.t.refuse(raw, problem, in)
		return
	}
	in.Message, in.Text = m, string(raw)
	s.learnAlias(in)
	s.t.hand(in)
}

// learnAlias lets requests to the peer take the connection that it opened, when it
// wishes so and has proved its name (RFC 5923).
func (s *stream) learnAlias(in Inbound) {
	if !s.accepted || len(in.Names) == 0 {
		return
	}
	req, ok := in.Message.(*sip.Request)
	if !ok || s.alias != "" {
		return
	}
	via := req.Via()
	if _, wishes := via.Params.Get("alias"); !wishes {
		return
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.alias = streamKey(s.route.Network, "", netip.AddrPortFrom(in.Remote.Addr(), sentBy(via, in.Network)), nil)
	s.t.streams[s.alias] = s
}

// keepAlive removes CRLFs between messages: a double one is a ping, answered with
// a single one, a single one is a pong (RFC 5626 4.4.1). A ping may come in two
// pieces: where none is sent from here there is no pong to mistake them for.
func (s *stream) keepAlive(buf []byte) []byte {
	ping := len(buf) >= 4 && string(buf[:4]) == "\r\n\r\n"
	for len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n' {
		buf = buf[2:]
		if s.route.KeepAlive == 0 {
			s.crlfs++
			ping = s.crlfs%2 == 0
		}
		told := s.heard
		if ping {
			told = s.pong
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
	if len(buf) > 0 {
		s.crlfs = 0
	}
	return buf
}
