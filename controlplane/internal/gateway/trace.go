package gateway

import (
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Tracer gets what is worth drawing on a message ladder. It never blocks.
type Tracer interface {
	Trace(TraceEntry)
}

// Actor is a column of the message ladder.
type Actor string

// Columns of the message ladder.
const (
	ActorDevice  Actor = "device"
	ActorGateway Actor = "gateway"
	ActorOAuth   Actor = "oauth"
	ActorNetwork Actor = "network"
	ActorMedia   Actor = "media"
)

// TraceEntry is one message or milestone.
type TraceEntry struct {
	Time time.Time
	From Actor
	To   Actor
	// Number is the subscriber's that it concerns, empty when not known.
	Number call.Number
	// CallID and SIPCallID link entries of one call; either may be empty.
	CallID    string
	SIPCallID string
	// Title is one line: "INVITE sip:…", "180 Ringing", "ICE connected".
	Title string
	// Text is the whole message, secrets left out.
	Text string
}
