package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// ErrExhausted says that no port pair of the range is free.
var ErrExhausted = errors.New("no free RTP port pair in the configured range")

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

	mu   sync.Mutex
	used map[slot]struct{}
	next map[netip.Addr]uint16
}

// NewPorts makes a range of the even ports from min to max-1 on each of addrs.
func NewPorts(addrs []netip.Addr, min, max uint16, bufferBytes int) *Ports {
	if min%2 == 1 {
		min++
	}
	return &Ports{
		min: min, max: max, addrs: len(addrs), buffer: bufferBytes,
		used: map[slot]struct{}{}, next: map[netip.Addr]uint16{},
	}
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
	return 2 * (p.addrs*p.pairs() - len(p.used))
}

// Open binds a pair on addr. Port 0 takes the next free one; another port must
// be even and in the range. It answers ErrExhausted, ErrPortTaken or ErrPortRange.
func (p *Ports) Open(addr netip.Addr, port uint16) (*Pair, error) {
	if port != 0 {
		if port < p.min || port >= p.max || port%2 == 1 {
			return nil, fmt.Errorf("port %d: %w (%d-%d)", port, ErrPortRange, p.min, p.max)
		}
		s := slot{addr, port}
		if !p.take(s) {
			return nil, fmt.Errorf("port %d on %s: %w", port, addr, ErrPortTaken)
		}
		pair, err := p.bind(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPortTaken, err)
		}
		return pair, nil
	}
	var last error
	for range p.pairs() {
		s, ok := p.takeNext(addr)
		if !ok {
			break
		}
		pair, err := p.bind(s)
		if err == nil {
			return pair, nil
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
		return nil, err
	}
	rtcp, err := Listen(netip.AddrPortFrom(s.addr, s.port+1), 0)
	if err != nil {
		_ = rtp.Close()
		p.release(s)
		return nil, err
	}
	return &Pair{RTP: rtp, RTCP: rtcp, ports: p, slot: s}, nil
}

func (p *Ports) take(s slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.used[s]; taken {
		return false
	}
	p.used[s] = struct{}{}
	return true
}

func (p *Ports) takeNext(addr netip.Addr) (slot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
			return s, true
		}
	}
	return slot{}, false
}

func (p *Ports) release(s slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, s)
}
