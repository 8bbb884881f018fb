package telco

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// portRange hands out pairs of UDP sockets for RTP (even port) and RTCP (the
// next one).
type portRange struct {
	address  netip.Addr
	min, max int

	mu   sync.Mutex
	next int
}

func newPortRange(address netip.Addr, low, high int) *portRange {
	low += low % 2
	return &portRange{address: address, min: low, max: high, next: low}
}

// open binds a pair of sockets.
func (p *portRange) open() (rtp, rtcp *net.UDPConn, err error) {
	if p.max == 0 {
		return p.openAny()
	}
	for range (p.max - p.min + 1) / 2 {
		p.mu.Lock()
		port := p.next
		if p.next += 2; p.next+1 > p.max {
			p.next = p.min
		}
		p.mu.Unlock()
		if rtp, rtcp, err = p.pair(port); err == nil {
			return rtp, rtcp, nil
		}
	}
	return nil, nil, fmt.Errorf("no free RTP port pair on %s between %d and %d (keys port_min, port_max): %w", p.address, p.min, p.max, err)
}

func (p *portRange) openAny() (rtp, rtcp *net.UDPConn, err error) {
	for range 50 {
		probe, err := net.ListenUDP("udp", &net.UDPAddr{IP: p.address.AsSlice()})
		if err != nil {
			return nil, nil, fmt.Errorf("open an RTP port on %s (key rtp_address): %w", p.address, err)
		}
		port := probe.LocalAddr().(*net.UDPAddr).Port
		if port%2 != 0 {
			probe.Close()
			continue
		}
		second, err := p.listen(port + 1)
		if err != nil {
			probe.Close()
			continue
		}
		return probe, second, nil
	}
	return nil, nil, fmt.Errorf("no free pair of RTP ports on %s after 50 tries", p.address)
}

func (p *portRange) pair(port int) (rtp, rtcp *net.UDPConn, err error) {
	if rtp, err = p.listen(port); err != nil {
		return nil, nil, err
	}
	if rtcp, err = p.listen(port + 1); err != nil {
		rtp.Close()
		return nil, nil, err
	}
	return rtp, rtcp, nil
}

func (p *portRange) listen(port int) (*net.UDPConn, error) {
	return net.ListenUDP("udp", &net.UDPAddr{IP: p.address.AsSlice(), Port: port})
}
