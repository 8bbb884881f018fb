package call

import (
	"testing"
	"time"
)

var (
	app   = Owner{Tenant: "default", Issuer: "https://as.example", ClientID: "app"}
	alice = Owner{Tenant: "default", Issuer: "https://as.example", ClientID: "app", Subject: "+15550100"}
)

func TestMayUse(t *testing.T) {
	with := func(change func(*Owner)) Owner { o := alice; change(&o); return o }
	for _, c := range []struct {
		name            string
		token, resource Owner
		want            bool
	}{
		{"own", alice, alice, true},
		{"the application's own token reaches its subscribers", app, alice, true},
		{"the application itself", app, app, true},
		{"a subscriber's token does not reach the application's", alice, app, false},
		{"another subscriber", with(func(o *Owner) { o.Subject = "+15550101" }), alice, false},
		{"another client", with(func(o *Owner) { o.ClientID = "other" }), alice, false},
		{"another issuer", with(func(o *Owner) { o.Issuer = "https://other.example" }), alice, false},
		{"another tenant", with(func(o *Owner) { o.Tenant = "other" }), alice, false},
		{"another client without subject", with(func(o *Owner) { o.ClientID, o.Subject = "other", "" }), alice, false},
	} {
		if got := c.token.MayUse(c.resource); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestWants(t *testing.T) {
	base := Subscription{Owner: alice, DeviceID: "d1", Types: []EventType{SessionInvitation, SessionStatus, RegistrationEnds}, State: SubscriptionActive}
	with := func(change func(*Subscription)) Subscription { s := base; change(&s); return s }
	for _, c := range []struct {
		name                          string
		s                             Subscription
		t                             EventType
		device, registration, session string
		owner                         Owner
		want                          bool
	}{
		{"all fits", base, SessionStatus, "d1", "r1", "m1", alice, true},
		{"another type", with(func(s *Subscription) { s.Types = []EventType{SessionInvitation} }), SessionStatus, "d1", "r1", "m1", alice, false},
		{"over", with(func(s *Subscription) { s.State = SubscriptionOver }), SessionStatus, "d1", "r1", "m1", alice, false},
		{"deleted", with(func(s *Subscription) { s.State = SubscriptionGone }), SessionStatus, "d1", "r1", "m1", alice, false},
		{"another device", base, SessionStatus, "d2", "r1", "m1", alice, false},
		{"another subscriber", base, SessionStatus, "d1", "r1", "m1", Owner{alice.Tenant, alice.Issuer, alice.ClientID, "+15550101"}, false},
		{"the application's subscription", with(func(s *Subscription) { s.Owner = app }), SessionStatus, "d1", "r1", "m1", alice, true},
		{"bound, without device", with(func(s *Subscription) { s.DeviceID, s.RegistrationID = "", "r1" }), SessionStatus, "d9", "r1", "m1", alice, true},
		{"bound to this registration", with(func(s *Subscription) { s.RegistrationID = "r1" }), RegistrationEnds, "d1", "r1", "", alice, true},
		{"bound to another registration", with(func(s *Subscription) { s.RegistrationID = "r2" }), SessionStatus, "d1", "r1", "m1", alice, false},
		{"this session", with(func(s *Subscription) { s.SessionID = "m1" }), SessionStatus, "d1", "r1", "m1", alice, true},
		{"another session", with(func(s *Subscription) { s.SessionID = "m2" }), SessionStatus, "d1", "r1", "m1", alice, false},
		{"invitations ignore the session", with(func(s *Subscription) { s.SessionID = "m2" }), SessionInvitation, "d1", "r1", "m1", alice, true},
		{"registration ends ignore the session", with(func(s *Subscription) { s.SessionID = "m2" }), RegistrationEnds, "d1", "r1", "", alice, true},
	} {
		if got := c.s.Wants(c.t, c.device, c.owner, c.registration, c.session); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestEndsAt(t *testing.T) {
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, c := range []struct {
		name          string
		expires       time.Time
		token, tokens time.Time
		want          time.Time
		reason        EndReason
	}{
		{name: "never", reason: SubscriptionExpired},
		{name: "its expiry", expires: at(time.Hour), want: at(time.Hour), reason: SubscriptionExpired},
		{name: "the token first, 5 s ahead", expires: at(time.Hour), token: at(10 * time.Minute), want: at(10*time.Minute - 5*time.Second), reason: AccessTokenExpired},
		{name: "a short token, a tenth ahead", expires: at(time.Hour), token: at(20 * time.Second), want: at(18 * time.Second), reason: AccessTokenExpired},
		{name: "its expiry first", expires: at(time.Minute), token: at(time.Hour), want: at(time.Minute), reason: SubscriptionExpired},
		{name: "only a token", token: at(100 * time.Second), want: at(95 * time.Second), reason: AccessTokenExpired},
		{name: "a short token that came later", expires: at(time.Hour), tokens: at(30 * time.Minute), token: at(30*time.Minute + 4*time.Second), want: at(30*time.Minute + 3600*time.Millisecond), reason: AccessTokenExpired},
	} {
		s := Subscription{StartsAt: start, ExpiresAt: c.expires, Sink: Sink{AccessTokenExpires: c.token, AccessTokenSince: c.tokens}}
		if got, reason := s.EndsAt(); !got.Equal(c.want) || reason != c.reason {
			t.Errorf("%s: %s, %s", c.name, got, reason)
		}
	}
	if TokenMargin(-time.Hour) != 0 {
		t.Error("a token that was dead on arrival has a margin")
	}
}
