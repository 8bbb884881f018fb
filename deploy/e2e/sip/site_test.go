package sip_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sip/script"
)

// run is one scenario on one transport. It has a trunk, a range of numbers and,
// where there are enough of them, an address of its own, so that all of them can
// share one gateway at the same time.
type run struct {
	*script.Scenario
	name  string
	place script.Place
	trunk map[string]any
}

// domain of all trunks.
const domain = "carrier.example"

// newRun prepares the i-th run.
func newRun(t testing.TB, s *script.Scenario, transport string, i int) *run {
	t.Helper()
	r := &run{Scenario: s, name: s.Name, place: script.Place{
		Transport: strings.TrimSuffix(transport, "6"), IP: fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200), Port: port.Free(t),
		Number: fmt.Sprintf("+1556%04d1", i), Peer: fmt.Sprintf("+1557%04d1", i), Domain: domain, Run: fmt.Sprintf("%d", i),
	}}
	if len(s.On) > 1 {
		r.name += "/" + transport
	}
	if strings.HasSuffix(transport, "6") {
		// There is one such address only: scenarios that are called share a trunk.
		r.place.IP = "::1"
	}
	r.trunk = map[string]any{
		"name": strings.ReplaceAll(r.name, "/", "-"), "transport": r.place.Transport, "domain": domain,
		"targets": []string{r.address()}, "allowed_peers": []string{r.place.IP}, "prefixes": []string{r.place.Peer[:len(r.place.Peer)-1]},
	}
	for key, text := range s.Trunk {
		var value any
		if err := yaml.Unmarshal([]byte(r.place.Expand(text)), &value); err != nil {
			t.Fatalf("%s: trunk %s: %v", s.Name, key, err)
		}
		r.trunk[key] = value
	}
	return r
}

func (r *run) address() string { return net.JoinHostPort(r.place.IP, fmt.Sprint(r.place.Port)) }

// gateways that scenarios ask for by name, and what makes them differ.
var gateways = map[string]gateway.Settings{
	"": {},
	// Its transactions time out after 64 * 40 ms.
	"hasty": {"sip.timers.t1": "40ms", "sip.timers.t2": "320ms", "sip.timers.attempt": "300ms"},
	// All emergency calls take the one trunk for them.
	"emergency": {},
	// Nobody answers in time.
	"impatient": {"sip.timers.invite": "1s", "calls.ring_timeout": "1s"},
}

// site starts a gateway for some runs.
func site(t testing.TB, name string, runs []*run) *gateway.Split {
	t.Helper()
	var trunks []map[string]any
	emergency := false
	for _, r := range runs {
		trunks = append(trunks, r.trunk)
		emergency = emergency || r.trunk["emergency"] == true
	}
	sip := port.Free(t)
	v4, v6 := fmt.Sprintf("127.0.0.1:%d", sip), fmt.Sprintf("[::1]:%d", sip)
	settings := gateway.Settings{
		"log.level": "info",
		"sip.listeners": []map[string]any{
			{"network": "udp", "address": v4}, {"network": "tcp", "address": v4},
			{"network": "udp", "address": v6}, {"network": "tcp", "address": v6},
		},
		"sip.trunks":      trunks,
		"calls.numbers":   []string{"+1556"},
		"calls.emergency": emergency,
	}
	for k, v := range gateways[name] {
		settings[k] = v
	}
	rtp := port.Range(t, 300)
	g := gateway.SplitConfig{Nodes: 1, Control: settings, Node: gateway.Settings{
		"log.level": "info", "rtp.bind": []string{"127.0.0.1", "::1"}, "rtp.port_min": rtp, "rtp.port_max": rtp + 299,
	}}.Start(t)
	for _, r := range runs {
		r.place.Gateway = v4
		if r.place.IP == "::1" {
			r.place.Gateway = v6
		}
	}
	return g
}
