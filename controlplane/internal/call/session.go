package call

import (
	"maps"
	"time"
)

// CallType of a session.
type CallType string

// Call types of the call-handling API.
const (
	Regular   CallType = "REGULAR"
	Emergency CallType = "EMERGENCY"
)

// MediaSession is one device's part in a call.
type MediaSession struct {
	// ID is a UUID made by the gateway.
	ID string
	// CallID names the call; the sessions of devices that ring together share it.
	CallID string
	// Owner.Subject is the subscriber's number.
	Owner          Owner
	RegistrationID string
	DeviceID       string
	Direction      Direction
	Originator     Address
	Receiver       Address
	OriginatorName string
	ReceiverName   string
	CallType       CallType
	Location       *Location
	// ClientCorrelator is the app's own mark for the session (r2.2).
	ClientCorrelator string
	ServerCorrelator string

	Status Status
	// Reason of the last change, "SIP 486 Busy Here" for instance.
	Reason string
	// Offer and Answer are the WebRTC descriptions in force, byte for byte.
	Offer  string
	Answer string

	CreatedAt time.Time
	// AnsweredAt and EndedAt are zero until then.
	AnsweredAt time.Time
	EndedAt    time.Time
	// Released: the app has deleted the session and sees it no more.
	Released bool
	// Told counts the events about the session by subscription; nil before the
	// first.
	Told *Told
	// Version grows with each stored change; a store refuses to overwrite a
	// version other than the one that was read.
	Version int64
}

// Told is a count of events by subscription. One that a session points to is never
// changed, so that sessions can be copied and compared.
type Told map[string]int32

// Tell counts one more event to a subscription: 1, 2, 3 …
func (m *MediaSession) Tell(subscriptionID string) (sequence int32) {
	told := Told{}
	if m.Told != nil {
		told = maps.Clone(*m.Told)
	}
	told[subscriptionID]++
	m.Told = &told
	return told[subscriptionID]
}

// Move changes the status, or answers IncompatibleState and changes nothing.
func (m *MediaSession) Move(to Status, reason string, now time.Time) error {
	if !CanFollow(m.Direction, m.Status, to) {
		return Errorf(IncompatibleState, "a session that is %s cannot become %s", m.Status, to)
	}
	m.Status, m.Reason = to, reason
	switch {
	case to == Connected && m.AnsweredAt.IsZero():
		m.AnsweredAt = now
	case to == Resume:
		// A confirmation, not a state that lasts.
		m.Status = Connected
	case to.Final():
		m.EndedAt = now
	}
	return nil
}

// Change is what an event about the session says, without descriptions.
func (m *MediaSession) Change(status Status) SessionChange {
	return SessionChange{
		MediaSessionID:   m.ID,
		CallID:           m.CallID,
		Originator:       m.Originator,
		Receiver:         m.Receiver,
		OriginatorName:   m.OriginatorName,
		ReceiverName:     m.ReceiverName,
		Status:           status,
		Reason:           m.Reason,
		CallType:         m.CallType,
		Location:         m.Location,
		ClientCorrelator: m.ClientCorrelator,
		ServerCorrelator: m.ServerCorrelator,
	}
}
