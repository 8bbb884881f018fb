//go:build linux && (amd64 || arm64)

package mediaplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

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
