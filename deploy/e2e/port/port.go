// Package port hands out ports of the loopback address that nobody listens on.
// They lie below the range from which the system takes the ports of outgoing
// connections, so none is lost between the choice and its use, and none is
// handed out twice by a process.
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
	first = 11000
	last  = 29998
)

var (
	mu   sync.Mutex
	next = first + 2*rand.IntN((last-first)/2)
)

// Free answers a port that is free on UDP and TCP; it is even.
func Free(t testing.TB) int {
	t.Helper()
	return Range(t, 1)
}

// Range answers the first, even one of n free ports in a row.
func Range(t testing.TB, n int) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range (last - first) / 2 {
		candidate := next
		if candidate+n > last {
			candidate, next = first, first
		}
		next += 2
		if free(candidate, n) {
			next = candidate + n + n%2
			return candidate
		}
	}
	t.Fatalf("there are no %d free ports in a row between %d and %d", n, first, last)
	return 0
}

func free(from, n int) bool {
	for p := from; p < from+n; p++ {
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			return false
		}
		tcp.Close()
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p})
		if err != nil {
			return false
		}
		udp.Close()
	}
	return true
}

// Address is a free port as host:port of the loopback address.
func Address(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Free(t))
}
