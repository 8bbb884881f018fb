package controlplane

import (
	"strings"
	"testing"
)

// Emergency calls that no trunk would take are refused at the start, not when
// somebody needs help.
func TestEmergencyCallsNeedATrunk(t *testing.T) {
	const key = "calls.emergency: "
	for _, c := range []struct {
		name    string
		calls   bool
		trunks  []Trunk
		refused bool
	}{
		{"not taken", false, nil, false},
		{"no trunk", true, nil, true},
		{"no trunk for them", true, []Trunk{{Name: "a"}, {Name: "b"}}, true},
		{"a trunk for them", true, []Trunk{{Name: "a"}, {Name: "b", Emergency: true}}, false},
	} {
		cfg := Default()
		cfg.Calls.Emergency, cfg.SIP.Trunks = c.calls, c.trunks
		err := cfg.Validate() // there is more that is missing in it
		if got := err != nil && strings.Contains(err.Error(), key); got != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
