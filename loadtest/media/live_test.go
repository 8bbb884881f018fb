//go:build linux

package media

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/isthmus-gateway/isthmus/loadtest/liveframe"
	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// wire is a pair of virtual interfaces between two namespaces.
type wire struct {
	near, far       string // namespaces
	nearMAC, farMAC net.HardwareAddr
	here, there     netip.Addr
	here6, there6   netip.Addr
	device          string
}

func newWire(t *testing.T) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	id := os.Getpid()
	w := &wire{
		near: fmt.Sprintf("loadtest-near-%d", id), far: fmt.Sprintf("loadtest-far-%d", id), device: "lt0",
		here: netip.MustParseAddr("198.18.90.1"), there: netip.MustParseAddr("198.18.90.2"),
		here6: netip.MustParseAddr("fd00:90::1"), there6: netip.MustParseAddr("fd00:90::2"),
	}
	t.Cleanup(func() {
		for _, n := range []string{w.near, w.far} {
			_ = exec.Command("ip", "netns", "delete", n).Run()
		}
	})
	for _, line := range []string{
		"netns add " + w.near, "netns add " + w.far,
		"link add lt0 netns " + w.near + " type veth peer name lt1 netns " + w.far,
		"-n " + w.near + " address add 198.18.90.1/24 dev lt0", "-n " + w.far + " address add 198.18.90.2/24 dev lt1",
		"-n " + w.near + " address add fd00:90::1/64 dev lt0 nodad", "-n " + w.far + " address add fd00:90::2/64 dev lt1 nodad",
		"netns exec " + w.far + " ethtool -K lt1 gro on",
		"-n " + w.near + " link set lt0 up", "-n " + w.far + " link set lt1 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	w.nearMAC, w.farMAC = hardware(t, w.near, "lt0"), hardware(t, w.far, "lt1")
	return w
}

func hardware(t *testing.T, namespace, device string) (mac net.HardwareAddr) {
	t.Helper()
	if err := netns.Do(namespace, func() error {
		i, err := net.InterfaceByName(device)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mac
}

// load is of one stream, over the wire to a relay at its other end and back.
func (w *wire) load(t *testing.T, here, there netip.Addr, profile srtp.ProtectionProfile, h harm) *Load {
	t.Helper()
	r := newRelay(t)
	var near, far *net.UDPConn
	var a, b netip.AddrPort
	for namespace, open := range map[string]func(){
		w.far:  func() { near, far = r.port(there), r.port(there) },
		w.near: func() { a, b = address(r.port(here)), address(r.port(here)) },
	} {
		if err := netns.Do(namespace, func() error { open(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	r.forward(near, far, b, h)
	codec, err := CodecNamed("pcmu")
	if err != nil {
		t.Fatal(err)
	}
	load := &Load{
		Codec:     codec,
		Endpoints: []Endpoint{{Name: "a", Local: a, Remote: address(near)}, {Name: "b", Local: b, Remote: address(far)}},
		Streams:   []Stream{{Name: "up", From: 0, To: 1, SSRC: 7, Sequence: 65500}},
	}
	if profile != 0 {
		key := make([]byte, MasterLength(profile))
		load.Endpoints[0].Keys, load.Endpoints[1].Keys = &Keys{profile, key, key}, &Keys{profile, key, key}
	}
	return load
}

// The kernel's sink counts what a relay does wrong as exactly as sockets do.
func TestKernelSeesHarm(t *testing.T) {
	w := newWire(t)
	for name, c := range map[string]struct {
		six     bool
		profile srtp.ProtectionProfile
		harm    harm
		want    Counters
	}{
		// Open sends three packets.
		"nothing, plain, IPv6": {true, 0, nil, Counters{Sent: 200, Received: 200}},
		"nothing, GCM":         {false, srtp.ProtectionProfileAeadAes128Gcm, nil, Counters{Sent: 200, Received: 200}},
		"nothing, CM, IPv6":    {true, srtp.ProtectionProfileAes128CmHmacSha1_80, nil, Counters{Sent: 200, Received: 200}},
		"drops": {false, 0, func(n int, p []byte, forward func([]byte)) {
			if n < 10 || n%10 != 3 {
				forward(p)
			}
		}, Counters{Sent: 200, Received: 181, Lost: 19}},
		"doubles": {false, srtp.ProtectionProfileAes128CmHmacSha1_80, func(n int, p []byte, forward func([]byte)) {
			forward(p)
			if n >= 10 && n%10 == 3 {
				forward(p)
			}
		}, Counters{Sent: 200, Received: 200, Duplicates: 19}},
		"corrupts": {false, srtp.ProtectionProfileAeadAes128Gcm, func(n int, p []byte, forward func([]byte)) {
			if n >= 10 && n%10 == 3 {
				p[50] ^= 1
			}
			forward(p)
		}, Counters{Sent: 200, Received: 200, AuthFailures: 19}},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := w.here, w.there
			if c.six {
				here, there = w.here6, w.there6
			}
			load := w.load(t, here, there, c.profile, c.harm)
			live, err := OpenLive(load, Path{
				Namespace: w.near, Interface: w.device, CPU: -1, RingFrames: 64,
				Link: func(netip.Addr) (liveframe.Link, error) { return liveframe.Link{From: w.nearMAC, To: w.farMAC}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer live.Close()
			if err := live.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			m, err := live.Run(t.Context(), 400, 500*time.Millisecond, 1)
			if err != nil {
				t.Fatal(err)
			}
			if m.Counters != c.want {
				t.Errorf("counted %+v\nwant %+v", m.Counters, c.want)
			}
			if m.Verified.Packets < m.Received || m.Verified.BadChecksums > 0 || m.Latency.Count() != m.Received || m.Latency.Quantile(0.5) <= 0 {
				t.Errorf("verified %+v, %d latencies, p50 %s", m.Verified, m.Latency.Count(), m.Latency.Quantile(0.5))
			}
		})
	}
}
