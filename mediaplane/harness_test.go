package mediaplane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

func TestMain(m *testing.M) {
	if os.Getenv(benchNode) != "" {
		os.Exit(runBenchNode())
	}
	goleak.VerifyTestMain(m)
}

const (
	secret  = "a secret of the two planes"
	patient = 15 * time.Second
)

// node is a running media node with a client and everything it has reported.
type node struct {
	t      *testing.T
	plane  *mediaplane.Plane
	client mediav1connect.MediaNodeClient
	stop   func()
	events *events
	gather *prometheus.Registry
}

// metric is the value of a counter with the given label values.
func (n *node) metric(name string, labels ...string) float64 {
	n.t.Helper()
	families, err := n.gather.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	n.t.Fatalf("no metric %s %v", name, labels)
	return 0
}

func config() mediaplane.Config {
	cfg := mediaplane.Default()
	cfg.NodeID = "test"
	cfg.RPC.Listen = "127.0.0.1:0"
	cfg.RPC.SharedSecret = secret
	cfg.WebRTC.Bind = []string{"127.0.0.1"}
	cfg.WebRTC.Port = 0
	cfg.RTP.Bind = []string{"127.0.0.1"}
	cfg.RTP.PortMin, cfg.RTP.PortMax = 31000, 31999
	cfg.Timers.Heartbeat = 20 * time.Millisecond
	cfg.Timers.Tick = 20 * time.Millisecond
	cfg.Timers.Quality = 200 * time.Millisecond
	cfg.Timers.Checkpoint = 100 * time.Millisecond
	return cfg
}

// start runs a node until the test ends, and watches it.
func start(t *testing.T, change func(*mediaplane.Config)) *node {
	t.Helper()
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	gather := prometheus.NewRegistry()
	plane, err := mediaplane.New(cfg, mediaplane.Deps{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: gather})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	transport := h2c()
	n := &node{t: t, plane: plane, client: client(plane.URL(), secret, transport), events: newEvents(), gather: gather}
	var once sync.Once
	n.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			n.events.wait()
			transport.CloseIdleConnections()
		})
	}
	t.Cleanup(n.stop)
	n.events.watch(t, n.client)
	return n
}

func h2c() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols}
}

type withToken struct {
	token string
	next  http.RoundTripper
}

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	return w.next.RoundTrip(r)
}

func client(url, token string, transport http.RoundTripper) mediav1connect.MediaNodeClient {
	return mediav1connect.NewMediaNodeClient(&http.Client{Transport: withToken{token, transport}}, url)
}

func (n *node) apply(spec *mediav1.SessionSpec) *mediav1.SessionState {
	n.t.Helper()
	state, err := n.tryApply(spec)
	if err != nil {
		n.t.Fatalf("ApplySession: %v", err)
	}
	return state
}

func (n *node) tryApply(spec *mediav1.SessionSpec) (*mediav1.SessionState, error) {
	resp, err := n.client.ApplySession(context.Background(), connect.NewRequest(&mediav1.ApplySessionRequest{Spec: spec}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetState(), nil
}

func (n *node) node() *mediav1.Node {
	n.t.Helper()
	resp, err := n.client.GetNode(context.Background(), connect.NewRequest(&mediav1.GetNodeRequest{}))
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.Msg.GetNode()
}

// events collects what a node reports.
type events struct {
	mu       sync.Mutex
	changed  chan struct{}
	list     []*mediav1.SessionEvent
	snapshot *mediav1.Snapshot
	beats    int
	done     chan struct{}
	cancel   context.CancelFunc
}

func newEvents() *events { return &events{changed: make(chan struct{}), done: make(chan struct{})} }

func (e *events) wait() { <-e.done }

func (e *events) watch(t *testing.T, c mediav1connect.MediaNodeClient) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	stream, err := c.Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	go func() {
		defer close(e.done)
		defer cancel()
		defer func() { _ = stream.Close() }()
		for stream.Receive() {
			e.mu.Lock()
			switch m := stream.Msg().GetMessage().(type) {
			case *mediav1.WatchResponse_Snapshot:
				e.snapshot = m.Snapshot
			case *mediav1.WatchResponse_Event:
				e.list = append(e.list, m.Event)
			case *mediav1.WatchResponse_Heartbeat:
				e.beats++
			}
			close(e.changed)
			e.changed = make(chan struct{})
			e.mu.Unlock()
		}
	}()
	e.until(t, "a snapshot", func() bool { return e.snapshot != nil })
}

// until waits for a condition on what was collected.
func (e *events) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patient)
	for {
		e.mu.Lock()
		good, changed := ok(), e.changed
		e.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s within %s", what, patient)
		}
	}
}

// find waits for an event that match accepts, and answers it.
func (e *events) find(t *testing.T, what string, match func(*mediav1.SessionEvent) bool) *mediav1.SessionEvent {
	t.Helper()
	var found *mediav1.SessionEvent
	e.until(t, what, func() bool {
		for _, ev := range e.list {
			if match(ev) {
				found = ev
				return true
			}
		}
		return false
	})
	return found
}

func (e *events) count(match func(*mediav1.SessionEvent) bool) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, ev := range e.list {
		if match(ev) {
			n++
		}
	}
	return n
}

// identity is the certificate of a leg and its fingerprint in SDP form.
type identity struct {
	proto       *mediav1.DTLSIdentity
	fingerprint string
}

func newIdentity(t testing.TB) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return identity{
		proto:       &mediav1.DTLSIdentity{Certificate: der, PrivateKey: pkcs8},
		fingerprint: colons(sum[:]),
	}
}

func colons(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[i] = fmt.Sprintf("%02X", x)
	}
	return strings.Join(parts, ":")
}

// far is the far end of a telco leg: a plain RTP socket.
type far struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort
	seq  uint16
	ts   uint32
	ssrc uint32
	pt   uint8
	// Contexts of a far end that speaks SRTP; nil in the clear.
	protect, unprotect *srtp.Context
}

func newFar(t *testing.T) *far {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return newFarOn(t, conn)
}

func newFarOn(t *testing.T, conn *net.UDPConn) *far {
	t.Cleanup(func() { _ = conn.Close() })
	return &far{t: t, conn: conn, seq: 65530, ts: 4294967000, ssrc: 0xfa12fa12}
}

func (f *far) addr() *mediav1.SocketAddress {
	a := f.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &mediav1.SocketAddress{Ip: a.Addr().Unmap().String(), Port: uint32(a.Port())}
}

func (f *far) packet(payload []byte) *rtp.Packet {
	p := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: f.pt, SequenceNumber: f.seq, Timestamp: f.ts, SSRC: f.ssrc}, Payload: payload}
	f.seq++
	f.ts += 160
	return p
}

func (f *far) send(p *rtp.Packet) {
	f.t.Helper()
	b, err := p.Marshal()
	if err != nil {
		f.t.Fatal(err)
	}
	if f.protect != nil {
		if b, err = f.protect.EncryptRTP(nil, b, nil); err != nil {
			f.t.Fatal(err)
		}
	}
	f.sendRaw(b)
}

func (f *far) sendRaw(b []byte) {
	f.t.Helper()
	if _, err := f.conn.WriteToUDPAddrPort(b, f.to); err != nil {
		f.t.Fatal(err)
	}
}

// receive waits for the next RTP packet; RTCP on the way is passed over.
func (f *far) receive() (*rtp.Packet, bool) {
	f.t.Helper()
	buf := make([]byte, 2048)
	_ = f.conn.SetReadDeadline(time.Now().Add(patient))
	for {
		n, _, err := f.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return nil, false
		}
		if buf[1] >= 192 && buf[1] <= 223 {
			continue
		}
		raw := append([]byte(nil), buf[:n]...)
		if f.unprotect != nil {
			if raw, err = f.unprotect.DecryptRTP(nil, raw, nil); err != nil {
				f.t.Fatalf("the node sent what the far end cannot decrypt: %v", err)
			}
		}
		p := &rtp.Packet{}
		if err := p.Unmarshal(raw); err != nil {
			f.t.Fatalf("the node sent no RTP: %v", err)
		}
		return p, true
	}
}

func (b *browser) send(p *rtp.Packet) {
	b.t.Helper()
	if err := b.track.write(p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) receive() *rtp.Packet {
	b.t.Helper()
	select {
	case p := <-b.received:
		return p
	case <-time.After(patient):
		b.t.Fatalf("the browser received nothing within %s", patient)
		return nil
	}
}

func addrPort(t testing.TB, a *mediav1.SocketAddress) netip.AddrPort {
	t.Helper()
	ip, err := netip.ParseAddr(a.GetIp())
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(ip, uint16(a.GetPort()))
}
