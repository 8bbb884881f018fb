package gateway

import (
	"context"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// recordSession enqueues an event about a media session for every subscription
// that wants it.
func (g *Gateway) recordSession(ctx context.Context, tx Tx, m *call.MediaSession, t call.EventType, change call.SessionChange) error {
	return g.record(ctx, tx, m.Owner, m.DeviceID, m.RegistrationID, m.ID, call.Event{Type: t, Session: &change})
}

// record enqueues one event for every subscription that wants it. The last event
// that a subscription may get is followed by its end.
func (g *Gateway) record(ctx context.Context, tx Tx, owner call.Owner, device, registration, session string, e call.Event) error {
	subscriptions, err := tx.SubscriptionsFor(ctx, owner, device)
	if err != nil {
		return err
	}
	e.Time = g.now()
	for _, s := range subscriptions {
		if !s.Wants(e.Type, device, owner, registration, session) {
			continue
		}
		e.ID = newID()
		if e.Session != nil {
			change := *e.Session
			if change.Sequence, err = tx.NextSequence(ctx, session, s.ID); err != nil {
				return err
			}
			e.Session = &change
		}
		if err := tx.Enqueue(ctx, s.ID, e); err != nil {
			return err
		}
		g.metrics.events.WithLabelValues(string(e.Type)).Inc()
		if s.MaxEvents == 0 {
			continue
		}
		s.Sent++
		if s.Sent < s.MaxEvents {
			err = tx.UpdateSubscription(ctx, s)
		} else {
			err = g.endSubscription(ctx, tx, s, call.MaxEventsReached, "The requested number of events has been sent.", false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endSubscription makes a subscription inactive and, unless silent, enqueues its
// last event. Its queue is still delivered.
func (g *Gateway) endSubscription(ctx context.Context, tx Tx, s call.Subscription, reason call.EndReason, description string, silent bool) error {
	s.State = call.SubscriptionOver
	if reason == call.SubscriptionDeleted {
		s.State = call.SubscriptionGone
	}
	now := g.now()
	if s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt) {
		s.ExpiresAt = now
	}
	if err := tx.UpdateSubscription(ctx, s); err != nil {
		return err
	}
	if silent {
		return nil
	}
	g.metrics.events.WithLabelValues(string(call.SubscriptionEnded)).Inc()
	return tx.Enqueue(ctx, s.ID, call.Event{
		ID: newID(), Type: call.SubscriptionEnded, Time: now,
		Subscription: &call.SubscriptionStop{Reason: reason, Description: description},
	})
}
