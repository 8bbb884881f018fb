//go:build linux && (amd64 || arm64)

package mediaplane_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

const (
	manyCalls = 500
	// Each call has ten packets a second each way: what matters is that there
	// are always some under way.
	manyInterval = 100 * time.Millisecond
)

// TestKillManyInKernel kills the process of a node with 500 calls in the kernel,
// and starts another: no packet is lost or doubled, every call is taken over with
// its counters, and consent checks are answered again well inside the 30 s that
// browsers allow.
func TestKillManyInKernel(t *testing.T) {
	if os.Getenv(nodeProcess) != "" {
		runNode(t)
		return
	}
	if !xdptest.Namespaced(t) {
		return
	}
	w := newMany(t, xdptest.New(t))
	node := startProcess(t)
	w.program(node)
	stop := w.send()
	w.eventually("every stream in the kernel", func() bool { return w.inKernel(node) == 2*manyCalls })
	before := w.received(node)

	killed := time.Now()
	node.stop()
	w.eventually("packets while nobody is there", func() bool { return time.Since(killed) > 10*manyInterval })
	node = startProcess(t)
	w.program(node)
	for i, s := range w.streams(node) {
		if s.GetEngine() != "xdp" {
			t.Errorf("call %d: stream %s is not taken over: %s; %v", i/2, s.GetId(), s.GetEngineReason(), s.GetCounters())
		}
	}
	w.consent()
	if took := time.Since(killed); took > 20*time.Second {
		t.Errorf("consent is answered again after %s", took)
	} else {
		t.Logf("consent of %d calls is answered again after %s", manyCalls, took.Round(time.Millisecond))
	}
	if after := w.received(node); after < before {
		t.Errorf("%d packets counted before, %d after", before, after)
	}
	stop()
	w.eventually("the last packets", w.complete)
	w.check()
	node.stop()
	cfg := config()
	inKernel(&cfg)
	if err := mediaplane.Release(cfg); err != nil {
		t.Error(err)
	}
}

// many are calls whose ends the test holds.
type many struct {
	t       *testing.T
	far     *net.UDPConn
	calls   []*manyCall
	readers sync.WaitGroup
}

// manyCall counts what arrives at either end.
type manyCall struct {
	spec    *mediav1.SessionSpec
	browser *net.UDPConn
	webrtc  netip.AddrPort
	core    netip.AddrPort
	protect *srtp.Context
	seq     uint16
	checked chan struct{}

	mu       sync.Mutex
	sent     int // each way
	atFar    map[uint16]int
	atDevice map[uint16]int
}

func newMany(t *testing.T, site *xdptest.Site) *many {
	w := &many{t: t, far: site.Far.Listen(t, "198.18.0.2:30000")}
	_ = w.far.SetReadBuffer(8 << 20)
	identity, suite := newIdentity(t).proto, benchSuites[0]
	for i := range manyCalls {
		c := &manyCall{browser: site.App.Listen(t, fmt.Sprintf("198.18.1.2:%d", 40000+i)), checked: make(chan struct{}, 8),
			atFar: map[uint16]int{}, atDevice: map[uint16]int{}}
		c.spec = benchSpec(i, suite, identity, socketOf(c.browser), socketOf(w.far))
		c.spec.Streams[0].Ssrc, c.spec.Streams[1].Ssrc = uint32(100_000+i), uint32(200_000+i)
		srtpState := webrtcOf(c.spec).GetSrtp()
		srtpState.Sources = []*mediav1.SRTPSource{{Ssrc: c.spec.Streams[0].GetSsrc(), Outgoing: true, LastSequence: 1000}}
		master := srtpState.GetRemoteMaster()
		var err error
		if c.protect, err = srtp.CreateContext(master[:suite.key], master[suite.key:], suite.pion); err != nil {
			t.Fatal(err)
		}
		w.calls = append(w.calls, c)
		w.readers.Go(func() { c.readDevice() })
	}
	w.readers.Go(w.readFar)
	t.Cleanup(func() {
		_ = w.far.Close()
		for _, c := range w.calls {
			_ = c.browser.Close()
		}
		w.readers.Wait()
	})
	return w
}

func (w *many) readFar() {
	buf := make([]byte, 2048)
	for {
		n, _, err := w.far.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n >= 12 && buf[1]&0x7f == 0 {
			c := w.calls[binary.BigEndian.Uint32(buf[8:])-200_000]
			c.mu.Lock()
			c.atFar[binary.BigEndian.Uint16(buf[2:])]++
			c.mu.Unlock()
		}
	}
}

func (c *manyCall) readDevice() {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.browser.ReadFromUDPAddrPort(buf)
		switch {
		case err != nil:
			return
		case stun.IsMessage(buf[:n]):
			c.checked <- struct{}{}
		case n >= 12 && buf[1]&0x7f == 0:
			c.mu.Lock()
			c.atDevice[binary.BigEndian.Uint16(buf[2:])]++
			c.mu.Unlock()
		}
	}
}

// program gives the node every session.
func (w *many) program(n *node) {
	w.t.Helper()
	for _, c := range w.calls {
		state := n.apply(c.spec)
		webrtc, core := addrPort(w.t, state.GetLegs()[0].GetLocal()[0]), addrPort(w.t, state.GetLegs()[1].GetLocal()[0])
		if !c.core.IsValid() {
			c.webrtc, c.core = webrtc, core
		}
		if webrtc != c.webrtc || core != c.core {
			w.t.Errorf("the node has moved a call from %s and %s to %s and %s", c.webrtc, c.core, webrtc, core)
		}
		c.spec.GetLegs()[1].GetRtp().Local = state.GetLegs()[1].GetLocal()[0]
	}
}

// send sends packets of every call, spread over the interval, until stopped.
func (w *many) send() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(manyInterval / 20)
		defer tick.Stop()
		for part := 0; ; part++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for i := part % 20; i < len(w.calls); i += 20 {
				if err := w.calls[i].frame(w.far, uint32(i+1)); err != nil {
					w.t.Errorf("send: %v", err)
					return
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (c *manyCall) frame(far *net.UDPConn, ssrc uint32) error {
	p := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: c.seq, Timestamp: uint32(c.seq) * 800, SSRC: ssrc}, Payload: make([]byte, 160)}
	c.seq++
	plain, err := p.Marshal()
	if err != nil {
		return err
	}
	protected, err := c.protect.EncryptRTP(nil, plain, nil)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.sent++
	c.mu.Unlock()
	_, err = c.browser.WriteToUDPAddrPort(protected, c.webrtc)
	_, other := far.WriteToUDPAddrPort(plain, c.core)
	return errors.Join(err, other)
}

// consent sends a connectivity check of every browser, and waits for the answers.
func (w *many) consent() {
	w.t.Helper()
	for _, c := range w.calls {
		ice := webrtcOf(c.spec).GetLocalIce()
		check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ice.GetUfrag()+":x"), stun.NewShortTermIntegrity(ice.GetPassword()), stun.Fingerprint).Raw
		if _, err := c.browser.WriteToUDPAddrPort(check, c.webrtc); err != nil {
			w.t.Fatal(err)
		}
	}
	deadline := time.After(patient)
	for i, c := range w.calls {
		select {
		case <-c.checked:
		case <-deadline:
			w.t.Fatalf("call %d gets no answer to its check", i)
		}
	}
}

// inKernel is how many streams the kernel forwards.
func (w *many) inKernel(n *node) (streams int) {
	for _, s := range w.streams(n) {
		if s.GetEngine() == "xdp" {
			streams++
		}
	}
	return streams
}

func (w *many) received(n *node) (packets uint64) {
	for _, s := range w.streams(n) {
		packets += s.GetCounters().GetReceivedPackets()
	}
	return packets
}

func (w *many) streams(n *node) (list []*mediav1.StreamState) {
	w.t.Helper()
	for _, c := range w.calls {
		list = append(list, n.apply(c.spec).GetStreams()...)
	}
	return list
}

func (w *many) eventually(what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, what, ok)
}

// complete says whether as many packets have come as were sent.
func (w *many) complete() bool {
	for _, c := range w.calls {
		c.mu.Lock()
		good := len(c.atFar) == c.sent && len(c.atDevice) == c.sent
		c.mu.Unlock()
		if !good {
			return false
		}
	}
	return true
}

// check that every packet has come once.
func (w *many) check() {
	w.t.Helper()
	for i, c := range w.calls {
		for end, got := range map[string]map[uint16]int{"far end": c.atFar, "browser": c.atDevice} {
			for seq, n := range got {
				if n != 1 {
					w.t.Errorf("call %d: the %s got sequence number %d %d times", i, end, seq, n)
				}
				if next := seq + 1; got[next] == 0 && got[next+1] != 0 {
					w.t.Errorf("call %d: the %s misses sequence number %d", i, end, next)
				}
			}
		}
	}
}
