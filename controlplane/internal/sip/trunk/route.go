package trunk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Route leads calls to trunks, before the trunks' own prefixes are asked.
type Route struct {
	Tenant  string   `yaml:"tenant" help:"tenant whose calls are meant"`
	Called  string   `yaml:"called" help:"prefix of the called number in E.164 form (+49); empty for every address"`
	Calling string   `yaml:"calling" help:"prefix of the calling number; empty for every number"`
	Trunks  []string `yaml:"trunks" help:"names or labels of trunks, in the order in which to try them"`
}

// Validate checks a route against the trunks; key is its place in the
// configuration.
func (r Route) Validate(key string, trunks []Config) error {
	if len(r.Trunks) == 0 {
		return fmt.Errorf("%s.trunks: at least one is needed", key)
	}
	for i, name := range r.Trunks {
		if !slices.ContainsFunc(trunks, func(c Config) bool { return c.Name == name || c.Label == name }) {
			return fmt.Errorf("%s.trunks[%d]: no trunk has the name or label %q", key, i, name)
		}
	}
	return nil
}

func (r Route) fits(tenant string, from call.Number, to call.Address) bool {
	want := r.Tenant
	if want == "" {
		want = call.DefaultTenant
	}
	number, e164 := to.Number()
	return want == tenant && strings.HasPrefix(string(from), r.Calling) &&
		(r.Called == "" || e164 && strings.HasPrefix(string(number), r.Called))
}

// Route lists the tenant's trunks for a call to the address from the number, in the
// order in which to try them: an emergency call takes the emergency trunks, a
// number with an account its own trunk, all others those of the first route that
// fits, or those with a fitting prefix, the longest first. nil when no trunk takes
// it.
func (s *Set) Route(tenant string, from call.Number, to call.Address, emergency bool) []*Trunk {
	var out []*Trunk
	if emergency || to.Kind() == call.EmergencyService {
		for _, t := range s.trunks {
			if t.Emergency && t.Tenant == tenant {
				out = append(out, t)
			}
		}
		return out
	}
	if t := s.Account(tenant, from); t != nil {
		return []*Trunk{t}
	}
	for _, r := range s.routes {
		if r.fits(tenant, from, to) {
			return s.named(tenant, r.Trunks)
		}
	}
	return s.byPrefix(tenant, to)
}

// named lists the trunks of names, then labels, each once.
func (s *Set) named(tenant string, names []string) []*Trunk {
	var out []*Trunk
	for _, name := range names {
		for _, t := range s.trunks {
			if (t.Name == name || t.Label == name) && t.Tenant == tenant && t.Mode == ModeTrunk && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

func (s *Set) byPrefix(tenant string, to call.Address) []*Trunk {
	number, e164 := to.Number()
	type fit struct {
		trunk  *Trunk
		length int
	}
	var fits []fit
	for _, t := range s.trunks {
		if t.Mode != ModeTrunk || t.Tenant != tenant {
			continue
		}
		length := -1
		for _, p := range t.Prefixes {
			if len(p) > length && (p == "" || e164 && strings.HasPrefix(string(number), p)) {
				length = len(p)
			}
		}
		if length >= 0 {
			fits = append(fits, fit{t, length})
		}
	}
	slices.SortStableFunc(fits, func(a, b fit) int { return cmp.Compare(b.length, a.length) })
	var out []*Trunk
	for i, f := range fits {
		// What fails elsewhere must not fill the emergency trunks.
		if i == 0 || !f.trunk.Emergency {
			out = append(out, f.trunk)
		}
	}
	return out
}
