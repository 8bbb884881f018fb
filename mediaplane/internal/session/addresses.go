package session

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
)

// WebRTCAddresses are those to offer to browsers.
func (m *Manager) WebRTCAddresses() []netip.AddrPort {
	if len(m.config.WebRTCAdvertise) == 0 {
		list := make([]netip.AddrPort, len(m.groups))
		for i, g := range m.groups {
			list[i] = g[0].Local()
		}
		return list
	}
	list := make([]netip.AddrPort, len(m.config.WebRTCAdvertise))
	for i, a := range m.config.WebRTCAdvertise {
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), m.socketPort(i))
		}
		list[i] = a
	}
	return list
}

func (m *Manager) socketPort(i int) uint16 {
	return m.groups[min(i, len(m.groups)-1)][0].Local().Port()
}

// RTPAddresses are those of telco legs as they are told to the far end.
func (m *Manager) RTPAddresses() []netip.Addr {
	list := make([]netip.Addr, len(m.config.RTP))
	for i := range m.config.RTP {
		list[i] = m.advertisedRTP(i)
	}
	return list
}

func (m *Manager) advertisedRTP(i int) netip.Addr {
	if i < len(m.config.RTPAdvertise) {
		return m.config.RTPAdvertise[i]
	}
	return m.config.RTP[i]
}

// socketFor chooses the socket to reach a browser whose selected path came from
// another node: that of its address family.
func (m *Manager) socketFor(remote netip.AddrPort) int {
	for i, g := range m.groups {
		if g[0].Local().Addr().Is4() == remote.Addr().Is4() {
			return i
		}
	}
	return 0
}

// family is the first RTP address of a family, -1 if there is none.
func (m *Manager) family(v4 bool) int {
	return slices.IndexFunc(m.config.RTP, func(a netip.Addr) bool { return a.Is4() == v4 })
}

// openPair binds ports for a leg on the address that the plan names, or on one
// of the family of its far end.
func (m *Manager) openPair(field string, p *rtpPlan) (*udp.Pair, netip.Addr, error) {
	chosen := 0
	switch {
	case p.local.IsValid() && p.local.Addr().IsUnspecified():
		chosen = m.family(p.local.Addr().Is4())
		if chosen < 0 {
			return nil, netip.Addr{}, &FieldError{Field: field + ".ip", Reason: fmt.Sprintf("the node has no address of the family of %s", p.local.Addr())}
		}
	case p.local.IsValid():
		chosen = -1
		for i := range m.config.RTP {
			if m.advertisedRTP(i) == p.local.Addr() {
				chosen = i
				break
			}
		}
		if chosen < 0 {
			return nil, netip.Addr{}, &FieldError{Field: field + ".ip", Reason: fmt.Sprintf("%s is no address of this node (%v)", p.local.Addr(), m.RTPAddresses())}
		}
	case p.remote.IsValid():
		chosen = max(0, m.family(p.remote.Addr().Is4()))
	}
	pair, err := m.ports.Open(m.config.RTP[chosen], p.local.Port())
	if err != nil {
		if errors.Is(err, udp.ErrPortRange) {
			return nil, netip.Addr{}, &FieldError{Field: field + ".port", Reason: err.Error()}
		}
		return nil, netip.Addr{}, fmt.Errorf("%w: %s: %w", ErrPorts, field, err)
	}
	return pair, m.advertisedRTP(chosen), nil
}
