package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// end makes the network end a call, after which its sessions get the status. A
// call that is being ended already ends as was decided first.
func (g *Gateway) end(ctx context.Context, lc *liveCall, cause call.Cause, status call.Status, reason string) {
	if lc.leaving {
		return
	}
	lc.verdict = &verdict{status, reason}
	if err := g.leave(ctx, lc, cause); err != nil {
		g.finish(ctx, lc, status, reason)
	}
}

// leave asks the network for the end of a call. It answers an error when no end
// will be told.
func (g *Gateway) leave(ctx context.Context, lc *liveCall, cause call.Cause) error {
	lc.leaving = true
	lc.stopWaiting()
	err := g.network.End(context.WithoutCancel(ctx), lc.ID, cause)
	if err != nil && !errors.Is(err, ErrNoDialog) {
		g.log.Error("end a call", "call", lc.ID, "error", err)
	}
	return err
}

// unplug takes a call's media away, for good.
func (g *Gateway) unplug(ctx context.Context, lc *liveCall) {
	if lc.unplugged {
		return
	}
	lc.unplugged = true
	g.media.Remove(ctx, lc.Media)
}

// finish ends a call: every session that lives gets the final status, and the
// media goes. Its callers hold the lock; nothing happens to the call afterwards.
func (g *Gateway) finish(ctx context.Context, lc *liveCall, status call.Status, reason string) {
	if lc.over {
		return
	}
	lc.over = true
	lc.stopWaiting()
	for _, m := range lc.sessions {
		if m.Status.Final() {
			continue
		}
		n := g.endOne(lc, m, status, reason)
		if !lc.silent {
			lc.pending = append(lc.pending, n)
		}
	}
	g.unplug(ctx, lc)
	g.log.Info("call ended", "call", lc.ID, "sip_call_id", lc.Dialog.SIPCallID, "node", lc.Media.Node,
		"status", status, "reason", reason, "duration", g.now().Sub(lc.CreatedAt).Round(time.Millisecond))
	if err := g.save(ctx, lc); err != nil {
		g.finishLater(lc)
		return
	}
	g.drop(lc)
}

// abandon forgets a call that never came into being.
func (g *Gateway) abandon(ctx context.Context, lc *liveCall) {
	lc.over = true
	lc.stopWaiting()
	g.unplug(ctx, lc)
	g.drop(lc)
}

// endOne moves one session to a final status; an answered session can only be
// terminated.
func (g *Gateway) endOne(lc *liveCall, m *call.MediaSession, status call.Status, reason string) notice {
	if m.Status.Answered() || !call.CanFollow(m.Direction, m.Status, status) {
		status = call.Terminated
	}
	if err := m.Move(status, reason, g.now()); err != nil {
		g.log.Error("end a session", "session", m.ID, "error", err)
	}
	g.metrics.sessions.WithLabelValues(string(m.Direction), string(m.Status)).Inc()
	g.trace(lc, ActorGateway, ActorGateway, string(m.Status), reason)
	return statusNotice(m, m.Status, "")
}

// finishLater stores the end of a call as soon as the store can take it again.
func (g *Gateway) finishLater(lc *liveCall) {
	const patience = 10 * time.Minute
	g.later(patience, func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				g.log.Error("gave up storing the end of a call", "call", lc.ID)
				return
			case <-time.After(pause):
			}
			lc.mu.Lock()
			err := g.save(ctx, lc)
			lc.mu.Unlock()
			if err == nil || errors.Is(err, ErrConflict) {
				// On conflict another process has taken the call over.
				g.drop(lc)
				return
			}
		}
	})
}

const endedByDevice = "ended by the device"

// hangUp ends one device's part in a call at its wish. What it asks of the store
// may fail: the call ends all the same, and the end is stored later.
func (g *Gateway) hangUp(ctx context.Context, lc *liveCall, m *call.MediaSession) {
	const reason = endedByDevice
	switch {
	case lc.leaving:
		g.save(ctx, lc)
	case m.Status.Answered():
		g.unplug(ctx, lc)
		g.save(ctx, lc)
		g.end(ctx, lc, call.CauseNormal, call.Terminated, reason)
	case m.Direction == call.Termination:
		g.declineIncoming(ctx, lc, m)
	default:
		// How it ends is up to the far end, whose answer may cross the CANCEL.
		lc.cancelled = true
		g.save(ctx, lc)
		if err := g.leave(ctx, lc, call.CauseNormal); err != nil {
			g.finish(ctx, lc, call.SessionCancelled, reason)
		}
	}
}

// endSessionsOf ends all that a registration's device takes part in, at once:
// nothing that the network still says about it could be told any more.
func (g *Gateway) endSessionsOf(ctx context.Context, registrationID string) {
	const reason = "the registration has ended"
	sessions, err := g.store.LiveSessionsByRegistration(ctx, registrationID)
	if err != nil {
		g.log.Error("list the sessions of a registration", "registration", registrationID, "error", err)
		return
	}
	for _, s := range sessions {
		if isEmergency(s.CallType, s.Receiver) {
			continue
		}
		lc, m, err := g.lockSession(ctx, Principal{Owner: s.Owner}, s.ID)
		if err != nil {
			g.log.Error("end a session with its registration", "session", s.ID, "error", err)
		}
		if lc == nil {
			continue
		}
		switch {
		case m.Status.Final():
		case lc.othersThan(m):
			n := g.endOne(lc, m, call.Terminated, reason)
			g.save(ctx, lc, n)
		default:
			cause := call.CauseNormal
			if m.Direction == call.Termination && !m.Status.Answered() {
				cause = call.CauseNobody
			}
			g.end(ctx, lc, cause, call.Terminated, reason)
			g.finish(ctx, lc, call.Terminated, reason)
		}
		lc.mu.Unlock()
	}
}

// othersThan reports whether sessions beside m are not over.
func (lc *liveCall) othersThan(m *call.MediaSession) bool {
	return slices.ContainsFunc(lc.sessions, func(o *call.MediaSession) bool { return o != m && !o.Status.Final() })
}

// endAll ends every call, or all that no other process could go on with, and
// waits until they are over or ctx is done.
func (g *Gateway) endAll(ctx context.Context, confirmedToo bool) {
	const reason = "the gateway is shutting down"
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// Again and again, for one that came in the last moment.
		left := 0
		for _, lc := range g.held() {
			lc.mu.Lock()
			if !lc.over && (confirmedToo || lc.leaving || !lc.confirmed()) {
				g.end(ctx, lc, call.CauseShutdown, call.Terminated, reason)
				if ctx.Err() != nil {
					g.finish(ctx, lc, call.Terminated, reason)
				}
				left++
			}
			lc.mu.Unlock()
		}
		if left == 0 || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
