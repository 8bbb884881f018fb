package gateway

import (
	"context"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Resume takes over what a process before this one left behind: confirmed calls
// go on, calls that were being set up end with an event. It is called once the
// network is up and before Run.
func (g *Gateway) Resume(ctx context.Context) error {
	calls, err := g.store.Calls(ctx)
	if err != nil {
		return fmt.Errorf("list the calls in the store: %w", err)
	}
	var plans []MediaPlan
	for _, c := range calls {
		lc, err := g.adopt(ctx, c)
		if err != nil {
			g.log.Error("take a call over", "call", c.ID, "error", err)
			continue
		}
		if lc != nil {
			plans = append(plans, lc.Media)
		}
	}
	g.media.Adopt(plans)
	if len(calls) > 0 {
		g.log.Info("took over the calls of an earlier process", "calls", len(plans), "failed", len(calls)-len(plans))
	}
	return nil
}

// adopt makes a stored call this process's. It answers nil when the call could
// not go on and was ended.
func (g *Gateway) adopt(ctx context.Context, c Call) (*liveCall, error) {
	sessions, err := g.store.SessionsByCall(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	lc := &liveCall{Call: c, inserted: true, stored: map[string]call.MediaSession{}}
	for _, m := range sessions {
		lc.sessions = append(lc.sessions, &m)
		lc.stored[m.ID] = m
	}
	lc.mu.Lock()
	defer lc.mu.Unlock()
	g.mu.Lock()
	if other := g.calls[c.ID]; other != nil {
		g.mu.Unlock()
		return other, nil
	}
	g.calls[c.ID] = lc
	g.mu.Unlock()

	if c.Dialog.IsZero() || !lc.confirmed() {
		g.finish(ctx, lc, call.Failed, "the gateway was restarted while the call was being set up")
		return nil, nil
	}
	if err := g.network.Restore(ctx, c.ID, c.Dialog); err != nil {
		g.finish(ctx, lc, call.Terminated, "the dialog could not be taken over: "+err.Error())
		return nil, nil
	}
	lc.accepted = true
	lc.candidates = MediaState{Node: c.Media.Node}
	g.trace(lc, ActorGateway, ActorGateway, "call taken over", "by a new gateway process")
	return lc, nil
}
