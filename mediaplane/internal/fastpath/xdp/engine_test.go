//go:build linux && (amd64 || arm64)

package xdp

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
)

// TestForward sends both directions of a call through the node's interfaces.
func TestForward(t *testing.T) {
	if !xdptest.Namespaced(t) {
		return
	}
	for _, attachment := range []Attachment{Native, Generic} {
		for _, family := range []string{"4", "6", "46"} {
			t.Run(string(attachment)+"/"+family, func(t *testing.T) { forwarding(t, attachment, family) })
		}
	}
}

func forwarding(t *testing.T, attachment Attachment, family string) {
	s := xdptest.New(t)
	e := openEngine(t, attachment)
	addr := func(net, host int, v6 bool, port uint16) netip.AddrPort {
		text := fmt.Sprintf("198.18.%d.%d", net, host)
		if v6 {
			text = fmt.Sprintf("fd00:%d::%d", net, host)
		}
		return netip.AddrPortFrom(netip.MustParseAddr(text), port)
	}
	farSix, appSix := family == "6", family != "4"
	far, app := addr(0, 2, farSix, 30000), addr(1, 2, appSix, 40000)
	nodeFar, nodeApp := addr(0, 1, farSix, 20000), addr(1, 1, appSix, 7882)
	farSocket, appSocket := s.Far.Listen(t, far.String()), s.App.Listen(t, app.String())
	nodeSocket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(nodeFar))
	if err != nil {
		t.Fatal(err)
	}
	defer nodeSocket.Close()

	t.Cleanup(func() {
		if t.Failed() {
			e.Causes(func(cause string, n uint64) bool { t.Log(cause, n); return true })
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	r := rand.New(rand.NewPCG(3, 4))
	keys := master(r, fastpath.AES128GCM)
	out := audio(fastpath.Protect, nil, keys)
	out.Key = fastpath.Key{Local: nodeFar, Remote: far, SSRC: ssrcIn}
	out.From, out.To, out.IndexOffset = nodeApp, app, 1000
	back := audio(fastpath.Unprotect, keys, nil)
	back.Key = fastpath.Key{Local: nodeApp, Remote: app, SSRC: ssrcIn}
	back.From, back.To = nodeFar, far
	for _, p := range []*fastpath.Plan{out, back} {
		if why, ok := e.Upsert(*p); !ok {
			t.Fatalf("the engine refuses: %s", why)
		}
	}
	browser := reference(t, keys)
	// The first packet finds the next hop unknown: it comes up, and is answered
	// by whoever has the socket.
	for _, warm := range []struct {
		socket *net.UDPConn
		to     netip.AddrPort
	}{{farSocket, nodeFar}, {appSocket, nodeApp}} {
		if _, err := warm.socket.WriteToUDPAddrPort([]byte{0, 1, 0, 0}, warm.to); err != nil {
			t.Fatal(err)
		}
	}
	for index := uint64(1); index <= 200; index++ {
		plain := packet(r, index, uint32(index), 1200)
		if _, err := farSocket.WriteToUDPAddrPort(plain, nodeFar); err != nil {
			t.Fatal(err)
		}
		got, from := receive(t, appSocket)
		want := protect(t, browser, mapped(out, plain, index), index+1000)
		if from != nodeApp || !bytes.Equal(got, want) {
			t.Fatalf("packet %d came from %s as\n% x, want\n% x", index, from, got, want)
		}
		if _, err := appSocket.WriteToUDPAddrPort(protect(t, browser, plain, index), nodeApp); err != nil {
			t.Fatal(err)
		}
		got, from = receive(t, farSocket)
		if want := mapped(back, plain, index); from != nodeFar || !bytes.Equal(got, want) {
			t.Fatalf("packet %d came back from %s as\n% x, want\n% x", index, from, got, want)
		}
	}
	for _, p := range []*fastpath.Plan{out, back} {
		if at, ok := e.Remove(p.Key); !ok || at.Packets != 200 || at.Index != 200 {
			t.Errorf("position at the end: %+v", at)
		}
	}
}

func openEngine(t *testing.T, attachment Attachment) *Engine {
	t.Helper()
	e, err := Open(Config{
		Node: "node.1", Directory: xdptest.BPFFS + "/isthmus", Interfaces: []string{"node0", "node1"},
		Addresses:  []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd00:0::1")},
		Attachment: attachment, MaxFlows: 128, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// receive waits for one datagram.
func receive(t *testing.T, c *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("nothing came: %v", err)
	}
	return b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}
