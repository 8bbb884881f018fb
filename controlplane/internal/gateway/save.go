package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	record, err := json.Marshal(lc.Call)
	if err != nil {
		return fmt.Errorf("encode call %s: %w", lc.ID, err)
	}
	changed := !bytes.Equal(record, lc.record)
	var written []call.MediaSession
	err = g.store.Update(ctx, func(tx Tx) (err error) {
		if allowed != nil {
			if err := allowed(ctx, tx); err != nil {
				return err
			}
		}
		if err := saveRecord(ctx, tx, lc, changed); err != nil {
			return err
		}
		sessions := make([]call.MediaSession, len(lc.sessions))
		for i, m := range lc.sessions {
			sessions[i] = *m
		}
		for _, n := range lc.pending {
			m := &sessions[slices.Index(lc.sessions, n.session)]
			if err := g.recordSession(ctx, tx, m, n.kind, n.change); err != nil {
				return err
			}
		}
		written, err = saveSessions(ctx, tx, sessions, lc.stored)
		return err
	})
	if err != nil {
		return err
	}
	lc.inserted, lc.record, lc.pending = true, record, nil
	for _, now := range written {
		m := lc.session(now.ID)
		m.Version, m.Told = now.Version, now.Told
		lc.stored[now.ID] = now
	}
	return nil
}

// saveSessions writes the sessions that are not as the store has them, and
// answers them as it has them then.
func saveSessions(ctx context.Context, tx Tx, sessions []call.MediaSession, stored map[string]call.MediaSession) (written []call.MediaSession, err error) {
	for _, m := range sessions {
		before, known := stored[m.ID]
		if known && before == m {
			continue
		}
		if known {
			err = tx.UpdateSession(ctx, &m)
		} else {
			err = tx.InsertSession(ctx, m)
		}
		if known && before.Status.Final() && errors.Is(err, ErrNotFound) {
			// Over for so long that it was forgotten, while its call goes on.
			err = nil
		}
		if err != nil {
			return nil, err
		}
		written = append(written, m)
	}
	return written, nil
}

func saveRecord(ctx context.Context, tx Tx, lc *liveCall, changed bool) error {
	switch {
	case lc.over && lc.inserted:
		err := tx.DeleteCall(ctx, lc.ID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	case lc.over:
		return nil
	case !lc.inserted:
		return tx.InsertCall(ctx, lc.Call)
	case changed:
		return tx.UpdateCall(ctx, lc.Call)
	}
	return nil
}
