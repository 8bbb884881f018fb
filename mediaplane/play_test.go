package mediaplane_test

import (
	"context"
	"net"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

func ringing() *mediav1.Tone {
	return &mediav1.Tone{Segments: []*mediav1.ToneSegment{
		{Frequencies: []float64{425}, Duration: durationpb.New(time.Second)}, {Duration: durationpb.New(4 * time.Second)},
	}}
}

// A browser hears ringing tone until the far end sends; the one follows the other
// in one sequence.
func TestRingingTone(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.change(func(s *mediav1.SessionSpec) { s.Streams[0].Tone = ringing() })
	var last *rtp.Packet
	for range 10 {
		p := c.browser.receive()
		if last != nil {
			follows(t, "browser", last, p)
		}
		if p.SSRC != 0x1111 || p.PayloadType != 0 || len(p.Payload) != 160 {
			t.Fatalf("the tone is %v", p.Header)
		}
		last = p
	}
	for range 10 {
		c.far.send(c.far.packet([]byte("early media")))
	}
	for media := 0; media < 10; {
		p := c.browser.receive()
		if p.SequenceNumber != last.SequenceNumber+1 {
			t.Fatalf("%d follows %d", p.SequenceNumber, last.SequenceNumber)
		}
		if string(p.Payload) == "early media" {
			media++
		} else if media > 0 {
			t.Fatal("the tone goes on beside media")
		}
		last = p
	}
}

func (n *node) sendDTMF(req *mediav1.SendDTMFRequest) error {
	_, err := n.client.SendDTMF(context.Background(), connect.NewRequest(req))
	return err
}

// Digits by request become telephone-events between the packets of the far end.
func TestSendDTMF(t *testing.T) {
	events := webrtc.RTPCodecParameters{PayloadType: 101, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000}}
	c := dialFrom(t, start(t, nil), server, newFar(t), browserOptions{codecs: []webrtc.RTPCodecParameters{pcmu(), events}})
	c.connected()
	c.exchange(5)
	digits := []*mediav1.Digit{{Digit: "4", Duration: durationpb.New(100 * time.Millisecond)}, {Digit: "#"}}
	if err := c.sendDTMF(&mediav1.SendDTMFRequest{Session: "s1", OwnerEpoch: 1, Stream: "b", Digits: digits}); err != nil {
		t.Fatal(err)
	}
	var got []byte
	var last *rtp.Packet
	media := 0
	for ends := 0; ends < 6 || media < 5; {
		if media < 5 {
			c.far.send(c.far.packet([]byte("media")))
		}
		p := c.browser.receive()
		if last != nil && p.SequenceNumber != last.SequenceNumber+1 {
			t.Fatalf("%d follows %d", p.SequenceNumber, last.SequenceNumber)
		}
		last = p
		switch {
		case p.PayloadType == 0:
			media++
		case p.PayloadType != 101 || p.SSRC != 0x1111:
			t.Fatalf("an event is %v", p.Header)
		default:
			if p.Marker {
				got = append(got, p.Payload[0])
			}
			if p.Payload[1]&0x80 != 0 {
				ends++
			}
		}
	}
	if len(got) != 2 || got[0] != 4 || got[1] != 11 {
		t.Errorf("the browser was sent the events %d", got)
	}

	for code, req := range map[connect.Code]*mediav1.SendDTMFRequest{
		connect.CodeNotFound:           {Session: "nobody", OwnerEpoch: 1, Stream: "b", Digits: digits},
		connect.CodeAborted:            {Session: "s1", Stream: "b", Digits: digits},
		connect.CodeFailedPrecondition: {Session: "s1", OwnerEpoch: 1, Stream: "x", Digits: digits},
		connect.CodeInvalidArgument:    {Session: "s1", OwnerEpoch: 1, Stream: "b", Digits: []*mediav1.Digit{{Digit: "10"}}},
	} {
		if err := c.sendDTMF(req); connect.CodeOf(err) != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
}

// The far end goes on from another port and another source, as after a re-INVITE or
// a transfer: nothing is lost or doubled, and both sides see one sequence.
func TestFarEndMoves(t *testing.T) {
	c := dial(t, start(t, nil), server, 0)
	c.connected()
	c.exchange(20)
	old := c.far
	moved := newFar(t)
	moved.to, moved.ssrc, moved.seq, moved.ts = old.to, 0xbeef, 7, 1000
	c.change(func(s *mediav1.SessionSpec) { s.GetLegs()[1].GetRtp().Remote = moved.addr() })

	// What the old port still sends before the new one is heard passes.
	last := func() *rtp.Packet { old.send(old.packet([]byte("old"))); return c.browser.receive() }()
	moved.send(moved.packet([]byte("new")))
	p := c.browser.receive()
	for string(p.Payload) == "old" {
		last, p = p, c.browser.receive()
	}
	if p.SSRC != last.SSRC || p.SequenceNumber != last.SequenceNumber+1 || p.Timestamp-last.Timestamp < 160 {
		t.Fatalf("%v does not follow %v", p.Header, last.Header)
	}
	c.far = moved
	c.exchange(20)
	if got := c.stream("t"); got.GetLostPackets() != 0 || got.GetReplays() != 0 {
		t.Errorf("from the far end: %v", got)
	}
}

// A telco leg in IPv6 beside browsers in IPv4.
func TestIPv6(t *testing.T) {
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skipf("no IPv6 on this machine: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := dial(t, start(t, func(cfg *mediaplane.Config) { cfg.RTP.Bind = []string{"127.0.0.1", "::1"} }), server, 0)
	c.connected()
	c.far = &far{t: t, conn: conn, seq: 1, ts: 1, ssrc: 6}
	state := c.change(func(s *mediav1.SessionSpec) {
		s.GetLegs()[1].GetRtp().Local = &mediav1.SocketAddress{Ip: "::"}
		s.GetLegs()[1].GetRtp().Remote = c.far.addr()
	})
	c.far.to = addrPort(t, state.GetLegs()[1].GetLocal()[0])
	if !c.far.to.Addr().Is6() {
		t.Fatalf("the leg is at %s", c.far.to)
	}
	c.change(func(s *mediav1.SessionSpec) { s.GetLegs()[1].GetRtp().Local = state.GetLegs()[1].GetLocal()[0] })
	c.exchange(20)
	s := suites[1]
	c.secure(s, s.master(), s.master())
	c.exchange(20)
	c.change(func(s *mediav1.SessionSpec) {
		s.GetLegs()[1].GetRtp().Remote = &mediav1.SocketAddress{Ip: "::", Port: 9}
	})
	if r := c.apply(c.spec).GetLegs()[1].GetRemote(); r.GetPort() == 9 {
		t.Errorf("hold by :: sends to %v", r)
	}
}
