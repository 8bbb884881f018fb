//go:build linux && (amd64 || arm64)

package xdp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
)

// nobody is an ordinary user.
const nobody = 65534

// TestPrivileges opens the engine as an ordinary user with capabilities and
// without.
func TestPrivileges(t *testing.T) {
	if want, ok := os.LookupEnv(holder); ok {
		asUser(t, want)
		return
	}
	if !xdptest.Namespaced(t) {
		return
	}
	s := xdptest.New(t)
	s.Meet(t)
	dir := xdptest.BPFFS + "/isthmus"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		caps []uintptr
		want string
	}{
		{"none", nil, "the process lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"},
		{"no CAP_NET_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, "CAP_NET_ADMIN"},
		{"enough", []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, ""},
		{"no CAP_PERFMON", []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN}, "the process lacks CAP_PERFMON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// What a package manager or systemd does: /proc/self/exe needs no
			// right to read where the test was built.
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestPrivileges$", "-test.v")
			cmd.Env = append(os.Environ(), holder+"="+c.want)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: c.caps,
			}
			cmd.Dir = "/"
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
		})
	}
}

// asUser is the test in a process of the user's: want is what the error says.
func asUser(t *testing.T, want string) {
	e, err := Open(Config{
		Node: "node.1", Directory: xdptest.BPFFS + "/isthmus", Interfaces: []string{"node0", "node1"},
		Addresses: []netip.Addr{local4.Addr()}, Attachment: Native, MaxFlows: 16, Logger: slog.New(slog.DiscardHandler),
	})
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("opens with %v, want %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if !withC && !strings.Contains(string(status), "CapPrm:\t0000000000000000\n") {
		t.Errorf("capabilities are left:\n%s", status)
	}
	// All of the work goes on without.
	for i := range 3 {
		if why, ok := e.Upsert(*relayed(i)); !ok {
			t.Errorf("a plan is refused: %s", why)
		}
		if _, ok := e.Remove(relayed(i).Key); !ok {
			t.Error("a plan cannot be removed")
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	fmt.Println("closed")
}
