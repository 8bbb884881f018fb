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
	"testing"
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
	n.adopt()
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

// What happens to calls.
var (
	everything = []string{"media", "media", "both", "both", "both", "lose", "twice", "swap", "digit", "digit between", "noise", "codec",
		"ssrc", "jump", "clock", "silence", "forged", "hold", "move", "path", "report", "again", "rekey", "replay", "bye"}
	mediaOnly = []string{"media", "both", "both", "lose", "swap", "digit", "codec", "replay", "forged", "ssrc", "again"}
)

// step does one of them.
func (w *twins) step(steps []string) {
	t := w.t
	peer, s, pt := w.farAt, &w.far, uint8(101)
	if rapid.Bool().Draw(t, "browser") {
		peer, s, pt = w.browserAt, &w.browser, 126
	}
	switch rapid.SampledFrom(steps).Draw(t, "step") {
	case "media":
		w.media(peer, s, rapid.IntRange(1, 60).Draw(t, "frames"))
	case "both":
		w.both(rapid.IntRange(1, 60).Draw(t, "frames"))
	case "lose":
		for range rapid.IntRange(1, 50).Draw(t, "lost") {
			w.packet(peer, s, 0, make([]byte, 160))
			s.ts += 160
			w.pass(twinFrame)
		}
	case "twice":
		b := w.packet(peer, s, 0, make([]byte, 160))
		s.ts += 160
		w.send(peer, b)
		w.pass(twinFrame)
		w.send(peer, b)
	case "swap":
		var list [][]byte
		for range rapid.IntRange(2, 20).Draw(t, "frames") {
			list = append(list, w.packet(peer, s, 0, make([]byte, 160)))
			s.ts += 160
		}
		for _, b := range rapid.Permutation(list).Draw(t, "order") {
			w.send(peer, b)
		}
		w.pass(twinFrame)
	case "digit", "digit between":
		between := rapid.Bool().Draw(t, "media between")
		ts := s.ts
		for i := range 8 {
			at := *s
			at.ts = ts
			b := w.packet(peer, &at, pt, event(5, i > 4, uint16(160*min(i+1, 6))))
			s.seq = at.seq
			w.send(peer, b)
			s.ts += 160
			w.pass(twinFrame)
			if between {
				w.media(peer, s, 1)
			}
		}
	case "noise":
		w.send(peer, w.packet(peer, s, 13, []byte{60}))
		s.ts += 160
		w.pass(twinFrame)
	case "codec":
		for range rapid.IntRange(1, 40).Draw(t, "frames") {
			w.send(peer, w.packet(peer, s, 111, make([]byte, 80)))
			s.ts += 960
			w.pass(twinFrame)
		}
	case "ssrc":
		*s = source{rapid.Uint32().Draw(t, "ssrc"), rapid.Uint32().Draw(t, "ts"), rapid.Uint16Max(1<<15).Draw(t, "seq")}
	case "jump":
		if peer[0] == 'f' { // under SRTP a jump is a loss
			s.seq += rapid.Uint16().Draw(t, "jump")
		}
	case "clock":
		// A smaller one looks like a frame of another length, which is all that
		// an engine does not measure.
		s.ts += rapid.Uint32Range(1500, 1<<32-200).Draw(t, "jump")
	case "silence":
		for range rapid.IntRange(1, 6).Draw(t, "half seconds") {
			w.pass(500 * time.Millisecond)
			s.ts += 4000
		}
	case "forged":
		// A flood with the right address and the wrong key.
		at := w.browser
		for i := range 20 {
			b := w.packet("f0", &at, uint8(rapid.SampledFrom([]int{0, 126, 13}).Draw(t, "pt")), make([]byte, 170))
			b[len(b)-1] ^= byte(i) | 1
			if i%5 == 4 {
				at.ssrc++
			}
			w.send(w.browserAt, b)
		}
	case "hold":
		directions := []mediav1.Direction{mediav1.Direction_DIRECTION_SENDRECV, mediav1.Direction_DIRECTION_SENDONLY, mediav1.Direction_DIRECTION_RECVONLY, mediav1.Direction_DIRECTION_INACTIVE}
		stream, d := rapid.IntRange(0, 1).Draw(t, "stream"), rapid.SampledFrom(directions).Draw(t, "direction")
		w.apply(func(n *node) { n.spec.Streams[stream].Direction = d })
	case "move":
		if w.farAt = "f0"; rapid.Bool().Draw(t, "other") {
			w.farAt = "f1"
		}
		w.apply(func(n *node) { n.spec.Legs[1].GetRtp().Remote = socketAddress(n.addr(w.farAt)) })
	case "path":
		if w.browserAt = "b0"; rapid.Bool().Draw(t, "other") {
			w.browserAt = "b1"
		}
		w.send(w.browserAt, check("ufrag1", true))
	case "again":
		w.apply(func(*node) {})
	case "rekey":
		w.rekeyed = (w.rekeyed + 1) % 60
		keys := w.keys(w.rekeyed)
		for _, n := range w.nodes {
			leg := n.sessions["1"].legs["w"].(*webrtcLeg)
			leg.shaken(leg.attempt, keys, nil)
		}
	case "report":
		w.report(peer, s)
	case "bye":
		if peer[0] == 'f' {
			b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: s.ssrc}, &rtcp.Goodbye{Sources: []uint32{s.ssrc}}})
			if err != nil {
				t.Fatal(err)
			}
			w.send(peer, b)
		}
	case "replay":
		var list [][]byte
		for range 10 {
			b := w.packet(peer, s, 0, make([]byte, 160))
			s.ts += 160
			list = append(list, b)
			w.send(peer, b)
			w.pass(twinFrame)
		}
		if peer[0] == 'b' {
			for _, b := range list {
				w.send(peer, b)
			}
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "consent") == 0 {
		w.send(w.browserAt, check("ufrag1", false))
	}
}

func (w *twins) report(peer string, s *source) {
	out := uint32(6)
	if peer[0] == 'b' {
		out = 5
	}
	st := w.nodes[1].sessions["1"].table.Outgoing(map[byte]string{'b': "w", 'f': "t"}[peer[0]])
	b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: s.ssrc, NTPTime: uint64(w.clock.Now().UnixNano()), RTPTime: s.ts,
		Reports: []rtcp.ReceptionReport{{SSRC: out, LastSequenceNumber: uint32(st[out]), FractionLost: 3}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if peer[0] == 'b' {
		if b, err = w.protect.EncryptRTCP(nil, b, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	w.send(peer, b)
}

func (w *twins) apply(change func(*node)) {
	w.t.Helper()
	var out [2][]sent
	for i, n := range w.nodes {
		change(n)
		n.spec.Generation++
		if _, err := n.Apply(n.spec); err != nil {
			w.t.Fatal(err)
		}
		out[i] = n.drain(w.t)
	}
	w.same("after a new spec", out)
}

// told lists what a node told of a session, apart from what names addresses or
// depends on when counters were read.
func (n *node) told() []string {
	var list []string
	for {
		select {
		case e := <-n.watcher.Events():
			switch v := e.GetEvent().(type) {
			case *mediav1.SessionEvent_Dtmf:
				list = append(list, fmt.Sprintf("%s %s %s", v.Dtmf.GetStream(), v.Dtmf.GetDigit(), v.Dtmf.GetDuration().AsDuration()))
			case *mediav1.SessionEvent_MediaTimeout:
				list = append(list, "timeout "+v.MediaTimeout.GetStream())
			case *mediav1.SessionEvent_FirstPacket:
				list = append(list, fmt.Sprintf("first %s %d", v.FirstPacket.GetStream(), v.FirstPacket.GetSsrc()))
			case *mediav1.SessionEvent_SourceLatched:
				list = append(list, "latched")
			}
		default:
			return list
		}
	}
}

func counters(st *mediav1.SessionState) []string {
	var list []string
	for _, s := range st.GetStreams() {
		c := s.GetCounters()
		list = append(list, fmt.Sprintf("%s received %d lost %d sent %d/%d auth %d replays %d malformed %d gated %d foreign %d last %d", s.GetId(), c.GetReceivedPackets(), c.GetLostPackets(),
			c.GetSentPackets(), c.GetSentBytes(), c.GetAuthFailures(), c.GetReplays(), c.GetMalformed(), c.GetGated(), c.GetForeignSource(), c.GetLastReceived().AsTime().UnixMilli()))
	}
	return list
}

// Whatever happens to a call, a node with an engine sends bit for bit what a node
// without one does, tells the same, and counts the same.
func TestTwins(t *testing.T) {
	for _, profile := range []srtp.Profile{srtp.AES128GCM, srtp.AES256GCM, srtp.AES128CMSHA1} {
		t.Run(profile.String(), func(t *testing.T) {
			offloaded := 0
			rapid.Check(t, func(t *rapid.T) {
				w := newTwins(t, profile)
				defer w.close()
				w.media(w.farAt, &w.far, 30)
				w.media(w.browserAt, &w.browser, 30)
				for range rapid.IntRange(1, 12).Draw(t, "steps") {
					w.step(everything)
				}
				w.media(w.farAt, &w.far, 30)
				w.pass(500 * time.Millisecond)
				var state, told [2][]string
				for i, n := range w.nodes {
					state[i], told[i] = counters(n.sessions["1"].State()), n.told()
				}
				if !slices.Equal(state[0], state[1]) {
					t.Errorf("counters with the engine %v\nwithout %v", state[0], state[1])
				}
				if !slices.Equal(told[0], told[1]) {
					t.Errorf("told with the engine %v\nwithout %v", told[0], told[1])
				}
				offloaded += w.nodes[0].offload
				for i, n := range w.nodes {
					last, err := n.Remove("1", 1)
					if err != nil {
						t.Fatal(err)
					}
					if state[i] = counters(last); i == 0 && len(n.engine.Plans()) != 0 {
						t.Error("plans are left behind")
					}
				}
				if !slices.Equal(state[0], state[1]) {
					t.Errorf("last counters with the engine %v\nwithout %v", state[0], state[1])
				}
			})
			if offloaded == 0 {
				t.Error("nothing was offloaded")
			}
		})
	}
}

// A node that dies and comes back goes on as if it had not: nothing is lost
// meanwhile, no index is used twice, and counters go on.
func TestTwinSurvivesCrash(t *testing.T) {
	for _, profile := range []srtp.Profile{srtp.AES128GCM, srtp.AES256GCM, srtp.AES128CMSHA1} {
		t.Run(profile.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newTwins(t, profile)
				defer w.close()
				w.both(60)
				if got := len(w.nodes[0].sessions["1"].offloads); got != 2 {
					t.Fatalf("%d streams offloaded, want 2", got)
				}
				before := w.nodes[0].sessions["1"].State()
				w.crash(rapid.IntRange(1, 40).Draw(t, "frames"))
				for i, st := range w.nodes[0].sessions["1"].State().GetStreams() {
					// What user space forwarded before is not in the kernel.
					if c, old := st.GetCounters(), before.GetStreams()[i].GetCounters(); c.GetReceivedPackets()+35 < old.GetReceivedPackets() || c.GetLostPackets() != 0 {
						t.Errorf("counters after the crash %v, before %v", c, old)
					}
				}
				w.both(5)
				for range rapid.IntRange(1, 6).Draw(t, "steps") {
					w.step(mediaOnly)
				}
				if _, err := w.nodes[0].Remove("1", 1); err != nil || len(w.nodes[0].engine.Plans()) != 0 {
					t.Errorf("%v, %d plans left behind", err, len(w.nodes[0].engine.Plans()))
				}
			})
		})
	}
}

// once runs what does not depend on what is drawn.
func once(t *testing.T, f func(*rapid.T)) {
	done := false
	rapid.Check(t, func(t *rapid.T) {
		if !done {
			done = true
			f(t)
		}
	})
}

// Plans of sessions that nobody claims are taken away.
func TestUnclaimedPlansEnd(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		n := w.nodes[0]
		n.engine.Upsert(fastpath.Plan{Key: fastpath.Key{SSRC: 1}, Session: "gone"})
		n.engine.Restart()
		n.adopt()
		n.tick(w.clock.add(n.config.OrphanAfter - time.Second))
		if got := len(n.engine.Plans()); got != 1 {
			t.Fatalf("%d plans, want 1", got)
		}
		n.tick(w.clock.add(time.Second))
		if len(n.engine.Plans()) != 0 {
			t.Error("an unclaimed plan goes on")
		}
	})
}

// An engine that loses a plan does no harm: the stream goes on from an index that
// cannot have been used.
func TestPlanLost(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		w.both(rapid.IntRange(60, 100).Draw(t, "frames"))
		n := w.nodes[0]
		for _, p := range n.engine.Plans() {
			n.engine.Lose(p.Key)
		}
		s := n.sessions["1"]
		last := s.table.Outgoing("w")[5]
		n.tick(w.clock.Now())
		if len(s.offloads) != 0 {
			t.Fatal("lost plans are still thought to run")
		}
		n.arrive(t, "f0", w.packet("f0", &w.far, 0, make([]byte, 160)), false)
		if got := s.table.Outgoing("w")[5]; got < last+1<<12 {
			t.Errorf("goes on at %d after %d", got, last)
		}
	})
}

// A stream says what forwards it, and why not something faster.
func TestEngineReasons(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		n := w.nodes[0]
		s := n.sessions["1"]
		expect := func(engine, reason string) {
			t.Helper()
			n.tick(w.clock.Now())
			if e, r := s.engineOf("ts"); e != engine || r != reason {
				t.Fatalf("%s, %q; want %s, %q", e, r, engine, reason)
			}
		}
		expect("user", "no packet has come yet")
		w.both(2)
		expect("user", "the source is settling")
		w.both(10)
		refused := fastpath.Reason("no next hop")
		n.engine.Refuse = func(fastpath.Plan) fastpath.Reason { return refused }
		expect("user", "no next hop")
		refused = ""
		expect("user", "no next hop") // not asked again at once
		w.clock.add(firstRefusal)
		expect("xdp", "")
		w.apply(func(n *node) { n.spec.Streams[1].Direction = mediav1.Direction_DIRECTION_INACTIVE })
		expect("user", "the direction of the stream lets nothing in")
		if e, r := w.nodes[1].sessions["1"].engineOf("ts"); e != "user" || r != "for comparison" {
			t.Errorf("%s %q", e, r)
		}
	})
}
