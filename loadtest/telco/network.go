package telco

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Timers of RFC 3261 section 17.1.1.1.
const (
	defaultT1 = 500 * time.Millisecond
	defaultT2 = 4 * time.Second
)

// Network is a running simulated network. Make one with New, which binds the
// listeners, and let Run serve them.
type Network struct {
	cfg       Config
	log       *slog.Logger
	t1, t2    time.Duration
	numbers   map[string]Number
	order     []Number
	passwords map[string]string // listed subscribers
	normalize normalizer

	host      string // advertised host, without brackets
	udp       *tracedPacketConn
	tcp       *tracedListener
	transport *sip.TransportLayer
	txs       *sip.TransactionLayer
	pending   pendingResponses
	registrar *registrar
	ports     *portRange
	// authorize answers digest challenges; nil when the network has no
	// credentials of its own.
	authorize func(challenge *sip.Response, method sip.RequestMethod, uri string) (sip.Header, error)

	ctx      context.Context // ends with Run
	stop     context.CancelFunc
	work     sync.WaitGroup // goroutines that belong to calls
	ran      atomic.Bool
	quit     chan struct{} // closed by Close
	quitOnce sync.Once

	mu       sync.Mutex
	closing  bool
	legs     map[string]*leg
	handlers map[string]func(context.Context, *Call)
}

// New validates the configuration and binds the listeners. Nothing is served
// before Run; a Network that never runs must be closed.
func New(cfg Config) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Network{
		cfg:       cfg,
		log:       cfg.Logger,
		t1:        defaultT1,
		t2:        defaultT2,
		numbers:   map[string]Number{},
		passwords: map[string]string{},
		quit:      make(chan struct{}),
		legs:      map[string]*leg{},
		handlers:  map[string]func(context.Context, *Call){},
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	for _, number := range append(DemoNumbers(), cfg.Numbers...) {
		n.numbers[number.Number] = number
	}
	for _, number := range append(DemoNumbers(), cfg.Numbers...) {
		if current, ok := n.numbers[number.Number]; ok && current == number {
			n.order = append(n.order, number)
		}
	}
	for _, s := range cfg.Subscribers {
		n.passwords[s.Number] = s.Password
	}
	n.normalize = normalizer{country: cfg.CountryCode, known: n.inService}
	n.registrar = newRegistrar(n)
	if err := n.listen(); err != nil {
		return nil, err
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// listen binds UDP and TCP on the same port.
func (n *Network) listen() error {
	host, port, _ := splitHostPort(n.cfg.Listen)
	n.host = n.cfg.Advertise
	if n.host == "" {
		n.host = host
	}
	rtpAddress := n.cfg.RTPAddress
	if rtpAddress == "" {
		rtpAddress = host
	}
	n.ports = newPortRange(netip.MustParseAddr(rtpAddress), n.cfg.PortMin, n.cfg.PortMax)

	var lastErr error
	for range 20 { // a free UDP port may be taken on TCP
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host), Port: port})
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err != nil {
			udp.Close()
			lastErr = fmt.Errorf("listen: %w", err)
			if port != 0 {
				return lastErr
			}
			continue
		}
		n.udp = &tracedPacketConn{PacketConn: udp, trace: n.trace, ready: make(chan struct{})}
		n.tcp = newTracedListener(tcp, n.trace)
		n.newLayers()
		return nil
	}
	return lastErr
}

func (n *Network) newLayers() {
	// The library is chatty about what a peer may cause at any time.
	quiet := slog.New(minimumLevel{n.log.Handler(), slog.LevelWarn})
	n.transport = sip.NewTransportLayer(net.DefaultResolver, sip.NewParser(), nil,
		sip.WithTransportLayerLogger(quiet))
	// First the tap, then the transactions: a response is in its queue before
	// it can end the transaction, and a message is traced before a handler
	// may change it.
	n.transport.OnMessage(n.tapResponse)
	n.txs = sip.NewTransactionLayer(n.transport,
		sip.WithTransactionLayerLogger(quiet),
		sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {}))
	n.txs.OnRequest(n.handleRequest)
}

// Addr returns the bound SIP address, the same for UDP and TCP.
func (n *Network) Addr() netip.AddrPort {
	return netip.MustParseAddrPort(n.udp.LocalAddr().String())
}

// Domain returns the network's domain.
func (n *Network) Domain() string { return n.cfg.Domain }

// Numbers returns the demo numbers with the configured changes.
func (n *Network) Numbers() []Number { return append([]Number(nil), n.order...) }

// SetGateway changes where calls to unregistered subscribers go, for when the
// gateway's address is known only after the network's.
func (n *Network) SetGateway(hostPort string) error {
	if _, port, err := splitHostPort(hostPort); err != nil || port == 0 {
		return fmt.Errorf("telco network: gateway %q is not host:port", hostPort)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cfg.Gateway = hostPort
	return nil
}

func (n *Network) gateway() (hostPort, transport string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cfg.Gateway, strings.ToUpper(n.cfg.GatewayTransport)
}

// Handle lets answer play the calls to a number, in place of a scenario. The
// call ends when answer returns. A nil answer removes the handler.
func (n *Network) Handle(number string, answer func(ctx context.Context, c *Call)) error {
	if !isE164(number) {
		return fmt.Errorf("telco network: handle calls to %q: not an E.164 number with a plus sign", number)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if answer == nil {
		delete(n.handlers, number)
	} else {
		n.handlers[number] = answer
	}
	return nil
}

func (n *Network) inService(number string) bool {
	n.mu.Lock()
	_, handled := n.handlers[number]
	n.mu.Unlock()
	_, listed := n.numbers[number]
	return handled || listed || n.isSubscriber(number)
}

// isSubscriber reports whether the gateway serves the number.
func (n *Network) isSubscriber(number string) bool {
	if _, ok := n.passwords[number]; ok {
		return true
	}
	for _, prefix := range n.cfg.Prefixes {
		if strings.HasPrefix(number, prefix) {
			return true
		}
	}
	return false
}

// Run serves until ctx ends, then says goodbye to the calls that are left and
// returns nil. It returns an error when a listener fails. It runs once.
func (n *Network) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("telco network: Run was called twice")
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- n.transport.ServeUDP(n.udp) })
	serving.Go(func() { failed <- n.transport.ServeTCP(n.tcp) })
	n.log.Info("simulated network is serving", "address", n.Addr().String(), "domain", n.cfg.Domain)

	var err error
	select {
	case <-ctx.Done():
	case <-n.quit:
	case err = <-failed:
		err = fmt.Errorf("telco network: listener on %s: %w", n.Addr(), err)
	}
	n.shutDown()
	serving.Wait()
	return err
}

// Close releases a network that was never run, or makes Run end.
func (n *Network) Close() error {
	n.quitOnce.Do(func() { close(n.quit) })
	if n.ran.Swap(true) {
		return nil // Run does the rest
	}
	n.stop()
	return errors.Join(n.udp.Close(), n.tcp.Close())
}

// shutDown ends the calls and gives the peers a moment to answer the BYEs.
func (n *Network) shutDown() {
	n.mu.Lock()
	n.closing = true
	legs := make([]*leg, 0, len(n.legs))
	for _, l := range n.legs {
		legs = append(legs, l)
	}
	n.mu.Unlock()

	grace, cancel := context.WithTimeout(context.Background(), 2*n.t1)
	defer cancel()
	var goodbyes sync.WaitGroup
	for _, l := range legs {
		goodbyes.Go(func() { l.hangUp(grace, cause{Code: 503, Text: "Network shutting down", Q850: 41}) })
	}
	goodbyes.Wait()

	n.mu.Lock() // goWork starts nothing after this
	n.stop()
	n.mu.Unlock()
	n.work.Wait()
	// Without its listener the library would open sockets of its own for what
	// it still has to send. So nobody sends any more before it goes, and
	// requests that were read a moment ago have had the time to be answered.
	n.udp.mute()
	time.Sleep(n.t1 / 10)
	n.txs.Close()
	n.udp.Close()
	n.tcp.Close()
	if err := n.transport.Close(); err != nil {
		n.log.Debug("closing transports", "error", err)
	}
}

// goWork runs f as part of the network, unless it is closing.
func (n *Network) goWork(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return false
	}
	n.work.Go(f)
	return true
}

// pause waits for a scenario's pause d, scaled.
func (n *Network) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(time.Duration(float64(d) * n.cfg.TimeScale))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (n *Network) trace(direction Direction, remote, message string) {
	if n.cfg.Trace != nil {
		n.cfg.Trace(direction, remote, message)
	}
	n.log.Debug("SIP message", "direction", direction, "remote", remote, "message", message)
}

// minimumLevel drops records below a level.
type minimumLevel struct {
	slog.Handler
	level slog.Level
}

// Enabled implements slog.Handler.
func (m minimumLevel) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= m.level && m.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (m minimumLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	return minimumLevel{m.Handler.WithAttrs(attrs), m.level}
}

// WithGroup implements slog.Handler.
func (m minimumLevel) WithGroup(name string) slog.Handler {
	return minimumLevel{m.Handler.WithGroup(name), m.level}
}
