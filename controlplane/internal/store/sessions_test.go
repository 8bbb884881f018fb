package store_test

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestSessionVersions(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		m := s.session(t, func(m *call.MediaSession) {
			taken := at(5)
			m.Location = &call.Location{Shape: "Circle", Circle: &call.Circle{Latitude: 52.5, Longitude: 13.4, Radius: 10}, Timestamp: &taken}
			m.OriginatorName = "Anna Ä. 📞"
		})
		got, err := s.Session(ctx, anna.Tenant, m.ID)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, m)
		}
		mine, theirs := got, got
		if err := mine.Move(call.Ringing, "SIP 180 Ringing", at(1)); err != nil {
			t.Fatal(err)
		}
		update(t, s, func(tx gateway.Tx) error { return tx.UpdateSession(ctx, &mine) })
		if mine.Version != m.Version+1 {
			t.Errorf("version is %d after the update, want %d", mine.Version, m.Version+1)
		}
		theirs.Status = call.Failed
		err = s.Update(ctx, func(tx gateway.Tx) error { return tx.UpdateSession(ctx, &theirs) })
		if !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("update of an old version: %v, want a conflict", err)
		}
		if got, err = s.Session(ctx, anna.Tenant, m.ID); err != nil || !reflect.DeepEqual(got, mine) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, mine)
		}
		missing := m
		missing.ID = newID()
		err = s.Update(ctx, func(tx gateway.Tx) error { return tx.UpdateSession(ctx, &missing) })
		if !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("update of a missing session: %v, want not found", err)
		}
		err = s.Update(ctx, func(tx gateway.Tx) error { return tx.InsertSession(ctx, m) })
		if !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("second insertion: %v, want a conflict", err)
		}
		if _, err := s.Session(ctx, "another", m.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("a session is visible to another tenant: %v", err)
		}
	})
}

func sessionIDs(list []call.MediaSession) []string {
	ids := []string{}
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestSessionLists(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		callID, registration := newID(), newID()
		second := s.session(t, func(m *call.MediaSession) {
			m.CallID, m.RegistrationID, m.CreatedAt, m.ClientCorrelator = callID, registration, at(2), "mark"
		})
		first := s.session(t, func(m *call.MediaSession) { m.CallID, m.CreatedAt = callID, at(1) })
		ended := s.session(t, func(m *call.MediaSession) {
			m.RegistrationID, m.Status, m.EndedAt, m.CreatedAt, m.ClientCorrelator = registration, call.Busy, at(10), at(3), "old"
		})
		got, err := s.SessionsByCall(ctx, callID)
		if err != nil || !slices.Equal(sessionIDs(got), []string{first.ID, second.ID}) {
			t.Errorf("by call: %v, %v", sessionIDs(got), err)
		}
		got, err = s.LiveSessionsByRegistration(ctx, registration)
		if err != nil || !slices.Equal(sessionIDs(got), []string{second.ID}) {
			t.Errorf("live ones by registration: %v, %v", sessionIDs(got), err)
		}
		if m, err := s.SessionByCorrelator(ctx, anna, registration, "mark"); err != nil || m.ID != second.ID {
			t.Errorf("by correlator: %v, %v", m.ID, err)
		}
		stranger := anna
		stranger.ClientID = "another-app"
		for what, find := range map[string]func() (call.MediaSession, error){
			"of an ended session": func() (call.MediaSession, error) { return s.SessionByCorrelator(ctx, anna, registration, "old") },
			"of another app":      func() (call.MediaSession, error) { return s.SessionByCorrelator(ctx, stranger, registration, "mark") },
			"of another registration": func() (call.MediaSession, error) {
				return s.SessionByCorrelator(ctx, anna, first.RegistrationID, "mark")
			},
		} {
			if m, err := find(); !errors.Is(err, gateway.ErrNotFound) {
				t.Errorf("correlator %s: found %v, %v", what, m.ID, err)
			}
		}
		forget := func(until time.Time) {
			update(t, s, func(tx gateway.Tx) error { return tx.DeleteSessionsEndedBefore(ctx, until) })
		}
		forget(at(10))
		if _, err := s.Session(ctx, anna.Tenant, ended.ID); err != nil {
			t.Errorf("forgotten too early: %v", err)
		}
		forget(at(11))
		if _, err := s.Session(ctx, anna.Tenant, ended.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("not forgotten: %v", err)
		}
		if _, err := s.Session(ctx, anna.Tenant, second.ID); err != nil {
			t.Errorf("a live session was forgotten: %v", err)
		}
	})
}

func TestCalls(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		c := gateway.Call{
			ID: newID(), Tenant: anna.Tenant, Epoch: 7, Direction: call.Origination, CreatedAt: at(1),
			Media: gateway.MediaPlan{
				CallID: "x", Node: "node-1", Epoch: 7, Generation: 3, Talking: "leg",
				Browsers: []gateway.BrowserLeg{{
					ID: "leg", Ufrag: "u", Password: "ice-secret", SSRC: 4,
					Identity: gateway.Identity{Certificate: []byte{1, 2}, PrivateKey: []byte("dtls-secret")},
					Remote:   netip.MustParseAddrPort("192.0.2.1:4000"),
				}},
				Core: &gateway.CoreLeg{Local: netip.MustParseAddrPort("[2001:db8::1]:4000"), SSRC: 5},
			},
		}
		early := gateway.Call{ID: newID(), Tenant: anna.Tenant, CreatedAt: at(0)}
		update(t, s, func(tx gateway.Tx) error {
			return errors.Join(tx.InsertCall(ctx, c), tx.InsertCall(ctx, early))
		})
		if _, err := s.CallByDialog(ctx, "", ""); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("a call without dialog was found by none: %v", err)
		}
		c.Dialog = gateway.Dialog{SIPCallID: "sip-1@pbx", LocalTag: "tag", RemoteTag: "far", State: []byte(`{"cseq":1}`)}
		update(t, s, func(tx gateway.Tx) error { return tx.UpdateCall(ctx, c) })
		got, err := s.Call(ctx, c.ID)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("by id: got %+v, %v\nwant %+v", got, err, c)
		}
		if got, err = s.CallByDialog(ctx, "sip-1@pbx", "tag"); err != nil || got.ID != c.ID {
			t.Errorf("by dialog: %v, %v", got.ID, err)
		}
		if _, err = s.CallByDialog(ctx, "sip-1@pbx", "far"); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("by a foreign tag: %v", err)
		}
		all, err := s.Calls(ctx)
		if err != nil || len(all) != 2 || all[0].ID != early.ID || all[1].ID != c.ID {
			t.Errorf("all calls: %v, %v", all, err)
		}
		update(t, s, func(tx gateway.Tx) error { return tx.DeleteCall(ctx, c.ID) })
		if _, err := s.Call(ctx, c.ID); !errors.Is(err, gateway.ErrNotFound) {
			t.Errorf("after the deletion: %v", err)
		}
		err = s.Update(ctx, func(tx gateway.Tx) error {
			return errors.Join(wantNotFound("update", tx.UpdateCall(ctx, c)), wantNotFound("delete", tx.DeleteCall(ctx, c.ID)))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestEpochsGrow(t *testing.T) {
	onEach(t, func(t *testing.T, s *bundle) {
		var last uint64
		for range 5 {
			e, err := s.NewEpoch(t.Context())
			if err != nil || e <= last {
				t.Fatalf("epoch %d after %d, %v", e, last, err)
			}
			last = e
		}
		if s.memory() {
			return
		}
		if e, err := s.open(t).NewEpoch(t.Context()); err != nil || e <= last {
			t.Fatalf("epoch %d after %d in another process, %v", e, last, err)
		}
	})
}
