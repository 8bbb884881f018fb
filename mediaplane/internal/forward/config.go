// Package forward is the forwarding table of one session: which packets of which
// stream go to which other streams, and how their headers change on the way. It
// has no sockets, no keys and no clock of its own; packets come in as plain RTP
// and RTCP with the time of their arrival, and leave through a Sink.
//
// Invariants:
//   - A stream sends with one SSRC for the whole of its life. Its sequence
//     numbers have no gap that the input did not have, and its timestamps go on
//     with the clock, whatever the input does: another SSRC, another source,
//     another stream, a restart of its counters.
//   - The 48-bit index of an outgoing packet identifies it: two packets with one
//     index are copies of one another.
//   - Nothing that arrives can make the table grow.
//
// A Table belongs to its caller's lock: it is not safe for concurrent use.
package forward

import (
	"strings"
	"time"
)

// Direction of a stream, seen from the node.
type Direction uint8

// Directions.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

func (d Direction) receives() bool { return d == SendRecv || d == RecvOnly }
func (d Direction) sends() bool    { return d == SendRecv || d == SendOnly }

// Format is what a payload type means on a stream.
type Format struct {
	PayloadType uint8
	Encoding    string
	// ClockRate of the RTP timestamp in Hz.
	ClockRate uint32
	Channels  uint8
}

// Event says that the format is telephone-event (RFC 4733).
func (f Format) Event() bool { return strings.EqualFold(f.Encoding, "telephone-event") }

// Noise says that the format is comfort noise (RFC 3389).
func (f Format) Noise() bool { return strings.EqualFold(f.Encoding, "CN") }

// Payload renames a payload type.
type Payload struct{ From, To uint8 }

// Output is one stream that a rule sends to.
type Output struct {
	Stream string
	// Payloads that are sent; without any, every packet is, unchanged.
	Payloads []Payload
}

// Rule forwards one stream to others.
type Rule struct {
	Input   string
	Outputs []Output
}

// StreamConfig describes a stream.
type StreamConfig struct {
	ID        string
	Leg       string
	Direction Direction
	Formats   []Format
	// SSRC to send with; 0 lets the table choose.
	SSRC  uint32
	CName string
	// Tone to play while nothing else is sent; nil for none.
	Tone *Tone
}

// Config is the whole table. It must be consistent: rules name streams that
// exist, and no stream is the output of two rules.
type Config struct {
	Streams []StreamConfig
	Rules   []Rule
	// MediaTimeout reports a receiving stream that is silent for this long;
	// 0 never does.
	MediaTimeout time.Duration
}

// Sink is where a table sends and what it tells. It is called with the table's
// lock held, and must not keep packets.
type Sink interface {
	// SendRTP sends one packet on a leg. The low 16 bits of index are its
	// sequence number.
	SendRTP(leg string, packet []byte, ssrc uint32, index uint64) SendResult
	SendRTCP(leg string, packet []byte)
	FirstPacket(stream string, ssrc uint32, payloadType uint8)
	DTMF(stream string, digit byte, duration time.Duration)
	MediaTimeout(stream string, silent time.Duration)
	MediaResumed(stream string)
	// Reclaim takes the mapping of a stream back from whom it was lent to, and
	// answers how far it has come. After it nobody forwards by it any more.
	Reclaim(stream string) Progress
}

// Counters of a stream since it was made.
type Counters struct {
	ReceivedPackets, ReceivedBytes uint64
	SentPackets, SentBytes         uint64
	Lost                           int64
	Jitter                         time.Duration
	AuthFailures                   uint64
	// Replays are copies of packets that came before. Those of plain RTP are
	// received packets too.
	Replays                  uint64
	ForeignSource, Malformed uint64
	Gated                    uint64
	LastReceived             time.Time
	RoundTrip                time.Duration
	// Incoming and Outgoing quality.
	Incoming, Outgoing Quality
}
