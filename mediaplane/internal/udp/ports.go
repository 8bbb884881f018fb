package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
)

// ErrExhausted says that no port pair of the range is free.
var ErrExhausted = errors.New("no free RTP port pair in the configured range")

// ErrDescriptors says that the process may not have more sockets.
var ErrDescriptors = errors.New("no file descriptors left for RTP ports")

// ErrPortTaken says that the wanted port pair is in use.
var ErrPortTaken = errors.New("RTP port pair is in use")

// ErrPortRange says that the wanted port is none of the range.
var ErrPortRange = errors.New("not an even port of the configured range")

// Pair is an RTP port and the RTCP port after it (RFC 3550 section 11).
type Pair struct {
	RTP, RTCP *Socket
	ports     *Ports
	slot      slot
	once      sync.Once
}

// Close closes both sockets and gives the ports back.
func (p *Pair) Close() {
	p.once.Do(func() {
		_ = p.RTP.Close()
		_ = p.RTCP.Close()
		p.ports.release(p.slot)
	})
}

type slot struct {
	addr netip.Addr
	port uint16
}

// Ports hands out port pairs of one range on one or more addresses. A port that
// was given back is reused last, so that late packets of an ended call do not
// meet a new one.
type Ports struct {
	min, max uint16
	addrs    int
	buffer   int
	most     int // pairs at once

	mu   sync.Mutex
	used map[slot]struct{}
	next map[netip.Addr]uint16
}

// NewPorts makes a range of the even ports from min to max-1 on each of addrs. Of
// its pairs at most most are open at once, for each takes two file descriptors; 0
// is no limit.
func NewPorts(addrs []netip.Addr, min, max uint16, most, bufferBytes int) *Ports {
	if min%2 == 1 {
		min++
	}
	p := &Ports{
		min: min, max: max, addrs: len(addrs), buffer: bufferBytes, most: most,
		used: map[slot]struct{}{}, next: map[netip.Addr]uint16{},
	}
	if most == 0 {
		p.most = p.addrs * p.pairs()
	}
	return p
}

func (p *Ports) pairs() int {
	if int(p.max)-int(p.min) < 1 {
		return 0
	}
	return (int(p.max) - int(p.min) + 1) / 2
}

// Free is how many ports are left, two for each pair.
func (p *Ports) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 2 * max(0, min(p.most, p.addrs*p.pairs())-len(p.used))
}

// Open binds a pair on addr. Port 0 takes the next free one; another port must
// be even and in the range. It answers ErrExhausted, ErrDescriptors, ErrPortTaken
// or ErrPortRange.
func (p *Ports) Open(addr netip.Addr, port uint16) (*Pair, error) {
	if port != 0 {
		if port < p.min || port >= p.max || port%2 == 1 {
			return nil, fmt.Errorf("port %d: %w (%d-%d)", port, ErrPortRange, p.min, p.max)
		}
		s := slot{addr, port}
		if err := p.take(s); err != nil {
			return nil, fmt.Errorf("port %d on %s: %w", port, addr, err)
		}
		pair, err := p.bind(s)
		switch {
		case errors.Is(err, ErrDescriptors):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrPortTaken, err)
		}
		return pair, nil
	}
	var last error
	for range p.pairs() {
		s, err := p.takeNext(addr)
		if err != nil {
			return nil, errors.Join(err, last)
		}
		pair, err := p.bind(s)
		if err == nil || errors.Is(err, ErrDescriptors) {
			return pair, err
		}
		// Another process sits on this port: go on with the next.
		last = err
	}
	return nil, errors.Join(ErrExhausted, last)
}

func (p *Ports) bind(s slot) (*Pair, error) {
	rtp, err := Listen(netip.AddrPortFrom(s.addr, s.port), p.buffer)
	if err != nil {
		p.release(s)
		return nil, exhausted(err)
	}
	rtcp, err := Listen(netip.AddrPortFrom(s.addr, s.port+1), 0)
	if err != nil {
		_ = rtp.Close()
		p.release(s)
		return nil, exhausted(err)
	}
	return &Pair{RTP: rtp, RTCP: rtcp, ports: p, slot: s}, nil
}

// exhausted tells errors that would meet every port apart from those of one.
func exhausted(err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) {
		return fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	return err
}

func (p *Ports) take(s slot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.used[s]; taken {
		return ErrPortTaken
	}
	if len(p.used) >= p.most {
		return p.full()
	}
	p.used[s] = struct{}{}
	return nil
}

// full says what ran out.
func (p *Ports) full() error {
	if p.most < p.addrs*p.pairs() {
		return fmt.Errorf("%w: %d pairs are open", ErrDescriptors, len(p.used))
	}
	return ErrExhausted
}

func (p *Ports) takeNext(addr netip.Addr) (slot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.used) >= p.most {
		return slot{}, p.full()
	}
	port := p.next[addr]
	for range p.pairs() {
		if port < p.min || port >= p.max {
			port = p.min
		}
		s := slot{addr, port}
		port += 2
		if _, taken := p.used[s]; !taken {
			p.used[s] = struct{}{}
			p.next[addr] = port
			return s, nil
		}
	}
	return slot{}, ErrExhausted
}

func (p *Ports) release(s slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, s)
}
