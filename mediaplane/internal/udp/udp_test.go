package udp

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

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
	ports := NewPorts([]netip.Addr{loopback}, 33001, 33008, 0, 0) // pairs at 33002, 33004, 33006
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

// What runs out is named: ports of the range, or descriptors of the process.
func TestPortsRunOut(t *testing.T) {
	ports := NewPorts([]netip.Addr{loopback}, 33300, 33399, 2, 0)
	if ports.Free() != 4 {
		t.Errorf("%d free ports, want 4: descriptors allow no more", ports.Free())
	}
	var open []*Pair
	for range 2 {
		p, err := ports.Open(loopback, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, p)
	}
	for _, port := range []uint16{0, 33350} {
		if _, err := ports.Open(loopback, port); !errors.Is(err, ErrDescriptors) {
			t.Errorf("port %d with no descriptors left: %v", port, err)
		}
	}
	for _, p := range open {
		p.Close()
	}
	if ports.Free() != 4 {
		t.Errorf("%d free ports, want 4", ports.Free())
	}

	// The process itself may have no more.
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	_, err := ports.Open(loopback, 0)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrDescriptors) || ports.Free() != 4 {
		t.Errorf("without descriptors: %v, %d free ports", err, ports.Free())
	}
}

// Ports on which another process sits are passed over, and are not lost.
func TestPortsOfOthers(t *testing.T) {
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 33021})
	if err != nil {
		t.Fatalf("port 33021: %v", err)
	}
	defer func() { _ = other.Close() }()
	ports := NewPorts([]netip.Addr{loopback}, 33020, 33023, 0, 0)
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

// loop runs a loop until the test ends.
func loop(t *testing.T, index int, failed func(int)) *Loop {
	t.Helper()
	l, err := NewLoop(index, failed)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), l.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A loop hands on what arrives at each of its sockets, in order, and what
// handlers send leaves: through the socket of one leg and through a shared one.
func TestLoop(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s shared %v", addr, shared), func(t *testing.T) {
				l := loop(t, 0, func(n int) { t.Errorf("%d datagrams failed", n) })
				at := netip.AddrPortFrom(netip.MustParseAddr(addr), 0)
				group, err := ListenGroup(at, 1<<16, 1)
				if !shared {
					group[0], err = Listen(at, 1<<16)
				}
				if err != nil {
					t.Fatal(err)
				}
				s := group[0]
				over := make(chan struct{}, 4)
				err = l.Add(s, Receiver{
					Handle: func(b []byte, from netip.AddrPort, out *Batch) {
						if err := out.Send(s, b, from); err != nil {
							t.Error(err)
						}
					},
					Oversize: func() { over <- struct{}{} },
				})
				if err != nil {
					t.Fatal(err)
				}
				c := dial(t, s.Local())
				sizes := []int{MaxPacket + 1, MaxPacket, 1}
				for i := range 60 { // fit the smallest buffer
					sizes = append(sizes, 2+i)
				}
				for _, n := range sizes {
					if _, err := c.Write(make([]byte, n)); err != nil {
						t.Fatal(err)
					}
				}
				<-over
				buf := make([]byte, MaxPacket+1)
				for _, want := range sizes[1:] {
					if n, err := c.Read(buf); err != nil || n != want {
						t.Fatalf("answer of %d bytes %v, want %d", n, err, want)
					}
				}
				if err := errors.Join(s.Close(), s.Close()); err != nil || l.Len() != 0 {
					t.Errorf("%v, %d sockets left", err, l.Len())
				}
			})
		}
	}
}

// Sockets of a group share a port, which nobody else can have, and every remote
// address keeps to one of them.
func TestGroup(t *testing.T) {
	group, err := ListenGroup(netip.AddrPortFrom(loopback, 0), 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenGroup(group[0].Local(), 0, 3); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the port again: %v", err)
	}
	var mu sync.Mutex
	seen := map[netip.AddrPort]map[int]bool{}
	got := make(chan struct{}, 1000)
	for i, s := range group {
		if s.Local() != group[0].Local() {
			t.Errorf("%s in the group of %s", s.Local(), group[0].Local())
		}
		err := loop(t, i, nil).Add(s, Receiver{Handle: func(_ []byte, from netip.AddrPort, out *Batch) {
			if out.Pick(group) != s {
				t.Error("a loop sends through the socket of another")
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[from] == nil {
				seen[from] = map[int]bool{}
			}
			seen[from][i] = true
			got <- struct{}{}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
	}
	used := map[int]bool{}
	for range 32 {
		c := dial(t, group[0].Local())
		for range 5 {
			if _, err := c.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			<-got
		}
		mu.Lock()
		sockets := maps.Clone(seen[c.LocalAddr().(*net.UDPAddr).AddrPort()])
		mu.Unlock()
		if len(sockets) != 1 {
			t.Errorf("packets of one address came to sockets %v", sockets)
		}
		for i := range sockets {
			used[i] = true
		}
	}
	if len(used) < 2 {
		t.Errorf("of 3 sockets only %v were used", used)
	}
}

// What cannot be sent is counted, and holds up nothing else.
func TestBatchFailures(t *testing.T) {
	failed := 0
	out := &Batch{failed: func(n int) { failed += n }}
	group, err := ListenGroup(netip.AddrPortFrom(loopback, 0), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := group[0]
	defer func() { _ = s.Close() }()
	r, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	good := r.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := out.Send(s, []byte{1}, netip.MustParseAddrPort("[::1]:9")); err == nil {
		t.Error("an IPv6 address through an IPv4 socket")
	}
	for range batchSize + 10 {
		// Port 0 is nowhere.
		if err := errors.Join(out.Send(s, []byte{1}, good), out.Send(s, []byte{1}, netip.AddrPortFrom(good.Addr(), 0))); err != nil {
			t.Fatal(err)
		}
	}
	out.Flush()
	out.Flush()
	if failed != batchSize+10 {
		t.Errorf("%d failures counted, want %d", failed, batchSize+10)
	}
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range batchSize + 10 {
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// Sockets come and go while others are read.
func TestLoopChurn(t *testing.T) {
	l := loop(t, 0, nil)
	ports := NewPorts([]netip.Addr{loopback}, 33100, 33299, 0, 0)
	for range 30 {
		var list []*Pair
		got := make(chan uint16, 10)
		for range 10 {
			p, err := ports.Open(loopback, 0)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
			port := p.RTP.Local().Port()
			if err := errors.Join(l.Add(p.RTP, Receiver{Handle: func([]byte, netip.AddrPort, *Batch) { got <- port }}), l.Add(p.RTCP, Receiver{})); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range list {
			if _, err := dial(t, p.RTP.Local()).Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			if port := <-got; port != p.RTP.Local().Port() {
				t.Errorf("round %d: port %d, want %d", i, port, p.RTP.Local().Port())
			}
			p.Close()
		}
	}
	if l.Len() != 0 || ports.Free() != 200 {
		t.Errorf("%d sockets and %d ports left", l.Len(), ports.Free())
	}
}

// Reading and sending a datagram allocates nothing.
func BenchmarkLoop(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared %v", shared), func(b *testing.B) {
			l, err := NewLoop(0, nil)
			if err != nil {
				b.Fatal(err)
			}
			group, err := ListenGroup(netip.AddrPortFrom(loopback, 0), 1<<20, 1)
			if !shared {
				group[0], err = Listen(netip.AddrPortFrom(loopback, 0), 1<<20)
			}
			if err != nil {
				b.Fatal(err)
			}
			s := group[0]
			defer func() { _, _ = s.Close(), l.Close() }()
			nowhere, err := Listen(netip.AddrPortFrom(loopback, 0), 0)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = nowhere.Close() }()
			if err := l.Add(s, Receiver{Handle: func(p []byte, _ netip.AddrPort, out *Batch) { _ = out.Send(s, p, nowhere.Local()) }}); err != nil {
				b.Fatal(err)
			}
			packet := make([]byte, 172)
			b.ReportAllocs()
			for i := range b.N {
				if err := nowhere.Send(packet, s.Local()); err != nil {
					b.Fatal(err)
				}
				if !shared || i%32 == 31 {
					l.read(s)
					l.out.Flush()
				}
			}
		})
	}
}
