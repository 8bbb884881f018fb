package gateway

import (
	"context"
	"errors"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// save stores the call, its changed sessions and the notices in one transaction.
// Notices that the store does not take are kept and go with the next save, since
// what they tell has happened. So has it when whoever caused it has gone away.
func (g *Gateway) save(ctx context.Context, lc *liveCall, notices ...notice) error {
	err := g.saveIf(ctx, lc, nil, notices...)
	if err != nil {
		g.log.Error("store a call", "call", lc.ID, "error", err)
	}
	return err
}

// saveIf saves if allowed, asked in the same transaction, has no objection.
func (g *Gateway) saveIf(ctx context.Context, lc *liveCall, allowed func(context.Context, Tx) error, notices ...notice) error {
	ctx = context.WithoutCancel(ctx)
	lc.pending = append(lc.pending, notices...)
	var written []call.MediaSession
	err := g.store.Update(ctx, func(tx Tx) (err error) {
		if allowed != nil {
			if err := allowed(ctx, tx); err != nil {
				return err
			}
		}
		if err := g.saveRecord(ctx, tx, lc); err != nil {
			return err
		}
		if written, err = saveSessions(ctx, tx, lc); err != nil {
			return err
		}
		for _, n := range lc.pending {
			if err := g.recordSession(ctx, tx, n.session, n.kind, n.change); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	lc.inserted, lc.pending = true, nil
	for _, now := range written {
		lc.session(now.ID).Version = now.Version
		lc.stored[now.ID] = now
	}
	return nil
}

// saveSessions writes the sessions that are not as the store has them, and
// answers them as it has them then.
func saveSessions(ctx context.Context, tx Tx, lc *liveCall) (written []call.MediaSession, err error) {
	for _, m := range lc.sessions {
		before, known := lc.stored[m.ID]
		if known && before == *m {
			continue
		}
		now := *m
		if known {
			err = tx.UpdateSession(ctx, &now)
		} else {
			err = tx.InsertSession(ctx, now)
		}
		if known && before.Status.Final() && errors.Is(err, ErrNotFound) {
			// Over for so long that it was forgotten, while its call goes on.
			err = nil
		}
		if err != nil {
			return nil, err
		}
		written = append(written, now)
	}
	return written, nil
}

func (g *Gateway) saveRecord(ctx context.Context, tx Tx, lc *liveCall) error {
	switch {
	case lc.over && lc.inserted:
		err := tx.DeleteCall(ctx, lc.ID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	case lc.over:
		return nil
	case lc.inserted:
		return tx.UpdateCall(ctx, lc.Call)
	}
	return tx.InsertCall(ctx, lc.Call)
}
