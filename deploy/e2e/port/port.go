// Package port hands out ports of the loopback address that nobody listens on.
//
// They lie below the range from which the system takes the ports of outgoing
// connections, so none is lost between the choice and its use. Processes that
// test at the same time share the range by blocks: the first port of a block is
// held by the process that the others belong to. So a program under test can be
// stopped and started again without somebody else taking its ports meanwhile.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The range of Linux for outgoing connections begins at 32768.
const (
	first  = 10000
	blocks = 56
	size   = 400
)

// allocator is the part of the range that belongs to this process.
type allocator struct {
	mu sync.Mutex
	// guards hold the blocks as long as the process lives.
	guards []net.Listener
	ports  []int        // of the blocks, but for those of the guards
	used   map[int]bool // by a test that runs
	next   int          // index in ports: what was given back rests for a while
}

var mine = allocator{used: map[int]bool{}}

// Free answers a port that is free on UDP and TCP; it is even. It is the test's
// until the test ends.
func Free(t testing.TB) int {
	t.Helper()
	return Range(t, 1)
}

// Range answers the first, even one of n free ports in a row, n up to 300.
func Range(t testing.TB, n int) int {
	t.Helper()
	from, ok := mine.take(n)
	if !ok {
		t.Fatalf("no %d free ports in a row are left between %d and %d", n, first, first+blocks*size)
	}
	t.Cleanup(func() { mine.giveBack(from, n) })
	return from
}

func (a *allocator) take(n int) (int, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for range len(a.ports) {
			from := a.ports[a.next]
			if !a.has(from, n) || !free(from, n) {
				a.next = (a.next + 1) % len(a.ports)
				continue
			}
			for p := from; p < from+n; p++ {
				a.used[p] = true
			}
			a.next = (a.next + n) % len(a.ports)
			return from, true
		}
		if !a.claim() {
			return 0, false
		}
	}
}

// has reports whether n ports from an even one on are this process's and unused.
func (a *allocator) has(from, n int) bool {
	if from%2 != 0 || (from-first)%size+n > size {
		return false
	}
	for p := from; p < from+n; p++ {
		if a.used[p] {
			return false
		}
	}
	return true
}

func (a *allocator) giveBack(from, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p := from; p < from+n; p++ {
		delete(a.used, p)
	}
}

// claim takes another block.
func (a *allocator) claim() bool {
	for _, i := range rand.Perm(blocks) {
		from := first + i*size
		guard, err := net.Listen("tcp", local(from))
		if err != nil {
			continue
		}
		a.guards = append(a.guards, guard)
		a.next = len(a.ports)
		for p := from + 1; p < from+size; p++ {
			a.ports = append(a.ports, p)
		}
		return true
	}
	return false
}

func free(from, n int) bool {
	for p := from; p < from+n; p++ {
		tcp, err := net.Listen("tcp", local(p))
		if err != nil {
			return false
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", local(p))
		if err != nil {
			return false
		}
		udp.Close()
	}
	return true
}

func local(p int) string { return fmt.Sprintf("127.0.0.1:%d", p) }

// Address is a free port as host:port of the loopback address.
func Address(t testing.TB) string {
	t.Helper()
	return local(Free(t))
}
