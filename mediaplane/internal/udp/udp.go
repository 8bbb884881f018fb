// Package udp is the media plane's view of UDP: sockets, the loops that read many
// of them, the demultiplexing rule of the shared browser port, and the range of
// port pairs for legs toward the operator's network.
//
// It knows nothing of sessions. A Loop reads its sockets in few system calls and
// calls their handlers; what handlers send through their Batch leaves in few
// system calls too. Nothing of this allocates memory for a packet.
//
//	socket ─┐                     ┌─ Batch ─ sendmmsg ─▶ shared socket
//	socket ─┼─ epoll ─▶ Loop ─▶ handler
//	socket ─┘                     └────────── sendto ──▶ socket of one leg
//
// A socket is read by one loop, so that its packets stay in order.
package udp

import (
	"net/netip"
)

// MaxPacket is the size in bytes of the largest datagram that is handed on.
// Larger ones are reported as oversize and dropped: no RTP sender that respects
// a path MTU makes them.
const MaxPacket = 2048

// Handler receives one datagram. b is valid until it returns; what it sends
// through out leaves when the loop has handled what it had read, at the latest.
// It must not close the socket's loop.
type Handler func(b []byte, from netip.AddrPort, out *Batch)

// Receiver is what a socket that a loop reads is for.
type Receiver struct {
	Handle Handler
	// Oversize is called for each datagram longer than MaxPacket.
	Oversize func()
}
