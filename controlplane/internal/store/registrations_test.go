package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func registrationIDs(list []call.Registration) []string {
	ids := []string{}
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestRegistrationRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		r := s.registration(t, nil)
		got, err := s.Registration(t.Context(), anna.Tenant, r.ID)
		if err != nil || got != r {
			t.Fatalf("got %+v, %v, want %+v", got, err, r)
		}
		r.ExpiresAt = at(7200)
		update(t, s, func(tx gateway.Tx) error { return tx.UpdateRegistration(t.Context(), r) })
		if got, err = s.Registration(t.Context(), anna.Tenant, r.ID); err != nil || got != r {
			t.Fatalf("after the update: got %+v, %v, want %+v", got, err, r)
		}
		update(t, s, func(tx gateway.Tx) error { return tx.DeleteRegistration(t.Context(), anna.Tenant, r.ID) })
		if _, err = s.Registration(t.Context(), anna.Tenant, r.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Fatalf("after the deletion: %v, want not found", err)
		}
	})
}

func TestRegistrationKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		r := s.registration(t, nil)
		insert := func(r call.Registration) error {
			return s.Update(ctx, func(tx gateway.Tx) error { return tx.InsertRegistration(ctx, r) })
		}
		again := r
		again.ID = newID()
		if err := insert(again); !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("same device and number: %v, want a conflict", err)
		}
		again.Owner.ClientID = "another-app"
		if err := insert(again); !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("same device and number by another app: %v, want a conflict", err)
		}
		again.Owner.Tenant = "another"
		if err := insert(again); err != nil {
			t.Errorf("same device and number of another tenant: %v", err)
		}
		if _, err := s.Registration(ctx, anna.Tenant, again.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("a registration of another tenant is visible: %v", err)
		}
		again.Owner, again.ID = anna, newID()
		again.Owner.Subject = "+15550101"
		if err := insert(again); err != nil {
			t.Errorf("same device with another number: %v", err)
		}
		missing := call.Registration{ID: newID(), Owner: anna}
		err := s.Update(ctx, func(tx gateway.Tx) error {
			return errors.Join(
				wantNotFound("update", tx.UpdateRegistration(ctx, missing)),
				wantNotFound("delete", tx.DeleteRegistration(ctx, anna.Tenant, missing.ID)))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func wantNotFound(what string, err error) error {
	if errors.Is(err, gateway.ErrNotFound) {
		return nil
	}
	return errors.Join(errors.New(what+": want not found"), err)
}

// A transaction goes on after a conflict, also on PostgreSQL, where a failed
// statement would end it.
func TestTransactionSurvivesConflict(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		r := s.registration(t, nil)
		next := r
		next.ID = newID()
		update(t, s, func(tx gateway.Tx) error {
			if err := tx.InsertRegistration(ctx, next); !errors.Is(err, gateway.ErrConflict) {
				t.Errorf("got %v, want a conflict", err)
			}
			if err := tx.DeleteRegistration(ctx, anna.Tenant, r.ID); err != nil {
				return err
			}
			return tx.InsertRegistration(ctx, next)
		})
		if _, err := s.Registration(ctx, anna.Tenant, next.ID); err != nil {
			t.Error(err)
		}
	})
}

func TestRegistrationLists(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		device := newID()
		second := s.registration(t, func(r *call.Registration) { r.CreatedAt, r.ExpiresAt = at(20), at(90) })
		first := s.registration(t, func(r *call.Registration) { r.DeviceID, r.CreatedAt = device, at(10) })
		expired := s.registration(t, func(r *call.Registration) { r.ExpiresAt = at(50) })
		otherNumber := s.registration(t, func(r *call.Registration) {
			r.DeviceID, r.Owner.Subject, r.CreatedAt, r.ExpiresAt = device, "+15550101", at(30), at(95)
		})
		s.registration(t, func(r *call.Registration) {
			r.DeviceID, r.Owner.Subject, r.Owner.ClientID, r.ExpiresAt = device, "+15550102", "another-app", at(9000)
		})

		check := func(what string, got []call.Registration, err error, want ...string) {
			t.Helper()
			if err != nil || !slices.Equal(registrationIDs(got), want) {
				t.Errorf("%s: got %v, %v, want %v", what, registrationIDs(got), err, want)
			}
		}
		got, err := s.RegistrationsByNumber(ctx, anna.Tenant, anna.Subject, at(50))
		check("by number, one ended just now", got, err, first.ID, second.ID)
		got, err = s.RegistrationsByNumber(ctx, "another", anna.Subject, at(50))
		check("by number of another tenant", got, err)
		got, err = s.RegistrationsByDevice(ctx, anna, device, at(50))
		check("by device and number", got, err, first.ID)
		app := anna
		app.Subject = ""
		got, err = s.RegistrationsByDevice(ctx, app, device, at(50))
		check("by device for the application", got, err, first.ID, otherNumber.ID)
		got, err = s.RegistrationsEnding(ctx, at(95), 10)
		check("ending", got, err, expired.ID, second.ID, otherNumber.ID)
		got, err = s.RegistrationsEnding(ctx, at(95), 2)
		check("ending, two of them", got, err, expired.ID, second.ID)
		if n, err := s.CountRegistrations(ctx, at(50)); err != nil || n != 4 {
			t.Errorf("counted %d, %v, want 4", n, err)
		}
		if next, err := s.NextEnd(ctx); err != nil || !next.Equal(expired.ExpiresAt) {
			t.Errorf("next end is %v, %v, want %v", next, err, expired.ExpiresAt)
		}
	})
}

func TestNextEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		want := func(want int, why string) {
			t.Helper()
			next, err := s.NextEnd(ctx)
			if err != nil || !(want < 0 && next.IsZero() || next.Equal(at(want))) {
				t.Errorf("%s: next end is %v, %v, want second %d", why, next, err, want)
			}
		}
		want(-1, "nothing ends")
		s.registration(t, func(r *call.Registration) { r.ExpiresAt = at(100) })
		want(100, "a registration")
		sub := s.subscription(t, func(s *call.Subscription) { s.ExpiresAt = at(60) })
		s.subscription(t, nil)
		want(60, "a subscription before it")
		sub.State = call.SubscriptionOver
		update(t, s, func(tx gateway.Tx) error { return tx.UpdateSubscription(ctx, sub) })
		want(100, "the subscription has ended")
	})
}

func TestRolledBack(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub := s.subscription(t, nil)
		r := call.Registration{ID: newID(), Owner: anna, DeviceID: newID(), ExpiresAt: at(1)}
		refused := errors.New("refused")
		err := s.Update(ctx, func(tx gateway.Tx) error {
			if err := errors.Join(tx.InsertRegistration(ctx, r), tx.Enqueue(ctx, sub.ID, event(1))); err != nil {
				return err
			}
			if _, err := tx.Registration(ctx, anna.Tenant, r.ID); err != nil {
				t.Errorf("the transaction does not see what it wrote: %v", err)
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Errorf("got %v, want the function's own error", err)
		}
		if _, err := s.Registration(ctx, anna.Tenant, r.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("the registration is there: %v", err)
		}
		if _, due, err := s.NextDue(ctx); err != nil || due {
			t.Errorf("an event is there: %v, %v", due, err)
		}
	})
}

func TestCancelledUpdate(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx, cancel := context.WithCancel(t.Context())
		r := call.Registration{ID: newID(), Owner: anna, DeviceID: newID(), ExpiresAt: at(1)}
		err := s.Update(ctx, func(tx gateway.Tx) error {
			defer cancel()
			return tx.InsertRegistration(ctx, r)
		})
		if err == nil {
			t.Error("a cancelled transaction was committed")
		}
		if _, err := s.Registration(t.Context(), anna.Tenant, r.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("the registration is there: %v", err)
		}
	})
}
