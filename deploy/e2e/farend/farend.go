// Package farend runs the telephone network beyond the gateway's trunk, in the
// process of the test, which thus decides what every called number does.
package farend

import (
	"context"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// Start runs a network until the test ends. It calls nobody before SetGateway.
func Start(t testing.TB) *telco.Network {
	t.Helper()
	n, err := telco.New(telco.Default())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the telephone network: %v", err)
		}
	})
	return n
}

// Trunk are the gateway's settings by which it reaches the network.
func Trunk(n *telco.Network) gateway.Settings {
	return gateway.Settings{"sip.trunks": []map[string]any{{
		"name": "network", "targets": []string{n.Addr().String()}, "domain": n.Domain(), "trusted": true,
	}}}
}
