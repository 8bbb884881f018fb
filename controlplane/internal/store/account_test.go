package store_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestSIPAccounts(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		account := func(trunk string, number call.Number, password string) gateway.SIPAccount {
			return gateway.SIPAccount{Tenant: "default", Trunk: trunk, Number: number, Username: "u@ims", Password: password}
		}
		want := []gateway.SIPAccount{account("a", "+15550100", "one"), account("a", "+15550101", "two"), account("b", "+15550100", "three")}
		for _, a := range append([]gateway.SIPAccount{account("a", "+15550100", "old")}, want...) {
			if err := s.SetSIPAccount(ctx, a); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.SIPAccounts(ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("all: %+v, %v", got, err)
		}
		if got, err := s.SIPAccountsOf(ctx, "default", "+15550100"); err != nil || !reflect.DeepEqual(got, []gateway.SIPAccount{want[0], want[2]}) {
			t.Errorf("of a number: %+v, %v", got, err)
		}
		if got, err := s.SIPAccountsOf(ctx, "another", "+15550100"); err != nil || len(got) != 0 {
			t.Errorf("of another tenant: %+v, %v", got, err)
		}
		if err := s.DeleteSIPAccount(ctx, "default", "a", "+15550100"); err != nil {
			t.Error(err)
		}
		if err := s.DeleteSIPAccount(ctx, "default", "a", "+15550100"); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
		if got, err := s.SIPAccounts(ctx); err != nil || !reflect.DeepEqual(got, want[1:]) {
			t.Errorf("what is left: %+v, %v", got, err)
		}
	})
}

func TestRegistrationsAlive(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		var want []string
		for i, end := range []int{100, 200, 300} {
			r := s.registration(t, func(r *call.Registration) { r.ExpiresAt, r.DeviceID = at(end), newID() })
			if i > 0 {
				want = append(want, r.ID)
			}
		}
		got, err := s.RegistrationsAlive(t.Context(), at(150))
		if err != nil || !reflect.DeepEqual(registrationIDs(got), want) {
			t.Errorf("alive are %v, %v, want %v", registrationIDs(got), err, want)
		}
	})
}
