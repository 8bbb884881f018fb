// Package e2e tests the programs of Isthmus end to end: real browsers, a real
// proxy and real telephones around the programs as they are shipped.
package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Remove()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

// patient bounds what should take a moment, on a busy machine.
const patient = 20 * time.Second

// Subscribers of the gateway, and numbers of its simulated network.
const (
	ada   = "+15550001"
	grace = "+15550002"

	echo       = "+15550100"
	playsTone  = "+15550101"
	busy       = "+15550102"
	declined   = "+15550103"
	unknown    = "+15550104"
	noAnswer   = "+15550105"
	earlyMedia = "+15550106"
	hangsUp    = "+15550107"
	keys       = "+15550109"
	longRing   = "+15550110"
)

// network runs a simulated network in the test's process.
func network(t *testing.T) *telco.Network {
	t.Helper()
	c := telco.Default()
	c.Subscribers = []telco.Subscriber{{Number: ada}, {Number: grace}}
	c.RingTime = 200 * time.Millisecond
	n, err := telco.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("simulated network: %v", err)
		}
	})
	return n
}

// handle lets a number of the network answer calls with a tone, and hands them to
// the test.
func handle(t *testing.T, n *telco.Network, number string, hz float64) <-chan *telco.Call {
	t.Helper()
	calls := make(chan *telco.Call, 16)
	err := n.Handle(number, func(ctx context.Context, c *telco.Call) {
		if c.Ring() != nil || c.Answer() != nil {
			return
		}
		c.Play(hz)
		calls <- c
		<-ctx.Done()
	})
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// trunk to a peer at an address.
func trunk(address string, more map[string]any) []map[string]any {
	t := map[string]any{
		"name": "carrier", "targets": []string{address}, "domain": "carrier.example", "trusted": true,
		"allowed_peers": []string{"127.0.0.1"},
	}
	for k, v := range more {
		t[k] = v
	}
	return []map[string]any{t}
}

// next takes from a channel within the bound.
func next[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patient):
		t.Fatalf("no %s within %s", what, patient)
		panic("unreachable")
	}
}

// hears waits until a telephone of the simulated network hears a tone.
func hears(t *testing.T, c *telco.Call, hz float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if _, err := c.AwaitTone(ctx, hz, 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

// ended waits until a call of the simulated network is over.
func ended(t *testing.T, c *telco.Call) telco.Cause {
	t.Helper()
	next(t, "end of the call", c.Ended())
	return c.Cause()
}

// await is condition.Await with the usual bound.
func await(t *testing.T, what string, check func() error) {
	t.Helper()
	condition.Await(t, patient, what, check)
}

// address of a port of this machine.
func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
