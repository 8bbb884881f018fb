package mediaplane_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// call is a browser and a far end joined by a node.
type call struct {
	*node
	t       *testing.T
	spec    *mediav1.SessionSpec
	id      identity
	browser *browser
	far     *far
	seq     uint16
	ts      uint32
}

func formats(payloads ...uint32) []*mediav1.Format {
	var list []*mediav1.Format
	for _, p := range payloads {
		switch p {
		case 0:
			list = append(list, &mediav1.Format{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000, Channels: 1})
		default:
			list = append(list, &mediav1.Format{PayloadType: p, Encoding: "telephone-event", ClockRate: 8000, Channels: 1})
		}
	}
	return list
}

func baseSpec(id string, local identity, role mediav1.DTLSRole) *mediav1.SessionSpec {
	return &mediav1.SessionSpec{
		Id: id, OwnerEpoch: 1, Generation: 1,
		Legs: []*mediav1.Leg{
			{Id: "browser", Transport: &mediav1.Leg_Webrtc{Webrtc: &mediav1.WebRTCTransport{
				LocalIce:  &mediav1.ICECredentials{Ufrag: "node" + id, Password: "apasswordofthenodesside1234"},
				LocalDtls: local.proto, DtlsRole: role,
			}}},
			{Id: "telco", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{}}},
		},
		Streams: []*mediav1.Stream{
			{Id: "b", Leg: "browser", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: formats(0, 101), Ssrc: 0x1111, Cname: "b"},
			{Id: "t", Leg: "telco", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: formats(0, 96), Cname: "t"},
		},
		Rules: []*mediav1.Rule{
			{Input: "b", Outputs: []*mediav1.Output{{Stream: "t", Payloads: []*mediav1.PayloadMapping{{From: 0, To: 0}, {From: 101, To: 96}}}}},
			{Input: "t", Outputs: []*mediav1.Output{{Stream: "b", Payloads: []*mediav1.PayloadMapping{{From: 0, To: 0}, {From: 96, To: 101}}}}},
		},
	}
}

func webrtcOf(spec *mediav1.SessionSpec) *mediav1.WebRTCTransport {
	return spec.GetLegs()[0].GetWebrtc()
}

// dial sets up a call on a node the way a control plane does: local side first,
// the remote description when it comes.
func dial(t *testing.T, n *node, role mediav1.DTLSRole, profile dtls.SRTPProtectionProfile) *call {
	t.Helper()
	return dialFrom(t, n, role, newFar(t), browserOptions{profile: profile})
}

// dialFrom sets up a call between a far end and a browser of one's own.
func dialFrom(t *testing.T, n *node, role mediav1.DTLSRole, f *far, o browserOptions) *call {
	t.Helper()
	c := &call{node: n, t: t, id: newIdentity(t), far: f, seq: 1000, ts: 50000}
	c.spec = baseSpec("s1", c.id, role)
	state := n.apply(c.spec)

	c.browser = newBrowser(t, o)
	c.change(func(spec *mediav1.SessionSpec) {
		w := webrtcOf(spec)
		w.RemoteIce = c.browser.ice()
		w.RemoteFingerprints = []*mediav1.Fingerprint{c.browser.fingerprint()}
		spec.GetLegs()[1].GetRtp().Local = state.GetLegs()[1].GetLocal()[0]
		spec.GetLegs()[1].GetRtp().Remote = c.far.addr()
	})
	c.far.to = addrPort(t, state.GetLegs()[1].GetLocal()[0])
	setup := "passive"
	if role == mediav1.DTLSRole_DTLS_ROLE_CLIENT {
		setup = "active"
	}
	c.browser.answer(webrtcOf(c.spec).GetLocalIce(), c.id, setup, state.GetLegs()[0].GetLocal()[0], 0x1111, o.codecs...)
	return c
}

// change applies the spec again, changed, with the next generation.
func (c *call) change(f func(*mediav1.SessionSpec)) *mediav1.SessionState {
	c.t.Helper()
	c.spec = proto.Clone(c.spec).(*mediav1.SessionSpec)
	c.spec.Generation++
	f(c.spec)
	return c.apply(c.spec)
}

func (c *call) connected() {
	c.t.Helper()
	c.events.find(c.t, "DTLSConnected", func(e *mediav1.SessionEvent) bool { return e.GetDtlsConnected() != nil })
	select {
	case <-c.browser.up:
	case <-time.After(patient):
		c.t.Fatal("the PeerConnection did not connect")
	}
}

func (c *call) browserPacket(payload []byte) *rtp.Packet {
	p := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 0, SequenceNumber: c.seq, Timestamp: c.ts}, Payload: payload}
	c.seq++
	c.ts += 160
	return p
}

// exchange sends packets both ways and checks what arrives.
func (c *call) exchange(count int) {
	c.t.Helper()
	var toFar, toBrowser *rtp.Packet
	for i := range count {
		up := bytes.Repeat([]byte{byte(i), 0x55}, 80)
		c.browser.send(c.browserPacket(up))
		p, ok := c.far.receive()
		if !ok {
			c.t.Fatalf("the far end received nothing (packet %d)", i)
		}
		if !bytes.Equal(p.Payload, up) || p.PayloadType != 0 {
			c.t.Fatalf("far end: packet %d has payload type %d and %x…", i, p.PayloadType, p.Payload[:8])
		}
		if toFar != nil {
			follows(c.t, "far end", toFar, p)
		}
		toFar = p

		down := bytes.Repeat([]byte{byte(i), 0xaa}, 80)
		c.far.send(c.far.packet(down))
		q := c.browser.receive()
		if !bytes.Equal(q.Payload, down) || q.SSRC != 0x1111 {
			c.t.Fatalf("browser: packet %d has ssrc %x and %x…", i, q.SSRC, q.Payload[:8])
		}
		if toBrowser != nil {
			follows(c.t, "browser", toBrowser, q)
		}
		toBrowser = q
	}
}

func follows(t *testing.T, who string, a, b *rtp.Packet) {
	t.Helper()
	if b.SSRC != a.SSRC || b.SequenceNumber != a.SequenceNumber+1 || b.Timestamp != a.Timestamp+160 {
		t.Fatalf("%s: %x %d/%d does not follow %x %d/%d", who, b.SSRC, b.SequenceNumber, b.Timestamp, a.SSRC, a.SequenceNumber, a.Timestamp)
	}
}

func TestCall(t *testing.T) {
	for _, role := range []mediav1.DTLSRole{mediav1.DTLSRole_DTLS_ROLE_CLIENT, mediav1.DTLSRole_DTLS_ROLE_SERVER} {
		for profile, want := range map[dtls.SRTPProtectionProfile]mediav1.SRTPProfile{
			dtls.SRTP_AEAD_AES_128_GCM:       mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM,
			dtls.SRTP_AEAD_AES_256_GCM:       mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM,
			dtls.SRTP_AES128_CM_HMAC_SHA1_80: mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80,
		} {
			t.Run(fmt.Sprintf("%s/%s", role, want), func(t *testing.T) {
				n := start(t, nil)
				c := dial(t, n, role, profile)
				c.connected()
				c.exchange(50)
				state := c.change(func(spec *mediav1.SessionSpec) { spec.OrphanAfter = durationpb.New(time.Minute) })
				if leg := state.GetLegs()[0]; !leg.GetIceConnected() || !leg.GetDtlsConnected() || leg.GetSrtpProfile() != want {
					t.Errorf("browser leg: %v", leg)
				}
				for _, s := range state.GetStreams() {
					if s.GetCounters().GetReceivedPackets() != 50 || s.GetCounters().GetSentPackets() != 50 || s.GetCounters().GetLostPackets() != 0 {
						t.Errorf("stream %s: %v", s.GetId(), s.GetCounters())
					}
				}
				for _, what := range []func(*mediav1.SessionEvent) bool{
					func(e *mediav1.SessionEvent) bool { return e.GetIceConnected() != nil },
					func(e *mediav1.SessionEvent) bool { return e.GetFirstPacket().GetStream() == "b" },
					func(e *mediav1.SessionEvent) bool { return e.GetFirstPacket().GetStream() == "t" },
					func(e *mediav1.SessionEvent) bool { return e.GetSourceLatched().GetLeg() == "telco" },
					func(e *mediav1.SessionEvent) bool { return len(e.GetCheckpoint().GetSrtp().GetSources()) >= 2 },
					func(e *mediav1.SessionEvent) bool { return e.GetQuality() != nil },
				} {
					c.events.find(t, "event of a call", what)
				}
			})
		}
	}
}
