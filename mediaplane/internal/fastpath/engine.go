// Package fastpath is where packets may be forwarded without passing through the
// node's own code. An Engine is given plans, one for each direction of a stream
// whose mapping is settled, and executes them until they are taken back; what it
// does not know, or gives up, takes the ordinary way through user space.
//
// The forwarding table stays the only description of a session: a plan is an
// extract of it, and an engine decides nothing. Before anything of a plan
// changes (source, direction, keys, payload types) it is removed, and the table
// goes on from the position that Remove answers.
//
// Who forwards a packet is decided by its index alone:
//
//	index ≤ Plan.Start.Index              user space, always
//	index > Plan.Start.Index, until Remove   the engine
//	after Remove                          user space, which refuses what
//	                                      Position says was taken already
//
// so that no packet is forwarded twice, and none is protected twice. A caller
// that may have packets in its socket's queue starts a plan a little ahead of
// what it has seen. The engine hands a packet above the start up to user space
// when it cannot forward it as the plan says: its payload type is not mapped,
// its sequence number or timestamp jumps, its header is unusual, its next hop is
// not known. The caller then removes the plan, forwards the packet itself, and
// offers a plan again when the stream has settled. (With SRTP it does so only
// for a packet that authenticates.)
package fastpath

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"time"
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

// SRTP protection profiles (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
const (
	AES128CMSHA1 uint16 = 0x0001
	AES128GCM    uint16 = 0x0007
	AES256GCM    uint16 = 0x0008
)

// Crypto is one direction of an SRTP association.
type Crypto struct {
	// Profile is AES128CMSHA1, AES128GCM or AES256GCM.
	Profile uint16
	// Master key followed by master salt.
	Master []byte
}

// Fingerprint tells keys apart without telling them.
type Fingerprint [16]byte

// Fingerprint of the profile and the master key; zero for no crypto.
func (c *Crypto) Fingerprint() (f Fingerprint) {
	if c == nil {
		return f
	}
	sum := sha256.Sum256(append([]byte{byte(c.Profile >> 8), byte(c.Profile)}, c.Master...))
	copy(f[:], sum[:])
	return f
}

// Plan is everything that forwarding one source to one output needs.
type Plan struct {
	Key  Key
	Mode Mode
	// Session, Input and Output name the session and its streams, in at most
	// 128 and 64 bytes. They come back with an adopted plan.
	Session, Input, Output string
	// From and To are the addresses of the packets that are sent.
	From, To netip.AddrPort
	// SSRC of the packets that are sent.
	SSRC uint32
	// IndexOffset is added to the index of a packet to make that of the packet
	// sent; its low 16 bits map sequence numbers. The index of SRTP is its
	// 48-bit packet index (RFC 3711 section 3.3.1), that of RTP any number
	// whose low 16 bits are the sequence number.
	IndexOffset int64
	// TimeOffset is added to timestamps.
	TimeOffset uint32
	// ClockRate in Hz of all mapped payload types.
	ClockRate uint32
	// Payloads maps payload types; -1 leaves a packet to user space.
	Payloads [128]int16
	// In and Out are the keys of SRTP as the mode needs them.
	In, Out *Crypto
	// Start is where the plan begins. Of it Index, Timestamp and LastSeen
	// (0 for both: not known) are used; Counters begin at 0.
	Start Position
}

// WindowSize is how many indices below the newest an engine remembers at most. It
// forgets them by words of 64.
const WindowSize = 512

// Position is how far a plan has come.
type Position struct {
	// Index is the newest that was taken, Plan.Start.Index before the first.
	// The newest that was sent is Index + Plan.IndexOffset.
	Index uint64
	// Window has bit i of word i/64 set when Index-i was taken by the engine.
	Window [WindowSize / 64]uint64
	// Timestamp and LastSeen are of the newest packet: as received, and in
	// nanoseconds of CLOCK_MONOTONIC.
	Timestamp uint32
	LastSeen  int64
	// Jitter of arrivals (RFC 3550 appendix A.8).
	Jitter time.Duration
	Counters
}

// Took says whether the engine has forwarded the packet with an index, or must
// be taken to have: it is older than what a Position remembers.
func (p *Position) Took(index uint64) bool {
	switch back := p.Index - index; {
	case index > p.Index:
		return false
	case back >= WindowSize-64:
		return true // it may have been forgotten already
	default:
		return p.Window[back/64]>>(back%64)&1 == 1
	}
}

// Counters of a plan since it began.
type Counters struct {
	// Packets were taken and forwarded. Bytes received and SentBytes are those
	// of RTP or SRTP packets, Octets those of the payload alone.
	Packets, Bytes, SentBytes, Octets uint64
	// AuthFailures did not authenticate, Replays were taken before (with RTP:
	// were duplicates) or older than the window. None of them was forwarded.
	AuthFailures, Replays uint64
	// PassedUp were left to user space.
	PassedUp uint64
}

// Reason says why a plan was not taken, in words for an operator.
type Reason string

// Engine executes plans. It is safe for concurrent use.
type Engine interface {
	// Name is "user" or "xdp".
	Name() string
	// Reason says why it is not a faster one, or how it runs.
	Reason() string
	Start(ctx context.Context) error
	// Close lets go of everything. Plans that are left go on in the kernel, for
	// the next process of this node to adopt; when there are none, nothing is
	// left behind.
	Close() error
	// Upsert takes a plan, or answers why it does not. An engine that does not
	// take a plan has no trace of it. A key that has a plan is refused.
	Upsert(Plan) (Reason, bool)
	// Remove gives a plan back with its last position; false if there is none.
	// When it returns, the engine takes no packet of it any more.
	Remove(Key) (Position, bool)
	// Position of a plan at this moment; false if there is none. It makes no
	// system call.
	Position(Key) (Position, bool)
	// Stats calls yield for every plan until it answers false.
	Stats(yield func(Key, Position) bool)
	// Adopted lists the plans that an earlier process of this node left
	// running. They are as if this process had upserted them; who knows nothing
	// of their session removes them.
	Adopted() []Adopted
	// Causes tells why packets were dropped or handed up, all plans together,
	// in names fit for a metric's label.
	Causes(yield func(cause string, packets uint64) bool)
}

// Adopted is a plan that was found running. Master keys are not in it: keys are
// compared by their fingerprints.
type Adopted struct {
	Plan
	In, Out Fingerprint
}
