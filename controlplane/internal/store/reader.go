package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// reader finds things, in a transaction or outside.
type reader struct {
	q    *queries.Queries
	seal *sealer
	// memory of a transaction; nil outside of one.
	memory *memory
}

// memory is what a transaction knows of what it has read and written.
type memory struct {
	// seen are the versions of rows, by place.
	seen map[string]int64
	// subscriptions as they will be when the transaction commits, by id.
	subscriptions map[string]call.Subscription
}

func newMemory() *memory {
	return &memory{seen: map[string]int64{}, subscriptions: map[string]call.Subscription{}}
}

func (r reader) saw(place string, version int64) {
	if r.memory != nil {
		r.memory.seen[place] = version
	}
}

// Registration finds one by id.
func (r reader) Registration(ctx context.Context, tenant, id string) (call.Registration, error) {
	row, err := r.q.Registration(ctx, tenant, id)
	if err != nil {
		return call.Registration{}, lookup(err, "registration", id)
	}
	return r.registration(row)
}

// RegistrationsByNumber lists the unexpired ones of a number.
func (r reader) RegistrationsByNumber(ctx context.Context, tenant string, number call.Number, now time.Time) ([]call.Registration, error) {
	rows, err := r.q.RegistrationsByNumber(ctx, queries.RegistrationsByNumberParams{
		Tenant: tenant, Subject: string(number), Now: micros(now),
	})
	return each(rows, r.registration, lookup(err, "registrations of", string(number)))
}

// RegistrationsByDevice lists the unexpired ones of a device that the owner may use.
func (r reader) RegistrationsByDevice(ctx context.Context, owner call.Owner, deviceID string, now time.Time) ([]call.Registration, error) {
	rows, err := r.q.RegistrationsByDevice(ctx, queries.RegistrationsByDeviceParams{
		Tenant: owner.Tenant, DeviceID: deviceID, Issuer: owner.Issuer, ClientID: owner.ClientID, Now: micros(now),
	})
	list, err := each(rows, r.registration, lookup(err, "registrations of device", deviceID))
	return slices.DeleteFunc(list, func(g call.Registration) bool { return !owner.MayUse(g.Owner) }), err
}

// RegistrationsEnding lists those that end not after t, earliest first.
func (r reader) RegistrationsEnding(ctx context.Context, t time.Time, limit int) ([]call.Registration, error) {
	rows, err := r.q.RegistrationsEnding(ctx, micros(t), int32(limit))
	return each(rows, r.registration, lookup(err, "registrations", "ending"))
}

// RegistrationsAlive lists the unexpired ones.
func (r reader) RegistrationsAlive(ctx context.Context, now time.Time) ([]call.Registration, error) {
	rows, err := r.q.RegistrationsAlive(ctx, micros(now))
	return each(rows, r.registration, lookup(err, "registrations", "alive"))
}

// CountRegistrations counts the unexpired ones.
func (r reader) CountRegistrations(ctx context.Context, now time.Time) (int, error) {
	n, err := r.q.CountRegistrations(ctx, micros(now))
	return int(n), lookup(err, "number of", "registrations")
}

// Session finds a media session by id.
func (r reader) Session(ctx context.Context, tenant, id string) (call.MediaSession, error) {
	row, err := r.q.Session(ctx, tenant, id)
	if err != nil {
		return call.MediaSession{}, lookup(err, "media session", id)
	}
	return r.session(row)
}

// SessionsByCall lists the media sessions of a call.
func (r reader) SessionsByCall(ctx context.Context, callID string) ([]call.MediaSession, error) {
	rows, err := r.q.SessionsByCall(ctx, callID)
	return each(rows, r.session, lookup(err, "media sessions of call", callID))
}

// LiveSessionsByRegistration lists those that are not over.
func (r reader) LiveSessionsByRegistration(ctx context.Context, registrationID string) ([]call.MediaSession, error) {
	rows, err := r.q.LiveSessionsByRegistration(ctx, registrationID)
	return each(rows, r.session, lookup(err, "media sessions of registration", registrationID))
}

// SessionByCorrelator finds a live session by the app's own mark.
func (r reader) SessionByCorrelator(ctx context.Context, owner call.Owner, registrationID, correlator string) (call.MediaSession, error) {
	row, err := r.q.SessionByCorrelator(ctx, queries.SessionByCorrelatorParams{
		RegistrationID: registrationID, ClientCorrelator: correlator,
		Tenant: owner.Tenant, Issuer: owner.Issuer, ClientID: owner.ClientID, Subject: string(owner.Subject),
	})
	if err != nil {
		return call.MediaSession{}, lookup(err, "media session with correlator", correlator)
	}
	return r.session(row)
}

// Call finds a call by id.
func (r reader) Call(ctx context.Context, id string) (gateway.Call, error) {
	row, err := r.q.Call(ctx, id)
	if err != nil {
		return gateway.Call{}, lookup(err, "call", id)
	}
	return r.call(row)
}

// Calls lists all calls.
func (r reader) Calls(ctx context.Context) ([]gateway.Call, error) {
	rows, err := r.q.Calls(ctx)
	return each(rows, r.call, lookup(err, "all", "calls"))
}

// CallByDialog finds a call by its SIP dialog.
func (r reader) CallByDialog(ctx context.Context, sipCallID, localTag string) (gateway.Call, error) {
	row, err := r.q.CallByDialog(ctx, sipCallID, localTag)
	if err != nil {
		return gateway.Call{}, lookup(err, "call with SIP Call-ID", sipCallID)
	}
	return r.call(row)
}

// Subscription finds one by id.
func (r reader) Subscription(ctx context.Context, tenant, id string) (call.Subscription, error) {
	row, err := r.q.Subscription(ctx, tenant, id)
	if err != nil {
		return call.Subscription{}, lookup(err, "subscription", id)
	}
	return r.subscription(row)
}

// Subscriptions lists the active ones that the owner may use.
func (r reader) Subscriptions(ctx context.Context, owner call.Owner) ([]call.Subscription, error) {
	var rows []queries.Subscription
	var err error
	if owner.Subject == "" {
		rows, err = r.q.SubscriptionsOfApplication(ctx, queries.SubscriptionsOfApplicationParams{
			Tenant: owner.Tenant, Issuer: owner.Issuer, ClientID: owner.ClientID,
		})
	} else {
		rows, err = r.q.SubscriptionsOfOwner(ctx, queries.SubscriptionsOfOwnerParams{
			Tenant: owner.Tenant, Issuer: owner.Issuer, ClientID: owner.ClientID, Subject: string(owner.Subject),
		})
	}
	return each(rows, r.subscription, lookup(err, "subscriptions of", owner.ClientID))
}

// SubscriptionsFor lists the active ones that could want an event of a device.
func (r reader) SubscriptionsFor(ctx context.Context, owner call.Owner, deviceID string) ([]call.Subscription, error) {
	rows, err := r.q.SubscriptionsFor(ctx, queries.SubscriptionsForParams{
		Tenant: owner.Tenant, DeviceID: deviceID, ClientID: owner.ClientID, Issuer: owner.Issuer, Subject: string(owner.Subject),
	})
	return each(rows, r.subscription, lookup(err, "subscriptions for device", deviceID))
}

// SubscriptionsByRegistration lists the active ones bound to a registration.
func (r reader) SubscriptionsByRegistration(ctx context.Context, registrationID string) ([]call.Subscription, error) {
	rows, err := r.q.SubscriptionsByRegistration(ctx, registrationID)
	return each(rows, r.subscription, lookup(err, "subscriptions of registration", registrationID))
}

// SubscriptionsEnding lists active ones that end not after t, earliest first.
func (r reader) SubscriptionsEnding(ctx context.Context, t time.Time, limit int) ([]call.Subscription, error) {
	rows, err := r.q.SubscriptionsEnding(ctx, micros(t), int32(limit))
	return each(rows, r.subscription, lookup(err, "subscriptions", "ending"))
}

// NextEnd is the earliest time at which a registration or a subscription ends.
func (r reader) NextEnd(ctx context.Context) (time.Time, error) {
	at, err := r.q.NextEnd(ctx)
	return fromMicros(at), lookup(err, "next", "end")
}

// lookup says what was looked for.
func lookup(err error, what, which string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s %s: %w", what, which, gateway.ErrNotFound)
	}
	return fmt.Errorf("look up %s %s: %w", what, which, err)
}

// each decodes rows, unless finding them failed.
func each[R, T any](rows []R, decode func(R) (T, error), err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	decoded := make([]T, 0, len(rows))
	for _, row := range rows {
		v, err := decode(row)
		if err != nil {
			return nil, err
		}
		decoded = append(decoded, v)
	}
	return decoded, nil
}
