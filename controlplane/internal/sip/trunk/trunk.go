package trunk

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Trunk is one trunk in service. The health of its targets and the addresses of
// its peers change, everything else does not.
type Trunk struct {
	Config
	fixed []netip.Prefix

	mu       sync.Mutex
	resolved []netip.Addr
	misses   []int
}

// Set is all trunks.
type Set struct{ trunks []*Trunk }

// NewSet makes the trunks of a validated configuration.
func NewSet(configs []Config) *Set {
	s := &Set{}
	for _, c := range configs {
		t := &Trunk{Config: c, misses: make([]int, len(c.Targets))}
		for _, p := range c.AllowedPeers {
			if prefix, err := peer(p); err == nil {
				t.fixed = append(t.fixed, prefix)
			}
		}
		if len(c.AllowedPeers) == 0 {
			for _, h := range append(slices.Clone(c.Targets), c.Registrar) {
				host, _, _ := net.SplitHostPort(h)
				if a, err := netip.ParseAddr(host); err == nil {
					t.fixed = append(t.fixed, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
				}
			}
		}
		s.trunks = append(s.trunks, t)
	}
	return s
}

// All trunks in the order of the configuration.
func (s *Set) All() []*Trunk { return s.trunks }

// ByName finds a trunk, nil when there is none.
func (s *Set) ByName(name string) *Trunk {
	for _, t := range s.trunks {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Names lists the host names whose addresses may send calls.
func (t *Trunk) Names() []string {
	var out []string
	if len(t.AllowedPeers) > 0 {
		return nil
	}
	for _, h := range append(slices.Clone(t.Targets), t.Registrar) {
		host, _, _ := net.SplitHostPort(h)
		if _, err := netip.ParseAddr(host); err != nil && host != "" && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// Resolved sets the addresses of Names.
func (t *Trunk) Resolved(addrs []netip.Addr) {
	t.mu.Lock()
	t.resolved = addrs
	t.mu.Unlock()
}

// Allows reports whether the address may send calls on the trunk.
func (t *Trunk) Allows(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range t.fixed {
		if p.Contains(a) {
			return true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.resolved, a)
}

// Alive notes an answered (or not) OPTIONS of a target and reports whether the
// target changed between up and down.
func (t *Trunk) Alive(target int, ok bool) (changed, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.misses[target] < t.PingMisses
	if ok {
		t.misses[target] = 0
	} else {
		t.misses[target]++
	}
	after := t.misses[target] < t.PingMisses
	return before != after, after
}

// Order is the targets in the order in which to try them: those that are up first.
func (t *Trunk) Order() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var up, down []string
	for i, h := range t.Targets {
		if t.misses[i] < t.PingMisses {
			up = append(up, h)
		} else {
			down = append(down, h)
		}
	}
	return append(up, down...)
}

// Credentials of a number: its own, or those for all.
func (t *Trunk) CredentialsOf(n call.Number) (Credentials, bool) {
	if c, ok := t.Credentials[string(n)]; ok {
		return c, true
	}
	c, ok := t.Credentials["*"]
	return c, ok
}

// Account is the tenant's register-mode trunk that has an account for the number,
// nil when there is none.
func (s *Set) Account(tenant string, n call.Number) *Trunk {
	for _, t := range s.trunks {
		if t.Mode != ModeRegister || t.Tenant != tenant {
			continue
		}
		if _, ok := t.Credentials[string(n)]; ok {
			return t
		}
	}
	for _, t := range s.trunks {
		if _, ok := t.Credentials["*"]; ok && t.Mode == ModeRegister && t.Tenant == tenant {
			return t
		}
	}
	return nil
}

// Route is the tenant's trunk for a call to the address from the number: an emergency call
// takes an emergency trunk, a number with an account its own trunk, all others the
// trunk with the longest prefix. nil when no trunk takes it.
func (s *Set) Route(tenant string, from call.Number, to call.Address, emergency bool) *Trunk {
	if emergency || to.Kind() == call.EmergencyService {
		for _, t := range s.trunks {
			if t.Emergency && t.Tenant == tenant {
				return t
			}
		}
		return nil
	}
	if t := s.Account(tenant, from); t != nil {
		return t
	}
	number, e164 := to.Number()
	var best *Trunk
	length := -1
	for _, t := range s.trunks {
		if t.Mode != ModeTrunk || t.Tenant != tenant {
			continue
		}
		for _, p := range t.Prefixes {
			if len(p) > length && (p == "" || e164 && strings.HasPrefix(string(number), p)) {
				best, length = t, len(p)
			}
		}
	}
	return best
}

// ByPeer is the trunk on which an address may send calls; register-mode trunks
// come first when the number is registered there. nil when none allows it.
func (s *Set) ByPeer(a netip.Addr, registered func(t *Trunk) bool) *Trunk {
	var found *Trunk
	for _, t := range s.trunks {
		if !t.Allows(a) {
			continue
		}
		if t.Mode == ModeRegister && registered != nil && registered(t) {
			return t
		}
		if found == nil || found.Mode == ModeRegister && t.Mode == ModeTrunk {
			found = t
		}
	}
	return found
}
