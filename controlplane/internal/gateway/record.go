package gateway

import (
	"context"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// recordSession enqueues an event about a media session for every subscription
// that wants it, and counts it in the session.
func (g *Gateway) recordSession(ctx context.Context, tx Tx, m *call.MediaSession, t call.EventType, change call.SessionChange) error {
	about := subject{m.Owner, m.DeviceID, m.RegistrationID, m.ID}
	return g.record(ctx, tx, about, t, func(s call.Subscription) call.Event {
		told := change
		told.Sequence = m.Tell(s.ID)
		return call.Event{Session: &told}
	})
}

// recordEnd enqueues the event of a registration's end.
func (g *Gateway) recordEnd(ctx context.Context, tx Tx, r call.Registration, end *call.RegistrationEnd) error {
	about := subject{r.Owner, r.DeviceID, r.ID, ""}
	return g.record(ctx, tx, about, call.RegistrationEnds, func(call.Subscription) call.Event {
		return call.Event{Registration: end}
	})
}

// subject is what an event is about.
type subject struct {
	owner                         call.Owner
	device, registration, session string
}

// record enqueues an event for every subscription that wants it. The last event
// that a subscription may get is followed by its end.
func (g *Gateway) record(ctx context.Context, tx Tx, about subject, t call.EventType, event func(call.Subscription) call.Event) error {
	subscriptions, err := tx.SubscriptionsFor(ctx, about.owner, about.device)
	if err != nil {
		return err
	}
	now := g.now()
	for _, s := range subscriptions {
		if !s.Wants(t, about.device, about.owner, about.registration, about.session) {
			continue
		}
		e := event(s)
		e.ID, e.Type, e.Time = newID(), t, now
		if err := tx.Enqueue(ctx, s.ID, e); err != nil {
			return err
		}
		g.metrics.events.WithLabelValues(string(t)).Inc()
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
