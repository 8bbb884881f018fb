//go:build linux

// Package xdptest makes a place for tests of the engine in the kernel: network
// namespaces with a node, a far end and an app, joined by veth pairs.
package xdptest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside marks a process that runs in namespaces of its own.
const inside = "ISTHMUS_XDP_NAMESPACE"

// Namespaced runs a test again as a process in network and mount namespaces of
// its own, which last as long as it does, with a BPF file system mounted. The
// whole process is in them, so that goroutines may change threads. It answers
// true in that process.
func Namespaced(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		setup(t)
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

// BPFFS is where the BPF file system is mounted.
const BPFFS = "/run/isthmus-xdp-test"

func setup(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(BPFFS, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", BPFFS, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	IP(t, "link set lo up")
}

// IP runs the command of iproute2.
func IP(t testing.TB, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// Site is a node with two interfaces, and the hosts at their other ends, each in
// a network namespace of its own.
//
//	far 198.18.0.2 ── 198.18.0.1 node0   node1 198.18.1.1 ── 198.18.1.2 app
type Site struct {
	Far, App *Host
}

// Host is at the other end of an interface of the node's.
type Host struct {
	// Name of its network namespace.
	Name string
}

// New makes the site, until the test ends.
func New(t *testing.T) *Site {
	t.Helper()
	s := &Site{Far: newHost(t, "far", 0), App: newHost(t, "app", 1)}
	for i := range 2 {
		IP(t, fmt.Sprintf("addr add 198.18.%d.1/24 dev node%d", i, i))
		IP(t, fmt.Sprintf("addr add fd00:%d::1/64 dev node%d nodad", i, i))
		IP(t, fmt.Sprintf("link set node%d up", i))
	}
	return s
}

func newHost(t *testing.T, role string, i int) *Host {
	t.Helper()
	h := &Host{fmt.Sprintf("xdp-%s-%d", role, os.Getpid())}
	IP(t, "netns add "+h.Name)
	t.Cleanup(func() {
		IP(t, fmt.Sprintf("link del node%d", i))
		IP(t, "netns del "+h.Name)
	})
	IP(t, fmt.Sprintf("link add node%d type veth peer name eth0 netns %s", i, h.Name))
	for _, args := range []string{
		"link set lo up", fmt.Sprintf("addr add 198.18.%d.2/24 dev eth0", i),
		fmt.Sprintf("addr add fd00:%d::2/64 dev eth0 nodad", i), "link set eth0 up",
	} {
		IP(t, "-n "+h.Name+" "+args)
	}
	// What the program sends reaches only an end that polls.
	if out, err := exec.Command("ip", "netns", "exec", h.Name, "ethtool", "-K", "eth0", "gro", "on").CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v: %s", err, out)
	}
	return h
}

// Listen opens a UDP socket in the host's network namespace.
func (h *Host) Listen(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	h.Enter(t, func() {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		if err != nil {
			t.Fatal(err)
		}
		conn = c
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Enter runs f on a thread in the host's network namespace, which ends with it.
func (h *Host) Enter(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- inNamespace("/run/netns/"+h.Name, f)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func inNamespace(path string, f func()) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	f()
	return nil
}

// Meet makes neighbours known to each other, as signalling does before media: a
// port where nobody listens answers.
func (s *Site) Meet(t *testing.T) {
	t.Helper()
	for h, node := range map[*Host]string{s.Far: "198.18.0.1", s.App: "198.18.1.1"} {
		var err error
		for range 10 {
			if err = h.Probe(t, node, 9); errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%s does not answer %s: %v", node, h.Name, err)
		}
	}
}

// Probe sends a datagram, and answers with what comes back to it.
func (h *Host) Probe(t *testing.T, address string, port int) error {
	t.Helper()
	var conn *net.UDPConn
	h.Enter(t, func() {
		var err error
		if conn, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(address), Port: port}); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	if _, err := conn.Write([]byte{0x80, 200, 0, 1, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err
}
