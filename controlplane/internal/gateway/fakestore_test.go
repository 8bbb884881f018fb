package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

var errStoreDown = errors.New("the store is down")

// fakeStore is a Store in memory. It keeps what it is given encoded, as a real
// one does, so that nothing is shared with the caller. A transaction works on a
// copy, which replaces the contents if it succeeds.
type fakeStore struct {
	fakeView
	contents atomic.Pointer[fakeRows]
	mu       sync.Mutex
	epoch    uint64
	// down makes transactions fail.
	down bool
	// committed, when set, runs after each transaction and before Update returns.
	committed func()
}

// fakeRows is contents; what is committed is never changed.
type fakeRows struct {
	registrations map[string]call.Registration
	sessions      map[string]string
	calls         map[string]string
	subscriptions map[string]string
	outbox        map[string][]call.Event
}

// fakeView is a Reader of what is committed, or a Tx.
type fakeView struct{ rows func() *fakeRows }

func newFakeStore() *fakeStore {
	s := &fakeStore{}
	s.contents.Store(&fakeRows{
		registrations: map[string]call.Registration{}, sessions: map[string]string{}, calls: map[string]string{},
		subscriptions: map[string]string{}, outbox: map[string][]call.Event{},
	})
	s.fakeView = fakeView{s.contents.Load}
	return s
}

func (r *fakeRows) clone() *fakeRows {
	return &fakeRows{
		registrations: maps.Clone(r.registrations), sessions: maps.Clone(r.sessions), calls: maps.Clone(r.calls),
		subscriptions: maps.Clone(r.subscriptions), outbox: maps.Clone(r.outbox),
	}
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func decode[T any](s string) (v T) {
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		panic(err)
	}
	return v
}

// found lists what fits, in order of creation.
func found[T any](rows map[string]string, created func(T) (time.Time, string), fits func(T) bool) []T {
	var out []T
	for _, s := range rows {
		if v := decode[T](s); fits(v) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b T) int {
		ta, ia := created(a)
		tb, ib := created(b)
		return cmp.Or(ta.Compare(tb), cmp.Compare(ia, ib))
	})
	return out
}

func sessionKey(m call.MediaSession) (time.Time, string)      { return m.CreatedAt, m.ID }
func subscriptionKey(s call.Subscription) (time.Time, string) { return s.StartsAt, s.ID }
func callKey(c Call) (time.Time, string)                      { return c.CreatedAt, c.ID }

func (s *fakeStore) Update(_ context.Context, fn func(Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errStoreDown
	}
	copied := s.contents.Load().clone()
	if err := fn(fakeView{func() *fakeRows { return copied }}); err != nil {
		return err
	}
	s.contents.Store(copied)
	if s.committed != nil {
		s.committed()
	}
	return nil
}

func (s *fakeStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *fakeStore) NewEpoch(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	return s.epoch, nil
}

func (s *fakeStore) Ping(context.Context) error { return nil }

func (r fakeView) Registration(_ context.Context, tenant, id string) (call.Registration, error) {
	if g, ok := r.rows().registrations[id]; ok && g.Owner.Tenant == tenant {
		return g, nil
	}
	return call.Registration{}, ErrNotFound
}

func (r fakeView) listRegistrations(fits func(call.Registration) bool) []call.Registration {
	var out []call.Registration
	for _, g := range r.rows().registrations {
		if fits(g) {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b call.Registration) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (r fakeView) RegistrationsByNumber(_ context.Context, tenant string, number call.Number, now time.Time) ([]call.Registration, error) {
	return r.listRegistrations(func(g call.Registration) bool {
		return g.Owner.Tenant == tenant && g.Number() == number && !g.Expired(now)
	}), nil
}

func (r fakeView) RegistrationsByDevice(_ context.Context, o call.Owner, device string, now time.Time) ([]call.Registration, error) {
	return r.listRegistrations(func(g call.Registration) bool {
		return g.DeviceID == device && o.MayUse(g.Owner) && !g.Expired(now)
	}), nil
}

func (r fakeView) RegistrationsEnding(_ context.Context, t time.Time, limit int) ([]call.Registration, error) {
	out := r.listRegistrations(func(g call.Registration) bool { return g.Expired(t) })
	return out[:min(limit, len(out))], nil
}

func (r fakeView) RegistrationsAlive(_ context.Context, now time.Time) ([]call.Registration, error) {
	return r.listRegistrations(func(g call.Registration) bool { return !g.Expired(now) }), nil
}

func (r fakeView) CountRegistrations(_ context.Context, now time.Time) (int, error) {
	return len(r.listRegistrations(func(g call.Registration) bool { return !g.Expired(now) })), nil
}

func (r fakeView) Session(_ context.Context, tenant, id string) (call.MediaSession, error) {
	if s, ok := r.rows().sessions[id]; ok {
		if m := decode[call.MediaSession](s); m.Owner.Tenant == tenant {
			return m, nil
		}
	}
	return call.MediaSession{}, ErrNotFound
}

func (r fakeView) SessionsByCall(_ context.Context, callID string) ([]call.MediaSession, error) {
	return found(r.rows().sessions, sessionKey, func(m call.MediaSession) bool { return m.CallID == callID }), nil
}

func (r fakeView) LiveSessionsByRegistration(_ context.Context, id string) ([]call.MediaSession, error) {
	return found(r.rows().sessions, sessionKey, func(m call.MediaSession) bool { return m.RegistrationID == id && !m.Status.Final() }), nil
}

func (r fakeView) SessionByCorrelator(_ context.Context, o call.Owner, registration, correlator string) (call.MediaSession, error) {
	all := found(r.rows().sessions, sessionKey, func(m call.MediaSession) bool {
		return m.Owner == o && m.RegistrationID == registration && m.ClientCorrelator == correlator && !m.Status.Final()
	})
	if len(all) == 0 {
		return call.MediaSession{}, ErrNotFound
	}
	return all[0], nil
}

func (r fakeView) Call(_ context.Context, id string) (Call, error) {
	if s, ok := r.rows().calls[id]; ok {
		return decode[Call](s), nil
	}
	return Call{}, ErrNotFound
}

func (r fakeView) Calls(context.Context) ([]Call, error) {
	return found(r.rows().calls, callKey, func(Call) bool { return true }), nil
}

func (r fakeView) CallByDialog(_ context.Context, sipCallID, localTag string) (Call, error) {
	all := found(r.rows().calls, callKey, func(c Call) bool {
		return c.Dialog.SIPCallID == sipCallID && c.Dialog.LocalTag == localTag
	})
	if len(all) == 0 {
		return Call{}, ErrNotFound
	}
	return all[0], nil
}

func (r fakeView) Subscription(_ context.Context, tenant, id string) (call.Subscription, error) {
	if t, ok := r.rows().subscriptions[id]; ok {
		if s := decode[call.Subscription](t); s.Owner.Tenant == tenant {
			return s, nil
		}
	}
	return call.Subscription{}, ErrNotFound
}

func (r fakeView) active(fits func(call.Subscription) bool) []call.Subscription {
	return found(r.rows().subscriptions, subscriptionKey, func(s call.Subscription) bool {
		return s.State == call.SubscriptionActive && fits(s)
	})
}

func (r fakeView) Subscriptions(_ context.Context, o call.Owner) ([]call.Subscription, error) {
	return r.active(func(s call.Subscription) bool { return o.MayUse(s.Owner) }), nil
}

func (r fakeView) SubscriptionsFor(_ context.Context, o call.Owner, device string) ([]call.Subscription, error) {
	return r.active(func(s call.Subscription) bool {
		return (s.DeviceID == device || s.DeviceID == "") && s.Owner.MayUse(o)
	}), nil
}

func (r fakeView) SubscriptionsByRegistration(_ context.Context, id string) ([]call.Subscription, error) {
	return r.active(func(s call.Subscription) bool { return s.RegistrationID == id }), nil
}

func (r fakeView) SubscriptionsEnding(_ context.Context, t time.Time, limit int) ([]call.Subscription, error) {
	out := r.active(func(s call.Subscription) bool {
		at, _ := s.EndsAt()
		return !at.IsZero() && !at.After(t)
	})
	return out[:min(limit, len(out))], nil
}

func (r fakeView) NextEnd(context.Context) (time.Time, error) {
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, g := range r.rows().registrations {
		earlier(g.ExpiresAt)
	}
	for _, s := range r.active(func(call.Subscription) bool { return true }) {
		at, _ := s.EndsAt()
		earlier(at)
	}
	return next, nil
}

func (r fakeView) InsertRegistration(_ context.Context, n call.Registration) error {
	for _, g := range r.rows().registrations {
		if g.Owner.Tenant == n.Owner.Tenant && g.DeviceID == n.DeviceID && g.Number() == n.Number() {
			return ErrConflict
		}
	}
	r.rows().registrations[n.ID] = n
	return nil
}

func (r fakeView) UpdateRegistration(_ context.Context, n call.Registration) error {
	return replaceRow(r.rows().registrations, n.ID, n)
}

func (r fakeView) DeleteRegistration(_ context.Context, _, id string) error {
	return deleteRow(r.rows().registrations, id)
}

func replaceRow[T any](rows map[string]T, id string, v T) error {
	if _, ok := rows[id]; !ok {
		return ErrNotFound
	}
	rows[id] = v
	return nil
}

func insertRow[T any](rows map[string]T, id string, v T) error {
	if _, ok := rows[id]; ok {
		return ErrConflict
	}
	rows[id] = v
	return nil
}

func deleteRow[T any](rows map[string]T, id string) error {
	if _, ok := rows[id]; !ok {
		return ErrNotFound
	}
	delete(rows, id)
	return nil
}

func (r fakeView) InsertSession(_ context.Context, m call.MediaSession) error {
	return insertRow(r.rows().sessions, m.ID, encode(m))
}

func (r fakeView) UpdateSession(ctx context.Context, m *call.MediaSession) error {
	have, err := r.Session(ctx, m.Owner.Tenant, m.ID)
	switch {
	case err != nil:
		return err
	case have.Version != m.Version:
		return ErrConflict
	}
	m.Version++
	return replaceRow(r.rows().sessions, m.ID, encode(*m))
}

func (r fakeView) DeleteSessionsEndedBefore(_ context.Context, t time.Time) error {
	maps.DeleteFunc(r.rows().sessions, func(_, s string) bool {
		m := decode[call.MediaSession](s)
		return !m.EndedAt.IsZero() && m.EndedAt.Before(t)
	})
	return nil
}

func (r fakeView) InsertCall(_ context.Context, c Call) error {
	return insertRow(r.rows().calls, c.ID, encode(c))
}

func (r fakeView) UpdateCall(_ context.Context, c Call) error {
	return replaceRow(r.rows().calls, c.ID, encode(c))
}

func (r fakeView) DeleteCall(_ context.Context, id string) error {
	return deleteRow(r.rows().calls, id)
}

func (r fakeView) InsertSubscription(_ context.Context, s call.Subscription) error {
	return insertRow(r.rows().subscriptions, s.ID, encode(s))
}

func (r fakeView) UpdateSubscription(_ context.Context, s call.Subscription) error {
	return replaceRow(r.rows().subscriptions, s.ID, encode(s))
}

func (r fakeView) DeleteSubscriptionsEndedBefore(_ context.Context, t time.Time) error {
	maps.DeleteFunc(r.rows().subscriptions, func(_, text string) bool {
		s := decode[call.Subscription](text)
		return s.State != call.SubscriptionActive && s.ExpiresAt.Before(t)
	})
	return nil
}

func (r fakeView) Enqueue(_ context.Context, subscription string, e call.Event) error {
	if _, ok := r.rows().subscriptions[subscription]; !ok {
		return ErrNotFound
	}
	r.rows().outbox[subscription] = append(slices.Clip(r.rows().outbox[subscription]), decode[call.Event](encode(e)))
	return nil
}

func (r fakeView) LockOwner(context.Context, call.Owner) error { return nil }
