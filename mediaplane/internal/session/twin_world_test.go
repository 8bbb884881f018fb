package session

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	psrtp "github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/enginetest"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// node is a manager whose packets the test carries. With an engine, each packet
// is shown to it first, as a kernel would.
type node struct {
	*Manager
	engine  *enginetest.Engine // nil: user space alone
	watcher *Watcher
	spec    *mediav1.SessionSpec
	peers   map[string]*net.UDPConn // browsers b0, b1 and far ends f0, f1
	queue   []arrival               // of the node's sockets, not read yet
	offload int                     // packets that the engine forwarded
	rtp     netip.AddrPort          // of its telco leg
	down    bool                    // no process reads the sockets

	control *psrtp.Context // reads the SRTCP of the node
}

type arrival struct {
	peer string
	b    []byte
}

// twins are two nodes that are given the same packets at the same times: one
// with an engine, one without. They must send the same.
type twins struct {
	t      *rapid.T
	clock  *clock
	nodes  [2]*node
	ticked time.Time
	// What the test's browser and far end send.
	protect          *psrtp.Context
	browser, far     source
	browserAt, farAt string // the peers that they send from
	rekeyed          int
	crashed          bool // reports are not compared any more
	profile          srtp.Profile
}

type source struct {
	ssrc, ts uint32
	seq      uint16
}

var twinPeers = []string{"b0", "b1", "f0", "f1"}

func newTwins(t *rapid.T, profile srtp.Profile) *twins {
	w := &twins{
		t: t, clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, browserAt: "b0", farAt: "f0", profile: profile,
		browser: source{rapid.Uint32().Draw(t, "browser ssrc"), rapid.Uint32().Draw(t, "browser ts"), rapid.Uint16Max(1<<15).Draw(t, "browser seq")},
		far:     source{rapid.Uint32().Draw(t, "far ssrc"), rapid.Uint32().Draw(t, "far ts"), rapid.Uint16().Draw(t, "far seq")},
	}
	w.ticked = w.clock.Now()
	for i := range w.nodes {
		w.nodes[i] = w.newNode(i == 0, twinIdentity())
	}
	w.keys(0)
	return w
}

// twinIdentity is one certificate for all: nobody checks it.
var twinIdentity = sync.OnceValue(func() *mediav1.DTLSIdentity { return dtlsIdentity(fatal{}) })

type fatal struct{}

func (fatal) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (w *twins) close() {
	for _, n := range w.nodes {
		n.watcher.Close()
		n.Close()
		for _, c := range n.peers {
			_ = c.Close()
		}
	}
}

// keys makes the browser's side of the n-th set of keys.
func (w *twins) keys(n int) srtp.Keys {
	k := w.keysOf(n)
	profile, length := psrtp.ProtectionProfileAes128CmHmacSha1_80, 16
	switch w.profile {
	case srtp.AES128GCM:
		profile = psrtp.ProtectionProfileAeadAes128Gcm
	case srtp.AES256GCM:
		profile, length = psrtp.ProtectionProfileAeadAes256Gcm, 32
	}
	var err error
	if w.protect, err = psrtp.CreateContext(k.Remote[:length], k.Remote[length:], profile); err != nil {
		w.t.Fatal(err)
	}
	for _, node := range w.nodes {
		if node.control, err = psrtp.CreateContext(k.Local[:length], k.Local[length:], profile); err != nil {
			w.t.Fatal(err)
		}
	}
	return k
}

func (w *twins) newNode(offload bool, identity *mediav1.DTLSIdentity) *node {
	n := &node{peers: map[string]*net.UDPConn{}}
	var engine fastpath.Engine = fastpath.NewUser("for comparison")
	if offload {
		n.engine = enginetest.New(func() int64 { return w.clock.Now().UnixNano() })
		engine = n.engine
	}
	w.manage(n, engine, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0))
	for _, name := range twinPeers {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			w.t.Fatal(err)
		}
		n.peers[name] = c
	}
	formats := func(list ...*mediav1.Format) []*mediav1.Format { return list }
	pcmu := &mediav1.Format{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000}
	opus := &mediav1.Format{PayloadType: 111, Encoding: "opus", ClockRate: 48000}
	events := func(pt uint32) *mediav1.Format {
		return &mediav1.Format{PayloadType: pt, Encoding: "telephone-event", ClockRate: 8000}
	}
	noise := &mediav1.Format{PayloadType: 13, Encoding: "CN", ClockRate: 8000}
	first := w.keysOf(0)
	n.spec = &mediav1.SessionSpec{
		Id: "1", OwnerEpoch: 1, Generation: 1, MediaTimeout: durationpb.New(2 * time.Second),
		Legs: []*mediav1.Leg{
			{Id: "w", Transport: &mediav1.Leg_Webrtc{Webrtc: &mediav1.WebRTCTransport{
				LocalIce: &mediav1.ICECredentials{Ufrag: "ufrag1", Password: password}, LocalDtls: identity,
				DtlsRole: mediav1.DTLSRole_DTLS_ROLE_SERVER, Remote: socketAddress(n.addr("b0")),
				Srtp: &mediav1.SRTPState{
					Profile: profileTo(w.profile), LocalMaster: first.Local, RemoteMaster: first.Remote,
					Sources: []*mediav1.SRTPSource{{Ssrc: 5, Outgoing: true, LastSequence: 48000, RtcpIndex: 3}},
				},
			}}},
			{Id: "t", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{Remote: socketAddress(n.addr("f0")), RtcpMux: true}}},
		},
		Streams: []*mediav1.Stream{
			{Id: "ws", Leg: "w", Direction: mediav1.Direction_DIRECTION_SENDRECV, Ssrc: 5, Formats: formats(pcmu, opus, events(126))},
			{Id: "ts", Leg: "t", Direction: mediav1.Direction_DIRECTION_SENDRECV, Ssrc: 6, Formats: formats(pcmu, opus, events(101), noise)},
		},
		Rules: []*mediav1.Rule{
			{Input: "ws", Outputs: []*mediav1.Output{{Stream: "ts", Payloads: []*mediav1.PayloadMapping{{From: 0, To: 0}, {From: 111, To: 111}, {From: 126, To: 101}}}}},
			{Input: "ts", Outputs: []*mediav1.Output{{Stream: "ws", Payloads: []*mediav1.PayloadMapping{{From: 0, To: 0}, {From: 111, To: 111}, {From: 101, To: 126}}}}},
		},
	}
	if _, err := n.Apply(n.spec); err != nil {
		w.t.Fatal(err)
	}
	n.rtp = n.sessions["1"].legs["t"].(*rtpLeg).pair.RTP.Local()
	return n
}

// manage gives a node a manager.
func (w *twins) manage(n *node, engine fastpath.Engine, webrtc netip.AddrPort) {
	m, err := New(Config{
		WebRTC: []netip.AddrPort{webrtc}, RTP: []netip.Addr{webrtc.Addr()}, PortMin: 34100, PortMax: 34999,
		MaxSessions: 10, OrphanAfter: time.Hour, HandshakeTimeout: 5 * time.Second, QualityInterval: time.Hour,
		CheckpointInterval: 4 * time.Second, TickInterval: time.Second, WatchBuffer: 4096,
		Engine: engine, Metrics: NewMetrics(nil), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.now, m.mux.now = w.clock.Now, w.clock.Now
	m.mono = func() int64 { return w.clock.Now().UnixNano() }
	m.random = func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
	n.Manager, n.watcher = m, m.Watch()
}

// crash ends the process of the node with the engine, lets media go on for some
// frames, and starts it again from its last checkpoint.
func (w *twins) crash(frames int) {
	n := w.nodes[0]
	old := n.sessions["1"]
	legs := n.spec.Legs
	webrtc, rtp, state := legs[0].GetWebrtc(), legs[1].GetRtp(), old.legs["w"].(*webrtcLeg).transform
	webrtc.Srtp.Sources = nil
	for _, s := range state.Sources() {
		webrtc.Srtp.Sources = append(webrtc.Srtp.Sources, &mediav1.SRTPSource{Ssrc: s.SSRC, Outgoing: s.Outgoing,
			RolloverCounter: uint32(s.Index >> 16), LastSequence: uint32(s.Index & 0xffff), RtcpIndex: s.RTCPIndex})
	}
	rtp.Local = socketAddress(old.legs["t"].(*rtpLeg).local())
	browsers := n.groups[0][0].Local()
	n.watcher.Close()
	old.offloads = map[string]*offload{} // it has no time to take them back
	old.table = forward.New(old, n.random())
	n.Close()
	n.drain(w.t)

	w.crashed, n.down = true, true
	w.both(frames)
	n.down = false
	n.engine.Restart()
	w.manage(n, n.engine, browsers)
	n.Adopt()
	if _, err := n.Apply(n.spec); err != nil {
		w.t.Fatal(err)
	}
	if got := len(n.sessions["1"].offloads); got != 2 {
		w.t.Fatalf("%d streams adopted, want 2", got)
	}
}

func (w *twins) keysOf(n int) srtp.Keys {
	return srtp.Keys{Profile: w.profile,
		Local:  bytes.Repeat([]byte{byte(2*n + 1)}, w.profile.MasterLen()),
		Remote: bytes.Repeat([]byte{byte(2*n + 2)}, w.profile.MasterLen())}
}

func (n *node) addr(peer string) netip.AddrPort {
	a := n.peers[peer].LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (n *node) local(peer string) netip.AddrPort {
	if peer[0] == 'b' {
		return n.groups[0][0].Local()
	}
	return n.rtp
}

// sent is a packet of the node that a peer was sent.
type sent struct {
	peer   string
	b      string
	report bool
}

// arrive brings a packet to the node, and answers what it sends. What the engine
// leaves stays in the socket's queue when the node is slow.
func (n *node) arrive(t *rapid.T, peer string, b []byte, slow bool) []sent {
	var out []sent
	if n.engine != nil {
		d, verdict := n.engine.Receive(n.local(peer), n.addr(peer), b)
		switch verdict {
		case enginetest.Dropped:
			return nil
		case enginetest.Forwarded:
			n.offload++
			for name := range n.peers {
				if n.addr(name) == d.To {
					out = append(out, n.normal(t, sent{peer: name, b: string(d.Payload)}))
				}
			}
			return out
		}
	}
	if n.down {
		return nil
	}
	n.queue = append(n.queue, arrival{peer, bytes.Clone(b)})
	if slow {
		return nil
	}
	return n.read(t)
}

// read lets the node read its sockets.
func (n *node) read(t *rapid.T) []sent {
	for _, a := range n.queue {
		if a.peer[0] == 'b' {
			n.mux.receive(a.b, icelite.Path{Remote: n.addr(a.peer)}, nil)
		} else {
			n.sessions["1"].legs["t"].(*rtpLeg).receive(a.b, n.addr(a.peer), nil)
		}
	}
	n.queue = nil
	return n.drain(t)
}

// drain takes what the node has sent. On loopback a packet is in the receiver's
// queue when the sender's call returns.
func (n *node) drain(t *rapid.T) []sent {
	var out []sent
	buf := make([]byte, 2048)
	for _, name := range twinPeers {
		raw, err := n.peers[name].SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Read(func(fd uintptr) bool {
			for {
				k, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
				if err != nil {
					return true
				}
				out = append(out, n.normal(t, sent{peer: name, b: string(buf[:k])}))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// normal strips what may differ: transactions of STUN, and the jitter in reports,
// which nodes measure with different rounding.
func (n *node) normal(t *rapid.T, s sent) sent {
	b := []byte(s.b)
	switch {
	case b[0] < 4:
		s.b = "stun"
	case b[1] >= 192 && b[1] <= 223:
		if s.peer[0] == 'b' {
			plain, err := n.control.DecryptRTCP(nil, b, nil)
			if err != nil {
				t.Fatalf("SRTCP: %v", err)
			}
			b = plain
		}
		packets, err := rtcp.Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		s.b, s.report = "", true
		for _, p := range packets {
			var reports []rtcp.ReceptionReport
			switch p := p.(type) {
			case *rtcp.SenderReport:
				reports = p.Reports
			case *rtcp.ReceiverReport:
				reports = p.Reports
			}
			for i := range reports {
				reports[i].Jitter = 0
			}
			s.b += fmt.Sprintf("%v", p)
		}
	default:
		s.b = hex.EncodeToString(b)
	}
	return s
}

// send brings one packet to both nodes and compares.
func (w *twins) send(peer string, b []byte) { w.sendTo(peer, b, false) }

func (w *twins) sendTo(peer string, b []byte, slow bool) {
	w.t.Helper()
	var out [2][]sent
	for i, n := range w.nodes {
		out[i] = n.arrive(w.t, peer, b, slow)
	}
	if !slow {
		w.same(fmt.Sprintf("after %d bytes from %s", len(b), peer), out)
	}
}

func (w *twins) same(when string, out [2][]sent) {
	w.t.Helper()
	if w.crashed {
		for i := range out {
			out[i] = slices.DeleteFunc(out[i], func(s sent) bool { return s.report })
		}
	}
	if !slices.Equal(out[0], out[1]) {
		w.t.Fatalf("%s\nwith the engine: %v\nwithout: %v", when, out[0], out[1])
	}
}

// pass lets time pass, with ticks.
func (w *twins) pass(d time.Duration) {
	w.t.Helper()
	now := w.clock.add(d)
	if now.Sub(w.ticked) < 500*time.Millisecond {
		return
	}
	w.ticked = now
	var out [2][]sent
	for i, n := range w.nodes {
		n.tick(now)
		out[i] = n.drain(w.t)
	}
	w.same("at a tick", out)
	// The node was late in reading.
	for i, n := range w.nodes {
		out[i] = n.read(w.t)
	}
	w.same("reading late", out)
}

func (w *twins) packet(peer string, s *source, pt uint8, payload []byte) []byte {
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: s.seq, Timestamp: s.ts, SSRC: s.ssrc}, Payload: payload}
	b, err := p.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	s.seq++
	if peer[0] == 'b' {
		if b, err = w.protect.EncryptRTP(nil, b, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	return b
}

const twinFrame = 20 * time.Millisecond

// media sends n frames from a side.
func (w *twins) media(peer string, s *source, n int) {
	w.t.Helper()
	for i := range n {
		offloaded := w.nodes[0].sessions["1"].offloads[map[byte]string{'b': "ws", 'f': "ts"}[peer[0]]] != nil
		late := !offloaded && w.clock.Now().Add(twinFrame).Sub(w.ticked) >= 500*time.Millisecond
		b := w.packet(peer, s, 0, bytes.Repeat([]byte{byte(i)}, 160))
		s.ts += 160
		// The packet just before a tick, when plans are offered, is read after it.
		w.sendTo(peer, b, late)
		w.pass(twinFrame)
	}
}

// both sends n frames each way.
func (w *twins) both(n int) {
	w.t.Helper()
	for range n {
		b, f := w.packet(w.browserAt, &w.browser, 0, make([]byte, 160)), w.packet(w.farAt, &w.far, 0, make([]byte, 160))
		w.browser.ts += 160
		w.far.ts += 160
		w.send(w.browserAt, b)
		w.send(w.farAt, f)
		w.pass(twinFrame)
	}
}

func event(code byte, end bool, duration uint16) []byte {
	b := []byte{code, 10, 0, 0}
	if end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], duration)
	return b
}
