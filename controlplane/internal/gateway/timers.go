package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// idle bounds how long Run sleeps: another process may have made what ends
// earlier than anything known here. pause follows a failure.
const (
	idle  = 10 * time.Second
	pause = time.Second
)

// runTimers ends registrations and subscriptions at their moment and forgets
// ended sessions.
func (g *Gateway) runTimers(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-g.poke:
		case <-timer.C:
			err = g.endDue(ctx)
		}
		wait := pause
		if err == nil {
			wait, err = g.untilNextEnd(ctx)
		}
		if err != nil && ctx.Err() == nil {
			g.log.Error("end what is due", "error", err)
		}
		timer.Reset(wait)
	}
}

func (g *Gateway) untilNextEnd(ctx context.Context) (time.Duration, error) {
	next, err := g.store.NextEnd(ctx)
	switch {
	case err != nil:
		return pause, err
	case next.IsZero():
		return idle, nil
	}
	return min(max(next.Sub(g.now()), 10*time.Millisecond), idle), nil
}

// endDue ends everything that is due, in bounded steps. What cannot be ended does
// not hold up the rest.
func (g *Gateway) endDue(ctx context.Context) error {
	const batch = 100
	now := g.now()
	registrations, err := g.store.RegistrationsEnding(ctx, now, batch)
	failed := []error{err}
	for _, r := range registrations {
		err := g.endRegistration(ctx, r, call.RegistrationExpired, "The registration has expired.")
		if !errors.Is(err, ErrNotFound) {
			failed = append(failed, err)
		}
	}
	subscriptions, err := g.store.SubscriptionsEnding(ctx, now, batch)
	failed = append(failed, err)
	for _, s := range subscriptions {
		failed = append(failed, g.expireSubscription(ctx, s.Owner.Tenant, s.ID))
	}
	return errors.Join(append(failed, g.store.Update(ctx, func(tx Tx) error {
		old := now.Add(-g.config.EndedRetention)
		if err := tx.DeleteSessionsEndedBefore(ctx, old); err != nil {
			return err
		}
		return tx.DeleteSubscriptionsEndedBefore(ctx, old)
	}))...)
}
