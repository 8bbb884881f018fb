//go:build linux && (amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Capabilities that the engine needs until it has started.
var capabilities = []struct {
	number int
	name   string
}{
	{unix.CAP_BPF, "CAP_BPF"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_PERFMON, "CAP_PERFMON"},
}

// checkPrivileges says which capabilities are missing.
func checkPrivileges() error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	has := func(number int) bool { return data[number/32].Effective>>(number%32)&1 == 1 }
	var lacking []string
	for _, c := range capabilities {
		// CAP_SYS_ADMIN stands for what was split from it.
		if !has(c.number) && (c.number == unix.CAP_NET_ADMIN || !has(unix.CAP_SYS_ADMIN)) {
			lacking = append(lacking, c.name)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("the process lacks %s", strings.Join(lacking, ", "))
	}
	return nil
}

// explain puts an error of the kernel into words that say what to do.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		return fmt.Errorf("the kernel refuses the program (it needs Linux 5.18 or newer): %w", err)
	}
	return err
}

// allowLookups makes the kernel answer bpf_fib_lookup for packets that leave as
// if from a local socket: it does so for interfaces that forward, and that one is
// lo, where forwarding means nothing else.
func allowLookups(v4, v6 bool) error {
	for _, f := range []struct {
		on   bool
		path string
	}{
		{v4, "/proc/sys/net/ipv4/conf/lo/forwarding"},
		{v6, "/proc/sys/net/ipv6/conf/lo/forwarding"},
	} {
		if !f.on {
			continue
		}
		now, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if strings.TrimSpace(string(now)) != "0" {
			continue
		}
		if err := os.WriteFile(f.path, []byte("1"), 0); err != nil {
			key := strings.ReplaceAll(strings.TrimPrefix(f.path, "/proc/sys/"), "/", ".")
			return fmt.Errorf("next hops cannot be looked up: sysctl %s=1 is not allowed here: %w", key, err)
		}
	}
	return nil
}

// dropPrivileges gives up every capability of an ordinary user: what follows the
// start works on descriptors. Root keeps them, as giving them up would mean
// nothing.
func dropPrivileges() error {
	if os.Geteuid() == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	// Of every thread, whichever the runtime uses next.
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	if e == 0 {
		_, _, e = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	}
	if e != 0 {
		return fmt.Errorf("drop capabilities: %w", e)
	}
	return nil
}
