package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Session answers a media session that p may see: one that lives, or ended a
// short while ago.
func (g *Gateway) Session(ctx context.Context, p Principal, id string) (call.MediaSession, error) {
	m, err := g.store.Session(ctx, p.Owner.Tenant, id)
	if errors.Is(err, ErrNotFound) || err == nil && !g.visible(p, m) {
		return call.MediaSession{}, call.Errorf(call.NotFound, "there is no such media session")
	}
	return m, err
}

func (g *Gateway) visible(p Principal, m call.MediaSession) bool {
	if !p.Owner.MayUse(m.Owner) || m.Released {
		return false
	}
	return !m.Status.Final() || g.now().Before(m.EndedAt.Add(g.config.EndedRetention))
}

// lockSession finds the call of a session that p may see, takes it over from the
// store if need be, and locks it. A session that is over is answered without
// its call.
func (g *Gateway) lockSession(ctx context.Context, p Principal, id string) (*liveCall, *call.MediaSession, error) {
	stored, err := g.Session(ctx, p, id)
	if err != nil {
		return nil, nil, err
	}
	if stored.Status.Final() {
		return nil, &stored, nil
	}
	lc, ok := g.lock(stored.CallID)
	if !ok {
		c, err := g.store.Call(ctx, stored.CallID)
		if errors.Is(err, ErrNotFound) {
			stored, err = g.Session(ctx, p, id)
			return nil, &stored, err
		}
		if err != nil {
			return nil, nil, err
		}
		if _, err = g.adopt(ctx, c); err != nil {
			return nil, nil, err
		}
		if lc, ok = g.lock(c.ID); !ok {
			stored, err = g.Session(ctx, p, id)
			return nil, &stored, err
		}
	}
	m := lc.session(id)
	if m == nil || m.Status.Final() {
		lc.mu.Unlock()
		return nil, &stored, nil
	}
	return lc, m, nil
}

// UpdateSession does what a device asks of its session: answer, ring, hold,
// resume, or renew its description. What it answers shows Resume where that was
// asked for, though the session is Connected from then on.
func (g *Gateway) UpdateSession(ctx context.Context, p Principal, id string, r StatusRequest) (call.MediaSession, error) {
	lc, m, err := g.lockSession(ctx, p, id)
	if err != nil {
		return call.MediaSession{}, err
	}
	if r.Status != "" && !r.Status.Requestable() {
		if lc != nil {
			lc.mu.Unlock()
		}
		return call.MediaSession{}, call.Errorf(call.InvalidArgument, "status %s cannot be requested", r.Status)
	}
	if lc == nil {
		return call.MediaSession{}, call.Errorf(call.IncompatibleState, "the session is over: %s", m.Status)
	}
	if r.Status == "" {
		r.Status = m.Status
	}
	if r.Location != nil {
		m.Location = r.Location
	}
	repeats := r.Status == m.Status && r.Offer == "" && (r.Answer == "" || r.Answer == m.Answer)
	if r.Status == call.Hold && !lc.LocalHold {
		// On hold by the far end is not yet what is asked for.
		repeats = false
	}
	if !repeats && m.Status.Answered() && r.Status != call.Connected {
		// Waits for the far end, so it locks for itself.
		lc.mu.Unlock()
		return g.hold(ctx, lc, m, r)
	}
	defer lc.mu.Unlock()
	switch {
	case repeats:
		err = g.save(ctx, lc)
	case m.Status.Answered() && r.Status == call.Connected:
		err = g.renew(ctx, lc, m, r)
	case m.Status.SettingUp() && m.Direction == call.Termination:
		err = g.progressIncoming(ctx, lc, m, r)
	case m.Status.SettingUp() && (r.Status == call.InProgress || r.Status == m.Status) && r.Offer != "":
		err = g.reofferEarly(ctx, lc, m, r)
	default:
		err = call.Errorf(call.IncompatibleState, "a session that is %s cannot become %s", m.Status, r.Status)
	}
	if err != nil {
		return call.MediaSession{}, err
	}
	return *m, nil
}

// EndSession ends a session at its device's wish, by what its state asks for.
// The device sees it no more; the end is still told by an event.
func (g *Gateway) EndSession(ctx context.Context, p Principal, id string) error {
	lc, m, err := g.lockSession(ctx, p, id)
	if err != nil {
		return err
	}
	if lc == nil {
		return g.release(ctx, *m)
	}
	defer lc.mu.Unlock()
	m.Released = true
	return g.hangUp(ctx, lc, m, "ended by the device")
}

// release hides a session that was over already.
func (g *Gateway) release(ctx context.Context, m call.MediaSession) error {
	m.Released = true
	err := g.store.Update(ctx, func(tx Tx) error {
		now := m
		return tx.UpdateSession(ctx, &now)
	})
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// hangUp ends one device's part in a call.
func (g *Gateway) hangUp(ctx context.Context, lc *liveCall, m *call.MediaSession, reason string) error {
	switch {
	case m.Status.Answered():
		g.media.Remove(ctx, lc.Media)
		if err := g.save(ctx, lc); err != nil {
			return err
		}
		g.end(ctx, lc, call.CauseNormal, call.Terminated, reason)
		return nil
	case m.Direction == call.Termination:
		return g.declineIncoming(ctx, lc, m)
	}
	lc.cancelled = true
	if err := g.save(ctx, lc); err != nil {
		return err
	}
	err := g.network.End(ctx, lc.ID, call.CauseNormal)
	if errors.Is(err, ErrNoDialog) {
		// Nothing was sent yet, or nothing is left of it.
		g.finish(ctx, lc, call.SessionCancelled, reason)
		return nil
	}
	if err != nil {
		g.log.Error("cancel a call", "call", lc.ID, "error", err)
		g.finish(ctx, lc, call.SessionCancelled, reason)
	}
	return nil
}

// endSessionsOf ends all that a registration's device takes part in.
func (g *Gateway) endSessionsOf(ctx context.Context, registrationID string) {
	sessions, err := g.store.LiveSessionsByRegistration(ctx, registrationID)
	if err != nil {
		g.log.Error("list the sessions of a registration", "registration", registrationID, "error", err)
		return
	}
	for _, s := range sessions {
		if s.CallType == call.Emergency {
			continue
		}
		p := Principal{Owner: s.Owner}
		lc, m, err := g.lockSession(ctx, p, s.ID)
		if err != nil || lc == nil {
			continue
		}
		if err := g.hangUp(ctx, lc, m, "the registration has ended"); err != nil {
			g.log.Error("end a session with its registration", "session", s.ID, "error", err)
		}
		lc.mu.Unlock()
	}
}

// endAll ends every call and waits until they are over or ctx is done.
func (g *Gateway) endAll(ctx context.Context) {
	for _, lc := range g.held() {
		lc.mu.Lock()
		if !lc.over {
			g.end(ctx, lc, call.CauseShutdown, call.Failed, "the gateway is shutting down")
		}
		lc.mu.Unlock()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(g.held()) > 0 {
		select {
		case <-ctx.Done():
			for _, lc := range g.held() {
				lc.mu.Lock()
				g.finish(context.WithoutCancel(ctx), lc, call.Failed, "the gateway is shutting down")
				lc.mu.Unlock()
			}
			return
		case <-tick.C:
		}
	}
}
