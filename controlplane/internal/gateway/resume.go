package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Resume takes over what a process before this one left behind: numbers stay
// registered, confirmed calls go on, calls that were being set up end with an event.
// It is called once the network is up and before Run.
func (g *Gateway) Resume(ctx context.Context) error {
	calls, err := g.store.Calls(ctx)
	if err != nil {
		return fmt.Errorf("list the calls in the store: %w", err)
	}
	registrations, err := g.store.RegistrationsAlive(ctx, g.now())
	if err != nil {
		return fmt.Errorf("list the registrations in the store: %w", err)
	}
	accounts := make([]Account, len(registrations))
	for i, r := range registrations {
		accounts[i] = Account{RegistrationID: r.ID, Tenant: r.Owner.Tenant, Number: r.Number()}
	}
	g.network.Keep(accounts)
	var plans []MediaPlan
	for _, c := range calls {
		lc, err := g.adopt(ctx, c.ID)
		if err != nil {
			g.log.Error("take a call over", "call", c.ID, "error", err)
			continue
		}
		if lc == nil {
			continue
		}
		lc.mu.Lock()
		if !lc.unplugged {
			plans = append(plans, c.Media)
		}
		lc.mu.Unlock()
	}
	g.media.Adopt(plans)
	if len(calls) > 0 {
		g.log.Info("took over the calls of an earlier process", "calls", len(plans), "failed", len(calls)-len(plans))
	}
	return nil
}

// adopt makes a stored call this process's. It answers nil when there is no such
// call, or it could not go on and was ended. A call that this process has is
// answered as it is. The call is claimed before it is read, so that it cannot
// end or be adopted by somebody else in between.
func (g *Gateway) adopt(ctx context.Context, callID string) (*liveCall, error) {
	lc := &liveCall{Call: Call{ID: callID}, inserted: true, stored: map[string]call.MediaSession{}}
	lc.mu.Lock()
	defer lc.mu.Unlock()
	if !g.keep(lc) {
		return g.find(callID), nil
	}
	if err := g.read(ctx, lc); err != nil {
		lc.over = true
		g.drop(lc)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		return nil, err
	}
	if lc.Dialog.IsZero() || !lc.confirmed() {
		if !lc.Dialog.IsZero() {
			if err := g.network.Abandon(ctx, lc.ID, lc.Dialog); err != nil {
				g.log.Warn("end at the far end what was being set up", "call", lc.ID, "sip_call_id", lc.Dialog.SIPCallID, "error", err)
			}
		}
		g.finish(ctx, lc, call.Failed, "the gateway was restarted while the call was being set up")
		return nil, nil
	}
	if err := g.network.Restore(ctx, lc.ID, lc.Dialog); err != nil {
		g.finish(ctx, lc, call.Terminated, "the dialog could not be taken over: "+err.Error())
		return nil, nil
	}
	lc.accepted = true
	lc.candidates = MediaState{Node: lc.Media.Node}
	g.trace(lc, ActorGateway, ActorGateway, "call taken over", "by a new gateway process")
	if m := lc.talkingSession(); m != nil && m.Released {
		// Its device was told that the call ends. Whether the far end was told
		// as well, nobody knows.
		g.unplug(ctx, lc)
		g.end(ctx, lc, call.CauseNormal, call.Terminated, endedByDevice)
	}
	return lc, nil
}

// read fills a call from the store.
func (g *Gateway) read(ctx context.Context, lc *liveCall) error {
	c, err := g.store.Call(ctx, lc.ID)
	if err != nil {
		return err
	}
	sessions, err := g.store.SessionsByCall(ctx, lc.ID)
	if err != nil {
		return err
	}
	lc.Call = c
	for _, m := range sessions {
		lc.sessions = append(lc.sessions, &m)
		lc.stored[m.ID] = m
	}
	return nil
}
