package telco

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The library warns on its default logger when a peer closes a connection
	// that transactions still refer to.
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// The numbers the tests give to the gateway's subscribers.
const (
	alice = "+15551000001"
	bob   = "+15551000002"
)

// messages collects what Trace sees.
type messages struct {
	mu   sync.Mutex
	list []string
}

func (m *messages) add(direction Direction, remote, message string) {
	m.mu.Lock()
	m.list = append(m.list, string(direction)+" "+remote+"\n"+message)
	m.mu.Unlock()
}

// count returns how many messages contain all of the texts.
func (m *messages) count(texts ...string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
next:
	for _, message := range m.list {
		for _, text := range texts {
			if !strings.Contains(message, text) {
				continue next
			}
		}
		n++
	}
	return n
}

func (m *messages) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.list, "\n")
}

// start runs a network for the time of the test. Its scenarios are quick.
func start(t *testing.T, change func(*Config), tune ...func(*Network)) (*Network, *messages) {
	t.Helper()
	trace := &messages{}
	cfg := Default()
	cfg.TimeScale = 0.1
	cfg.Trace = trace.add
	if os.Getenv("TELCO_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tune := range tune {
		tune(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run did not return")
		}
		if t.Failed() {
			t.Logf("SIP messages:\n%s", trace)
		}
	})
	return n, trace
}

// startPair runs a network under test and a second one in the gateway's place,
// which serves the subscribers alice and bob.
func startPair(t *testing.T, transport string, change func(*Config)) (network, gateway *Network, trace *messages) {
	t.Helper()
	network, trace = start(t, func(c *Config) {
		c.Subscribers = []Subscriber{{Number: alice, Password: "secret-a"}, {Number: bob, Password: "secret-b"}}
		c.GatewayTransport = transport
		if change != nil {
			change(c)
		}
	})
	gateway, _ = start(t, func(c *Config) {
		c.Domain = "gateway.example"
		c.GatewayTransport = transport
		c.Gateway = network.Addr().String()
		if network.Addr().Addr().Is6() {
			c.Listen = "[::1]:0"
		}
	})
	if err := network.SetGateway(gateway.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return network, gateway, trace
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// call dials a number of the network from alice's phone behind the gateway.
func call(t *testing.T, gateway *Network, to string, talk func(context.Context, *Call)) *Call {
	t.Helper()
	if talk == nil {
		talk = func(ctx context.Context, _ *Call) { <-ctx.Done() }
	}
	c, err := gateway.Call(timeout(t), CallRequest{From: alice, To: to, Talk: talk})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestToneAndEcho(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(transport+" "+listen, func(t *testing.T) {
				t.Parallel()
				_, gateway, trace := startPair(t, transport, func(c *Config) { c.Listen = listen })

				c := call(t, gateway, "+15550101", nil)
				await(t, "answer of the tone number", c.Answered())
				if _, err := c.AwaitTone(timeout(t), ToneFrequency, 500*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				if got := c.LastProgress(); got != 180 {
					t.Errorf("last provisional response is %d, want 180", got)
				}
				c.HangUp(timeout(t))

				c = call(t, gateway, "+15550100", func(ctx context.Context, c *Call) { c.Play(1004); <-ctx.Done() })
				await(t, "answer of the echo number", c.Answered())
				if _, err := c.AwaitTone(timeout(t), 1004, 500*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				c.HangUp(timeout(t))
				if n := trace.count(strings.ToUpper(transport), "BYE sip:"); n != 2 {
					t.Errorf("%d BYE over %s were traced, want 2", n, transport)
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, gateway, _ := startPair(t, "udp", func(c *Config) { c.RingTimeout = 2 * time.Second })
	for _, c := range []struct {
		number             string
		code, q850, before int
	}{
		{"+15550102", 486, 17, 0},
		{"+15550103", 603, 21, 180},
		{"+15550104", 404, 1, 0},
		{"+15550199", 404, 1, 0},
		{"+15550105", 480, 19, 180},
		{"+15550111", 480, 20, 0},
		{"+15550112", 500, 41, 0},
	} {
		t.Run(c.number, func(t *testing.T) {
			got := call(t, gateway, c.number, nil)
			await(t, "end", got.Ended())
			why := got.Cause()
			if why.Code != c.code || why.Q850 != c.q850 || !why.Remote || got.LastProgress() != c.before {
				t.Errorf("ended with %v after %d, want %d, Q.850 %d after %d", why, got.LastProgress(), c.code, c.q850, c.before)
			}
		})
	}
}
