package sdp

// Direction of a media stream as the side that wrote the description sees it
// (RFC 8866 6.7). The empty value means SendRecv, as an absent attribute does.
type Direction string

// The four directions.
const (
	SendRecv Direction = "sendrecv"
	SendOnly Direction = "sendonly"
	RecvOnly Direction = "recvonly"
	Inactive Direction = "inactive"
)

// NewDirection returns the direction of a side that sends and receives as given.
func NewDirection(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	default:
		return Inactive
	}
}

// Valid reports whether d is one of the four directions or empty.
func (d Direction) Valid() bool {
	switch d {
	case "", SendRecv, SendOnly, RecvOnly, Inactive:
		return true
	}
	return false
}

// Sends reports whether the side that wrote d means to send.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly || d == "" }

// Receives reports whether the side that wrote d is willing to receive.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly || d == "" }

// Reverse returns the direction as the other side sees it.
func (d Direction) Reverse() Direction { return NewDirection(d.Receives(), d.Sends()) }

// And returns what both d and allowed permit; both are seen from the same side.
func (d Direction) And(allowed Direction) Direction {
	return NewDirection(d.Sends() && allowed.Sends(), d.Receives() && allowed.Receives())
}

// Answer returns the direction to put into the answer to an offer with the
// direction d, when the answering side wants wanted (RFC 3264 6.1). It also
// reads answers: some stacks answer sendrecv whatever was offered, and what then
// holds is offered.Answer(answered).
func (d Direction) Answer(wanted Direction) Direction { return wanted.And(d.Reverse()) }

// Hold returns the direction to offer, seen from the offering side, in order to
// put the other side on hold: sendrecv becomes sendonly, recvonly becomes
// inactive (RFC 3264 8.4). What the offering side sends, music for instance,
// still flows.
func (d Direction) Hold() Direction { return d.And(SendOnly) }

// Resume returns the direction to offer in order to take the other side off
// hold. When the other side keeps us on hold at the same time (remote is the
// last direction that it stated for itself), we still must not send: sendonly
// and inactive become recvonly.
func (d Direction) Resume(remote Direction) Direction {
	return NewDirection(remote.Receives(), true)
}

// Holds reports whether a side that stated d keeps the other side on hold.
func (d Direction) Holds() bool { return !d.Receives() }
