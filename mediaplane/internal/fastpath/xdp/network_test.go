//go:build linux && (amd64 || arm64)

package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
)

// TestVLAN takes packets with a tag, and sends to a next hop that wants one.
func TestVLAN(t *testing.T) {
	k := loadKernel(t, 64)
	r := rand.New(rand.NewPCG(1, 1))
	for i, p := range []*fastpath.Plan{relayed(0), audio(fastpath.Protect, nil, master(r, fastpath.AES128GCM))} {
		k.put(t, p)
		f := &k.flows[k.plans[p.Key].slot]
		for index, vlan := range []uint16{0, 100, 4094, 0} {
			f.Vlan = vlan
			in := frame(p.Key.Remote, p.Key.Local, packet(r, uint64(index+1), uint32(index), 300))
			if index%2 == 1 {
				in = append(append(bytes.Clone(in[:12]), 0x81, 0, 0, 7), in[12:]...)
			}
			verdict, out := k.run(t, in)
			if verdict != xdpRedirect {
				t.Fatalf("plan %d, packet %d: verdict %d", i, index, verdict)
			}
			if vlan != 0 {
				if want := []byte{0x81, 0, byte(vlan >> 8), byte(vlan)}; !bytes.Equal(out[12:16], want) {
					t.Fatalf("the tag is % x, want % x", out[12:16], want)
				}
				out = append(out[:12], out[16:]...)
			}
			datagram(t, out, p)
		}
	}
}

// TestNextHopChanges gives the receiver another hardware address, as a router
// that takes over for another one.
func TestNextHopChanges(t *testing.T) {
	if !xdptest.Namespaced(t) {
		return
	}
	s := xdptest.New(t)
	s.Meet(t)
	e := openEngine(t, Native)
	defer e.Close()
	p := relayed(0)
	if why, ok := e.Upsert(*p); !ok {
		t.Fatal(why)
	}
	c := newCall(t, s, p)
	c.talk(t, 10)

	xdptest.IP(t, "-n "+s.App.Name+" link set eth0 address 02:00:00:00:77:77")
	xdptest.IP(t, "neigh replace 198.18.1.2 lladdr 02:00:00:00:77:77 dev node1")
	buffer := make([]byte, 2048)
	for try := 0; ; try++ {
		c.seq++
		if _, err := c.far.WriteToUDPAddrPort(packet(c.r, c.seq, uint32(c.seq), 300), p.Key.Local); err != nil {
			t.Fatal(err)
		}
		_ = c.app.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.app.Read(buffer); err == nil {
			break
		} else if !errors.Is(err, os.ErrDeadlineExceeded) || try == 100 {
			t.Fatalf("the program does not follow: %v", err)
		}
	}
	c.talk(t, 10)
	if at, _ := e.Remove(p.Key); at.PassedUp != 0 {
		t.Errorf("%d packets came up", at.PassedUp)
	}
}

// TestReasons asks for what the engine cannot do.
func TestReasons(t *testing.T) {
	if !xdptest.Namespaced(t) {
		return
	}
	xdptest.New(t)
	xdptest.IP(t, "link add other type veth peer name other-end")
	xdptest.IP(t, "link set other-end up")
	xdptest.IP(t, "addr add 198.19.0.1/24 dev other")
	xdptest.IP(t, "link set other up")
	e := openEngine(t, Native)
	defer e.Close()
	refuse := func(want string, change func(p *fastpath.Plan)) {
		t.Helper()
		p := relayed(0)
		change(p)
		if why, ok := e.Upsert(*p); ok || !strings.Contains(string(why), want) {
			t.Errorf("refused (%v) with %q, want %q", !ok, why, want)
		}
		if _, ok := e.Position(p.Key); ok {
			t.Errorf("a refused plan is there: %q", want)
		}
	}
	refuse("198.18.0.1 is an address of this host", func(p *fastpath.Plan) { p.To = local4 })
	refuse("leave over other, which is none of xdp.interfaces", func(p *fastpath.Plan) { p.To = netip.MustParseAddrPort("198.19.0.2:5000") })
	refuse("no route", func(p *fastpath.Plan) { p.To = netip.MustParseAddrPort("203.0.113.1:5000") })
	refuse("no unicast address", func(p *fastpath.Plan) { p.To = netip.MustParseAddrPort("198.18.1.255:5000") })
	refuse("0x0002 is not one of the kernel's", func(p *fastpath.Plan) {
		p.Mode, p.Out = fastpath.Protect, &fastpath.Crypto{Profile: 2, Master: make([]byte, 30)}
	})
	refuse("needs 30", func(p *fastpath.Plan) {
		p.Mode, p.Out = fastpath.Protect, &fastpath.Crypto{Profile: fastpath.AES128CMSHA1, Master: make([]byte, 28)}
	})
	refuse("does not fit the keys", func(p *fastpath.Plan) { p.Mode = fastpath.Unprotect })
	for i := range e.config.MaxFlows {
		if why, ok := e.Upsert(*relayed(i + 1)); !ok {
			t.Fatalf("plan %d: %s", i, why)
		}
	}
	refuse("as many flows as it may have (xdp.max_flows: 128)", func(*fastpath.Plan) {})
	for i := range e.config.MaxFlows {
		e.Remove(relayed(i + 1).Key)
	}

	if _, err := Open(Config{Node: "other", Directory: "/run/isthmus", Interfaces: []string{"node0"}, Attachment: Auto, MaxFlows: 1}); err == nil ||
		!strings.Contains(err.Error(), "no BPF file system") {
		t.Errorf("opens outside of a BPF file system: %v", err)
	}
	if _, err := Open(Config{Node: "other", Directory: xdptest.BPFFS, Interfaces: []string{"node0"}, Attachment: Auto, MaxFlows: 1}); err == nil ||
		!strings.Contains(err.Error(), "node0 has another XDP program") {
		t.Errorf("opens beside another node on its interface: %v", err)
	}
	if _, err := Open(Config{Node: "other", Directory: xdptest.BPFFS, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, MaxFlows: 1}); err == nil ||
		!strings.Contains(err.Error(), "no interface but loopback") {
		t.Errorf("opens on loopback: %v", err)
	}
	if _, err := os.Stat(xdptest.BPFFS + "/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an engine that did not open left something: %v", err)
	}
}

// TestRemoveIsExact takes plans back while packets pass: what the position says
// was taken is what was forwarded, and nothing is after that.
func TestRemoveIsExact(t *testing.T) {
	k := loadKernel(t, 64)
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		p := relayed(round % 8)
		k.put(t, p)
		for _, local := range localPorts(p.Key.Local) {
			_ = k.maps.Ports.Delete(&local)
		}
		var removed atomic.Bool
		done, reached := make(chan error, 1), make(chan struct{})
		moment := r.IntN(300)
		forwarded := map[uint64]bool{}
		frames := make([][]byte, 400)
		for i := range frames {
			frames[i] = frame(p.Key.Remote, p.Key.Local, packet(r, uint64(i+1), uint32(i), 300))
		}
		go func() {
			for i, f := range frames {
				after := removed.Load()
				verdict, _ := k.run(t, f)
				if i == moment {
					close(reached)
				}
				switch {
				case verdict == xdpRedirect && after:
					done <- fmt.Errorf("packet %d was taken after Remove", i+1)
					return
				case verdict == xdpRedirect:
					forwarded[uint64(i+1)] = true
				case verdict != xdpPass:
					done <- fmt.Errorf("packet %d: verdict %d", i+1, verdict)
					return
				}
			}
			done <- nil
		}()
		<-reached
		at, ok := k.remove(p.Key)
		removed.Store(true)
		if err := <-done; err != nil || !ok {
			t.Fatal(err, ok)
		}
		for i := range frames {
			index := uint64(i + 1)
			if at.Took(index) != forwarded[index] {
				t.Fatalf("round %d: the position says %v of packet %d, forwarded: %v", round, at.Took(index), index, forwarded[index])
			}
		}
		k.wipe(time.Now())
	}
}
