//go:build linux

// Package netns runs code in network namespaces of Linux. A namespace has a name
// that iproute2 knows too.
package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// directory is where iproute2 keeps names.
const directory = "/run/netns"

// Do runs f on a thread that is in the namespace with a name; "" is the process's
// own. Sockets that f opens and programs that it starts belong to that namespace
// for good; goroutines that it starts do not.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, so that
		// nothing else ever runs in the namespace by mistake.
		runtime.LockOSThread()
		done <- enter(name, f)
	}()
	return <-done
}

func enter(name string, f func() error) error {
	file, err := os.Open(filepath.Join(directory, name))
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", name, err)
	}
	return f()
}
