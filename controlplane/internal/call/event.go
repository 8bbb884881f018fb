package call

import "time"

// EventType is the last part of a CAMARA event type: what precedes it depends on
// the API generation that a subscription was made through.
type EventType string

// Event types of the events-subscriptions API.
const (
	SessionInvitation EventType = "session-invitation"
	SessionStatus     EventType = "session-status"
	RegistrationEnds  EventType = "registration-ends"
	SubscriptionEnded EventType = "subscription-ended"
)

// Event is something to tell one subscription. Exactly the part that its type
// calls for is set. It carries no API generation: the adapters shape it.
type Event struct {
	// ID is unique per delivery and stays the same when it is repeated.
	ID   string
	Type EventType
	Time time.Time

	Session      *SessionChange    `json:",omitempty"`
	Registration *RegistrationEnd  `json:",omitempty"`
	Subscription *SubscriptionStop `json:",omitempty"`
}

// SessionChange is what session-invitation and session-status carry.
type SessionChange struct {
	MediaSessionID string
	CallID         string
	Originator     Address
	Receiver       Address
	OriginatorName string
	ReceiverName   string
	Status         Status
	Reason         string
	// Offer and Answer are WebRTC SDP, set only when new.
	Offer  string
	Answer string
	// Sequence counts the events of one media session to one subscription, from 1.
	Sequence int32
	CallType CallType
	Location *Location
	// ClientCorrelator as the app gave it (r2.2).
	ClientCorrelator string
	ServerCorrelator string
}

// RegistrationEnd is what registration-ends carries.
type RegistrationEnd struct {
	RegistrationID string
	Reason         EndReason
	Description    string
}

// SubscriptionStop is what subscription-ended carries.
type SubscriptionStop struct {
	Reason      EndReason
	Description string
}
