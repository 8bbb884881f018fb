package call

import (
	"slices"
	"time"
)

// SubscriptionState of a subscription; only Active ones get events.
type SubscriptionState string

// States as the events API spells them.
const (
	SubscriptionActive SubscriptionState = "ACTIVE"
	// SubscriptionOver: expired, its events used up, or stopped by the provider.
	SubscriptionOver SubscriptionState = "EXPIRED"
	// SubscriptionGone: deleted by its owner.
	SubscriptionGone SubscriptionState = "DELETED"
)

// Subscription asks for events of a device's sessions and registrations to be
// delivered to a sink.
type Subscription struct {
	// ID is a UUID made by the gateway.
	ID    string
	Owner Owner
	// DeviceID limits it to one device; empty only for a subscription that is
	// bound to a registration.
	DeviceID string
	// RegistrationID and SessionID narrow it further when set (r2.2).
	RegistrationID string
	SessionID      string
	Types          []EventType
	Sink           Sink
	// Generation names the API generation it was made through, which shapes its
	// events.
	Generation string
	// Echo holds what that generation shows again as it was sent; opaque here.
	Echo []byte

	// RequestedExpiry is shown again in config; nil when none was asked for.
	RequestedExpiry *time.Time
	// MaxEvents, 0 for no limit. Sent counts the events recorded.
	MaxEvents int
	Sent      int
	// InitialEvent is shown again; no event of these APIs has a current state.
	InitialEvent *bool

	State     SubscriptionState
	StartsAt  time.Time
	ExpiresAt time.Time
}

// Sink is where events are delivered.
type Sink struct {
	URL string
	// AccessToken is sent as a bearer token; empty for none. It is secret.
	AccessToken        string
	AccessTokenExpires time.Time
	// AccessTokenSince is when the token was given, zero for at the start.
	AccessTokenSince time.Time
	// Headers are copied into every delivery (r2.2 protocolSettings).
	Headers map[string]string
}

// Wants reports whether the subscription is for this kind of event of this
// device, registration and session (empty where the event has none).
func (s Subscription) Wants(t EventType, device string, owner Owner, registration, session string) bool {
	switch {
	case s.State != SubscriptionActive || !slices.Contains(s.Types, t):
		return false
	case !s.Owner.MayUse(owner):
		return false
	case s.DeviceID != "" && s.DeviceID != device:
		return false
	case s.RegistrationID != "" && registration != "" && s.RegistrationID != registration:
		return false
	case s.SessionID != "" && t == SessionStatus && s.SessionID != session:
		return false
	}
	return true
}

// TokenMargin is how long before its sink token dies a subscription is ended, so
// that the last event still gets through: the smaller of 5 s and a tenth of the
// token's life.
func TokenMargin(life time.Duration) time.Duration {
	return max(0, min(5*time.Second, life/10))
}

// EndsAt is when the subscription ends by itself and why, by the earlier of its
// expiry and its sink token's. Zero: never.
func (s Subscription) EndsAt() (time.Time, EndReason) {
	at, reason := s.ExpiresAt, SubscriptionExpired
	if token := s.Sink.AccessTokenExpires; !token.IsZero() {
		since := s.Sink.AccessTokenSince
		if since.IsZero() {
			since = s.StartsAt
		}
		token = token.Add(-TokenMargin(token.Sub(since)))
		if at.IsZero() || token.Before(at) {
			at, reason = token, AccessTokenExpired
		}
	}
	return at, reason
}
