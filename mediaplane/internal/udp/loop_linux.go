package udp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Loop reads sockets and calls their handlers, all in the goroutine of Run.
type Loop struct {
	epoll int
	wake  int // an event descriptor, for Close
	done  chan struct{}
	out   *Batch

	mu      sync.Mutex
	sockets map[int32]*Socket
	next    int32
	running bool
	closed  bool

	// Of the goroutine of Run alone.
	events [batchSize]unix.EpollEvent
	ready  [batchSize]*Socket
	in     *inbox
}

// inbox is where datagrams are read to.
type inbox struct {
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	names    [batchSize]name
	buffers  [batchSize][MaxPacket + 1]byte
}

// NewLoop makes the index-th loop of several. failed is told of datagrams of a
// batch that could not be sent.
func NewLoop(index int, failed func(packets int)) (*Loop, error) {
	l := &Loop{out: &Batch{loop: index, failed: failed}, sockets: map[int32]*Socket{}, in: &inbox{}, done: make(chan struct{})}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open an event descriptor: %w", err), unix.Close(l.epoll))
	}
	for i := range l.in.messages {
		l.in.vectors[i].Base = &l.in.buffers[i][0]
		l.in.vectors[i].SetLen(len(l.in.buffers[i]))
		h := &l.in.messages[i].header
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&l.in.names[i])), &l.in.vectors[i]
		h.SetIovlen(1)
	}
	return l, nil
}

// Add makes the loop read a socket.
func (l *Loop) Add(s *Socket, r Receiver) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	s.receiver, s.loop = r, l
	for l.sockets[l.next] != nil {
		l.next = (l.next + 1) & 0x7fffffff
	}
	s.token = l.next
	l.next = (l.next + 1) & 0x7fffffff
	l.sockets[s.token] = s
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.token}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
		delete(l.sockets, s.token)
		s.loop = nil
		return fmt.Errorf("read UDP %s: %w", s.local, err)
	}
	return nil
}

// Len is how many sockets the loop reads.
func (l *Loop) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sockets)
}

func (l *Loop) forget(s *Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sockets[s.token] != s {
		return
	}
	delete(l.sockets, s.token)
	if !l.closed {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
	}
}

// Run reads until Close. It keeps a thread to itself: going through Go's poller
// costs more than waking up a thread does.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.running = true
	l.mu.Unlock()
	defer close(l.done)
	var pace pace
	for {
		n, err := unix.EpollWait(l.epoll, l.events[:], -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for packets: %w", err)
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil
		}
		for i := range n {
			l.ready[i] = l.sockets[l.events[i].Fd]
		}
		l.mu.Unlock()
		packets := 0
		for i := range n {
			if s := l.ready[i]; s != nil {
				packets += l.read(s)
				l.ready[i] = nil
			}
		}
		l.out.Flush()
		if n < len(l.events) {
			pace.wait(packets)
		}
	}
}

// pace lets packets gather while many come: to wake up costs as much as to
// forward one. It delays none by more than gather, and a loop that has little to
// do goes on without delay.
type pace struct {
	since   time.Time
	packets int
	busy    bool
}

const (
	gather = 200 * time.Microsecond
	// A loop is busy that reads busyPackets in busyTime.
	busyTime    = 10 * time.Millisecond
	busyPackets = 50
)

func (p *pace) wait(packets int) {
	p.packets += packets
	if now := time.Now(); now.Sub(p.since) >= busyTime {
		p.busy = time.Duration(p.packets)*busyTime >= busyPackets*now.Sub(p.since)
		p.packets, p.since = 0, now
	}
	if p.busy {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(gather)}, nil)
	}
}

// read takes what waits in a socket: of one that many share a whole batch, of
// another one datagram, for there is hardly ever a second. It answers how many
// it took.
func (l *Loop) read(s *Socket) int {
	n := 1
	s.reading.Lock()
	switch {
	case s.closed:
		n = 0
	case s.shared:
		n = l.receiveMany(s)
	default:
		n = l.receiveOne(s)
	}
	s.reading.Unlock()
	for i := range n {
		length := int(l.in.messages[i].length)
		if length > MaxPacket {
			s.receiver.Oversize()
			continue
		}
		s.receiver.Handle(l.in.buffers[i][:length], l.in.names[i].get(s), l.out)
	}
	return n
}

// Reads never wait, so the scheduler need not know of them.

func (l *Loop) receiveMany(s *Socket) int {
	for i := range l.in.messages {
		l.in.messages[i].header.Namelen = uint32(len(l.in.names[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&l.in.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		// It is about one datagram (an ICMP error, a signal), not about the
		// socket, or about none.
		return 0
	}
	return int(n)
}

func (l *Loop) receiveOne(s *Socket) int {
	length := uint32(len(l.in.names[0]))
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&l.in.buffers[0][0])), uintptr(len(l.in.buffers[0])), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&l.in.names[0])), uintptr(unsafe.Pointer(&length)))
	if errno != 0 {
		return 0
	}
	l.in.messages[0].length = uint32(n)
	return 1
}

// Close ends Run and waits for it. Sockets stay open.
func (l *Loop) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	running := l.running
	l.mu.Unlock()
	if running {
		if _, err := unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			return fmt.Errorf("end the reading of sockets: %w", err)
		}
		<-l.done
	}
	return errors.Join(unix.Close(l.epoll), unix.Close(l.wake))
}
