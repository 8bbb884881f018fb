// Package fastpath is where packets may be forwarded without passing through the
// node's own code. An Engine is given plans, one for each direction of a stream
// whose mapping is settled, and executes them until they are taken back; what it
// does not know, or gives up, takes the ordinary way through user space.
//
// The forwarding table stays the only description of a session: a plan is an
// extract of it, and an engine decides nothing. Before anything of a plan
// changes (source, direction, keys, payload types) it is removed, and the table
// goes on from the position that Remove answers.
package fastpath

import (
	"context"
	"fmt"
	"net/netip"
)

// Mode is the work that a plan asks for.
type Mode uint8

// Modes.
const (
	// Relay forwards RTP as RTP.
	Relay Mode = iota + 1
	// Protect receives RTP and sends SRTP.
	Protect
	// Unprotect receives SRTP and sends RTP.
	Unprotect
	// Transcrypt receives SRTP and sends SRTP with other keys.
	Transcrypt
)

// Key finds the plan of an arriving packet.
type Key struct {
	Local  netip.AddrPort
	Remote netip.AddrPort
	SSRC   uint32
}

// Crypto is one direction of an SRTP association.
type Crypto struct {
	// Profile as in RFC 5764 and RFC 7714: 0x0001, 0x0007, 0x0008.
	Profile uint16
	// Master key followed by master salt.
	Master []byte
}

// Plan is everything that forwarding one source to one output needs.
type Plan struct {
	Key  Key
	Mode Mode
	// Stream identifies the output in logs and counters.
	Session, Input, Output string
	// From and To are the addresses of the packets that are sent.
	From, To netip.AddrPort
	// SSRC of the packets that are sent.
	SSRC uint32
	// SequenceOffset and TimeOffset are added to those of the input.
	SequenceOffset uint16
	TimeOffset     uint32
	// Payloads maps payload types; -1 leaves a packet to user space.
	Payloads [128]int16
	In, Out  *Crypto
	Position Position
}

// Position is how far a plan has come.
type Position struct {
	// InIndex and OutIndex are 48-bit packet indices.
	InIndex, OutIndex uint64
	Packets, Bytes    uint64
	AuthFailures      uint64
	Replays           uint64
	// LastSeen in nanoseconds of the monotonic clock.
	LastSeen int64
}

// Reason says why a plan was not taken, in words for an operator.
type Reason string

// Engine executes plans.
type Engine interface {
	// Name is "user" or "xdp".
	Name() string
	// Reason says why it is not a faster one; empty when there is none.
	Reason() string
	Start(ctx context.Context) error
	Close() error
	// Upsert takes a plan, or answers why it does not. An engine that does not
	// take a plan has no trace of it.
	Upsert(Plan) (Reason, bool)
	// Remove gives a plan back with its last position; false if there is none.
	Remove(Key) (Position, bool)
	// Stats calls yield for every plan until it answers false.
	Stats(yield func(Key, Position) bool)
}

// Open makes the engine with a name: "user", or "auto" for the fastest that
// works here.
func Open(name string) (Engine, error) {
	switch name {
	case "user":
		return User{reason: "chosen by configuration"}, nil
	case "auto":
		return User{reason: "no kernel engine in this build"}, nil
	}
	return nil, fmt.Errorf("unknown engine %q: use auto or user", name)
}

// User takes no plan: every packet passes through user space. It needs no
// privilege and works everywhere.
type User struct{ reason string }

// Name is "user".
func (User) Name() string { return "user" }

// Reason says why this engine was chosen.
func (u User) Reason() string { return u.reason }

// Start does nothing.
func (User) Start(context.Context) error { return nil }

// Close does nothing.
func (User) Close() error { return nil }

// Upsert refuses every plan.
func (u User) Upsert(Plan) (Reason, bool) { return Reason(u.reason), false }

// Remove has nothing to give back.
func (User) Remove(Key) (Position, bool) { return Position{}, false }

// Stats has nothing to tell.
func (User) Stats(func(Key, Position) bool) {}
