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
	// next and end of what is left of the last block.
	next, end int
}

var mine allocator

// Free answers a port that is free on UDP and TCP; it is even.
func Free(t testing.TB) int {
	t.Helper()
	return Range(t, 1)
}

// Range answers the first, even one of n free ports in a row, n up to 300.
func Range(t testing.TB, n int) int {
	t.Helper()
	mine.mu.Lock()
	defer mine.mu.Unlock()
	for {
		for ; mine.next+n <= mine.end; mine.next += 2 {
			if from := mine.next; free(from, n) {
				mine.next += n + n%2
				return from
			}
		}
		if !mine.claim() {
			t.Fatalf("no %d free ports in a row are left between %d and %d", n, first, first+blocks*size)
		}
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
		a.next, a.end = from+2, from+size
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
