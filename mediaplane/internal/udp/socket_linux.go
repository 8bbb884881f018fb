package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is one bound UDP socket. Reading it is a Loop's business. It is safe for
// concurrent use, but nobody may send while it is being closed.
type Socket struct {
	fd    int
	v4    bool
	local netip.AddrPort

	// reading excludes Close from the moment between epoll's word and the read:
	// the number of a closed descriptor may be another socket's by then.
	reading sync.Mutex
	closed  bool
	loop    *Loop
	token   int32

	receiver Receiver
	// shared: many sessions send through the socket, so that batches pay.
	shared bool
}

// Listen binds addr; port 0 lets the kernel choose. bufferBytes sizes the
// kernel's receive and send buffers (0 keeps the system's default; the kernel
// silently limits it to net.core.rmem_max). Its errors wrap those of the system,
// unix.EADDRINUSE and unix.EMFILE among them.
func Listen(addr netip.AddrPort, bufferBytes int) (*Socket, error) {
	return listen(addr, bufferBytes, false)
}

// ListenGroup binds n sockets to one address, for as many loops. The kernel
// spreads remote addresses over them, and keeps each to its socket.
func ListenGroup(addr netip.AddrPort, bufferBytes, n int) ([]*Socket, error) {
	// The first is bound alone, so that a port that is taken is noticed.
	first, err := listen(addr, bufferBytes, false)
	if err != nil {
		return nil, err
	}
	first.shared = true
	group := []*Socket{first}
	if n > 1 {
		err = unix.SetsockoptInt(first.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	for len(group) < n && err == nil {
		var s *Socket
		if s, err = listen(first.local, bufferBytes, true); err == nil {
			s.shared = true
			group = append(group, s)
		}
	}
	if err != nil {
		for _, s := range group {
			_ = s.Close()
		}
		return nil, err
	}
	return group, nil
}

func listen(addr netip.AddrPort, bufferBytes int, reuse bool) (_ *Socket, err error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	s := &Socket{v4: addr.Addr().Is4()}
	family := unix.AF_INET6
	if s.v4 {
		family = unix.AF_INET
	}
	if s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP); err != nil {
		return nil, fmt.Errorf("open a UDP socket for %s: %w", addr, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(s.fd)
		}
	}()
	if !s.v4 {
		if err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, fmt.Errorf("bind UDP %s: %w", addr, err)
		}
	}
	if reuse {
		if err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return nil, fmt.Errorf("bind UDP %s: %w", addr, err)
		}
	}
	if bufferBytes > 0 {
		// Best effort: an unprivileged process may not raise the limit.
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferBytes)
	}
	if err = unix.Bind(s.fd, sockaddr(addr)); err != nil {
		return nil, fmt.Errorf("bind UDP %s: %w", addr, err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return nil, fmt.Errorf("bind UDP %s: %w", addr, err)
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port))
	}
	return s, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			sa.ZoneId = uint32(i.Index)
		}
	}
	return sa
}

// Local is the bound address with the port that the kernel chose.
func (s *Socket) Local() netip.AddrPort { return s.local }

// errFamily says that a socket cannot reach an address.
var errFamily = errors.New("the address is of another family than the socket's")

// name is room for a socket address of either family.
type name [unix.SizeofSockaddrInet6]byte

// put writes an address as the kernel wants it for the socket, and answers its
// length, 0 for one of another family.
func (n *name) put(s *Socket, a netip.AddrPort) uint32 {
	port := a.Port()
	if s.v4 {
		if !a.Addr().Is4() && !a.Addr().Is4In6() {
			return 0
		}
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
		p := (*[2]byte)(unsafe.Pointer(&sa.Port))
		p[0], p[1] = byte(port>>8), byte(port)
		return unix.SizeofSockaddrInet4
	}
	if a.Addr().Is4() {
		return 0
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(n))
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	p := (*[2]byte)(unsafe.Pointer(&sa.Port))
	p[0], p[1] = byte(port>>8), byte(port)
	return unix.SizeofSockaddrInet6
}

// get reads an address that the kernel wrote.
func (n *name) get(s *Socket) netip.AddrPort {
	port := uint16(n[2])<<8 | uint16(n[3])
	if s.v4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[4:8])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(n[8:24])).Unmap(), port)
}

// Send writes one datagram at once.
func (s *Socket) Send(b []byte, to netip.AddrPort) error {
	var n name
	length := n.put(s, to)
	if length == 0 || len(b) == 0 {
		return errFamily
	}
	for {
		// It does not wait, so the scheduler need not know of it.
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&n)), uintptr(length))
		switch {
		case errno == 0:
			return nil
		case errno != unix.EINTR && !(errno == unix.EAGAIN && s.writable()):
			return errno
		}
	}
}

// sendPatience is how long a packet waits for room in the kernel's send buffer.
const sendPatience = 10 // milliseconds

// writable waits for room.
func (s *Socket) writable() bool {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, sendPatience)
	return n == 1 || errors.Is(err, unix.EINTR)
}

// Close ends the reading of the socket and gives its port back. Its handler may
// still be at work with what was read before.
func (s *Socket) Close() error {
	if s.loop != nil {
		s.loop.forget(s)
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return unix.Close(s.fd)
}
