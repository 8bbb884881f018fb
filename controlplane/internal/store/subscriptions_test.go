package store_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func subscriptionIDs(list []call.Subscription) []string {
	ids := []string{}
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestSubscriptionRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		expiry, initial := at(60), true
		sub := s.subscription(t, func(s *call.Subscription) {
			s.Echo, s.RequestedExpiry, s.InitialEvent, s.MaxEvents = []byte(`{"deviceId":"x"}`), &expiry, &initial, 5
			s.Sink.Headers = map[string]string{"X-App": "a"}
			s.Sink.AccessTokenExpires = at(500)
		})
		got, err := s.Subscription(ctx, anna.Tenant, sub.ID)
		if err != nil || !reflect.DeepEqual(got, sub) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, sub)
		}
		sub.Sent, sub.Sink.AccessToken = 3, "another-secret"
		update(t, s, func(tx gateway.Tx) error { return tx.UpdateSubscription(ctx, sub) })
		if got, err = s.Subscription(ctx, anna.Tenant, sub.ID); err != nil || !reflect.DeepEqual(got, sub) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, sub)
		}
		if _, err := s.Subscription(ctx, "another", sub.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("a subscription is visible to another tenant: %v", err)
		}
		err = s.Update(ctx, func(tx gateway.Tx) error {
			missing := sub
			missing.ID = newID()
			if err := tx.InsertSubscription(ctx, sub); !errors.Is(err, gateway.ErrConflict) {
				t.Errorf("second insertion: %v, want a conflict", err)
			}
			return wantNotFound("update", tx.UpdateSubscription(ctx, missing))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestSubscriptionLists(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		device, registration := newID(), newID()
		bob, app := anna, anna
		bob.Subject, app.Subject = "+15550101", ""
		add := func(second int, owner call.Owner, change func(*call.Subscription)) string {
			return s.subscription(t, func(s *call.Subscription) {
				s.Owner, s.DeviceID, s.StartsAt = owner, device, at(second)
				if change != nil {
					change(s)
				}
			}).ID
		}
		annas := add(3, anna, nil)
		bobs := add(2, bob, nil)
		apps := add(1, app, nil)
		bound := add(4, anna, func(s *call.Subscription) { s.DeviceID, s.RegistrationID = "", registration })
		elsewhere := add(5, anna, func(s *call.Subscription) { s.DeviceID = newID() })
		over := add(6, anna, func(s *call.Subscription) { s.RegistrationID = registration })
		update(t, s, func(tx gateway.Tx) error {
			sub, err := tx.Subscription(ctx, anna.Tenant, over)
			if err != nil {
				return err
			}
			sub.State = call.SubscriptionOver
			return tx.UpdateSubscription(ctx, sub)
		})
		foreign := anna
		foreign.ClientID = "another-app"
		add(7, foreign, nil)

		check := func(what string, got []call.Subscription, err error, want ...string) {
			t.Helper()
			if err != nil || !slices.Equal(subscriptionIDs(got), want) {
				t.Errorf("%s: got %v, %v\nwant %v", what, subscriptionIDs(got), err, want)
			}
		}
		got, err := s.Subscriptions(ctx, anna)
		check("of a subscriber", got, err, annas, bound, elsewhere)
		got, err = s.Subscriptions(ctx, app)
		check("of the application", got, err, apps, bobs, annas, bound, elsewhere)
		got, err = s.SubscriptionsFor(ctx, anna, device)
		check("for anna's device", got, err, apps, annas, bound)
		got, err = s.SubscriptionsFor(ctx, bob, device)
		check("for bob on the same device", got, err, apps, bobs)
		got, err = s.SubscriptionsByRegistration(ctx, registration)
		check("by registration", got, err, bound)
		got, err = s.SubscriptionsByRegistration(ctx, "")
		check("by no registration", got, err)
	})
}

func TestSubscriptionsEnding(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		expires := s.subscription(t, func(s *call.Subscription) { s.ExpiresAt = at(100).Add(500 * time.Nanosecond) })
		token := s.subscription(t, func(s *call.Subscription) { s.ExpiresAt, s.Sink.AccessTokenExpires = at(900), at(50) })
		s.subscription(t, nil)
		check := func(until time.Time, limit int, want ...string) {
			t.Helper()
			got, err := s.SubscriptionsEnding(ctx, until, limit)
			if err != nil || !slices.Equal(subscriptionIDs(got), want) {
				t.Errorf("until %v: got %v, %v, want %v", until, subscriptionIDs(got), err, want)
			}
		}
		check(at(44), 10)
		check(at(45), 10, token.ID) // 5 s before the token dies
		check(at(100), 10, token.ID)
		check(at(101), 10, token.ID, expires.ID)
		check(at(101), 1, token.ID)
	})
}

// An ended subscription stays until its last event is delivered.
func TestForgetSubscriptions(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		live := s.subscription(t, nil)
		ended := s.subscription(t, nil)
		ended.State = call.SubscriptionGone
		update(t, s, func(tx gateway.Tx) error {
			return errors.Join(tx.UpdateSubscription(ctx, ended), tx.Enqueue(ctx, ended.ID, event(1)))
		})
		forget := func(until time.Time) {
			t.Helper()
			update(t, s, func(tx gateway.Tx) error { return tx.DeleteSubscriptionsEndedBefore(ctx, until) })
		}
		there := func(id string) bool {
			_, err := s.Subscription(ctx, anna.Tenant, id)
			if err != nil && !errors.Is(err, gateway.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		soon := time.Now().Add(time.Hour)
		forget(soon)
		if !there(ended.ID) {
			t.Fatal("forgotten before its last event was delivered")
		}
		d := claimOne(t, s, time.Minute, "event-001")
		if err := s.Done(ctx, d.ID); err != nil {
			t.Fatal(err)
		}
		forget(time.Now().Add(-time.Hour))
		if !there(ended.ID) {
			t.Fatal("forgotten before its time")
		}
		forget(soon)
		if there(ended.ID) || !there(live.ID) {
			t.Errorf("ended is there: %v, live is there: %v", there(ended.ID), there(live.ID))
		}
	})
}
