package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// tx is one transaction. Insertions that meet an existing key do nothing and say
// so, instead of failing: a failed statement would spoil a transaction of
// PostgreSQL for whatever follows.
//
// It runs in isolation READ COMMITTED, so that it waits for others instead of
// failing, and remembers the versions of what it reads: changing or adding to
// something that has another version by then makes it stale, to be run again.
type tx struct {
	reader
	// queues are written at the end, one after the other in the order of their
	// names, so that transactions never wait for each other crosswise.
	queues map[string]*queueChange
	// committed is called when the transaction is.
	committed []func()
	stale     bool
}

// queueChange is what a transaction does to the queue of a subscription.
type queueChange struct {
	events []call.Event
	// changes of the subscription itself.
	changes int64
}

func (t *tx) queue(subscriptionID string) *queueChange {
	c := t.queues[subscriptionID]
	if c == nil {
		c = &queueChange{}
		t.queues[subscriptionID] = c
	}
	return c
}

// errStale: another transaction changed what this one has read.
var errStale = errors.New("changed by another transaction meanwhile")

// version that was read, -1 for none.
func (t *tx) version(place string) int64 {
	if v, ok := t.memory.seen[place]; ok {
		return v
	}
	return -1
}

// update is the end of an update of one row: it tells a row that is missing from
// one that was changed since it was read.
func (t *tx) update(rows int64, err error, place, what, id string) error {
	_, read := t.memory.seen[place]
	switch {
	case err == nil && rows == 0 && read:
		t.stale = true
		return fmt.Errorf("change %s %s: %w", what, id, errStale)
	case err == nil && read:
		t.memory.seen[place]++
	}
	return changed(rows, err, what, id)
}

// inserted answers ErrConflict when an insertion did nothing.
func inserted(rows int64, err error, what, id string) error {
	switch {
	case err != nil:
		return fmt.Errorf("insert %s %s: %w", what, id, err)
	case rows == 0:
		return fmt.Errorf("insert %s %s: %w", what, id, gateway.ErrConflict)
	}
	return nil
}

// changed answers ErrNotFound when there was nothing to change.
func changed(rows int64, err error, what, id string) error {
	switch {
	case err != nil:
		return fmt.Errorf("change %s %s: %w", what, id, err)
	case rows == 0:
		return fmt.Errorf("change %s %s: %w", what, id, gateway.ErrNotFound)
	}
	return nil
}

func (t *tx) InsertRegistration(ctx context.Context, r call.Registration) error {
	n, err := t.q.InsertRegistration(ctx, queries.InsertRegistrationParams{
		Tenant: r.Owner.Tenant, ID: r.ID, Issuer: r.Owner.Issuer, ClientID: r.Owner.ClientID, Subject: string(r.Owner.Subject),
		DeviceID: r.DeviceID, CreatedAt: micros(r.CreatedAt), ExpiresAt: micros(r.ExpiresAt),
	})
	return inserted(n, err, "registration", r.ID)
}

func (t *tx) UpdateRegistration(ctx context.Context, r call.Registration) error {
	where := registrationPlace(r.Owner.Tenant, r.ID)
	n, err := t.q.UpdateRegistration(ctx, queries.UpdateRegistrationParams{
		Issuer: r.Owner.Issuer, ClientID: r.Owner.ClientID, Subject: string(r.Owner.Subject), DeviceID: r.DeviceID,
		ExpiresAt: micros(r.ExpiresAt), Tenant: r.Owner.Tenant, ID: r.ID, Seen: t.version(where),
	})
	return t.update(n, err, where, "registration", r.ID)
}

func (t *tx) DeleteRegistration(ctx context.Context, tenant, id string) error {
	n, err := t.q.DeleteRegistration(ctx, tenant, id)
	return changed(n, err, "registration", id)
}

func (t *tx) InsertSession(ctx context.Context, m call.MediaSession) error {
	data, err := sealJSON(t.seal, m, sessionPlace(m.Owner.Tenant, m.ID))
	if err != nil {
		return err
	}
	n, err := t.q.InsertSession(ctx, queries.InsertSessionParams{
		Tenant: m.Owner.Tenant, ID: m.ID, Issuer: m.Owner.Issuer, ClientID: m.Owner.ClientID, Subject: string(m.Owner.Subject),
		CallID: m.CallID, RegistrationID: m.RegistrationID, ClientCorrelator: m.ClientCorrelator,
		Version: m.Version, CreatedAt: micros(m.CreatedAt), EndedAt: micros(m.EndedAt), Data: data,
	})
	return inserted(n, err, "media session", m.ID)
}

func (t *tx) UpdateSession(ctx context.Context, m *call.MediaSession) error {
	where := sessionPlace(m.Owner.Tenant, m.ID)
	data, err := sealJSON(t.seal, *m, where)
	if err != nil {
		return err
	}
	n, err := t.q.UpdateSession(ctx, queries.UpdateSessionParams{
		CallID: m.CallID, RegistrationID: m.RegistrationID, ClientCorrelator: m.ClientCorrelator, EndedAt: micros(m.EndedAt),
		Data: data, Tenant: m.Owner.Tenant, ID: m.ID, Version: m.Version,
	})
	if err != nil {
		return fmt.Errorf("change media session %s: %w", m.ID, err)
	}
	if n == 0 {
		if t.version(where) == m.Version {
			return t.update(n, err, where, "media session", m.ID)
		}
		if _, err := t.Session(ctx, m.Owner.Tenant, m.ID); err != nil {
			return err
		}
		return fmt.Errorf("media session %s is not in version %d any more: %w", m.ID, m.Version, gateway.ErrConflict)
	}
	m.Version++
	t.saw(where, m.Version)
	return nil
}

func (t *tx) DeleteSessionsEndedBefore(ctx context.Context, at time.Time) error {
	if err := t.q.DeleteSessionsEndedBefore(ctx, micros(at)); err != nil {
		return fmt.Errorf("forget old media sessions: %w", err)
	}
	return nil
}

func (t *tx) InsertCall(ctx context.Context, c gateway.Call) error {
	data, err := sealJSON(t.seal, c, callPlace(c.Tenant, c.ID))
	if err != nil {
		return err
	}
	n, err := t.q.InsertCall(ctx, queries.InsertCallParams{
		Tenant: c.Tenant, ID: c.ID, SIPCallID: c.Dialog.SIPCallID, LocalTag: c.Dialog.LocalTag, CreatedAt: micros(c.CreatedAt), Data: data,
	})
	return inserted(n, err, "call", c.ID)
}

func (t *tx) UpdateCall(ctx context.Context, c gateway.Call) error {
	where := callPlace(c.Tenant, c.ID)
	data, err := sealJSON(t.seal, c, where)
	if err != nil {
		return err
	}
	n, err := t.q.UpdateCall(ctx, queries.UpdateCallParams{
		SIPCallID: c.Dialog.SIPCallID, LocalTag: c.Dialog.LocalTag, Data: data, Tenant: c.Tenant, ID: c.ID, Seen: t.version(where),
	})
	return t.update(n, err, where, "call", c.ID)
}

func (t *tx) DeleteCall(ctx context.Context, id string) error {
	n, err := t.q.DeleteCall(ctx, id)
	return changed(n, err, "call", id)
}

// endsAt is the column by which subscriptions are found that end by themselves.
func endsAt(s call.Subscription) int64 {
	if s.State != call.SubscriptionActive {
		return 0
	}
	at, _ := s.EndsAt()
	return microsUp(at)
}

func active(s call.Subscription) int64 {
	if s.State == call.SubscriptionActive {
		return 1
	}
	return 0
}

func (t *tx) InsertSubscription(ctx context.Context, s call.Subscription) error {
	data, err := sealJSON(t.seal, s, subscriptionPlace(s.Owner.Tenant, s.ID))
	if err != nil {
		return err
	}
	n, err := t.q.InsertSubscription(ctx, queries.InsertSubscriptionParams{
		Tenant: s.Owner.Tenant, ID: s.ID, Issuer: s.Owner.Issuer, ClientID: s.Owner.ClientID, Subject: string(s.Owner.Subject),
		DeviceID: s.DeviceID, RegistrationID: s.RegistrationID, CreatedAt: micros(s.StartsAt),
		EndsAt: endsAt(s), Active: active(s), Data: data,
	})
	if err = inserted(n, err, "subscription", s.ID); err != nil {
		return err
	}
	if err := t.q.InsertQueue(ctx, s.Owner.Tenant, s.ID); err != nil {
		return fmt.Errorf("make the queue of subscription %s: %w", s.ID, err)
	}
	t.saw(subscriptionPlace(s.Owner.Tenant, s.ID), 0)
	t.memory.subscriptions[s.ID] = s
	return nil
}

func (t *tx) UpdateSubscription(ctx context.Context, s call.Subscription) error {
	where := subscriptionPlace(s.Owner.Tenant, s.ID)
	data, err := sealJSON(t.seal, s, where)
	if err != nil {
		return err
	}
	n, err := t.q.UpdateSubscription(ctx, queries.UpdateSubscriptionParams{
		DeviceID: s.DeviceID, RegistrationID: s.RegistrationID, EndsAt: endsAt(s), Active: active(s), Data: data,
		Tenant: s.Owner.Tenant, ID: s.ID, Seen: t.version(where),
	})
	if err := t.update(n, err, where, "subscription", s.ID); err != nil {
		return err
	}
	t.queue(s.ID).changes++
	t.memory.subscriptions[s.ID] = s
	return nil
}

func (t *tx) DeleteSubscriptionsEndedBefore(ctx context.Context, at time.Time) error {
	gone, err := t.q.DeleteSubscriptionsEndedBefore(ctx, micros(at))
	for _, s := range gone {
		err = errors.Join(err, t.q.DeleteQueue(ctx, s.Tenant, s.ID))
	}
	if err != nil {
		return fmt.Errorf("forget old subscriptions: %w", err)
	}
	return nil
}

func (t *tx) Enqueue(_ context.Context, subscriptionID string, e call.Event) error {
	q := t.queue(subscriptionID)
	q.events = append(q.events, e)
	return nil
}

func (t *tx) LockOwner(ctx context.Context, o call.Owner) error {
	err := t.q.LockOwner(ctx, queries.LockOwnerParams{
		Tenant: o.Tenant, Issuer: o.Issuer, ClientID: o.ClientID, Subject: string(o.Subject),
	})
	if err != nil {
		return fmt.Errorf("lock owner %s of client %s: %w", o.Subject, o.ClientID, err)
	}
	return nil
}
