package gateway

import (
	"context"
	"errors"
	"slices"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Subscribe asks for events of a device. The device need not be registered yet.
func (g *Gateway) Subscribe(ctx context.Context, p Principal, r SubscribeRequest) (call.Subscription, error) {
	if err := g.sinks.Check(ctx, r.Sink.URL); err != nil {
		return call.Subscription{}, &call.Error{Code: call.InvalidSink, Message: err.Error(), Err: err}
	}
	now := g.now()
	if !r.Sink.AccessTokenExpires.IsZero() && !now.Before(r.Sink.AccessTokenExpires) {
		return call.Subscription{}, call.Errorf(call.InvalidCredential, "sinkCredential.accessTokenExpiresUtc is in the past")
	}
	expires, err := g.config.Subscriptions.lifetimes().Expiry(now, r.Expires, call.RefuseBelow)
	if err != nil {
		return call.Subscription{}, err
	}
	s := call.Subscription{
		ID: newID(), Owner: p.Owner, DeviceID: r.DeviceID, RegistrationID: r.RegistrationID, SessionID: r.SessionID,
		Types: r.Types, Sink: r.Sink, Generation: r.Generation, Echo: r.Echo,
		RequestedExpiry: r.Expires, MaxEvents: r.MaxEvents, InitialEvent: r.InitialEvent,
		State: call.SubscriptionActive, StartsAt: now, ExpiresAt: expires,
	}
	err = g.store.Update(ctx, func(tx Tx) error {
		if err := tx.LockOwner(ctx, p.Owner); err != nil {
			return err
		}
		if err := g.checkBinding(ctx, tx, p, &s); err != nil {
			return err
		}
		have, err := tx.Subscriptions(ctx, p.Owner)
		if err != nil {
			return err
		}
		// An application's own token sees those of its subscribers as well.
		have = slices.DeleteFunc(have, func(s call.Subscription) bool { return s.Owner != p.Owner })
		if len(have) >= g.config.Limits.Subscriptions {
			return call.Errorf(call.QuotaExceeded, "there are already %d subscriptions, which is the limit", len(have))
		}
		return tx.InsertSubscription(ctx, s)
	})
	g.wake()
	return s, err
}

// checkBinding holds a subscription against the registration and session that it
// names (r2.2), and takes the device from the registration when it names none.
func (g *Gateway) checkBinding(ctx context.Context, tx Tx, p Principal, s *call.Subscription) error {
	mismatch := call.Errorf(call.SubscriptionMismatch, "the subscription names a registration or session that this access token cannot use")
	if s.RegistrationID != "" {
		r, err := tx.Registration(ctx, p.Owner.Tenant, s.RegistrationID)
		if errors.Is(err, ErrNotFound) || err == nil && (!p.Owner.MayUse(r.Owner) || r.Expired(g.now())) {
			return mismatch
		}
		if err != nil {
			return err
		}
		if s.DeviceID != "" && s.DeviceID != r.DeviceID {
			return call.Errorf(call.InvalidArgument, "deviceId is not that of the registration")
		}
		s.DeviceID = r.DeviceID
	}
	if s.SessionID != "" {
		m, err := tx.Session(ctx, p.Owner.Tenant, s.SessionID)
		if errors.Is(err, ErrNotFound) || err == nil && !p.Owner.MayUse(m.Owner) {
			return mismatch
		}
		return err
	}
	return nil
}

// Subscription answers an active subscription that p may see.
func (g *Gateway) Subscription(ctx context.Context, p Principal, id string) (call.Subscription, error) {
	return g.activeSubscription(ctx, g.store, p, id)
}

func (g *Gateway) activeSubscription(ctx context.Context, from Reader, p Principal, id string) (call.Subscription, error) {
	s, err := from.Subscription(ctx, p.Owner.Tenant, id)
	if errors.Is(err, ErrNotFound) || err == nil && (!p.Owner.MayUse(s.Owner) || s.State != call.SubscriptionActive) {
		return call.Subscription{}, call.Errorf(call.NotFound, "there is no such subscription")
	}
	return s, err
}

// Subscriptions lists the active subscriptions that p may see.
func (g *Gateway) Subscriptions(ctx context.Context, p Principal) ([]call.Subscription, error) {
	return g.store.Subscriptions(ctx, p.Owner)
}

// UpdateSubscription gives a subscription a new end or a new sink token.
func (g *Gateway) UpdateSubscription(ctx context.Context, p Principal, id string, r UpdateSubscriptionRequest) (call.Subscription, error) {
	now := g.now()
	if r.AccessTokenExpires != nil && !now.Before(*r.AccessTokenExpires) {
		return call.Subscription{}, call.Errorf(call.InvalidCredential, "sinkCredential.accessTokenExpiresUtc is in the past")
	}
	var s call.Subscription
	err := g.store.Update(ctx, func(tx Tx) (err error) {
		if s, err = g.activeSubscription(ctx, tx, p, id); err != nil {
			return err
		}
		if r.Expires != nil {
			s.RequestedExpiry = r.Expires
			if s.ExpiresAt, err = g.config.Subscriptions.lifetimes().Expiry(now, r.Expires, call.RefuseBelow); err != nil {
				return err
			}
		}
		if r.AccessToken != nil {
			s.Sink.AccessToken, s.Sink.AccessTokenSince = *r.AccessToken, now
		}
		if r.AccessTokenExpires != nil {
			s.Sink.AccessTokenExpires = *r.AccessTokenExpires
		}
		return tx.UpdateSubscription(ctx, s)
	})
	g.wake()
	return s, err
}

// Unsubscribe ends a subscription at its owner's wish; its last event says so.
func (g *Gateway) Unsubscribe(ctx context.Context, p Principal, id string) error {
	return g.store.Update(ctx, func(tx Tx) error {
		s, err := g.activeSubscription(ctx, tx, p, id)
		if err != nil {
			return err
		}
		return g.endSubscription(ctx, tx, s, call.SubscriptionDeleted, "The subscription was deleted.", false)
	})
}

// EndSubscription ends a subscription from the gateway's side. A silent end sends
// no last event. It does nothing when the subscription has ended already.
func (g *Gateway) EndSubscription(ctx context.Context, tenant, id string, reason call.EndReason, description string, silent bool) error {
	err := g.store.Update(ctx, func(tx Tx) error {
		s, err := tx.Subscription(ctx, tenant, id)
		if err != nil || s.State != call.SubscriptionActive {
			return err
		}
		return g.endSubscription(ctx, tx, s, reason, description, silent)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// expireSubscription ends a subscription whose time has come, unless it was
// given more in the meantime.
func (g *Gateway) expireSubscription(ctx context.Context, tenant, id string) error {
	err := g.store.Update(ctx, func(tx Tx) error {
		s, err := tx.Subscription(ctx, tenant, id)
		if err != nil || s.State != call.SubscriptionActive {
			return err
		}
		at, reason := s.EndsAt()
		if at.IsZero() || g.now().Before(at) {
			return nil
		}
		description := "The subscription has expired."
		if reason == call.AccessTokenExpired {
			description = "The access token of the sink expires."
		}
		return g.endSubscription(ctx, tx, s, reason, description, false)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
