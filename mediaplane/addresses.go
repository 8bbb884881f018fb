package mediaplane

import (
	"fmt"
	"net"
	"net/netip"
)

// hostAddresses lists the host's unicast addresses of one family, loopback last.
func hostAddresses(v4 bool) ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var list, loopbacks []netip.Addr
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		switch {
		case ip.Is4() != v4 || ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.IsLoopback():
			loopbacks = append(loopbacks, ip)
		default:
			list = append(list, ip)
		}
	}
	return append(list, loopbacks...), nil
}

// webrtcAddresses resolves webrtc.bind: every address gets a socket of its own,
// so that answers leave from the address that was asked.
func webrtcAddresses(c WebRTCConfig) (bind, advertise []netip.AddrPort, err error) {
	var told []netip.AddrPort
	seen := map[netip.Addr]bool{}
	for i, text := range c.Bind {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, fmt.Errorf("webrtc.bind[%d]: %w", i, err)
		}
		ip = ip.Unmap()
		list := []netip.Addr{ip}
		if ip.IsUnspecified() {
			if list, err = hostAddresses(ip.Is4()); err != nil {
				return nil, nil, fmt.Errorf("webrtc.bind[%d]: %w", i, err)
			}
		}
		for j, a := range list {
			if seen[a] {
				continue
			}
			seen[a] = true
			bind = append(bind, netip.AddrPortFrom(a, c.Port))
			if !ip.IsUnspecified() || !a.IsLoopback() || j == 0 {
				told = append(told, netip.AddrPortFrom(a, 0))
			}
		}
	}
	if len(bind) == 0 {
		return nil, nil, fmt.Errorf("webrtc.bind: the host has none of these addresses")
	}
	if len(c.Advertise) == 0 {
		return bind, told, nil
	}
	for i, text := range c.Advertise {
		a, err := advertised(text)
		if err != nil {
			return nil, nil, fmt.Errorf("webrtc.advertise[%d]: %w", i, err)
		}
		advertise = append(advertise, a)
	}
	return bind, advertise, nil
}

// rtpAddresses resolves rtp.bind and rtp.advertise.
func rtpAddresses(c RTPConfig) (bind, advertise []netip.Addr, err error) {
	for i, text := range c.Bind {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, fmt.Errorf("rtp.bind[%d]: %w", i, err)
		}
		ip = ip.Unmap()
		if ip.IsUnspecified() {
			list, err := hostAddresses(ip.Is4())
			if err != nil || len(list) == 0 {
				return nil, nil, fmt.Errorf("rtp.bind[%d]: the host has no address for %s: %w", i, text, err)
			}
			ip = list[0]
		}
		bind = append(bind, ip)
	}
	for i, text := range c.Advertise {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, fmt.Errorf("rtp.advertise[%d]: %w", i, err)
		}
		advertise = append(advertise, ip.Unmap())
	}
	return bind, advertise, nil
}
