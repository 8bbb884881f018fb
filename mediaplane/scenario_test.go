package mediaplane_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

const server = mediav1.DTLSRole_DTLS_ROLE_SERVER

// stream finds the state of a stream.
func (c *call) stream(id string) *mediav1.StreamCounters {
	c.t.Helper()
	for _, s := range c.apply(c.spec).GetStreams() { // the same spec again only asks
		if s.GetId() == id {
			return s.GetCounters()
		}
	}
	c.t.Fatalf("no stream %q", id)
	return nil
}

// eventually polls until a condition on the node's state holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patient)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patient)
		}
	}
}

func TestHoldAndResume(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(5)
	c.change(func(s *mediav1.SessionSpec) {
		s.Streams[0].Direction = mediav1.Direction_DIRECTION_INACTIVE
		s.Streams[1].Direction = mediav1.Direction_DIRECTION_INACTIVE
	})
	for range 10 {
		c.far.send(c.far.packet(bytes.Repeat([]byte{1}, 160)))
		c.browser.send(c.browserPacket(bytes.Repeat([]byte{2}, 160)))
	}
	eventually(t, "held packets counted", func() bool { return c.stream("t").GetGated() == 10 && c.stream("b").GetGated() == 10 })
	if n := c.stream("b").GetSentPackets(); n != 5 {
		t.Errorf("%d packets sent to the browser, want the 5 from before", n)
	}
	c.change(func(s *mediav1.SessionSpec) {
		s.Streams[0].Direction = mediav1.Direction_DIRECTION_SENDRECV
		s.Streams[1].Direction = mediav1.Direction_DIRECTION_SENDRECV
	})
	// The next packets are the first after the five: none of hold leaked, no gap.
	c.exchange(5)
}

func TestSpoofedSource(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(3)
	spoof := newFar(t)
	spoof.to = c.far.to
	for range 20 {
		spoof.send(spoof.packet(bytes.Repeat([]byte{0xee}, 160)))
	}
	eventually(t, "foreign packets counted", func() bool { return c.stream("t").GetForeignSource() == 20 })
	c.exchange(3) // checks every payload
}

func TestRelatch(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(3)
	old, moved := c.far, newFar(t)
	moved.to = old.to
	c.change(func(s *mediav1.SessionSpec) { s.GetLegs()[1].GetRtp().Remote = moved.addr() })

	// Before anything came from there, the node sends where the spec says.
	c.browser.send(c.browserPacket(bytes.Repeat([]byte{7}, 160)))
	p, ok := moved.receive()
	if !ok || p.Payload[0] != 7 {
		t.Fatal("nothing at the new address")
	}
	moved.ssrc, moved.seq, moved.ts = 99, 3, 4
	c.far = moved
	before := c.stream("b").GetSentPackets()
	c.exchange(5)
	if sent := c.stream("b").GetSentPackets() - before; sent != 5 {
		t.Errorf("%d packets to the browser, want 5", sent)
	}
	old.send(old.packet(bytes.Repeat([]byte{9}, 160)))
	eventually(t, "the old address is foreign", func() bool { return c.stream("t").GetForeignSource() == 1 })
	eventually(t, "two latch events", func() bool {
		return c.events.count(func(e *mediav1.SessionEvent) bool { return e.GetSourceLatched() != nil }) == 2
	})
}

func TestLatchBehindNAT(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	behind := newFar(t) // not the address that the spec names
	behind.to = c.far.to
	behind.send(behind.packet(bytes.Repeat([]byte{1}, 160)))
	c.events.find(t, "SourceLatched", func(e *mediav1.SessionEvent) bool {
		return proto.Equal(e.GetSourceLatched().GetRemote(), behind.addr())
	})
	c.browser.receive()
	c.far = behind
	c.exchange(3)
}

func TestStrictSource(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.change(func(s *mediav1.SessionSpec) { s.GetLegs()[1].GetRtp().StrictSource = true })
	other := newFar(t)
	other.to = c.far.to
	other.send(other.packet(bytes.Repeat([]byte{1}, 160)))
	eventually(t, "foreign packet counted", func() bool { return c.stream("t").GetForeignSource() == 1 })
	c.exchange(3)
	if n := c.events.count(func(e *mediav1.SessionEvent) bool { return e.GetSourceLatched() != nil }); n != 0 {
		t.Errorf("a strict leg latched %d times", n)
	}
}

func TestGarbageAndReplays(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(3)
	for _, raw := range [][]byte{{0}, {0x80, 0, 1}, bytes.Repeat([]byte{0xff}, 40), append([]byte{0x80, 0x7f}, make([]byte, 1000)...), make([]byte, 4000)} {
		c.far.sendRaw(raw)
	}
	p := c.far.packet(bytes.Repeat([]byte{3}, 160))
	c.far.send(p)
	if q := c.browser.receive(); q.Payload[0] != 3 {
		t.Errorf("payload %x", q.Payload[:4])
	}
	c.far.send(p) // a copy: to protect it again would use one index twice
	c.exchange(3)
	if got := c.stream("t").GetMalformed(); got < 3 {
		t.Errorf("malformed %d, want 3 at least", got)
	}
}

// opusCall sets up a call with Opus and both telephone-events on the browser's
// side, Opus and telephone-event at 8 kHz or 48 kHz on the other.
func opusCall(t *testing.T, telcoRate uint32) *call {
	t.Helper()
	opus := webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}
	te8 := webrtc.RTPCodecParameters{PayloadType: 126, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000}}
	te48 := webrtc.RTPCodecParameters{PayloadType: 110, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 48000}}
	n := start(t, nil)
	c := &call{node: n, t: t, id: newIdentity(t), far: newFar(t), seq: 1, ts: 1000}
	c.browser = newBrowser(t, browserOptions{codecs: []webrtc.RTPCodecParameters{opus, te8, te48}})
	c.spec = baseSpec("s1", c.id, server)
	w := webrtcOf(c.spec)
	w.RemoteIce, w.RemoteFingerprints = c.browser.ice(), []*mediav1.Fingerprint{c.browser.fingerprint()}
	c.spec.GetLegs()[1].GetRtp().Remote = c.far.addr()
	format := func(pt uint32, name string, rate, channels uint32) *mediav1.Format {
		return &mediav1.Format{PayloadType: pt, Encoding: name, ClockRate: rate, Channels: channels}
	}
	c.spec.Streams[0].Formats = []*mediav1.Format{format(111, "opus", 48000, 2), format(126, "telephone-event", 8000, 1), format(110, "telephone-event", 48000, 1)}
	c.spec.Streams[1].Formats = []*mediav1.Format{format(96, "opus", 48000, 2), format(97, "telephone-event", telcoRate, 1)}
	c.spec.Rules[0].Outputs[0].Payloads = []*mediav1.PayloadMapping{{From: 111, To: 96}, {From: 126, To: 97}, {From: 110, To: 97}}
	c.spec.Rules[1].Outputs[0].Payloads = []*mediav1.PayloadMapping{{From: 96, To: 111}, {From: 97, To: 126}}
	state := n.apply(c.spec)
	c.far.to = addrPort(t, state.GetLegs()[1].GetLocal()[0])
	c.browser.answer(w.GetLocalIce(), c.id, "passive", state.GetLegs()[0].GetLocal()[0], 0x1111, opus, te8, te48)
	c.connected()
	return c
}

func TestDTMFClockRates(t *testing.T) {
	for _, test := range []struct {
		name      string
		telco     uint32
		pt        uint8
		rate      uint32
		durations []uint16
	}{
		{"8 kHz to 8 kHz", 8000, 126, 8000, []uint16{160, 800}},
		{"8 kHz to 48 kHz", 48000, 126, 8000, []uint16{960, 4800}},
		{"48 kHz to 8 kHz", 8000, 110, 48000, []uint16{160, 800}},
		{"48 kHz to 48 kHz", 48000, 110, 48000, []uint16{960, 4800}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := opusCall(t, test.telco)
			media := func() *rtp.Packet {
				p := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: c.seq, Timestamp: c.ts}, Payload: []byte{0xf8, 0xff, 0xfe}}
				c.seq++
				c.ts += 960
				c.browser.send(p)
				q, ok := c.far.receive()
				if !ok || q.PayloadType != 96 {
					t.Fatalf("far end got %v", q)
				}
				return q
			}
			media()
			last := media()
			unit := uint16(test.rate / 8000)
			at := c.ts
			for i, e := range []struct {
				duration uint16
				end      bool
			}{{160 * unit, false}, {800 * unit, true}, {800 * unit, true}, {800 * unit, true}} {
				payload := []byte{11, 10, 0, 0}
				if e.end {
					payload[1] |= 0x80
				}
				binary.BigEndian.PutUint16(payload[2:], e.duration)
				c.browser.send(&rtp.Packet{Header: rtp.Header{Version: 2, Marker: i == 0, PayloadType: test.pt, SequenceNumber: c.seq, Timestamp: at}, Payload: payload})
				c.seq++
				p, ok := c.far.receive()
				if !ok || p.PayloadType != 97 || p.Marker != (i == 0) {
					t.Fatalf("packet %d: far end got %v", i, p)
				}
				if got, want := binary.BigEndian.Uint16(p.Payload[2:]), test.durations[min(i, 1)]; got != want {
					t.Errorf("packet %d: duration %d, want %d", i, got, want)
				}
				if p.Timestamp != last.Timestamp+960 || p.SequenceNumber != last.SequenceNumber+1+uint16(i) {
					t.Errorf("packet %d: %d/%d after media %d/%d", i, p.SequenceNumber, p.Timestamp, last.SequenceNumber, last.Timestamp)
				}
			}
			c.ts += 5 * 960
			if next := media(); next.Timestamp != last.Timestamp+6*960 {
				t.Errorf("media after the event is %d later, want %d", next.Timestamp-last.Timestamp, 6*960)
			}
			e := c.events.find(t, "DTMF", func(e *mediav1.SessionEvent) bool { return e.GetDtmf() != nil })
			if d := e.GetDtmf(); d.GetDigit() != "#" || d.GetStream() != "b" || d.GetDuration().AsDuration() != 100*time.Millisecond {
				t.Errorf("reported %v", d)
			}
			if n := c.events.count(func(e *mediav1.SessionEvent) bool { return e.GetDtmf() != nil }); n != 1 {
				t.Errorf("%d digits reported, want 1", n)
			}
		})
	}
}

func TestBadFingerprint(t *testing.T) {
	for _, role := range []mediav1.DTLSRole{server, mediav1.DTLSRole_DTLS_ROLE_CLIENT} {
		t.Run(role.String(), func(t *testing.T) {
			n := start(t, nil)
			c := &call{node: n, t: t, id: newIdentity(t), far: newFar(t)}
			c.browser = newBrowser(t, browserOptions{})
			c.spec = baseSpec("s1", c.id, role)
			w := webrtcOf(c.spec)
			wrong := c.browser.fingerprint()
			wrong.Value[0] ^= 1
			w.RemoteIce, w.RemoteFingerprints = c.browser.ice(), []*mediav1.Fingerprint{wrong}
			state := n.apply(c.spec)
			setup := "passive"
			if role != server {
				setup = "active"
			}
			c.browser.answer(w.GetLocalIce(), c.id, setup, state.GetLegs()[0].GetLocal()[0], 1)
			e := c.events.find(t, "LegFailed", func(e *mediav1.SessionEvent) bool { return e.GetLegFailed() != nil })
			if e.GetLegFailed().GetLeg() != "browser" || !bytes.Contains([]byte(e.GetLegFailed().GetReason()), []byte("fingerprint")) {
				t.Errorf("reported %v", e)
			}
			if got := c.apply(c.spec).GetLegs()[0]; got.GetDtlsConnected() {
				t.Error("the leg has keys")
			}
		})
	}
}

func TestICERestart(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(3)
	offer, err := c.browser.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.browser.pc)
	if err := c.browser.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	before := c.browser.ice()
	c.browser.offer = c.browser.pc.LocalDescription().SDP
	if c.browser.ice().GetUfrag() == before.GetUfrag() {
		t.Fatal("the browser did not restart ICE")
	}
	connects := c.events.count(func(e *mediav1.SessionEvent) bool { return e.GetIceConnected() != nil })
	state := c.change(func(s *mediav1.SessionSpec) {
		w := webrtcOf(s)
		w.LocalIce = &mediav1.ICECredentials{Ufrag: "restarted", Password: "anotherpasswordofthenode"}
		w.RemoteIce = c.browser.ice()
	})
	c.browser.answer(webrtcOf(c.spec).GetLocalIce(), c.id, "passive", state.GetLegs()[0].GetLocal()[0], 0x1111)
	c.events.until(t, "ICEConnected after the restart", func() bool {
		n := 0
		for _, e := range c.events.list {
			if e.GetIceConnected() != nil {
				n++
			}
		}
		return n > connects
	})
	c.exchange(10)
	if n := c.events.count(func(e *mediav1.SessionEvent) bool { return e.GetDtlsConnected() != nil }); n != 1 {
		t.Errorf("%d DTLS associations, want the one from before", n)
	}
}

// A node dies; another one goes on at the same address with what the control
// plane has stored. The browser notices nothing.
func TestTakeover(t *testing.T) {
	first := start(t, nil)
	c := dial(t, first, server, 0)
	c.connected()
	c.exchange(40)
	var saved *mediav1.Checkpoint
	c.events.until(t, "a checkpoint of both directions", func() bool {
		for _, e := range c.events.list {
			if cp := e.GetCheckpoint(); cp != nil {
				saved = cp
			}
		}
		return len(saved.GetSrtp().GetSources()) == 2
	})
	c.exchange(20) // what came after the checkpoint is lost with the node
	port := c.apply(c.spec).GetLegs()[0].GetLocal()[0].GetPort()
	rtpPort := c.far.to.Port()
	first.stop()

	second := start(t, func(cfg *mediaplane.Config) { cfg.WebRTC.Port = uint16(port) })
	c.node = second
	c.change(func(s *mediav1.SessionSpec) {
		w := webrtcOf(s)
		w.Remote, w.Srtp = saved.GetRemote(), saved.GetSrtp()
		s.GetLegs()[1].GetRtp().Local.Port = uint32(rtpPort)
	})
	if state := c.apply(c.spec).GetLegs()[0]; !state.GetDtlsConnected() || !state.GetIceConnected() {
		t.Fatalf("browser leg after the takeover: %v", state)
	}
	c.exchange(50)
	if got := c.stream("b"); got.GetReceivedPackets() != 50 || got.GetAuthFailures() != 0 || got.GetReplays() != 0 {
		t.Errorf("from the browser: %v", got)
	}
	if state := c.browser.pc.ConnectionState(); state != webrtc.PeerConnectionStateConnected {
		t.Errorf("the browser is %s", state)
	}
	second.events.find(t, "a checkpoint beyond the restored one", func(e *mediav1.SessionEvent) bool {
		for _, s := range e.GetCheckpoint().GetSrtp().GetSources() {
			if s.GetOutgoing() && s.GetSsrc() == 0x1111 {
				for _, o := range saved.GetSrtp().GetSources() {
					if o.GetOutgoing() && o.GetSsrc() == s.GetSsrc() {
						was := uint64(o.GetRolloverCounter())<<16 | uint64(o.GetLastSequence())
						is := uint64(s.GetRolloverCounter())<<16 | uint64(s.GetLastSequence())
						return is > was+20
					}
				}
			}
		}
		return false
	})
}

func TestRTCP(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(10)
	conn := newFar(t)
	conn.to = c.far.to
	// The far end's RTCP comes from a port of its own, on the host of its media.
	raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: c.far.ssrc, NTPTime: 1 << 60, RTPTime: c.far.ts, PacketCount: 10}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.conn.WriteToUDPAddrPort(raw, addrPort(t, &mediav1.SocketAddress{Ip: "127.0.0.1", Port: uint32(c.far.to.Port()) + 1})); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(patient)
	for {
		select {
		case p := <-c.browser.control:
			sr, ok := p.(*rtcp.SenderReport)
			if !ok {
				continue
			}
			if sr.SSRC != 0x1111 || sr.NTPTime != 1<<60 || sr.PacketCount != 10 {
				t.Errorf("the browser got %v", sr)
			}
			return
		case <-deadline:
			t.Fatal("no sender report reached the browser")
		}
	}
}

func TestMediaTimeoutAndResume(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(3)
	c.change(func(s *mediav1.SessionSpec) { s.MediaTimeout = durationpb.New(300 * time.Millisecond) })
	c.events.find(t, "MediaTimeout", func(e *mediav1.SessionEvent) bool { return e.GetMediaTimeout().GetStream() == "t" })
	c.exchange(3)
	c.events.find(t, "MediaResumed", func(e *mediav1.SessionEvent) bool { return e.GetMediaResumed().GetStream() == "t" })
}

// Foreign checks are neither answered nor believed.
func TestForeignSTUN(t *testing.T) {
	n := start(t, nil)
	c := &call{node: n, t: t, id: newIdentity(t), far: newFar(t)}
	c.browser = newBrowser(t, browserOptions{})
	c.spec = baseSpec("s1", c.id, server)
	w := webrtcOf(c.spec)
	w.RemoteIce, w.RemoteFingerprints = c.browser.ice(), []*mediav1.Fingerprint{c.browser.fingerprint()}
	state := n.apply(c.spec)
	wrong := proto.Clone(w.GetLocalIce()).(*mediav1.ICECredentials)
	wrong.Password = "thisisnotthepasswordatall"
	c.browser.answer(wrong, c.id, "passive", state.GetLegs()[0].GetLocal()[0], 1)
	eventually(t, "failed checks counted", func() bool {
		return n.metric("isthmus_media_dropped_packets_total", "stun_integrity") >= 2
	})
	// A check for nobody, and something that only looks like STUN.
	stranger := newFar(t)
	stranger.to = addrPort(t, state.GetLegs()[0].GetLocal()[0])
	msg := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("nobody:here"), stun.NewShortTermIntegrity("x"), stun.Fingerprint)
	stranger.sendRaw(msg.Raw)
	stranger.sendRaw([]byte{0, 1, 0, 0})
	stranger.sendRaw([]byte{22, 254, 253, 0})
	eventually(t, "foreign packets counted", func() bool {
		return n.metric("isthmus_media_dropped_packets_total", "stun_foreign") == 1 &&
			n.metric("isthmus_media_dropped_packets_total", "stun_malformed") == 1 &&
			n.metric("isthmus_media_dropped_packets_total", "foreign_source") == 1
	})
	if n.metric("isthmus_media_stun_requests_total") != 0 {
		t.Error("a foreign check was answered")
	}
	if got := n.apply(c.spec).GetLegs()[0]; got.GetIceConnected() {
		t.Error("the leg believes a foreign check")
	}
}

// Two far ends without a browser, one of them on IPv6.
func TestRelay(t *testing.T) {
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 on this host: %v", err)
	} else {
		_ = probe.Close()
	}
	n := start(t, func(c *mediaplane.Config) { c.RTP.Bind = []string{"127.0.0.1", "::1"} })
	spec := &mediav1.SessionSpec{
		Id: "relay", Generation: 1,
		Legs: []*mediav1.Leg{
			{Id: "four", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{RtcpMux: true}}},
			{Id: "six", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{Local: &mediav1.SocketAddress{Ip: "::"}}}},
		},
		Streams: []*mediav1.Stream{
			{Id: "4", Leg: "four", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: formats(0)},
			{Id: "6", Leg: "six", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: formats(0)},
		},
		Rules: []*mediav1.Rule{{Input: "4", Outputs: []*mediav1.Output{{Stream: "6"}}}, {Input: "6", Outputs: []*mediav1.Output{{Stream: "4"}}}},
	}
	state := n.apply(spec)
	if ip := state.GetLegs()[1].GetLocal()[0].GetIp(); ip != "::1" {
		t.Fatalf("the leg that asked for IPv6 has %s", ip)
	}
	if l := state.GetLegs()[0]; l.GetLocalRtcp().GetPort() != l.GetLocal()[0].GetPort() {
		t.Errorf("with rtcp-mux RTCP is at %v", l.GetLocalRtcp())
	}
	four, six := newFar(t), newFar(t)
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	six.conn = conn
	four.to, six.to = addrPort(t, state.GetLegs()[0].GetLocal()[0]), addrPort(t, state.GetLegs()[1].GetLocal()[0])
	six.send(six.packet([]byte("nowhere to send yet")))
	eventually(t, "the first packet counted", func() bool {
		return n.apply(spec).GetStreams()[1].GetCounters().GetReceivedPackets() == 1
	})
	four.send(four.packet([]byte("four to six")))
	if p, ok := six.receive(); !ok || string(p.Payload) != "four to six" {
		t.Errorf("got %v", p)
	}
	six.send(six.packet([]byte("six to four")))
	if p, ok := four.receive(); !ok || string(p.Payload) != "six to four" {
		t.Errorf("got %v", p)
	}
}

// A stream that is taken away and comes back with its SSRC goes on after the
// indices that were used with it.
func TestStreamComesBack(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(5)
	c.far.send(c.far.packet(bytes.Repeat([]byte{1}, 160)))
	last := c.browser.receive()
	stream, rules := c.spec.Streams[0], c.spec.Rules
	c.change(func(s *mediav1.SessionSpec) { s.Streams, s.Rules = s.Streams[1:], nil })
	c.change(func(s *mediav1.SessionSpec) { s.Streams, s.Rules = append(s.Streams, stream), rules })
	c.far.send(c.far.packet(bytes.Repeat([]byte{2}, 160)))
	if p := c.browser.receive(); p.SSRC != last.SSRC || p.SequenceNumber != last.SequenceNumber+1 {
		t.Errorf("came back as %x/%d, was at %x/%d", p.SSRC, p.SequenceNumber, last.SSRC, last.SequenceNumber)
	}
	c.exchange(5)
}

// Another browser takes the leg: new fingerprints, a new association, one stream.
func TestNewAssociation(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(5)
	c.browser = newBrowser(t, browserOptions{})
	state := c.change(func(s *mediav1.SessionSpec) {
		w := webrtcOf(s)
		w.LocalIce = &mediav1.ICECredentials{Ufrag: "second", Password: "anotherpasswordofthenode"}
		w.RemoteIce, w.RemoteFingerprints = c.browser.ice(), []*mediav1.Fingerprint{c.browser.fingerprint()}
	})
	c.browser.answer(webrtcOf(c.spec).GetLocalIce(), c.id, "passive", state.GetLegs()[0].GetLocal()[0], 0x1111)
	c.events.until(t, "a second DTLS association", func() bool {
		n := 0
		for _, e := range c.events.list {
			if e.GetDtlsConnected() != nil {
				n++
			}
		}
		return n == 2
	})
	c.connected()
	c.exchange(20)
}

// After many sessions nothing of them is left.
func TestNothingIsLeft(t *testing.T) {
	n := start(t, nil)
	id := newIdentity(t)
	before, files, heap := runtime.NumGoroutine(), descriptors(t), heapInUse()
	for i := range 100 {
		spec := baseSpec("s", id, server)
		spec.Generation = uint64(i + 1)
		n.apply(spec)
		if _, err := n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s", OwnerEpoch: 1})); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, n, server, 0)
	c.connected()
	c.exchange(3)
	if _, err := n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s1", OwnerEpoch: 1})); err != nil {
		t.Fatal(err)
	}
	if err := c.browser.pc.GracefulClose(); err != nil {
		t.Fatal(err)
	}
	if got := n.node().GetCapacity(); got.GetSessions() != 0 || got.GetFreeRtpPorts() != 1000 {
		t.Errorf("left: %v", got)
	}
	if n.metric("isthmus_media_sessions") != 0 {
		t.Error("the sessions metric is not 0")
	}
	eventually(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before+2 })
	_ = c.far.conn.Close()
	eventually(t, "sockets closed", func() bool { return descriptors(t) <= files })
	// A session is more than 100 kB in user space; the browser leaves a little.
	eventually(t, "memory given back", func() bool { return heapInUse() < heap+4<<20 })
}

// descriptors of this process that are open; 0 where that cannot be told.
func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log(err)
	}
	return len(list)
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
