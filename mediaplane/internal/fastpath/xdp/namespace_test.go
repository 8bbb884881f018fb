//go:build linux && (amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside marks a process that runs in namespaces of its own.
const inside = "ISTHMUS_XDP_NAMESPACE"

// namespaced runs a test again as a process in network and mount namespaces of
// its own, which last as long as it does, with a BPF file system mounted. The
// whole process is in them, so that goroutines may change threads. It answers
// true in that process.
func namespaced(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		setupNamespace(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	t.Parallel()
	cmd := exec.Command("unshare", "--net", "--mount", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("in its namespace:\n%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

const bpffs = "/run/isthmus-xdp-test"

func setupNamespace(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(bpffs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	ip(t, "link set lo up")
}

// ip runs the command of iproute2.
func ip(t testing.TB, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// site is a node with two interfaces, and the hosts at their other ends, each in
// a network namespace of its own.
//
//	far 198.18.0.2 ── 198.18.0.1 node0   node1 198.18.1.1 ── 198.18.1.2 app
type site struct {
	far, app *host
}

type host struct{ name string }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{far: newHost(t, "far", 0), app: newHost(t, "app", 1)}
	for i := range 2 {
		ip(t, fmt.Sprintf("addr add 198.18.%d.1/24 dev node%d", i, i))
		ip(t, fmt.Sprintf("addr add fd00:%d::1/64 dev node%d nodad", i, i))
		ip(t, fmt.Sprintf("link set node%d up", i))
	}
	return s
}

func newHost(t *testing.T, role string, i int) *host {
	t.Helper()
	h := &host{fmt.Sprintf("xdp-%s-%d", role, os.Getpid())}
	ip(t, "netns add "+h.name)
	t.Cleanup(func() {
		ip(t, fmt.Sprintf("link del node%d", i))
		ip(t, "netns del "+h.name)
	})
	ip(t, fmt.Sprintf("link add node%d type veth peer name eth0 netns %s", i, h.name))
	for _, args := range []string{
		"link set lo up", fmt.Sprintf("addr add 198.18.%d.2/24 dev eth0", i),
		fmt.Sprintf("addr add fd00:%d::2/64 dev eth0 nodad", i), "link set eth0 up",
	} {
		ip(t, "-n "+h.name+" "+args)
	}
	// What the program sends reaches only an end that polls.
	if out, err := exec.Command("ip", "netns", "exec", h.name, "ethtool", "-K", "eth0", "gro", "on").CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v: %s", err, out)
	}
	return h
}

// listen opens a UDP socket in the host's network namespace.
func (h *host) listen(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	h.enter(t, func() {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		if err != nil {
			t.Fatal(err)
		}
		conn = c
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// enter runs f on a thread in the host's network namespace, which ends with it.
func (h *host) enter(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- inNamespace("/run/netns/"+h.name, f)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func openEngine(t *testing.T, attachment Attachment) *Engine {
	t.Helper()
	e, err := Open(Config{
		Node: "node.1", Directory: bpffs + "/isthmus", Interfaces: []string{"node0", "node1"},
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

// silent checks that nothing has come. What was sent before it is delivered
// already: a veth pair has no queue that time would empty.
func silent(t *testing.T, c *net.UDPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	n, _, err := c.ReadFromUDPAddrPort(make([]byte, 2048))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came that were for nobody (%v)", n, err)
	}
}
