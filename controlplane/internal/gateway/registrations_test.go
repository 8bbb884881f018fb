package gateway

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestWhoMayRegisterWhat(t *testing.T) {
	for _, c := range []struct {
		name   string
		p      Principal
		number call.Number
		code   call.Code
		want   call.Number
	}{
		{name: "a subscriber", p: principal(aliceNumber), want: aliceNumber},
		{name: "a subscriber who names the number", p: principal(aliceNumber), number: aliceNumber, code: call.UnnecessaryIdentifier},
		{name: "an application for a number", p: principal(""), number: bobNumber, want: bobNumber},
		{name: "an application for nobody", p: principal(""), code: call.MissingIdentifier},
		{name: "an application for a foreign number", p: principal(""), number: "+44123456", code: call.PermissionDenied},
		{name: "an application for a number that is not served", p: principal(""), number: "+15559999", code: call.PermissionDenied},
		{name: "a subscriber who is not served", p: principal("+44123456"), code: call.PermissionDenied},
		{name: "a subscriber without emergency address", p: principal("+15550166"), code: call.EmergencyAddressMissing},
		{name: "an application for one", p: principal(""), number: "+15550166", code: call.EmergencyAddressMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(c *Config) { c.Numbers, c.AddressMissing = []string{"+155501"}, []string{"+15550166"} }, func(w *world) {
				r, err := w.g.Register(w.t.Context(), c.p, RegisterRequest{DeviceID: "d", Number: c.number})
				w.refused(err, c.code)
				if err == nil {
					w.did("Register " + string(c.want))
				} else {
					w.did()
				}
				if r.Number() != c.want {
					t.Errorf("registered %+v", r)
				}
			})
		})
	}
}

func TestRegistrationLife(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		start := time.Now()
		if !d.reg.ExpiresAt.Equal(start.Add(time.Hour)) {
			t.Errorf("expires at %s", d.reg.ExpiresAt)
		}
		_, err := w.g.Register(w.t.Context(), d.p, RegisterRequest{DeviceID: "phone"})
		w.refused(err, call.AlreadyExists)
		w.did()
		pass(50 * time.Minute)
		again, err := w.g.Refresh(w.t.Context(), d.p, d.reg.ID, RefreshRequest{})
		if err != nil || !again.ExpiresAt.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("refreshed to %s, %v", again.ExpiresAt, err)
		}
		_, err = w.g.Refresh(w.t.Context(), d.p, d.reg.ID, RefreshRequest{Expires: new(time.Now())})
		w.refused(err, call.OutOfRange)
		_, err = w.g.Refresh(w.t.Context(), principal(bobNumber), d.reg.ID, RefreshRequest{})
		w.refused(err, call.NotFound)
		_, err = w.g.Registration(w.t.Context(), principal(bobNumber), d.reg.ID)
		w.refused(err, call.NotFound)
		if list, err := w.g.Registrations(w.t.Context(), d.p, "phone"); err != nil || len(list) != 1 {
			t.Errorf("listed %+v, %v", list, err)
		}
		pass(time.Hour - time.Nanosecond)
		d.hears()
		pass(time.Millisecond)
		d.hears("registration-ends REGISTRATION_EXPIRED")
		w.did("Deregister")
		_, err = w.g.Refresh(w.t.Context(), d.p, d.reg.ID, RefreshRequest{})
		w.refused(err, call.NotFound)
		w.refused(w.g.Deregister(w.t.Context(), d.p, d.reg.ID), call.NotFound)
	})
}

// TestRegisterBeforeTheOldOneIsCleared: a registration that has expired is not in
// the way, even if the process has not come round to it.
func TestRegisterBeforeTheOldOneIsCleared(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		w.stop()
		delay(2 * time.Hour)
		again, err := w.g.Register(w.t.Context(), d.p, RegisterRequest{DeviceID: "phone"})
		if err != nil || again.ID == d.reg.ID {
			t.Fatalf("registered %+v, %v", again, err)
		}
		d.hears("registration-ends REGISTRATION_EXPIRED")
	})
}

func TestReplaceRegistration(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		again, err := w.g.Register(w.t.Context(), d.p, RegisterRequest{DeviceID: "phone", Replace: true})
		if err != nil || again.ID == d.reg.ID {
			t.Fatalf("registered %+v, %v", again, err)
		}
		d.hears("Terminated", "registration-ends NETWORK_TERMINATED")
		w.did("Register +15550100", "End 487 Q.850 16", "Deregister")
		w.gone(m.CallID)
		_, err = w.g.Registration(w.t.Context(), d.p, d.reg.ID)
		w.refused(err, call.NotFound)

		// A registrar that refuses takes nothing away.
		w.net.registerErr = ErrNetworkTimeout
		_, err = w.g.Register(w.t.Context(), d.p, RegisterRequest{DeviceID: "phone", Replace: true})
		w.refused(err, call.Timeout)
		if _, err := w.g.Registration(w.t.Context(), d.p, again.ID); err != nil {
			t.Errorf("the old registration is gone: %v", err)
		}
		d.hears()
	})
}

func TestRegisterAtOnce(t *testing.T) {
	play(t, nil, func(w *world) {
		results := make(chan error, 5)
		for range cap(results) {
			go func() {
				_, err := w.g.Register(w.t.Context(), principal(aliceNumber), RegisterRequest{DeviceID: "phone"})
				results <- err
			}()
		}
		made := 0
		for range cap(results) {
			if err := <-results; err == nil {
				made++
			} else {
				w.refused(err, call.AlreadyExists)
			}
		}
		pass(time.Second)
		if made != 1 || len(w.net.accounts) != 1 {
			t.Errorf("%d registrations were made, %d numbers are bound", made, len(w.net.accounts))
		}
	})
}

func TestRegistrationLimits(t *testing.T) {
	register := func(w *world, p Principal, n int) (err error) {
		for i := range n {
			if _, err = w.g.Register(w.t.Context(), p, RegisterRequest{DeviceID: fmt.Sprintf("%s%d", p.Owner.ClientID, i)}); err != nil {
				return err
			}
		}
		return nil
	}
	other := principal(aliceNumber)
	other.Owner.ClientID = "other"
	for _, c := range []struct {
		name   string
		limits Limits
		code   call.Code
	}{
		{"per number", Limits{RegistrationsPerNumber: 3, RegistrationsPerUser: 10, DevicesPerUser: 10, Subscriptions: 1}, call.MaxRegistrationsPerMSISDN},
		{"per user", Limits{RegistrationsPerNumber: 10, RegistrationsPerUser: 2, DevicesPerUser: 10, Subscriptions: 1}, call.MaxRegistrationsPerUser},
		{"devices", Limits{RegistrationsPerNumber: 10, RegistrationsPerUser: 10, DevicesPerUser: 2, Subscriptions: 1}, call.MaxDevicesPerUser},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(config *Config) { config.Limits = c.limits }, func(w *world) {
				if err := register(w, other, 1); err != nil {
					t.Fatal(err)
				}
				if err := register(w, principal(aliceNumber), 2); err != nil {
					t.Fatal(err)
				}
				w.net.took()
				w.refused(register(w, principal(aliceNumber), 3), call.AlreadyExists)
				_, err := w.g.Register(w.t.Context(), principal(aliceNumber), RegisterRequest{DeviceID: "one too many"})
				w.refused(err, c.code)
				w.did()
				if _, err := w.g.Register(w.t.Context(), principal(aliceNumber), RegisterRequest{DeviceID: "app0", Replace: true}); err != nil {
					t.Errorf("the limit stands in the way of a replacement: %v", err)
				}
			})
		})
	}
}

func TestRegistrarRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		code call.Code
	}{
		{&RejectedError{call.Signal{Code: 403, Phrase: "Forbidden"}}, call.PermissionDenied},
		{&RejectedError{call.Signal{Code: 404, Phrase: "Not Found"}}, call.PermissionDenied},
		{&RejectedError{call.Signal{Code: 401, Phrase: "Unauthorized"}}, call.PermissionDenied},
		{&RejectedError{call.Signal{Code: 500, Phrase: "Server Error"}}, call.Unavailable},
		{ErrNetworkTimeout, call.Timeout},
		{ErrNetworkDown, call.Unavailable},
	} {
		play(t, nil, func(w *world) {
			w.net.registerErr = c.err
			_, err := w.g.Register(w.t.Context(), principal(aliceNumber), RegisterRequest{DeviceID: "d"})
			w.refused(err, c.code)
			if n := len(w.store.contents.Load().registrations); n != 0 {
				t.Errorf("%v: %d registrations are stored", c.err, n)
			}
		})
	}
	play(t, nil, func(w *world) {
		w.store.setDown(true)
		_, err := w.g.Register(w.t.Context(), principal(aliceNumber), RegisterRequest{DeviceID: "d"})
		if !errors.Is(err, errStoreDown) {
			t.Error(err)
		}
		w.did("Register +15550100", "Deregister")
	})
}

// TestDeregisterEndsCalls: in every state, at once, and told before the
// subscriptions that belong to the registration end.
func TestDeregisterEndsCalls(t *testing.T) {
	play(t, nil, func(w *world) {
		d, other := w.device(aliceNumber, "phone"), w.device(aliceNumber, "tablet")
		bound, err := w.g.Subscribe(w.t.Context(), d.p, SubscribeRequest{RegistrationID: d.reg.ID, Types: everything, Sink: call.Sink{URL: "https://sink.example"}})
		if err != nil {
			t.Fatal(err)
		}
		talking, calling := d.calls(), d.calls()
		w.answer(talking.CallID, coreAnswer(w.offered(talking.CallID), sdp.SendRecv))
		alone := w.connected(other)
		w.told(d.sub.ID)
		ringsBoth := w.rings(coreOffer(sdp.SendRecv))
		w.told(d.sub.ID)
		w.told(bound.ID)
		invited := other.invited()
		w.net.took()

		if err := w.g.Deregister(w.t.Context(), d.p, d.reg.ID); err != nil {
			t.Fatal(err)
		}
		d.hears("Terminated", "Terminated", "Terminated")
		if got := w.told(bound.ID); len(got) != 4 || got[3] != "subscription-ended NETWORK_TERMINATED" {
			t.Errorf("the bound subscription is told %q", got)
		}
		w.did("End 487 Q.850 16", "End 487 Q.850 16", "Deregister")
		for _, m := range []call.MediaSession{talking, calling} {
			w.gone(m.CallID)
			w.settle(m.CallID)
		}
		other.hears()
		if got := other.get(alone.ID); got.Status != call.Connected {
			t.Errorf("the other device's call is %s", got.Status)
		}
		other.picksUp(invited)
		other.hears("Connected")
		w.over(ringsBoth, Ending{Kind: EndedBye})
		w.over(alone.CallID, Ending{Kind: EndedBye})
		_, err = w.g.Registration(w.t.Context(), d.p, d.reg.ID)
		w.refused(err, call.NotFound)
	})
	t.Run("the only one that rings", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			callID := w.rings(coreOffer(sdp.SendRecv))
			d.invited()
			if err := w.g.Deregister(w.t.Context(), d.p, d.reg.ID); err != nil {
				t.Fatal(err)
			}
			d.hears("Terminated")
			w.did("End 480 Q.850 20", "Deregister")
			w.gone(callID)
		})
	})
	t.Run("but no emergency call", func(t *testing.T) {
		play(t, func(c *Config) { c.Emergency = true }, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m, err := d.originate(func(r *OriginateRequest) { r.Receiver, _ = call.ParseAddress("urn:service:sos") })
			if err != nil || !w.net.invites[0].Emergency {
				t.Fatalf("%+v, %v", w.net.invites, err)
			}
			if err := w.g.Deregister(w.t.Context(), d.p, d.reg.ID); err != nil {
				t.Fatal(err)
			}
			w.did("Invite urn:service:sos", "Deregister")
			w.over(m.CallID, Ending{Kind: EndedBye})
			d.hears("Terminated")
		})
	})
}

func TestCallsAndExpiry(t *testing.T) {
	for _, outlive := range []bool{true, false} {
		play(t, func(c *Config) { c.CallsOutlive = outlive }, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			pass(61 * time.Minute)
			if outlive {
				d.hears("registration-ends REGISTRATION_EXPIRED")
				d.mustPut(m.ID, StatusRequest{Status: call.Hold})
				w.over(m.CallID, Ending{Kind: EndedBye})
				d.hears("Hold", "Terminated")
			} else {
				d.hears("Terminated", "registration-ends REGISTRATION_EXPIRED")
				w.gone(m.CallID)
			}
		})
	}
}

func TestBindingLost(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		account := Account{RegistrationID: d.reg.ID, Tenant: call.DefaultTenant, Number: aliceNumber}
		w.g.BindingLost(w.t.Context(), account, "the registrar forgot it")
		w.g.BindingLost(w.t.Context(), account, "told twice")
		d.hears("registration-ends NETWORK_TERMINATED")
		_, err := w.g.Registration(w.t.Context(), d.p, d.reg.ID)
		w.refused(err, call.NotFound)
	})
}
