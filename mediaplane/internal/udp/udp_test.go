package udp

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		first, second byte
		want          Kind
	}{
		{0, 0, STUN}, {3, 255, STUN}, {4, 0, Unknown}, {19, 0, Unknown},
		{20, 0, DTLS}, {63, 0, DTLS}, {64, 0, Unknown}, {127, 0, Unknown},
		{128, 0, RTP}, {191, 127, RTP}, {128, 128, RTP}, {128, 191, RTP}, {128, 224, RTP},
		{128, 192, RTCP}, {191, 223, RTCP}, {128, 200, RTCP}, {192, 200, Unknown}, {255, 0, Unknown},
	} {
		if got := Classify([]byte{c.first, c.second}); got != c.want {
			t.Errorf("Classify(%d, %d) = %d, want %d", c.first, c.second, got, c.want)
		}
	}
	for _, short := range [][]byte{nil, {128}} {
		if got := Classify(short); got != Unknown {
			t.Errorf("Classify(%v) = %d", short, got)
		}
	}
}

func TestPorts(t *testing.T) {
	ports := NewPorts([]netip.Addr{loopback}, 33001, 33008, 0) // pairs at 33002, 33004, 33006
	if ports.Free() != 6 {
		t.Fatalf("%d free ports, want 6", ports.Free())
	}
	open := func(port uint16) *Pair {
		t.Helper()
		p, err := ports.Open(loopback, port)
		if err != nil {
			t.Fatal(err)
		}
		if p.RTP.Local().Port()%2 != 0 || p.RTCP.Local().Port() != p.RTP.Local().Port()+1 {
			t.Fatalf("pair %s %s", p.RTP.Local(), p.RTCP.Local())
		}
		return p
	}
	a := open(0)
	first := a.RTP.Local().Port()
	a.Close()
	a.Close()
	if b := open(0); b.RTP.Local().Port() == first {
		t.Error("a port was reused at once")
	} else {
		defer b.Close()
	}
	c := open(first)
	defer c.Close()
	if _, err := ports.Open(loopback, first); !errors.Is(err, ErrPortTaken) {
		t.Errorf("the same port again: %v", err)
	}
	for _, bad := range []uint16{33000, 33003, 33008, 9} {
		if _, err := ports.Open(loopback, bad); !errors.Is(err, ErrPortRange) {
			t.Errorf("port %d: %v", bad, err)
		}
	}
	d := open(0)
	if _, err := ports.Open(loopback, 0); !errors.Is(err, ErrExhausted) {
		t.Errorf("with all taken: %v", err)
	}
	d.Close()
	if ports.Free() != 2 {
		t.Errorf("%d free ports, want 2", ports.Free())
	}
}

// Ports on which another process sits are passed over, and are not lost.
func TestPortsOfOthers(t *testing.T) {
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 33021})
	if err != nil {
		t.Fatalf("port 33021: %v", err)
	}
	defer func() { _ = other.Close() }()
	ports := NewPorts([]netip.Addr{loopback}, 33020, 33023, 0)
	p, err := ports.Open(loopback, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p.RTP.Local().Port() != 33022 {
		t.Errorf("got %s", p.RTP.Local())
	}
	if _, err := ports.Open(loopback, 0); !errors.Is(err, ErrExhausted) {
		t.Errorf("nothing left, but: %v", err)
	}
	p.Close()
	if ports.Free() != 4 {
		t.Errorf("%d free ports, want 4", ports.Free())
	}
}

func TestServe(t *testing.T) {
	s, err := Listen(netip.AddrPortFrom(loopback, 0), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	got, over, done := make(chan int, 4), make(chan struct{}, 4), make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(func(b []byte, from netip.AddrPort) {
			got <- len(b)
			_ = s.Send(b[:1], from)
		}, func() { over <- struct{}{} })
	}()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Local()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, n := range []int{MaxPacket + 1, MaxPacket, 1} {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	<-over
	if n := <-got; n != MaxPacket {
		t.Errorf("got %d bytes, want %d", n, MaxPacket)
	}
	if n := <-got; n != 1 {
		t.Errorf("got %d bytes, want 1", n)
	}
	if n, err := c.Read(make([]byte, 10)); err != nil || n != 1 {
		t.Errorf("answer %d %v", n, err)
	}
	_ = s.Close()
	<-done
}
