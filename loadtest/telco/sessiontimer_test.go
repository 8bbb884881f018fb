package telco

import (
	"context"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

func TestSessionTimerIsGrantedAndWatched(t *testing.T) {
	t.Parallel()
	network, trace := start(t, nil)
	r := dialRaw(t, network)
	res := r.ask("INVITE", "sip:+15550100@telco.example", "Supported: timer\nSession-Expires: 90\nContent-Type: application/sdp", someOffer)
	if got := headerValue(res, "Session-Expires"); res.StatusCode != 200 || got != "90;refresher=uac" || headerValue(res, "Require") != "timer" {
		t.Fatalf("%d with Session-Expires %q", res.StatusCode, got)
	}
	// The network's watch is shortened here: what happens then is the point.
	l := timedLeg(t, network)
	l.invite.settleOnce.Do(func() { close(l.invite.settled) })
	l.runSessionTimer(1, false)
	eventually(t, "BYE of an expired session", func() bool { return trace.count("sent", "\nBYE sip:raw@", "Session timer expired") > 0 })
}

func TestSessionIsRefreshed(t *testing.T) {
	t.Parallel()
	for _, update := range []bool{true, false} {
		network, gateway, trace := startPair(t, "udp", nil)
		c, err := gateway.Call(timeout(t), CallRequest{
			From: alice, To: "+15550101", Headers: []sip.Header{sip.NewHeader("Session-Expires", "90;refresher=uas")},
			Talk: func(ctx context.Context, _ *Call) { <-ctx.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		await(t, "answer", c.Answered())
		l := timedLeg(t, network)
		l.mu.Lock()
		l.canUpdate = update
		l.mu.Unlock()
		l.runSessionTimer(1, true)
		method := "INVITE"
		if update {
			method = "UPDATE"
		}
		eventually(t, "refresh by "+method, func() bool {
			return trace.count("sent", "\n"+method+" sip:", "Session-Expires: 1;refresher=uac") > 0 && trace.count("received", "SIP/2.0 200", method) > 0
		})
		if _, err := c.AwaitTone(timeout(t), ToneFrequency, 200*time.Millisecond); err != nil {
			t.Error(err)
		}
		c.HangUp(timeout(t))
	}
}

// timedLeg returns the network's only leg once its session timer runs.
func timedLeg(t *testing.T, n *Network) *leg {
	t.Helper()
	var found *leg
	eventually(t, "session timer", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, l := range n.legs {
			l.mu.Lock()
			if l.refresh != nil {
				found = l
			}
			l.mu.Unlock()
		}
		return found != nil
	})
	return found
}
