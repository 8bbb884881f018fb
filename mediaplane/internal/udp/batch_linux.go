package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call reads or sends at most.
const batchSize = 64

// sealOverhead is what SRTP and SRTCP add to a packet at most, in bytes.
const sealOverhead = 64

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
}

// Batch collects datagrams that are to leave through shared sockets. It belongs
// to one loop. A nil Batch sends at once.
type Batch struct {
	loop   int
	queues []*queue
	failed func(packets int)
}

// queue holds what leaves through one socket.
type queue struct {
	socket   *Socket
	n        int
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	names    [batchSize]name
	buffers  [batchSize][MaxPacket + sealOverhead]byte
}

func newQueue(s *Socket) *queue {
	q := &queue{socket: s}
	for i := range q.messages {
		q.vectors[i].Base = &q.buffers[i][0]
		h := &q.messages[i].header
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&q.names[i])), &q.vectors[i]
		h.SetIovlen(1)
	}
	return q
}

// Pick chooses the socket of a group that the batch's loop sends through.
func (o *Batch) Pick(group []*Socket) *Socket {
	if o == nil {
		return group[0]
	}
	return group[o.loop%len(group)]
}

// Send puts a copy of a datagram into the batch, or sends it at once where a
// batch would not pay. An error of a datagram in the batch is only counted.
func (o *Batch) Send(s *Socket, b []byte, to netip.AddrPort) error {
	if o == nil || !s.shared || len(b) > MaxPacket+sealOverhead {
		return s.Send(b, to)
	}
	q := o.queue(s)
	length := q.names[q.n].put(s, to)
	if length == 0 || len(b) == 0 {
		return errFamily
	}
	q.messages[q.n].header.Namelen = length
	q.vectors[q.n].SetLen(copy(q.buffers[q.n][:], b))
	if q.n++; q.n == batchSize {
		o.flush(q)
	}
	return nil
}

func (o *Batch) queue(s *Socket) *queue {
	for _, q := range o.queues {
		if q.socket == s {
			return q
		}
	}
	q := newQueue(s)
	o.queues = append(o.queues, q)
	return q
}

// Flush sends what is in the batch.
func (o *Batch) Flush() {
	for _, q := range o.queues {
		if q.n > 0 {
			o.flush(q)
		}
	}
}

func (o *Batch) flush(q *queue) {
	failed := 0
	for done := 0; done < q.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(q.socket.fd), uintptr(unsafe.Pointer(&q.messages[done])), uintptr(q.n-done), 0, 0, 0)
		switch {
		case errno == unix.EINTR, errno == unix.EAGAIN && q.socket.writable():
		case errno != 0 || n == 0:
			// It is about the first one.
			failed++
			done++
		default:
			done += int(n)
		}
	}
	q.n = 0
	if failed > 0 {
		o.failed(failed)
	}
}
