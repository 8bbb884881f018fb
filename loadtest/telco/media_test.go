package telco

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// openPair opens the media of a call and a peer's socket that has the offer
// accepted.
func openPair(t *testing.T, offer string) (*media, *net.UDPConn, string) {
	t.Helper()
	n := &Network{host: "127.0.0.1", ports: newPortRange(netip.MustParseAddr("127.0.0.1"), 0, 0)}
	m, err := n.openMedia(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	answer, err := m.answer([]byte(offer), everyCodec, sendRecv)
	if err != nil {
		t.Fatal(err)
	}
	return m, peer, string(answer)
}

func sendRTP(t *testing.T, m *media, peer *net.UDPConn, p rtp.Packet) {
	t.Helper()
	p.Version = 2
	raw, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.WriteToUDPAddrPort(raw, m.localAddress()); err != nil {
		t.Fatal(err)
	}
}

func readPacket(t *testing.T, peer *net.UDPConn, wanted func([]byte) bool) []byte {
	t.Helper()
	buffer := make([]byte, 2048)
	for {
		peer.SetReadDeadline(time.Now().Add(8 * time.Second))
		n, err := peer.Read(buffer)
		if err != nil {
			t.Fatalf("the wanted packet did not come: %v", err)
		}
		if wanted(buffer[:n]) {
			return buffer[:n]
		}
	}
}

// Codecs that the network cannot make are echoed byte for byte, with its own
// SSRC and the spacing of what came, to where it came from.
func TestEchoIsByteForByteAndSymmetric(t *testing.T) {
	t.Parallel()
	offer := strings.Replace(someOffer, "RTP/AVP 0", "RTP/AVP 96", 1) + "a=rtpmap:96 opus/48000/2\r\n"
	m, peer, answer := openPair(t, offer)
	if !strings.Contains(answer, "a=rtpmap:96 opus/48000/2\r\n") {
		t.Fatalf("answer is\n%s", answer)
	}
	m.echo(true)
	var last rtp.Packet
	for i := range 5 {
		payload := []byte{byte(i), 0xff, 0, 42}
		sendRTP(t, m, peer, rtp.Packet{Header: rtp.Header{PayloadType: 96, SSRC: 7, SequenceNumber: uint16(i), Timestamp: uint32(i * 960)}, Payload: payload})
		sendRTP(t, m, peer, rtp.Packet{Header: rtp.Header{PayloadType: 13, SSRC: 7, SequenceNumber: uint16(i)}, Payload: payload})
		var got rtp.Packet
		if err := got.Unmarshal(readPacket(t, peer, func([]byte) bool { return true })); err != nil {
			t.Fatal(err)
		}
		if string(got.Payload) != string(payload) || got.PayloadType != 96 || got.SSRC == 7 {
			t.Fatalf("packet %d came back as %+v", i, got)
		}
		if i > 0 && (got.SequenceNumber != last.SequenceNumber+1 || got.Timestamp != last.Timestamp+960 || got.SSRC != last.SSRC) {
			t.Fatalf("packet %d has %+v after %+v", i, got.Header, last.Header)
		}
		last = *got.Clone()
	}
}

func TestReportsOverMux(t *testing.T) {
	t.Parallel()
	m, peer, answer := openPair(t, someOffer+"a=rtcp-mux\r\n")
	if !strings.Contains(answer, "a=rtcp-mux\r\n") {
		t.Fatalf("answer is\n%s", answer)
	}
	m.echo(true)
	for i := range 4 {
		if i == 1 {
			continue // one is lost
		}
		sendRTP(t, m, peer, rtp.Packet{Header: rtp.Header{SSRC: 9, SequenceNumber: uint16(65534 + i), Timestamp: uint32(i * 160)}, Payload: make([]byte, 160)})
		readPacket(t, peer, func([]byte) bool { return true })
	}
	report := readPacket(t, peer, func(b []byte) bool { return b[1] == 200 })
	packets, err := rtcp.Unmarshal(report)
	if err != nil {
		t.Fatal(err)
	}
	sr, ok := packets[0].(*rtcp.SenderReport)
	if !ok || sr.PacketCount != 3 || len(sr.Reports) != 1 {
		t.Fatalf("report is %v", packets)
	}
	if r := sr.Reports[0]; r.SSRC != 9 || r.TotalLost != 1 || r.LastSequenceNumber != 65537 || r.FractionLost != 63 {
		t.Errorf("reception report is %+v", r)
	}
	if sdes, ok := packets[1].(*rtcp.SourceDescription); !ok || sdes.Chunks[0].Items[0].Text == "" {
		t.Errorf("no CNAME in %v", packets)
	}
}

// A key counts once, however many packets tell of it, and also when only its
// last packet arrives.
func TestTelephoneEvents(t *testing.T) {
	t.Parallel()
	m, peer, _ := openPair(t, strings.Replace(someOffer, "AVP 0", "AVP 0 101", 1)+"a=rtpmap:101 telephone-event/8000\r\n")
	keys := make(chan byte, 16)
	m.mu.Lock()
	m.onDigit = func(d byte) { keys <- d }
	m.mu.Unlock()
	send := func(ts uint32, payload ...byte) {
		sendRTP(t, m, peer, rtp.Packet{Header: rtp.Header{PayloadType: 101, SSRC: 3, Timestamp: ts}, Payload: payload})
	}
	for range 3 {
		send(1000, 1, 10, 0, 160)
	}
	for range 3 {
		send(1000, 1, 0x8a, 3, 32)
	}
	send(9000, 11, 0x8a, 3, 32) // only the end of #
	send(9100, 200, 10, 0, 160) // no key
	send(9200, 5)               // truncated
	send(9900, 1, 10, 0, 160)
	got := ""
	for range 3 {
		select {
		case d := <-keys:
			got += string(rune(d))
		case <-time.After(5 * time.Second):
			t.Fatalf("only %q was heard", got)
		}
	}
	if got != "1#1" || len(keys) != 0 {
		t.Errorf("heard %q and %d more", got, len(keys))
	}
}

func TestPortRange(t *testing.T) {
	t.Parallel()
	any := newPortRange(netip.MustParseAddr("127.0.0.1"), 0, 0)
	first, firstControl, err := any.open()
	if err != nil {
		t.Fatal(err)
	}
	port := first.LocalAddr().(*net.UDPAddr).Port
	first.Close()
	firstControl.Close()
	p := newPortRange(netip.MustParseAddr("127.0.0.1"), port, port+1)
	conn, control, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.LocalAddr().(*net.UDPAddr).Port; got != port || got%2 != 0 {
		t.Errorf("RTP port is %d, want %d", got, port)
	}
	if _, _, err := p.open(); err == nil || !strings.Contains(err.Error(), "port_max") {
		t.Errorf("a used-up range gives %v", err)
	}
	conn.Close()
	control.Close()
}
