package mediaplane_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"
)

// Floods of everything that a stranger can send, and of what only looks as if it
// came from a browser, are counted by cause; a call beside them loses nothing.
func TestFloods(t *testing.T) {
	n := start(t, nil)
	c := dial(t, n, server, 0)
	c.connected()
	c.exchange(5)

	browsers := addrPort(t, n.node().GetWebrtcAddresses()[0])
	check := func(user, password string) []byte {
		return stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(user), stun.NewShortTermIntegrity(password), stun.Fingerprint).Raw
	}
	rtp := c.far.packet(make([]byte, 160))
	c.far.seq--
	spoofed, err := rtp.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	hello := append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200}, bytes.Repeat([]byte{1}, 200)...)
	floods := []struct {
		cause string
		to    netip.AddrPort
		what  []byte
	}{
		{"stun_integrity", browsers, check(webrtcOf(c.spec).GetLocalIce().GetUfrag()+":"+webrtcOf(c.spec).GetRemoteIce().GetUfrag(), "not the password")},
		{"stun_foreign", browsers, check("nobody:here", "whatever")},
		{"stun_malformed", browsers, []byte{0, 1, 0, 0, 1, 2, 3, 4}},
		{"unknown_protocol", browsers, bytes.Repeat([]byte{0xff}, 100)},
		{"oversize", browsers, make([]byte, 3000)},
		{"foreign_source", browsers, hello},   // DTLS from where no check came
		{"foreign_source", browsers, spoofed}, // media from there
		{"foreign_source", c.far.to, spoofed}, // media of somebody else than the far end
	}
	strangers := make([]*net.UDPConn, len(floods))
	for i, f := range floods {
		if strangers[i], err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(f.to)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = strangers[i].Close() }()
	}
	for range 10 {
		for i, f := range floods {
			for range 20 {
				if _, err := strangers[i].Write(f.what); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.exchange(5) // every packet, in order, with its payload
	}
	for _, f := range floods {
		eventually(t, f.cause+" counted", func() bool {
			return n.metric("isthmus_media_dropped_packets_total", f.cause) >= 100
		})
	}
	if got := c.stream("t").GetForeignSource(); got < 100 {
		t.Errorf("%d packets of another source counted at the stream", got)
	}
}

// Packets that come from the browser's own address, but are not the browser's,
// change nothing: wrong tags under random SSRCs, RTP and RTCP.
func TestForgedTags(t *testing.T) {
	node := start(t, nil)
	peer, far := newFar(t).conn, newFar(t).conn
	spec := benchSpec(0, benchSuites[0], newIdentity(t).proto, socketOf(peer), socketOf(far))
	state := node.apply(spec)
	to := addrPort(t, state.GetLegs()[0].GetLocal()[0])
	random := rand.New(rand.NewPCG(1, 2))
	forged := make([]byte, 182)
	for n := range 300 {
		for i := range forged {
			forged[i] = byte(random.Uint32())
		}
		forged[0], forged[1] = 0x80, 0
		binary.BigEndian.PutUint32(forged[8:], random.Uint32())
		if _, err := peer.WriteToUDPAddrPort(forged, to); err != nil {
			t.Fatal(err)
		}
		forged[1] = 200 // SRTCP
		if _, err := peer.WriteToUDPAddrPort(forged, to); err != nil {
			t.Fatal(err)
		}
		if n%20 == 19 { // the node's socket holds only so much
			eventually(t, "failures counted", func() bool { return node.metric("isthmus_media_auth_failures_total") == float64(2*(n+1)) })
		}
	}
	got := node.apply(spec).GetStreams()[0].GetCounters()
	if got.GetAuthFailures() != 600 || got.GetReceivedPackets() != 0 {
		t.Errorf("%v", got)
	}
}
