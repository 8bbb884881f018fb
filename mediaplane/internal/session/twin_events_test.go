package session

import (
	"fmt"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

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
