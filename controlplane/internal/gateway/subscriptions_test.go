package gateway

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

func (w *world) subscribe(p Principal, change func(*SubscribeRequest)) (call.Subscription, error) {
	r := SubscribeRequest{DeviceID: "phone", Types: everything, Sink: call.Sink{URL: "https://sink.example"}}
	change(&r)
	return w.g.Subscribe(w.t.Context(), p, r)
}

func TestSubscribeRefusals(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := w.connected(d)
		for _, c := range []struct {
			name   string
			p      Principal
			change func(*SubscribeRequest)
			code   call.Code
		}{
			{"too short", d.p, func(r *SubscribeRequest) { r.Expires = new(time.Now().Add(time.Second)) }, call.OutOfRange},
			{"a dead token", d.p, func(r *SubscribeRequest) { r.Sink.AccessTokenExpires = time.Now() }, call.InvalidCredential},
			{"an unknown registration", d.p, func(r *SubscribeRequest) { r.RegistrationID = "x" }, call.SubscriptionMismatch},
			{"another's registration", principal(bobNumber), func(r *SubscribeRequest) { r.RegistrationID = d.reg.ID }, call.SubscriptionMismatch},
			{"another device than the registration's", d.p, func(r *SubscribeRequest) { r.RegistrationID, r.DeviceID = d.reg.ID, "tablet" }, call.InvalidArgument},
			{"an unknown session", d.p, func(r *SubscribeRequest) { r.SessionID = "x" }, call.SubscriptionMismatch},
			{"another's session", principal(bobNumber), func(r *SubscribeRequest) { r.SessionID = m.ID }, call.SubscriptionMismatch},
		} {
			if _, err := w.subscribe(c.p, c.change); call.CodeOf(err) != c.code {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		w.sinks.err = errors.New("the sink is a private address")
		_, err := w.subscribe(d.p, func(*SubscribeRequest) {})
		w.refused(err, call.InvalidSink)
		w.sinks.err = nil
		if list, err := w.g.Subscriptions(w.t.Context(), d.p); err != nil || len(list) != 1 {
			t.Errorf("%d subscriptions, %v", len(list), err)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestSubscriptionQuota(t *testing.T) {
	play(t, func(c *Config) { c.Limits.Subscriptions = 2 }, func(w *world) {
		for _, p := range []Principal{principal(aliceNumber), principal(bobNumber), principal("")} {
			for range 2 {
				if _, err := w.subscribe(p, func(*SubscribeRequest) {}); err != nil {
					t.Fatalf("for %q: %v", p.Owner.Subject, err)
				}
			}
			_, err := w.subscribe(p, func(*SubscribeRequest) {})
			w.refused(err, call.QuotaExceeded)
		}
		alice := principal(aliceNumber)
		list, _ := w.g.Subscriptions(w.t.Context(), alice)
		if len(list) != 2 {
			t.Fatalf("alice sees %d subscriptions", len(list))
		}
		if err := w.g.Unsubscribe(w.t.Context(), alice, list[0].ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.subscribe(alice, func(*SubscribeRequest) {}); err != nil {
			t.Error(err)
		}
	})
}

func TestMaxEvents(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		s, err := w.subscribe(d.p, func(r *SubscribeRequest) { r.MaxEvents = 2 })
		if err != nil {
			t.Fatal(err)
		}
		m := d.calls()
		w.provisional(m.CallID, 180, "Ringing", "")
		w.provisional(m.CallID, 183, "Session Progress", "")
		w.provisional(m.CallID, 180, "Ringing", "")
		w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		if got := w.told(s.ID); !slices.Equal(got, []string{"Ringing", "InProgress", "subscription-ended MAX_EVENTS_REACHED"}) {
			t.Errorf("told %q", got)
		}
		_, err = w.g.Subscription(w.t.Context(), d.p, s.ID)
		w.refused(err, call.NotFound)
		w.refused(w.g.Unsubscribe(w.t.Context(), d.p, s.ID), call.NotFound)
		d.hears("Ringing", "InProgress", "Ringing", "Busy")
	})
}

func TestSubscriptionEnds(t *testing.T) {
	in := func(d time.Duration) *time.Time { return new(time.Now().Add(d)) }
	for _, c := range []struct {
		name   string
		change func(*SubscribeRequest)
		update func(*UpdateSubscriptionRequest)
		after  time.Duration
		reason call.EndReason
	}{
		{name: "default life", change: func(*SubscribeRequest) {}, after: 24 * time.Hour, reason: call.SubscriptionExpired},
		{name: "own expiry", change: func(r *SubscribeRequest) { r.Expires = in(10 * time.Minute) }, after: 10 * time.Minute, reason: call.SubscriptionExpired},
		{name: "sink token", change: func(r *SubscribeRequest) { r.Sink.AccessToken, r.Sink.AccessTokenExpires = "t", *in(10 * time.Minute) },
			after: 10*time.Minute - 5*time.Second, reason: call.AccessTokenExpired},
		{name: "prolonged", change: func(r *SubscribeRequest) { r.Expires = in(10 * time.Minute) },
			update: func(r *UpdateSubscriptionRequest) { r.Expires = in(20 * time.Minute) }, after: 25 * time.Minute, reason: call.SubscriptionExpired},
		{name: "new token", change: func(r *SubscribeRequest) { r.Sink.AccessToken, r.Sink.AccessTokenExpires = "t", *in(10 * time.Minute) },
			update: func(r *UpdateSubscriptionRequest) { r.AccessToken, r.AccessTokenExpires = new("u"), in(10*time.Minute) },
			after:  15*time.Minute - 5*time.Second, reason: call.AccessTokenExpired},
		{name: "new token of short life", change: func(*SubscribeRequest) {},
			update: func(r *UpdateSubscriptionRequest) { r.AccessToken, r.AccessTokenExpires = new("u"), in(20*time.Second) },
			after:  5*time.Minute + 18*time.Second, reason: call.AccessTokenExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				p := principal(aliceNumber)
				s, err := w.subscribe(p, c.change)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if c.update != nil {
					pass(5 * time.Minute)
					var r UpdateSubscriptionRequest
					c.update(&r)
					if _, err := w.g.UpdateSubscription(w.t.Context(), p, s.ID, r); err != nil {
						t.Fatal(err)
					}
				}
				pass(c.after - time.Since(start) - time.Second)
				if got := w.told(s.ID); len(got) != 0 {
					t.Errorf("told %q too early", got)
				}
				if _, err := w.g.Subscription(w.t.Context(), p, s.ID); err != nil {
					t.Errorf("gone too early: %v", err)
				}
				pass(2 * time.Second)
				if got := w.told(s.ID); !slices.Equal(got, []string{"subscription-ended " + string(c.reason)}) {
					t.Errorf("told %q", got)
				}
				pass(2 * time.Minute)
				if _, kept := w.store.contents.Load().subscriptions[s.ID]; kept {
					t.Error("the ended subscription is never forgotten")
				}
			})
		})
	}
}

func TestUnsubscribe(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		w.refused(w.g.Unsubscribe(w.t.Context(), principal(bobNumber), d.sub.ID), call.NotFound)
		if err := w.g.Unsubscribe(w.t.Context(), d.p, d.sub.ID); err != nil {
			t.Fatal(err)
		}
		w.refused(w.g.Unsubscribe(w.t.Context(), d.p, d.sub.ID), call.NotFound)
		_, err := w.g.UpdateSubscription(w.t.Context(), d.p, d.sub.ID, UpdateSubscriptionRequest{})
		w.refused(err, call.NotFound)
		m := d.calls()
		w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		d.hears("subscription-ended SUBSCRIPTION_DELETED")
	})
}

// TestSinkEndsSubscription: by 410 without a last event, by 401 with one, and only
// once.
func TestSinkEndsSubscription(t *testing.T) {
	play(t, nil, func(w *world) {
		a, b := w.device(aliceNumber, "phone"), w.device(aliceNumber, "tablet")
		end := func(d *device, reason call.EndReason, silent bool) {
			t.Helper()
			if err := w.g.EndSubscription(w.t.Context(), call.DefaultTenant, d.sub.ID, reason, "because", silent); err != nil {
				t.Error(err)
			}
		}
		end(a, call.NetworkTerminated, true)
		end(a, call.NetworkTerminated, false)
		a.hears()
		end(b, call.AccessTokenExpired, false)
		end(b, call.AccessTokenExpired, false)
		b.hears("subscription-ended ACCESS_TOKEN_EXPIRED")
		if err := w.g.EndSubscription(w.t.Context(), call.DefaultTenant, "unknown", call.NetworkTerminated, "", false); err != nil {
			t.Error(err)
		}
	})
}

// TestBoundSubscriptions live with their registration and hear of it alone.
func TestBoundSubscriptions(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		bound, err := w.subscribe(d.p, func(r *SubscribeRequest) { r.RegistrationID, r.DeviceID = d.reg.ID, "" })
		if err != nil || bound.DeviceID != "phone" {
			t.Fatalf("%+v, %v", bound, err)
		}
		first, second := w.connected(d), d.calls()
		narrow, err := w.subscribe(d.p, func(r *SubscribeRequest) { r.RegistrationID, r.SessionID = d.reg.ID, first.ID })
		if err != nil {
			t.Fatal(err)
		}
		w.over(second.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		w.over(first.CallID, Ending{Kind: EndedBye})
		if got := w.told(narrow.ID); !slices.Equal(got, []string{"Terminated"}) {
			t.Errorf("the subscription of one session is told %q", got)
		}
		pass(2 * time.Hour)
		for id, want := range map[string][]string{
			bound.ID:  {"Connected+answer", "Busy", "Terminated", "registration-ends REGISTRATION_EXPIRED", "subscription-ended NETWORK_TERMINATED"},
			narrow.ID: {"registration-ends REGISTRATION_EXPIRED", "subscription-ended NETWORK_TERMINATED"},
			d.sub.ID:  {"Busy", "Terminated", "registration-ends REGISTRATION_EXPIRED"},
		} {
			if got := w.told(id); !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
	})
}

// TestApplicationHears: an application's own subscription gets the events of its
// subscribers, and no other's.
func TestApplicationHears(t *testing.T) {
	play(t, nil, func(w *world) {
		own, err := w.subscribe(principal(""), func(*SubscribeRequest) {})
		if err != nil {
			t.Fatal(err)
		}
		other := principal("")
		other.Owner.ClientID = "other"
		foreign, err := w.subscribe(other, func(*SubscribeRequest) {})
		if err != nil {
			t.Fatal(err)
		}
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.over(m.CallID, Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486}})
		if got := w.told(own.ID); !slices.Equal(got, []string{"Busy"}) {
			t.Errorf("the application is told %q", got)
		}
		if got := w.told(foreign.ID); len(got) != 0 {
			t.Errorf("another application is told %q", got)
		}
	})
}
