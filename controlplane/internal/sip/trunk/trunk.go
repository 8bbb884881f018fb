package trunk

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
)

// Trunk is one trunk in service. The addresses of its peers and the number of its
// calls change, everything else does not.
type Trunk struct {
	Config
	fixed                                      []netip.Prefix
	calledOut, callingOut, calledIn, callingIn rules
	usage                                      *usage

	mu       sync.Mutex
	resolved []netip.Addr
	// accounts are those that came after the configuration, by number.
	accounts map[call.Number]Credentials
}

// Set is all trunks, and the routes to them.
type Set struct {
	trunks []*Trunk
	routes []Route
}

// NewSet makes the trunks of a validated configuration.
func NewSet(configs []Config, routes ...Route) *Set {
	s := &Set{routes: routes}
	for _, c := range configs {
		t := &Trunk{Config: c, usage: &usage{},
			calledOut: compile(c.Rewrite.CalledOut), callingOut: compile(c.Rewrite.CallingOut),
			calledIn: compile(c.Rewrite.CalledIn), callingIn: compile(c.Rewrite.CallingIn)}
		for _, p := range c.AllowedPeers {
			if prefix, err := peer(p); err == nil {
				t.fixed = append(t.fixed, prefix)
			}
		}
		if len(c.AllowedPeers) == 0 {
			for _, p := range t.Places() {
				if a, ok := p.Addr(); ok {
					t.fixed = append(t.fixed, netip.PrefixFrom(a, a.BitLen()))
				}
			}
		}
		s.trunks = append(s.trunks, t)
	}
	return s
}

// Inherit takes over what the trunks of the same name in another Set have counted
// and resolved.
func (s *Set) Inherit(old *Set) {
	for _, t := range s.trunks {
		if o := old.ByName(t.Name); o != nil {
			t.usage = o.usage
			o.mu.Lock()
			t.resolved, t.accounts = o.resolved, maps.Clone(o.accounts)
			o.mu.Unlock()
		}
	}
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

// Places are the targets and the registrar, each once.
func (t *Trunk) Places() []Target {
	var out []Target
	for _, h := range append(slices.Clone(t.Targets), t.Registrar) {
		if p, err := ParseTarget(h); err == nil && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// Names are the places whose addresses, once resolved, may send calls.
func (t *Trunk) Names() []Target {
	if len(t.AllowedPeers) > 0 || len(t.AllowedNames) > 0 {
		return nil
	}
	return slices.DeleteFunc(t.Places(), func(p Target) bool {
		_, literal := p.Addr()
		return literal
	})
}

// Resolved sets the addresses of Names.
func (t *Trunk) Resolved(addrs []netip.Addr) {
	t.mu.Lock()
	t.resolved = addrs
	t.mu.Unlock()
}

// Allows reports whether a peer may send calls on the trunk, by its address and
// the names that its certificate proved.
func (t *Trunk) Allows(a netip.Addr, names []string) bool {
	if len(t.AllowedNames) > 0 {
		if !certificate.Matches(names, t.AllowedNames) {
			return false
		}
		if len(t.AllowedPeers) == 0 {
			return true
		}
	}
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

// Credentials of a number: its own, or those for all.
func (t *Trunk) CredentialsOf(n call.Number) (Credentials, bool) {
	if c, ok := t.own(n); ok {
		return c, true
	}
	c, ok := t.Credentials["*"]
	return c, ok
}

// own are the credentials of the number alone.
func (t *Trunk) own(n call.Number) (Credentials, bool) {
	if c, ok := t.Credentials[string(n)]; ok {
		return c, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.accounts[n]
	return c, ok
}

// SetAccount gives a number credentials beside those of the configuration, which
// come first; nil takes them back.
func (t *Trunk) SetAccount(n call.Number, c *Credentials) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c == nil {
		delete(t.accounts, n)
		return
	}
	if t.accounts == nil {
		t.accounts = map[call.Number]Credentials{}
	}
	t.accounts[n] = *c
}

// Account is the tenant's register-mode trunk that has an account for the number,
// nil when there is none.
func (s *Set) Account(tenant string, n call.Number) *Trunk {
	for _, t := range s.trunks {
		if t.Mode != ModeRegister || t.Tenant != tenant {
			continue
		}
		if _, ok := t.own(n); ok {
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

// ByPeer is the trunk on which a peer may send calls, by its address and the names
// that its certificate proved; register-mode trunks
// come first when the number is registered there. nil when none allows it.
func (s *Set) ByPeer(a netip.Addr, names []string, registered func(t *Trunk) bool) *Trunk {
	var found *Trunk
	for _, t := range s.trunks {
		if !t.Allows(a, names) {
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
