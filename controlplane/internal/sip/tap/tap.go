// Package tap owns the SIP sockets. Every message of every listener, in and out,
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
	// Network is "udp" or "tcp".
	Network string
	// Address is ip:port; port 0 takes a free one.
	Address string
	// Advertise is the host or host:port that Via and Contact show; empty for
	// the bound address.
	Advertise string
	// Key names the configuration key of Address, for errors.
	Key string
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
	r := Route{Network: in.Network, Listener: in.Listener, stream: in.stream, Addr: in.Remote.String()}
	via := in.Message.Via()
	if _, rport := via.Params.Get("rport"); !rport || in.Network != "udp" {
		// For a stream this is used only when the connection is gone.
		port := via.Port
		if port == 0 {
			port = sip.DefaultUdpPort
		}
		r.Addr = netip.AddrPortFrom(in.Remote.Addr(), uint16(port)).String()
	}
	return r
}

// Route says where a message goes.
type Route struct {
	Network string
	// Listener whose socket is used (udp), or that is advertised (tcp).
	Listener int
	// Addr is host:port.
	Addr   string
	stream *stream
}

// Hooks are called by the tap. Message is called in wire order per socket and must
// not block. Sent is told of every message that left, Refused of every one that
// was not accepted.
type Hooks struct {
	Message func(Inbound)
	Sent    func(m sip.Message, text string, r Route)
	Refused func(p *validate.Problem, text string, network string, from netip.AddrPort)
}

// Config of a Tap.
type Config struct {
	Listeners []Listener
	// DialTimeout bounds connecting and name resolution. Above 0.
	DialTimeout time.Duration
	// WriteTimeout bounds one write to a stream. Above 0.
	WriteTimeout time.Duration
	// IdleTimeout closes streams that carried nothing; 0 keeps them.
	IdleTimeout time.Duration
	// MaxStreams bounds the number of stream connections. Above 0.
	MaxStreams int
	Logger     *slog.Logger
	// Resolver for host names; nil for the system's.
	Resolver *net.Resolver
}

// Tap serves the listeners.
type Tap struct {
	cfg    Config
	hooks  Hooks
	parser *validate.Parser
	bound  []Bound
	udp    []*net.UDPConn // nil where the listener is not udp
	tcp    []net.Listener // nil where the listener is not tcp

	mu      sync.Mutex
	streams map[string]*stream
	count   int
	names   map[string]resolved
	closed  bool
	wg      sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc
}

type resolved struct {
	addrs []netip.Addr
	until time.Time
}

// Listen binds all listeners. When one fails the others are released, and the
// error names the configuration key to change.
func Listen(cfg Config, hooks Hooks) (*Tap, error) {
	t := &Tap{cfg: cfg, hooks: hooks, parser: validate.New(), streams: map[string]*stream{}, names: map[string]resolved{}}
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
	case "tcp":
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

// Pick is the first listener of a network, preferring the family of addr; -1 when
// there is none.
func (t *Tap) Pick(network string, addr netip.Addr) int {
	best := -1
	for i, b := range t.bound {
		if b.Network != network {
			continue
		}
		if best < 0 {
			best = i
		}
		if addr.IsValid() && (b.Local.Addr().Is4() == addr.Unmap().Is4() || b.Local.Addr().IsUnspecified()) {
			return i
		}
	}
	return best
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
		if strings.Trim(string(buf[:min(n, 8)]), "\r\n\x00") == "" {
			continue // keep-alive (RFC 5626 4.4.1)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		m, problem := t.parser.Datagram(buf[:n])
		if problem != nil {
			t.refuse(buf[:n], problem, Inbound{Listener: i, Network: "udp", Remote: from})
			continue
		}
		t.hand(Inbound{Message: m, Listener: i, Network: "udp", Remote: from, Text: string(buf[:n])})
	}
}

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
	t.hooks.Refused(p, string(raw), in.Network, in.Remote)
	answer := validate.Refusal(raw, p, sip.GenerateTagN(10))
	if answer == nil {
		return
	}
	r := Route{Network: in.Network, Listener: in.Listener, Addr: in.Remote.String(), stream: in.stream}
	t.write(r, nil, string(answer), func(error) {})
}

// Send writes a message. It never blocks; failed is called later, on another
// goroutine, when the message could not be handed to the transport, sent when it
// was. Both may be nil.
func (t *Tap) Send(m sip.Message, r Route, failed func(error)) {
	t.write(r, m, m.String(), failed)
}

func (t *Tap) write(r Route, m sip.Message, text string, failed func(error)) {
	fail := func(err error) {
		if failed != nil {
			t.async(func() { failed(err) })
		}
	}
	switch r.Network {
	case "udp":
		if r.Listener < 0 || r.Listener >= len(t.udp) || t.udp[r.Listener] == nil {
			fail(errors.New("no udp listener to send from"))
			return
		}
		addr, pending, err := t.resolve(r.Addr)
		if pending {
			t.async(func() {
				addr, err := t.lookup(r.Addr)
				if err == nil {
					err = t.writeUDP(r, addr, m, text)
				}
				if err != nil && failed != nil {
					failed(err)
				}
			})
			return
		}
		if err == nil {
			err = t.writeUDP(r, addr, m, text)
		}
		if err != nil {
			fail(err)
		}
	case "tcp":
		s, err := t.streamFor(r)
		if err == nil {
			err = s.enqueue(outgoing{m: m, text: text, route: r, failed: failed})
		}
		if err != nil {
			fail(err)
		}
	default:
		fail(fmt.Errorf("network %q is not served", r.Network))
	}
}

func (t *Tap) writeUDP(r Route, addr netip.AddrPort, m sip.Message, text string) error {
	conn := t.udp[r.Listener]
	if conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil && addr.Addr().Is4() {
		addr = netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
	}
	if _, err := conn.WriteToUDPAddrPort([]byte(text), addr); err != nil {
		return fmt.Errorf("cannot send to udp %s: %w", r.Addr, err)
	}
	if m != nil {
		t.hooks.Sent(m, text, r)
	}
	return nil
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

// resolve answers at once for literal and cached addresses.
func (t *Tap) resolve(hostport string) (addr netip.AddrPort, pending bool, err error) {
	if a, err := netip.ParseAddrPort(hostport); err == nil {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), false, nil
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, false, fmt.Errorf("address %q: %w", hostport, err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, false, fmt.Errorf("address %q: bad port", hostport)
	}
	t.mu.Lock()
	e, ok := t.names[host]
	t.mu.Unlock()
	if !ok || time.Now().After(e.until) {
		return netip.AddrPort{}, true, nil
	}
	return netip.AddrPortFrom(e.addrs[0], uint16(p)), false, nil
}

const nameLife = 30 * time.Second

// lookup resolves a name and remembers it for nameLife.
func (t *Tap) lookup(hostport string) (netip.AddrPort, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, err
	}
	r := t.cfg.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.DialTimeout)
	defer cancel()
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.AddrPort{}, fmt.Errorf("cannot resolve %s: %w", host, err)
	}
	best := addrs[0].Unmap()
	for _, a := range addrs {
		if a.Unmap().Is4() {
			best = a.Unmap()
			break
		}
	}
	t.mu.Lock()
	if len(t.names) > 10000 {
		clear(t.names)
	}
	t.names[host] = resolved{addrs: []netip.Addr{best}, until: time.Now().Add(nameLife)}
	t.mu.Unlock()
	a, _, err := t.resolve(hostport)
	return a, err
}
