package sdp

import (
	"errors"
	"fmt"
)

// ErrNoCommonCodec says that the two sides have no voice codec in common that
// the policy lets pass: SIP status 488 with Warning 305 (RFC 3261 20.43).
var ErrNoCommonCodec = errors.New("no voice codec is common to both sides")

// Error says why a description cannot be read, used or written.
type Error struct {
	// Reason is a sentence part in plain English that names the line or
	// attribute at fault: printable ASCII, safe to show to the peer.
	Reason string
	// Unacceptable is set when the description is well formed but asks for
	// something that the gateway does not do (SIP 488), and clear when it is
	// malformed (SIP 400).
	Unacceptable bool
}

// Error implements error.
func (e *Error) Error() string { return "session description: " + e.Reason }

func malformed(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

func unacceptable(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Unacceptable: true}
}

// clip shortens text from a peer and quotes it in ASCII for use in an error
// message, which may travel in a header field.
func clip(s string) string {
	const limit = 40
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return fmt.Sprintf("%+q", s)
}
