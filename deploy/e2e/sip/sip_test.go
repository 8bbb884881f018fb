// Package sip_test plays calls between an application and the SIP network, one
// small ladder after the other: SIPp is the network, the programs that are shipped
// are the gateway, and a device with a PeerConnection is the application.
package sip_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/sip/script"
)

// scenarios reads all of them.
func scenarios(t testing.TB) []*script.Scenario {
	t.Helper()
	files, err := filepath.Glob("scenario/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scenarios: %v", err)
	}
	slices.Sort(files)
	var out []*script.Scenario
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		found, err := script.Parse(name, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

// TestScenarios plays every scenario on its transports, many at a time, against
// one gateway for each kind that they ask for.
func TestScenarios(t *testing.T) {
	runs := map[string][]*run{}
	n := 0
	for _, s := range scenarios(t) {
		if _, ok := gateways[s.Gateway]; !ok {
			t.Fatalf("%s:%d: there is no gateway %q", s.File, s.Line, s.Gateway)
		}
		for _, transport := range s.On {
			runs[s.Gateway] = append(runs[s.Gateway], newRun(t, s, transport, n))
			n++
		}
	}
	for name, some := range runs {
		g := site(t, name, some)
		for _, r := range some {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				play(t, g, r)
			})
		}
	}
}
