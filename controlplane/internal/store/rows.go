package store

import (
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// micros is the stored form of a time, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// microsUp rounds up, so that what ends then has ended for whoever compares with
// the exact time.
func microsUp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Microsecond - 1).UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func (r reader) registration(row queries.Registration) (call.Registration, error) {
	r.saw(registrationPlace(row.Tenant, row.ID), row.Version)
	return call.Registration{
		ID: row.ID,
		Owner: call.Owner{
			Tenant: row.Tenant, Issuer: row.Issuer, ClientID: row.ClientID, Subject: call.Number(row.Subject),
		},
		DeviceID:  row.DeviceID,
		CreatedAt: fromMicros(row.CreatedAt),
		ExpiresAt: fromMicros(row.ExpiresAt),
	}, nil
}

func registrationPlace(tenant, id string) string { return place("registrations", tenant, id) }
func sessionPlace(tenant, id string) string      { return place("media_sessions", tenant, id) }
func callPlace(tenant, id string) string         { return place("calls", tenant, id) }
func subscriptionPlace(tenant, id string) string { return place("subscriptions", tenant, id) }

func (r reader) session(row queries.MediaSession) (call.MediaSession, error) {
	where := sessionPlace(row.Tenant, row.ID)
	r.saw(where, row.Version)
	m, err := openJSON[call.MediaSession](r.seal, row.Data, where)
	m.Version = row.Version
	return m, err
}

func (r reader) call(row queries.Call) (gateway.Call, error) {
	where := callPlace(row.Tenant, row.ID)
	r.saw(where, row.Version)
	return openJSON[gateway.Call](r.seal, row.Data, where)
}

func (r reader) subscription(row queries.Subscription) (call.Subscription, error) {
	where := subscriptionPlace(row.Tenant, row.ID)
	r.saw(where, row.Version)
	s, err := openJSON[call.Subscription](r.seal, row.Data, where)
	if err == nil && r.memory != nil {
		r.memory.subscriptions[s.ID] = s
	}
	return s, err
}
