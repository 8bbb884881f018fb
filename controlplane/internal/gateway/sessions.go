package gateway

import (
	"context"
	"errors"

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
// store if need be, and locks it. A session whose call is gone is answered
// without it; one that is over may come with its call or without.
func (g *Gateway) lockSession(ctx context.Context, p Principal, id string) (*liveCall, *call.MediaSession, error) {
	stored, err := g.Session(ctx, p, id)
	if err != nil {
		return nil, nil, err
	}
	lc := g.find(stored.CallID)
	if lc == nil && !stored.Status.Final() {
		if lc, err = g.adopt(ctx, stored.CallID); err != nil {
			return nil, nil, err
		}
	}
	if lc != nil {
		lc.mu.Lock()
		// A call that the store has not taken yet has no session to show.
		if m := lc.session(id); m != nil && lc.stored[id].ID != "" {
			return lc, m, nil
		}
		lc.mu.Unlock()
	}
	stored, err = g.Session(ctx, p, id)
	return nil, &stored, err
}

// UpdateSession does what a device asks of its session: answer, ring, hold,
// resume, or renew its description. What it answers shows Resume where that was
// asked for, though the session is Connected from then on.
func (g *Gateway) UpdateSession(ctx context.Context, p Principal, id string, r StatusRequest) (call.MediaSession, error) {
	lc, m, err := g.lockSession(ctx, p, id)
	if err != nil {
		return call.MediaSession{}, err
	}
	if lc != nil {
		defer lc.mu.Unlock()
	}
	switch {
	case r.Status != "" && !r.Status.Requestable():
		return call.MediaSession{}, call.Errorf(call.InvalidArgument, "status %s cannot be requested", r.Status)
	case lc == nil || m.Status.Final():
		return call.MediaSession{}, call.Errorf(call.IncompatibleState, "the session is over: %s", m.Status)
	case lc.leaving:
		return call.MediaSession{}, call.Errorf(call.IncompatibleState, "the session is ending")
	}
	if r.Status == "" {
		r.Status = m.Status
	}
	repeats := r.Status == m.Status && r.Offer == "" && (r.Answer == "" || r.Answer == m.Answer)
	if r.Status == call.Hold && !lc.LocalHold {
		// On hold by the far end is not yet what is asked for.
		repeats = false
	}
	if m.Status.Answered() && !r.Status.Answered() {
		return call.MediaSession{}, call.Errorf(call.IncompatibleState, "a session that is %s cannot become %s", m.Status, r.Status)
	}
	if lc.Reoffered && r.Answer != "" && r.Offer == "" && r.Status == m.Status {
		err := g.takeReofferAnswer(ctx, lc, m, r.Answer)
		return *m, err
	}
	if !repeats && m.Status.Answered() && r.Status != call.Connected {
		// Waits for the far end, and not under the lock.
		lc.mu.Unlock()
		shown, err := g.hold(ctx, lc, m, r)
		lc.mu.Lock()
		return shown, err
	}
	before := m.Location
	if r.Location != nil {
		m.Location = r.Location
	}
	switch {
	case repeats:
		err = g.save(ctx, lc)
	case m.Status.Answered():
		err = g.renew(ctx, lc, m, r)
	case m.Direction == call.Termination:
		err = g.progressIncoming(ctx, lc, m, r)
	case (r.Status == call.InProgress || r.Status == m.Status) && r.Offer != "":
		err = g.reofferEarly(ctx, lc, m, r)
	default:
		err = call.Errorf(call.IncompatibleState, "a session that is %s cannot become %s", m.Status, r.Status)
	}
	if err != nil {
		if !m.Status.Final() {
			m.Location = before
		}
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
	if m.Status.Final() {
		return g.save(ctx, lc)
	}
	g.hangUp(ctx, lc, m)
	return nil
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
