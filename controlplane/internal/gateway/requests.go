package gateway

import (
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// RegisterRequest asks for a registration.
type RegisterRequest struct {
	DeviceID string
	// Number is what the request names; empty when it names none. It must be
	// empty with a subscriber's token and present without.
	Number call.Number
	// Expires is nil when the request has no wish.
	Expires *time.Time
	// Below and Replace are what API generations differ in: how a too short
	// life is treated, and whether a second registration of the device and
	// number replaces the first instead of being refused.
	Below   call.Below
	Replace bool
}

// RefreshRequest asks for a registration to live on.
type RefreshRequest struct {
	Expires *time.Time
	Below   call.Below
}

// OriginateRequest asks for a call.
type OriginateRequest struct {
	RegistrationID string
	Originator     call.Address
	OriginatorName string
	Receiver       call.Address
	ReceiverName   string
	CallType       call.CallType
	Location       *call.Location
	// Offer is the browser's SDP. Empty is possible only with LateOffer: the
	// INVITE then waits for an offer by UpdateSession.
	Offer     string
	LateOffer bool
	// Ringback: RingbackByGateway or RingbackByNetwork; empty leaves it to the
	// trunk.
	Ringback Ringback
	// ClientCorrelator makes the request idempotent while its session lives.
	ClientCorrelator string
}

// StatusRequest asks for a change of a media session. An empty Status keeps the
// current one.
type StatusRequest struct {
	Status   call.Status
	Offer    string
	Answer   string
	Location *call.Location
}

// SubscribeRequest asks for events.
type SubscribeRequest struct {
	DeviceID       string
	RegistrationID string
	SessionID      string
	Types          []call.EventType
	Sink           call.Sink
	Generation     string
	Echo           []byte
	Expires        *time.Time
	MaxEvents      int
	InitialEvent   *bool
}

// UpdateSubscriptionRequest changes a subscription; nil fields stay.
type UpdateSubscriptionRequest struct {
	Expires *time.Time
	// AccessToken and its expiry replace the sink's together.
	AccessToken        *string
	AccessTokenExpires *time.Time
}
