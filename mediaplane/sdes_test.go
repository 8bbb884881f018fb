package mediaplane_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// suite is a crypto suite on both sides of a leg.
type suite struct {
	proto     mediav1.SRTPProfile
	pion      srtp.ProtectionProfile
	key, salt int
}

var suites = []suite{
	{mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80, srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	{mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32, srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	{mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM, srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	{mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM, srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
}

func (s suite) master() []byte {
	b := make([]byte, s.key+s.salt)
	_, _ = rand.Read(b)
	return b
}

func (s suite) context(t *testing.T, master []byte) *srtp.Context {
	t.Helper()
	c, err := srtp.CreateContext(master[:s.key], master[s.key:], s.pion)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secure gives both ends of the telco leg keys.
func (c *call) secure(s suite, local, remote []byte) {
	c.t.Helper()
	c.change(func(spec *mediav1.SessionSpec) {
		spec.GetLegs()[1].GetRtp().Srtp = &mediav1.SRTPState{Profile: s.proto, LocalMaster: local, RemoteMaster: remote}
	})
	c.far.protect, c.far.unprotect = s.context(c.t, remote), s.context(c.t, local)
}

func TestSDES(t *testing.T) {
	for _, s := range suites {
		t.Run(s.proto.String(), func(t *testing.T) {
			c := dial(t, start(t, nil), server, 0)
			c.connected()
			local, remote := s.master(), s.master()
			c.secure(s, local, remote)
			c.exchange(20) // the far end's sequence numbers turn over
			if state := c.apply(c.spec).GetLegs()[1]; state.GetSrtpProfile() != s.proto {
				t.Errorf("the leg says %s", state.GetSrtpProfile())
			}

			// What does not authenticate is not forwarded.
			clear, err := c.far.packet([]byte("in the clear")).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			c.far.sendRaw(clear)
			eventually(t, "an authentication failure", func() bool { return c.stream("t").GetAuthFailures() == 1 })
			c.far.seq-- // nobody has seen it

			// A far end that describes new keys sends with the old ones for a while.
			next := s.master()
			before := c.far.protect
			c.secure(s, local, next)
			c.far.unprotect = s.context(t, local)
			after := c.far.protect
			c.far.protect = before
			c.exchange(3)
			c.far.protect = after
			c.exchange(10)
			if got := c.stream("t"); got.GetAuthFailures() != 1 || got.GetLostPackets() != 0 {
				t.Errorf("after new keys: %v", got)
			}

			// New keys of the node's own.
			c.secure(s, s.master(), next)
			c.far.protect = after
			c.exchange(10)
		})
	}
}

// A far end without RTCP of its own gets that of the node as SRTCP, and its own
// is understood only as SRTCP.
func TestSDESControl(t *testing.T) {
	s := suites[0]
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.change(func(spec *mediav1.SessionSpec) { spec.GetLegs()[1].GetRtp().RtcpMux = true })
	local, remote := s.master(), s.master()
	c.secure(s, local, remote)
	c.exchange(5)
	raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: c.far.ssrc, NTPTime: 1 << 60, RTPTime: c.far.ts, PacketCount: 5}})
	if err != nil {
		t.Fatal(err)
	}
	c.far.sendRaw(raw)
	eventually(t, "the refusal of RTCP in the clear", func() bool {
		return c.metric("isthmus_media_dropped_packets_total", "srtp_auth") == 1
	})
	if raw, err = c.far.protect.EncryptRTCP(nil, raw, nil); err != nil {
		t.Fatal(err)
	}
	c.far.sendRaw(raw)
	for {
		select {
		case p := <-c.browser.control:
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.NTPTime == 1<<60 {
				return
			}
		case <-time.After(patient):
			t.Fatal("the sender report did not pass")
		}
	}
}

// A telco leg goes on at another node with the keys and indices of its checkpoint.
func TestSDESTakeover(t *testing.T) {
	s := suites[2]
	first := start(t, nil)
	c := dial(t, first, server, 0)
	c.connected()
	local, remote := s.master(), s.master()
	c.secure(s, local, remote)
	c.exchange(40)
	saved := map[string]*mediav1.Checkpoint{}
	c.events.until(t, "checkpoints of both legs", func() bool {
		for _, e := range c.events.list {
			if cp := e.GetCheckpoint(); cp != nil {
				saved[cp.GetLeg()] = cp
			}
		}
		return len(saved["browser"].GetSrtp().GetSources()) == 2 && len(saved["telco"].GetSrtp().GetSources()) == 2
	})
	if cp := saved["telco"]; !bytes.Equal(cp.GetSrtp().GetLocalMaster(), local) || cp.GetRemote().GetPort() != c.far.addr().GetPort() {
		t.Errorf("checkpoint of the telco leg: remote %v", cp.GetRemote())
	}
	port, ssrc := c.apply(c.spec).GetLegs()[0].GetLocal()[0].GetPort(), c.apply(c.spec).GetStreams()[1].GetSsrc()
	first.stop()

	c.node = start(t, func(cfg *mediaplane.Config) { cfg.WebRTC.Port = uint16(port) })
	c.change(func(spec *mediav1.SessionSpec) {
		w, r := webrtcOf(spec), spec.GetLegs()[1].GetRtp()
		w.Remote, w.Srtp = saved["browser"].GetRemote(), saved["browser"].GetSrtp()
		r.Remote, r.Srtp = saved["telco"].GetRemote(), saved["telco"].GetSrtp()
		spec.GetStreams()[1].Ssrc = ssrc
	})
	c.exchange(50)
	if got := c.stream("t"); got.GetReceivedPackets() != 50 || got.GetAuthFailures() != 0 || got.GetReplays() != 0 {
		t.Errorf("from the far end: %v", got)
	}
}
