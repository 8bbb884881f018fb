package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Errors of a RelayStore that the relay decides on.
var (
	// ErrLimit: the owner has as many channels as it may have.
	ErrLimit = errors.New("limit reached")
	// ErrFull: a channel holds as many unread events as it may.
	ErrFull = errors.New("full")
)

// RelayChannel is an inbox of the Notification Relay: a sink for a device that
// cannot be reached by HTTP, which reads it as a stream.
type RelayChannel struct {
	ID    string
	Owner call.Owner
	// SinkKey is a hash of the secret in the sink's URL.
	SinkKey string
	// Credentials that the sink accepts.
	Credentials []RelayCredential
	CreatedAt   time.Time
	// LastSeq is the number of the newest event that it ever held.
	LastSeq int64
	// Closed for good: nothing is accepted or read any more.
	Closed bool
}

// RelayCredential is an access token of a sink.
type RelayCredential struct {
	// Hash is the SHA-256 of the token.
	Hash    []byte
	Expires time.Time
}

// RelayEvent is a notification in a channel.
type RelayEvent struct {
	// Seq orders the events of a channel, from 1; the store chooses it.
	Seq int64
	// Key is a hash of the CloudEvent's source and id, which name it: it is
	// stored once. IDKey is a hash of the id alone.
	Key, IDKey string
	// Body as it was received, byte for byte.
	Body []byte
}

// RelayTicket admits to one stream, once.
type RelayTicket struct {
	// Key is a hash of the ticket.
	Key string
	// ChannelID that it admits to, and until when.
	ChannelID string
	Expires   time.Time
	// Authorized is when the token dies that the ticket was bought with.
	Authorized time.Time
}

// RelayStore keeps channels and what is in them. A method that works on an open
// channel answers ErrNotFound when there is none with this id.
type RelayStore interface {
	// OpenRelayChannel adds a channel. It answers ErrLimit when the owner has
	// most of them open.
	OpenRelayChannel(ctx context.Context, c RelayChannel, most int) error
	// RelayChannel finds a channel, also a closed one for a while.
	RelayChannel(ctx context.Context, id string) (RelayChannel, error)
	RelayChannelBySink(ctx context.Context, sinkKey string) (RelayChannel, error)
	// SetRelayCredentials replaces those of an open channel.
	SetRelayCredentials(ctx context.Context, c RelayChannel) error
	// TouchRelayChannel notes that an open channel is in use and that the
	// events up to a number have been written to a stream.
	TouchRelayChannel(ctx context.Context, id string, delivered int64) error
	// CloseRelayChannel closes it for good; what is in it is lost.
	CloseRelayChannel(ctx context.Context, id string) error

	// AppendRelayEvent stores an event durably; once, when it comes again. It
	// answers ErrFull when the channel holds most events and none of them was
	// written to a stream yet. Those that were make room, oldest first.
	AppendRelayEvent(ctx context.Context, channelID string, e RelayEvent, most int) error
	// RelayEvents lists up to limit events after a number, in order.
	RelayEvents(ctx context.Context, channelID string, after int64, limit int) ([]RelayEvent, error)
	// RelayPosition is the number of the first event with this IDKey; it
	// answers ErrNotFound when there is none.
	RelayPosition(ctx context.Context, channelID, idKey string) (int64, error)

	PutRelayTicket(ctx context.Context, t RelayTicket) error
	// TakeRelayTicket finds a ticket and removes it, also an expired one.
	TakeRelayTicket(ctx context.Context, key string) (RelayTicket, error)

	// SweepRelay closes channels that were not used for idle, drops events
	// older than age and forgets channels that were closed for remember. It
	// answers the ids of the channels it closed.
	SweepRelay(ctx context.Context, idle, age, remember time.Duration) (closed []string, err error)
	// RelayWake tells the ids of channels that changed, by any process. Some
	// may be missed when nobody reads it for long.
	RelayWake() <-chan string
}
