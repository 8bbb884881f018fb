package e2e

import (
	"context"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/browser"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// A far end that rings and sends nothing: Chromium hears the ringing tone of the
// media node until the answer, and the far end after it.
func TestRingingTone(t *testing.T) {
	t.Parallel()
	n := network(t)
	answer := make(chan struct{})
	err := n.Handle(landline, func(ctx context.Context, c *telco.Call) {
		if c.Ring() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-answer:
		}
		if c.Answer() == nil {
			c.Play(farHz)
			<-ctx.Done()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.PrepareAllInOne(t, gateway.Settings{
		"parts.network": false,
		"control_plane.sip.trunks": trunk(n.Addr().String(), map[string]any{
			"media": map[string]any{"codecs": []string{"PCMU"}, "ringback": "always", "ringback_tone": "450/2000,0/500"},
		}),
	})
	g.Start()
	b := browser.Start(t, browserHz)
	b.LogIn(g.URL+"/", ada)
	b.Dial(landline)
	b.AwaitState(patient, "ringing", "early-media")
	b.AwaitTone(patient, 450)
	close(answer)
	b.AwaitState(patient, "connected")
	b.AwaitTone(patient, farHz)
	b.Click("hangup")
	b.AwaitEnded(patient, "ended")
}
