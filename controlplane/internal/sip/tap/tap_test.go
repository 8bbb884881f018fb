package tap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// bundle is a Tap with a TCP and a UDP listener that keeps what it is told.
type bundle struct {
	*Tap
	t       *testing.T
	in      chan Inbound
	refused chan string
	tcp     string
}

func setup(t *testing.T, change func(*Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, in: make(chan Inbound, 100), refused: make(chan string, 100)}
	cfg := Config{
		Listeners:   []Listener{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "udp", Address: "127.0.0.1:0"}},
		DialTimeout: time.Second, WriteTimeout: time.Second, MessageTimeout: time.Minute, MaxStreams: 10, MaxPerSource: 10,
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	b.Tap, err = Listen(cfg, Hooks{
		Message: func(in Inbound) { b.in <- in }, Sending: func(sip.Message, string, Route) {}, Sent: func(sip.Message, Route, error) {},
		Refused: func(p *validate.Problem, _ Inbound) bool { b.refused <- p.Reason; return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.tcp = b.Bound()[0].Local.String()
	b.Serve()
	t.Cleanup(b.Close)
	return b
}

func message(id string) *sip.Request {
	text := fmt.Sprintf("OPTIONS sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/TCP c.example;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:a@b.example>;tag=1\r\nTo: <sip:c@d.example>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", id, id)
	m, err := sip.ParseMessage([]byte(text))
	if err != nil {
		panic(err)
	}
	return m.(*sip.Request)
}

func (b *bundle) next() Inbound {
	b.t.Helper()
	select {
	case in := <-b.in:
		return in
	case <-time.After(patience):
		b.t.Fatal("no message came")
		panic("unreachable")
	}
}

// awaitStreams waits until no more streams are left.
func (b *bundle) awaitStreams(most int) {
	b.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); b.Streams() > most; <-ticker.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("there are %d streams", b.Streams())
		}
	}
}

// server accepts connections of the tap.
type server struct {
	t     *testing.T
	l     net.Listener
	conns chan net.Conn
}

func serve(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, l: l, conns: make(chan net.Conn, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for len(s.conns) > 0 {
			(<-s.conns).Close()
		}
	})
	return s
}

func (s *server) route() Route {
	return Route{Network: "tcp", Addr: s.l.Addr().(*net.TCPAddr).AddrPort()}
}

func (s *server) accept() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	select {
	case c := <-s.conns:
		s.t.Cleanup(func() { c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(patience))
		return c, bufio.NewReader(c)
	case <-time.After(patience):
		s.t.Fatal("no connection was made")
		panic("unreachable")
	}
}

// read takes one message and answers its Call-ID.
func (s *server) read(r *bufio.Reader) string {
	s.t.Helper()
	id := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		if v, ok := strings.CutPrefix(line, "Call-ID: "); ok {
			id = strings.TrimSpace(v)
		}
		if line == "\r\n" && id != "" {
			return id
		}
	}
}

// One connection serves all messages for a place; when it breaks, another is made,
// and what the peer may not have read goes again.
func TestReuseAndReconnection(t *testing.T) {
	b, s := setup(t, nil), serve(t)
	failed := func(err error) { t.Errorf("a message failed: %v", err) }
	for _, id := range []string{"one", "two"} {
		b.Send(message(id), s.route(), failed)
	}
	c, r := s.accept()
	for _, want := range []string{"one", "two"} {
		if got := s.read(r); got != want {
			t.Errorf("read %s, want %s", got, want)
		}
	}
	fmt.Fprint(c, message("answer").String())
	if got := b.next(); got.Message.CallID().Value() != "answer" {
		t.Errorf("received %s", got.Message.CallID().Value())
	}
	b.Send(message("three"), s.route(), failed)
	if got := s.read(r); got != "three" {
		t.Errorf("read %s", got)
	}
	c.Close() // without a word about "three"
	_, r = s.accept()
	if got := s.read(r); got != "three" {
		t.Errorf("after the break: %s", got)
	}
	b.Send(message("four"), s.route(), failed)
	if got := s.read(r); got != "four" {
		t.Errorf("then: %s", got)
	}
	b.Close() // before the server goes
}

func TestRefusedConnection(t *testing.T) {
	b := setup(t, nil)
	failed := make(chan error, 1)
	b.Send(message("x"), Route{Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:1")}, func(err error) { failed <- err })
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "tcp 127.0.0.1:1") {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
}

// Pings go out, their answers are awaited once the peer has shown that it knows
// them, and a connection without answers is given up.
func TestKeepAlive(t *testing.T) {
	b, s := setup(t, nil), serve(t)
	route := s.route()
	route.KeepAlive = 50 * time.Millisecond
	b.Send(message("one"), route, nil)
	c, r := s.accept()
	s.read(r)
	ping := make([]byte, 4)
	for range 3 { // not answered: it goes on all the same
		if _, err := io.ReadFull(r, ping); err != nil || string(ping) != "\r\n\r\n" {
			t.Fatalf("%q, %v", ping, err)
		}
	}
	fmt.Fprint(c, "\r\n")
	if rest, err := io.ReadAll(r); err != nil || strings.Trim(string(rest), "\r\n") != "" {
		t.Errorf("the connection goes on without answers: %q, %v", rest, err)
	}
	// Those who ping are answered, also when the ping comes in two pieces.
	p, err := net.Dial("tcp", b.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_ = p.SetDeadline(time.Now().Add(patience))
	for _, text := range []string{"\r\n\r\n", "\r\n"} {
		fmt.Fprint(p, text)
	}
	pong := make([]byte, 2)
	if _, err := io.ReadFull(p, pong); err != nil || string(pong) != "\r\n" {
		t.Errorf("%q, %v", pong, err)
	}
	fmt.Fprint(p, "\r\n")
	if _, err := io.ReadFull(p, pong); err != nil || string(pong) != "\r\n" {
		t.Errorf("in two pieces: %q, %v", pong, err)
	}
	// By UDP a ping is a datagram.
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	b.Ping(Route{Network: "udp", Listener: 1, Addr: u.LocalAddr().(*net.UDPAddr).AddrPort()})
	_ = u.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 100)
	if n, _, err := u.ReadFrom(buf); err != nil || string(buf[:n]) != "\r\n\r\n" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// A message must come to its end, and one source has a bounded number of
// connections.
func TestSlowAndMany(t *testing.T) {
	b := setup(t, func(c *Config) { c.MessageTimeout, c.MaxPerSource = 50*time.Millisecond, 2 })
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", b.tcp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
	slow := dial()
	fmt.Fprint(slow, "OPTIONS sip:a@b.example SIP/2.0\r\n")
	if _, err := slow.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("half a message: %v", err)
	}
	b.awaitStreams(0)
	held := []net.Conn{dial(), dial()}
	for i, c := range held {
		id := fmt.Sprint("m", i)
		fmt.Fprint(c, message(id).String())
		if got := b.next(); got.Message.CallID().Value() != id {
			t.Errorf("received %s", got.Message.CallID().Value())
		}
	}
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was accepted")
	}
	if got := <-b.refused; got != "connections" {
		t.Errorf("refused for %s", got)
	}
	held[0].Close()
	b.awaitStreams(1)
	fmt.Fprint(dial(), message("again").String())
	b.next()
}
