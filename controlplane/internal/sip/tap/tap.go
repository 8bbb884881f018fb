// Package tap owns the SIP sockets: UDP, TCP and TLS. Every message of every listener, in and out,
// passes one point of it: incoming ones are parsed, validated and handed on one
// after another per socket, in the order in which they were on the wire; outgoing
// ones leave in the order of the calls to Send for one destination. Nothing in it
// knows transactions.
//
// The parser and the message types are sipgo's. Its transports are not used,
// because they hand requests of one connection to a goroutine each (a CANCEL can
// overtake its INVITE), refuse to write any datagram above 1300 octets, responses
// included, keep a map entry for every source address ever seen, and offer no
// place to validate what came by TCP before it changes a transaction.
package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// Listener is one address to serve.
type Listener struct {
	// Network is "udp", "tcp" or "tls".
	Network string
	// Address is ip:port; port 0 takes a free one.
	Address string
	// Advertise is the host or host:port that Via and Contact show; empty for
	// the bound address.
	Advertise string
	// Key names the configuration key of Address, for errors.
	Key string
	// TLS is needed by network tls.
	TLS *tls.Config
}

// Bound is a listener in service.
type Bound struct {
	Network string
	Local   netip.AddrPort
	// Host and Port as advertised.
	Host string
	Port int
}

// HostPort is the advertised address for a URI or a Via.
func (b Bound) HostPort() string {
	return net.JoinHostPort(strings.Trim(b.Host, "[]"), strconv.Itoa(b.Port))
}

// Inbound is a message that arrived.
type Inbound struct {
	Message sip.Message
	// Listener index that it belongs to.
	Listener int
	Network  string
	Remote   netip.AddrPort
	// Names are the identities of the certificate that the peer proved (RFC 5922),
	// nil when there was none.
	Names []string
	// Text as it was on the wire.
	Text string
	// Label is for the user of the tap: what it found out before it passes the
	// message on.
	Label  string
	stream *stream
}

// Back is the route on which a response returns to where the request came from
// (RFC 3261 18.2.2, RFC 3581 4).
func (in Inbound) Back() Route {
	r := Route{Network: in.Network, Listener: in.Listener, Names: in.Names, stream: in.stream, Addr: in.Remote}
	via := in.Message.Via()
	if _, rport := via.Params.Get("rport"); !rport || in.Network != "udp" {
		// For a stream this is used only when the connection is gone.
		r.Addr = netip.AddrPortFrom(in.Remote.Addr(), sentBy(via, in.Network))
	}
	return r
}

// sentBy is the port of a Via.
func sentBy(via *sip.ViaHeader, network string) uint16 {
	switch {
	case via.Port > 0 && via.Port <= 65535:
		return uint16(via.Port)
	case network == "tls":
		return uint16(sip.DefaultTlsPort)
	}
	return uint16(sip.DefaultUdpPort)
}

// Route says where a message goes.
type Route struct {
	// Network is "udp", "tcp" or "tls".
	Network string
	// Listener whose socket is used (udp), or that is advertised (streams).
	Listener int
	Addr     netip.AddrPort

	// For streams that must be dialled:

	// Identity names the certificates to use, and ServerName what the server is
	// asked for (SNI).
	Identity, ServerName string
	// Names has the identity that a TLS server must prove, or several of which
	// one will do.
	Names []string
	// Patience bounds connecting; 0 for Config.DialTimeout.
	Patience time.Duration
	// KeepAlive is the time between pings (RFC 5626 3.5.1), 0 for none.
	KeepAlive time.Duration

	stream *stream
}

// Hooks are called by the tap. Message is called in wire order per socket and must
// not block. Sending is told of every message before it is written, so that
// nothing that answers it can have arrived yet, and Sent when it was, or with why
// it could not be. Refused is told of every message that was not accepted
// (in.Message is nil), and answers whether the sender is to be told. Admit is asked
// before anything of a source is read; nil admits everybody.
type Hooks struct {
	Message func(Inbound)
	Sending func(m sip.Message, text string, r Route)
	Sent    func(m sip.Message, r Route, err error)
	Refused func(p *validate.Problem, in Inbound) (answer bool)
	Admit   func(from netip.Addr) bool
}

// Config of a Tap.
type Config struct {
	Listeners []Listener
	// DialTimeout bounds connecting, TLS handshakes included. Above 0.
	DialTimeout time.Duration
	// WriteTimeout bounds one write to a stream. Above 0.
	WriteTimeout time.Duration
	// MessageTimeout bounds the time from the first to the last octet of a
	// message on a stream. Above 0.
	MessageTimeout time.Duration
	// IdleTimeout closes streams that carried nothing; 0 keeps them.
	IdleTimeout time.Duration
	// MaxStreams bounds the number of stream connections, MaxPerSource that of
	// those accepted from one address. Above 0.
	MaxStreams, MaxPerSource int
	Logger                   *slog.Logger
	// Client is the TLS configuration to connect with; needed when a Route says
	// tls.
	Client func(r Route) (*tls.Config, error)
}

// Tap serves the listeners.
type Tap struct {
	cfg    Config
	hooks  Hooks
	parser *validate.Parser
	bound  []Bound
	udp    []*net.UDPConn // nil where the listener is not udp
	tcp    []net.Listener // nil where the listener is udp

	mu      sync.Mutex
	streams map[string]*stream
	count   int
	sources map[netip.Addr]int // accepted streams
	closed  bool
	wg      sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc
}

// Listen binds all listeners. When one fails the others are released, and the
// error names the configuration key to change.
func Listen(cfg Config, hooks Hooks) (*Tap, error) {
	t := &Tap{cfg: cfg, hooks: hooks, parser: validate.New(), streams: map[string]*stream{}, sources: map[netip.Addr]int{}}
	t.ctx, t.stop = context.WithCancel(context.Background())
	for _, l := range cfg.Listeners {
		if err := t.bind(l); err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

func (t *Tap) bind(l Listener) error {
	var u *net.UDPConn
	var s net.Listener
	var local netip.AddrPort
	var err error
	switch l.Network {
	case "udp":
		var a *net.UDPAddr
		if a, err = net.ResolveUDPAddr("udp", l.Address); err == nil {
			if u, err = net.ListenUDP("udp", a); err == nil {
				// Bursts of set-ups must not be lost while one is handled.
				_ = u.SetReadBuffer(4 << 20)
				local = u.LocalAddr().(*net.UDPAddr).AddrPort()
			}
		}
	case "tcp", "tls":
		if l.Network == "tls" && l.TLS == nil {
			err = errors.New("a certificate is needed")
			break
		}
		if s, err = net.Listen("tcp", l.Address); err == nil {
			local = s.Addr().(*net.TCPAddr).AddrPort()
		}
	default:
		err = fmt.Errorf("network %q is not known", l.Network)
	}
	if err != nil {
		return fmt.Errorf("%s: listen for SIP on %s: %w", l.Key, l.Network, err)
	}
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	b := Bound{Network: l.Network, Local: local, Host: local.Addr().String(), Port: int(local.Port())}
	if l.Advertise != "" {
		b.Host = l.Advertise
		if h, p, err := net.SplitHostPort(l.Advertise); err == nil {
			b.Host = h
			if n, err := strconv.Atoi(p); err == nil && n > 0 {
				b.Port = n
			}
		}
	}
	if strings.Contains(b.Host, ":") && !strings.HasPrefix(b.Host, "[") {
		b.Host = "[" + b.Host + "]"
	}
	t.bound = append(t.bound, b)
	t.udp = append(t.udp, u)
	t.tcp = append(t.tcp, s)
	return nil
}

// Bound lists the listeners in the order of the configuration.
func (t *Tap) Bound() []Bound { return t.bound }

// Pick is the first listener of a network that serves the family of addr; of any
// family when addr is not valid. -1 when there is none.
func (t *Tap) Pick(network string, addr netip.Addr) int {
	for i, b := range t.bound {
		if b.Network == network && (!addr.IsValid() || serves(b.Local.Addr(), addr.Unmap())) {
			return i
		}
	}
	return -1
}

// serves tells whether a socket bound to local can reach addr: of the same family,
// or both when it is bound to ::.
func serves(local, addr netip.Addr) bool {
	return local.Is4() == addr.Is4() || local == netip.IPv6Unspecified()
}

// Streams is the number of stream connections.
func (t *Tap) Streams() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// Serve starts reading. It returns at once.
func (t *Tap) Serve() {
	for i := range t.bound {
		if t.udp[i] != nil {
			t.wg.Go(func() { t.readUDP(i) })
		}
		if t.tcp[i] != nil {
			t.wg.Go(func() { t.accept(i) })
		}
	}
}

// Close releases all sockets and waits for every goroutine of the tap.
func (t *Tap) Close() {
	t.mu.Lock()
	t.closed = true
	streams := make([]*stream, 0, len(t.streams))
	for _, s := range t.streams {
		streams = append(streams, s)
	}
	t.mu.Unlock()
	t.stop()
	for i := range t.bound {
		if t.udp[i] != nil {
			t.udp[i].Close()
		}
		if t.tcp[i] != nil {
			t.tcp[i].Close()
		}
	}
	for _, s := range streams {
		s.close(errClosed)
	}
	t.wg.Wait()
}

var errClosed = errors.New("the SIP transport is closed")

func (t *Tap) readUDP(i int) {
	buf := make([]byte, validate.MaxSize+1)
	for {
		n, from, err := t.udp[i].ReadFromUDPAddrPort(buf)
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// An ICMP error of an earlier datagram or a passing shortage: the
			// socket is still good.
			t.cfg.Logger.Debug("sip: udp read", "error", err)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !t.admit(from.Addr()) {
			continue
		}
		if strings.Trim(string(buf[:min(n, 8)]), "\r\n\x00") == "" {
			continue // keep-alive (RFC 5626 4.4.1)
		}
		m, problem := t.parser.Datagram(buf[:n])
		if problem != nil {
			t.refuse(buf[:n], problem, Inbound{Listener: i, Network: "udp", Remote: from})
			continue
		}
		t.hand(Inbound{Message: m, Listener: i, Network: "udp", Remote: from, Text: string(buf[:n])})
	}
}

func (t *Tap) admit(from netip.Addr) bool { return t.hooks.Admit == nil || t.hooks.Admit(from) }

// hand stamps a message with where it came from and passes it on.
func (t *Tap) hand(in Inbound) {
	network := strings.ToUpper(in.Network)
	in.Message.SetTransport(network)
	in.Message.SetSource(in.Remote.String())
	if req, ok := in.Message.(*sip.Request); ok {
		// RFC 3261 18.2.1 and RFC 3581 4: tell the sender how it is seen.
		via := req.Via()
		rport, asked := via.Params.Get("rport")
		if asked && rport == "" {
			via.Params.Add("rport", strconv.Itoa(int(in.Remote.Port())))
		}
		if a, err := netip.ParseAddr(strings.Trim(via.Host, "[]")); asked || err != nil || a.Unmap() != in.Remote.Addr() {
			via.Params.Add("received", in.Remote.Addr().String())
		}
	}
	t.hooks.Message(in)
}

func (t *Tap) refuse(raw []byte, p *validate.Problem, in Inbound) {
	in.Text = string(raw)
	if !t.hooks.Refused(p, in) {
		return
	}
	answer := validate.Refusal(raw, p, sip.GenerateTagN(10))
	if answer == nil {
		return
	}
	r := Route{Network: in.Network, Listener: in.Listener, Addr: in.Remote, stream: in.stream}
	t.write(r, nil, string(answer), func(error) {})
}

// Send writes a message. It never blocks; failed is called later, on another
// goroutine, when the message could not be handed to the transport, sent when it
// was. Both may be nil.
func (t *Tap) Send(m sip.Message, r Route, failed func(error)) {
	t.write(r, m, m.String(), failed)
}

// Ping keeps the way to a peer open (RFC 5626 3.5.1): by UDP with a datagram of
// CRLFs, by a stream through the stream itself when there is one.
func (t *Tap) Ping(r Route) {
	if r.Network == "udp" {
		t.write(r, nil, "\r\n\r\n", nil)
	}
}

func (t *Tap) write(r Route, m sip.Message, text string, failed func(error)) {
	var err error
	switch r.Network {
	case "udp":
		err = t.writeUDP(r, m, text)
	case "tcp", "tls":
		err = t.writeStream(outgoing{m: m, text: text, route: r, failed: failed})
	default:
		err = fmt.Errorf("network %q is not served", r.Network)
	}
	if err != nil && failed != nil {
		t.async(func() { failed(err) })
	}
}

func (t *Tap) writeUDP(r Route, m sip.Message, text string) error {
	if r.Listener < 0 || r.Listener >= len(t.udp) || t.udp[r.Listener] == nil {
		return errors.New("no udp listener to send from")
	}
	conn, addr := t.udp[r.Listener], r.Addr
	if conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil && addr.Addr().Is4() {
		addr = netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
	}
	if m != nil {
		t.hooks.Sending(m, text, r)
	}
	_, err := conn.WriteToUDPAddrPort([]byte(text), addr)
	if err != nil {
		err = fmt.Errorf("cannot send to udp %s: %w", r.Addr, err)
	}
	if m != nil {
		t.hooks.Sent(m, r, err)
	}
	return err
}

// async runs f on a goroutine that Close waits for.
func (t *Tap) async(f func()) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.wg.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.wg.Done()
		f()
	}()
}
