//go:build linux && (amd64 || arm64)

package mediaplane_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/webrtc/v4"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// inKernel configures a node at the site of a test.
func inKernel(cfg *mediaplane.Config) {
	cfg.Engine = "xdp"
	cfg.XDP.Directory = xdptest.BPFFS + "/isthmus"
	cfg.XDP.Attachment = "native"
	cfg.WebRTC.Bind = []string{"198.18.1.1"}
	cfg.RTP.Bind = []string{"198.18.0.1"}
}

// offloaded waits until every stream of the call is with the kernel.
func (c *call) offloaded() {
	c.t.Helper()
	deadline := time.Now().Add(patient)
	for {
		c.exchange(5)
		left := ""
		for _, s := range c.state().GetStreams() {
			if s.GetEngine() != "xdp" {
				left += fmt.Sprintf("%s: %s; ", s.GetId(), s.GetEngineReason())
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not offloaded: %s", left)
		}
	}
}

// state asks for the session as it is.
func (c *call) state() *mediav1.SessionState {
	c.t.Helper()
	return c.apply(c.spec)
}

// TestCallInKernel has a call forwarded by the kernel, of each suite, through
// hold and a digit, and counts every packet.
func TestCallInKernel(t *testing.T) {
	if !xdptest.Namespaced(t) {
		return
	}
	for _, profile := range []dtls.SRTPProtectionProfile{
		dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80,
	} {
		t.Run(fmt.Sprintf("%#04x", uint16(profile)), func(t *testing.T) {
			site := xdptest.New(t)
			n := start(t, inKernel)
			c := dialFrom(t, n, mediav1.DTLSRole_DTLS_ROLE_SERVER, newFarOn(t, site.Far.Listen(t, "198.18.0.2:30000")),
				browserOptions{profile: profile, conn: site.App.Listen(t, "198.18.1.2:40000")})
			c.connected()
			c.offloaded()
			c.exchange(200)
			forwarded := n.metric("isthmus_media_engine_packets_total", "forwarded")
			if forwarded < 300 {
				t.Errorf("%v packets were forwarded in the kernel", forwarded)
			}

			// A digit goes through user space, and the stream back to the kernel.
			at := c.ts
			for i := range 5 {
				end := byte(0)
				if i >= 2 {
					end = 0x80
				}
				p := c.browserPacket([]byte{5, end | 10, byte((i + 1) * 160 >> 8), byte((i + 1) * 160)})
				p.PayloadType, p.Timestamp = 101, at
				c.browser.send(p)
				if q, ok := c.far.receive(); !ok || q.PayloadType != 96 {
					t.Fatalf("the far end got %v for a digit", q)
				}
			}
			c.events.find(t, "digit", func(e *mediav1.SessionEvent) bool { return e.GetDtmf().GetDigit() == "5" })
			c.offloaded()

			// Hold and resume.
			c.change(func(spec *mediav1.SessionSpec) {
				for _, s := range spec.GetStreams() {
					s.Direction = mediav1.Direction_DIRECTION_INACTIVE
				}
			})
			c.change(func(spec *mediav1.SessionSpec) {
				for _, s := range spec.GetStreams() {
					s.Direction = mediav1.Direction_DIRECTION_SENDRECV
				}
			})
			c.offloaded()
			c.exchange(50)
			for _, s := range c.state().GetStreams() {
				k := s.GetCounters()
				if k.GetLostPackets() != 0 || k.GetAuthFailures() != 0 || k.GetReplays() != 0 || k.GetReceivedPackets() < 250 {
					t.Errorf("stream %s: %v", s.GetId(), k)
				}
			}
			n.stop()
		})
	}
}

// nodeProcess marks a process that only runs a node, to be killed.
const nodeProcess = "ISTHMUS_NODE_PROCESS"

// TestKillInKernel kills the process of a node. Calls that are with the kernel
// lose no packet, and the next process takes them over with all they have counted.
func TestKillInKernel(t *testing.T) {
	if os.Getenv(nodeProcess) != "" {
		runNode(t)
		return
	}
	if !xdptest.Namespaced(t) {
		return
	}
	site := xdptest.New(t)
	first := startProcess(t)
	c := dialFrom(t, first, mediav1.DTLSRole_DTLS_ROLE_SERVER, newFarOn(t, site.Far.Listen(t, "198.18.0.2:30000")),
		browserOptions{conn: site.App.Listen(t, "198.18.1.2:40000")})
	c.connected()
	c.offloaded()
	var saved *mediav1.Checkpoint
	c.events.until(t, "a checkpoint of both directions", func() bool {
		for _, e := range c.events.list {
			if cp := e.GetCheckpoint(); cp != nil {
				saved = cp
			}
		}
		return len(saved.GetSrtp().GetSources()) == 2
	})
	c.exchange(100)
	state := c.state()
	first.stop()
	c.exchange(100) // nobody is there

	second := startProcess(t)
	c.node = second
	c.exchange(50)
	c.change(func(s *mediav1.SessionSpec) {
		w := webrtcOf(s)
		w.Remote, w.Srtp = saved.GetRemote(), saved.GetSrtp()
		s.GetLegs()[1].GetRtp().Local = state.GetLegs()[1].GetLocal()[0]
		for i, st := range s.GetStreams() {
			st.Ssrc = state.GetStreams()[i].GetSsrc()
		}
	})
	c.exchange(50)
	for _, s := range c.state().GetStreams() {
		// All from when the kernel took the stream on, a few packets after it was
		// given to it.
		if k := s.GetCounters(); s.GetEngine() != "xdp" || k.GetReceivedPackets() < 280 || k.GetLostPackets() != 0 {
			t.Errorf("stream %s is with %s (%s): %v", s.GetId(), s.GetEngine(), s.GetEngineReason(), k)
		}
	}
	// What is adopted ends as what is one's own.
	c.change(func(spec *mediav1.SessionSpec) {
		for _, s := range spec.GetStreams() {
			s.Direction = mediav1.Direction_DIRECTION_INACTIVE
		}
	})
	c.change(func(spec *mediav1.SessionSpec) {
		for _, s := range spec.GetStreams() {
			s.Direction = mediav1.Direction_DIRECTION_SENDRECV
		}
	})
	c.exchange(50)
	if state := c.browser.pc.ConnectionState(); state != webrtc.PeerConnectionStateConnected {
		t.Errorf("the browser is %s", state)
	}
	second.stop()
	cfg := config()
	inKernel(&cfg)
	if err := mediaplane.Release(cfg); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(cfg.XDP.Directory); err != nil || len(entries) != 0 {
		t.Errorf("left after the release: %v (%v)", entries, err)
	}
}

// runNode is the process.
func runNode(t *testing.T) {
	cfg := config()
	inKernel(&cfg)
	cfg.WebRTC.Port = 7882
	plane, err := mediaplane.New(cfg, mediaplane.Deps{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("serving", plane.URL())
	if err := plane.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// startProcess runs a node in a process of its own; to stop it is to kill it.
func startProcess(t *testing.T) *node {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), nodeProcess+"=1")
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	transport := h2c()
	n := &node{t: t, events: newEvents()}
	var once sync.Once
	n.stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			n.events.wait()
			transport.CloseIdleConnections()
		})
	}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			n.client = client(url, secret, transport)
			n.events.watch(t, n.client)
			t.Cleanup(n.stop)
			return n
		}
		t.Log(lines.Text())
	}
	_ = cmd.Process.Kill()
	t.Fatal("the node did not start")
	return nil
}
