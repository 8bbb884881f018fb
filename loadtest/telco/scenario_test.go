package telco

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

func TestEarlyMedia(t *testing.T) {
	t.Parallel()
	for _, reliable := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "reliable"}[reliable], func(t *testing.T) {
			t.Parallel()
			_, gateway, trace := startPair(t, "udp", func(c *Config) {
				c.ReliableProvisional = reliable
				c.TimeScale = 0.5
			})
			c := call(t, gateway, "+15550106", nil)
			// The announcement is heard while the call is not yet answered.
			eventually(t, "early audio", func() bool {
				select {
				case <-c.Answered():
					t.Fatal("answered before any early audio was heard")
				default:
				}
				return !c.Hear(time.Second).Silent()
			})
			if c.LastProgress() != 183 {
				t.Errorf("last provisional response is %d, want 183", c.LastProgress())
			}
			await(t, "answer", c.Answered())
			if _, err := c.AwaitTone(timeout(t), ToneFrequency, 300*time.Millisecond); err != nil {
				t.Error(err)
			}
			c.HangUp(timeout(t))
			pracks := trace.count("received", "\nPRACK sip:", "RAck: ")
			if want := map[bool]int{false: 0, true: 1}[reliable]; pracks != want {
				t.Errorf("%d PRACKs, want %d", pracks, want)
			}
		})
	}
}

func TestNetworkHangsUp(t *testing.T) {
	t.Parallel()
	_, gateway, trace := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550107", nil)
	await(t, "answer", c.Answered())
	await(t, "hang-up by the network", c.Ended())
	if why := c.Cause(); !why.Remote || why.Q850 != 16 {
		t.Errorf("ended with %v", why)
	}
	eventually(t, "BYE's answer", func() bool { return trace.count("received", "SIP/2.0 200", "CSeq: 1 BYE") == 1 })
}

func TestHoldNumber(t *testing.T) {
	t.Parallel()
	network, gateway, trace := startPair(t, "udp", func(c *Config) { c.TimeScale = 0.4 })
	c := call(t, gateway, "+15550108", func(ctx context.Context, c *Call) { c.Play(700); <-ctx.Done() })
	await(t, "answer", c.Answered())
	if _, err := c.AwaitTone(timeout(t), ToneFrequency, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hold", func() bool { return c.Stats().Direction == string(recvOnly) })
	if _, err := c.AwaitTone(timeout(t), HoldFrequency, 200*time.Millisecond); err != nil {
		t.Errorf("music on hold: %v", err)
	}
	eventually(t, "resume", func() bool { return c.Stats().Direction == string(sendRecv) })
	if _, err := c.AwaitTone(timeout(t), ToneFrequency, 300*time.Millisecond); err != nil {
		t.Error(err)
	}
	c.HangUp(timeout(t))
	if trace.count("sent", "\nINVITE sip:", "a=sendonly") == 0 {
		t.Error("no re-INVITE with sendonly was sent")
	}
	eventually(t, "end of all legs", func() bool { return legs(network) == 0 })
}

func legs(n *Network) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.legs)
}

func TestHoldByThePeer(t *testing.T) {
	t.Parallel()
	_, gateway, _ := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550101", func(ctx context.Context, c *Call) { c.Play(700); <-ctx.Done() })
	await(t, "answer", c.Answered())
	eventually(t, "audio", func() bool { return c.Stats().PacketsReceived > 10 })
	for _, hold := range []func(context.Context) error{c.Hold, c.HoldInactive} {
		if err := hold(timeout(t)); err != nil {
			t.Fatal(err)
		}
		// Packets already on the way count; after them nothing comes.
		eventually(t, "silence on hold", func() bool { return time.Since(c.Stats().LastReceived) > 200*time.Millisecond })
		if err := c.Resume(timeout(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.AwaitTone(timeout(t), ToneFrequency, 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	c.HangUp(timeout(t))
}

func TestDigits(t *testing.T) {
	t.Parallel()
	_, gateway, _ := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550109", nil)
	await(t, "answer", c.Answered())
	eventually(t, "media", func() bool { return c.Stats().PacketsReceived > 0 })
	for _, digit := range "5#" {
		if err := c.SendDigits(timeout(t), string(digit)); err != nil {
			t.Fatal(err)
		}
		awaitKeyTone(t, c, byte(digit))
	}
	// A peer without telephone-event uses INFO.
	m := c.stream()
	m.mu.Lock()
	clear(m.events)
	m.mu.Unlock()
	if err := c.SendDigits(timeout(t), "8"); err != nil {
		t.Fatal(err)
	}
	awaitKeyTone(t, c, '8')
	c.HangUp(timeout(t))
}

func awaitKeyTone(t *testing.T, c *Call, digit byte) {
	t.Helper()
	low, high, _ := tone.DTMF(digit)
	m := c.stream()
	eventually(t, "tone of key "+string(rune(digit)), func() bool {
		heard := m.heard(recorded)
		for ; len(heard) >= 160; heard = heard[160:] { // the scaled scenario plays only 40 ms
			if math.Min(tone.Share(heard[:160], tone.Rate, low), tone.Share(heard[:160], tone.Rate, high)) > 0.35 {
				return true
			}
		}
		return false
	})
	m.forget()
}

func TestCancel(t *testing.T) {
	t.Parallel()
	network, gateway, trace := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550105", nil)
	eventually(t, "ringing", func() bool { return c.LastProgress() == 180 })
	c.HangUp(timeout(t))
	await(t, "end", c.Ended())
	eventually(t, "487", func() bool {
		return trace.count("sent", "SIP/2.0 487", "INVITE") >= 1 && trace.count("sent", "SIP/2.0 200", "CANCEL") == 1
	})
	eventually(t, "end of the ringing leg", func() bool { return legs(network) == 0 })
}

func TestHangUpAtOnce(t *testing.T) {
	t.Parallel()
	network, gateway, _ := startPair(t, "udp", nil)
	for range 20 { // before, during or after the INVITE
		c := call(t, gateway, "+15550105", nil)
		c.HangUp(timeout(t))
		await(t, "end", c.Ended())
	}
	eventually(t, "end of all legs", func() bool { return legs(network)+legs(gateway) == 0 })
}

func TestForwardedAndCallBack(t *testing.T) {
	t.Parallel()
	_, gateway, trace := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550113", nil)
	await(t, "answer", c.Answered())
	c.HangUp(timeout(t))
	if trace.count("sent", "SIP/2.0 181") != 1 {
		t.Error("no 181 was sent")
	}

	back := make(chan string, 1)
	gateway.Handle(alice, func(ctx context.Context, c *Call) {
		if c.Answer() == nil {
			if _, err := c.AwaitTone(timeout(t), ToneFrequency, 300*time.Millisecond); err != nil {
				t.Error(err)
			}
		}
		back <- c.Peer()
	})
	c = call(t, gateway, "+15550114", nil)
	await(t, "answer", c.Answered())
	await(t, "hang-up before the call back", c.Ended())
	select {
	case peer := <-back:
		if peer != "+15550114" {
			t.Errorf("called back by %q", peer)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("was not called back")
	}
}

// Calls between two subscribers of the gateway go through the network and back
// to the gateway, with media end to end.
func TestSubscriberCallsSubscriber(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		for _, delayed := range []bool{false, true} {
			name := transport + map[bool]string{true: " delayed offer"}[delayed]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				network, gateway, _ := startPair(t, transport, nil)
				rung := make(chan *Call, 1)
				gateway.Handle(bob, func(ctx context.Context, c *Call) {
					if c.Ring() != nil || c.Answer() != nil {
						return
					}
					c.Play(600)
					rung <- c
					<-ctx.Done()
				})
				a, err := gateway.Call(timeout(t), CallRequest{From: alice, To: bob, DelayedOffer: delayed,
					Talk: func(ctx context.Context, c *Call) { c.Play(900); <-ctx.Done() }})
				if err != nil {
					t.Fatal(err)
				}
				await(t, "answer", a.Answered())
				b := <-rung
				if b.Peer() != alice {
					t.Errorf("the called side sees the caller as %q", b.Peer())
				}
				hear(t, a, 600)
				hear(t, b, 900)
				if a.LastProgress() != 180 {
					t.Errorf("last provisional response is %d, want 180", a.LastProgress())
				}
				// Hold and resume travel through, either way.
				for _, side := range []struct{ own, other *Call }{{a, b}, {b, a}} {
					if err := side.own.Hold(timeout(t)); err != nil {
						t.Fatal(err)
					}
					if got := side.other.Stats().Direction; got != string(recvOnly) {
						t.Errorf("the held side is %s", got)
					}
					if err := side.own.Resume(timeout(t)); err != nil {
						t.Fatal(err)
					}
				}
				hear(t, a, 600)
				hear(t, b, 900)
				b.HangUp(timeout(t))
				await(t, "end at the caller", a.Ended())
				if why := a.Cause(); !why.Remote || why.Q850 != 16 {
					t.Errorf("the caller's call ended with %v", why)
				}
				eventually(t, "end of all legs", func() bool { return legs(network)+legs(gateway) == 0 })
			})
		}
	}
}

func hear(t *testing.T, c *Call, hz float64) {
	t.Helper()
	if _, err := c.AwaitTone(timeout(t), hz, 300*time.Millisecond); err != nil {
		t.Error(err)
	}
}

func TestSubscriberRefusesAndCancels(t *testing.T) {
	t.Parallel()
	network, gateway, _ := startPair(t, "udp", nil)
	gateway.Handle(bob, func(ctx context.Context, c *Call) { c.Reject(486, 17) })
	a := call(t, gateway, bob, nil)
	await(t, "refusal", a.Ended())
	if why := a.Cause(); why.Code != 486 || why.Q850 != 17 {
		t.Errorf("ended with %v", why)
	}

	cancelled := make(chan Cause, 1)
	gateway.Handle(bob, func(ctx context.Context, c *Call) {
		if c.Ring() == nil {
			<-ctx.Done()
			cancelled <- c.Cause()
		}
	})
	a = call(t, gateway, bob, nil)
	eventually(t, "ringing", func() bool { return a.LastProgress() == 180 })
	a.HangUp(timeout(t))
	select {
	case why := <-cancelled:
		if why.Code != 487 || !why.Remote {
			t.Errorf("the called side saw %v", why)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the called side was not cancelled")
	}
	eventually(t, "end of all legs", func() bool { return legs(network)+legs(gateway) == 0 })
}

func TestShutdownSaysGoodbye(t *testing.T) {
	t.Parallel()
	network, gateway, _ := startPair(t, "udp", nil)
	c := call(t, gateway, "+15550101", nil)
	await(t, "answer", c.Answered())
	ringing := call(t, gateway, "+15550105", nil)
	eventually(t, "ringing", func() bool { return ringing.LastProgress() == 180 })
	network.Close()
	await(t, "BYE at shutdown", c.Ended())
	await(t, "refusal at shutdown", ringing.Ended())
	if why := c.Cause(); !why.Remote || why.Q850 != 41 {
		t.Errorf("the answered call ended with %v", why)
	}
	if why := ringing.Cause(); !why.Remote || why.Code != 503 {
		t.Errorf("the ringing call ended with %v", why)
	}
}
