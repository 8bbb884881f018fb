package mediaplane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func newIdentity(t *testing.T) identity {
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
}

func newFar(t *testing.T) *far {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
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
		p := &rtp.Packet{}
		if err := p.Unmarshal(append([]byte(nil), buf[:n]...)); err != nil {
			f.t.Fatalf("the node sent no RTP: %v", err)
		}
		return p, true
	}
}

// browser is a PeerConnection with one audio track.
type browser struct {
	t        *testing.T
	pc       *webrtc.PeerConnection
	track    *track
	received chan *rtp.Packet
	control  chan rtcp.Packet
	up       chan struct{} // closed when the PeerConnection is connected
	offer    string
}

// track sends packets as they are given, whatever their payload type.
type track struct {
	codec webrtc.RTPCodecParameters
	mu    sync.Mutex
	out   webrtc.TrackLocalWriter
	ssrc  webrtc.SSRC
}

func (k *track) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out, k.ssrc = c.WriteStream(), c.SSRC()
	return k.codec, nil
}

func (k *track) Unbind(webrtc.TrackLocalContext) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out = nil
	return nil
}

func (k *track) ID() string                { return "audio" }
func (k *track) RID() string               { return "" }
func (k *track) StreamID() string          { return "browser" }
func (k *track) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

func (k *track) write(p *rtp.Packet) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil {
		return errors.New("the track is not bound yet")
	}
	p.SSRC = uint32(k.ssrc)
	_, err := k.out.WriteRTP(&p.Header, p.Payload)
	return err
}

type browserOptions struct {
	profile dtls.SRTPProtectionProfile
	codecs  []webrtc.RTPCodecParameters
}

func pcmu() webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}}
}

func newBrowser(t *testing.T, o browserOptions) *browser {
	t.Helper()
	if o.codecs == nil {
		o.codecs = []webrtc.RTPCodecParameters{pcmu()}
	}
	media := &webrtc.MediaEngine{}
	for _, c := range o.codecs {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	settings := webrtc.SettingEngine{}
	if o.profile != 0 {
		settings.SetSRTPProtectionProfiles(o.profile)
	}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, pc: pc, received: make(chan *rtp.Packet, 4096), control: make(chan rtcp.Packet, 256), up: make(chan struct{})}
	var once sync.Once
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(b.up) })
		}
	})
	b.track = &track{codec: o.codecs[0]}
	sender, err := pc.AddTrack(b.track)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			packets, _, err := sender.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				select {
				case b.control <- p:
				default:
				}
			}
		}
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		readers.Go(func() {
			for {
				packets, _, err := receiver.ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range packets {
					select {
					case b.control <- p:
					default:
					}
				}
			}
		})
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			b.received <- p
		}
	})
	t.Cleanup(func() {
		_ = pc.GracefulClose()
		readers.Wait()
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	b.offer = pc.LocalDescription().SDP
	return b
}

// attribute finds the first value of a=name: in the offer.
func (b *browser) attribute(name string) string {
	b.t.Helper()
	return attribute(b.t, b.offer, name)
}

func attribute(t *testing.T, sdp, name string) string {
	t.Helper()
	for line := range strings.Lines(sdp) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "a="+name+":"); ok {
			return v
		}
	}
	t.Fatalf("no a=%s in\n%s", name, sdp)
	return ""
}

func (b *browser) fingerprint() *mediav1.Fingerprint {
	b.t.Helper()
	algorithm, text, _ := strings.Cut(b.attribute("fingerprint"), " ")
	value, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		b.t.Fatal(err)
	}
	return &mediav1.Fingerprint{Algorithm: algorithm, Value: value}
}

func (b *browser) ice() *mediav1.ICECredentials {
	b.t.Helper()
	return &mediav1.ICECredentials{Ufrag: b.attribute("ice-ufrag"), Password: b.attribute("ice-pwd")}
}

// answer gives the browser the node's description.
func (b *browser) answer(ice *mediav1.ICECredentials, id identity, setup string, at *mediav1.SocketAddress, ssrc uint32, codecs ...webrtc.RTPCodecParameters) {
	b.t.Helper()
	if len(codecs) == 0 {
		codecs = []webrtc.RTPCodecParameters{pcmu()}
	}
	var payloads, maps strings.Builder
	for _, c := range codecs {
		fmt.Fprintf(&payloads, " %d", c.PayloadType)
		name := strings.TrimPrefix(c.MimeType, "audio/")
		fmt.Fprintf(&maps, "a=rtpmap:%d %s/%d\r\n", c.PayloadType, name, c.ClockRate)
		if c.Channels > 1 {
			s := maps.String()
			maps.Reset()
			maps.WriteString(strings.TrimSuffix(s, "\r\n") + fmt.Sprintf("/%d\r\n", c.Channels))
		}
	}
	mid := b.attribute("mid")
	sdp := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE " + mid + "\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF" + payloads.String() + "\r\nc=IN IP4 127.0.0.1\r\n" +
		"a=mid:" + mid + "\r\na=rtcp-mux\r\na=sendrecv\r\n" + maps.String() +
		"a=ice-ufrag:" + ice.GetUfrag() + "\r\na=ice-pwd:" + ice.GetPassword() + "\r\n" +
		"a=fingerprint:sha-256 " + id.fingerprint + "\r\na=setup:" + setup + "\r\n" +
		fmt.Sprintf("a=ssrc:%d cname:node\r\n", ssrc) +
		fmt.Sprintf("a=candidate:1 1 udp 2130706431 %s %d typ host\r\na=end-of-candidates\r\n", at.GetIp(), at.GetPort())
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		b.t.Fatalf("SetRemoteDescription: %v\n%s", err, sdp)
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

func addrPort(t *testing.T, a *mediav1.SocketAddress) netip.AddrPort {
	t.Helper()
	ip, err := netip.ParseAddr(a.GetIp())
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(ip, uint16(a.GetPort()))
}
