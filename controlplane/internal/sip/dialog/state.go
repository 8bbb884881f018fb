package dialog

import (
	"encoding/json"
	"fmt"
	"time"
)

// StateVersion of the stored form.
const StateVersion = 1

// State is a dialog (RFC 3261 12): all that is needed to go on with it in another
// process.
type State struct {
	Version int    `json:"v"`
	CallID  string `json:"call_id"`
	// Tags; RemoteTag may be empty for a peer of RFC 2543.
	LocalTag  string `json:"local_tag"`
	RemoteTag string `json:"remote_tag"`
	// LocalURI and RemoteURI are the From and To values without their tags.
	LocalURI  string `json:"local_uri"`
	RemoteURI string `json:"remote_uri"`
	LocalSeq  uint32 `json:"local_seq"`
	RemoteSeq uint32 `json:"remote_seq"`
	// Target is the remote target, the URI of the peer's Contact.
	Target string `json:"target"`
	// Routes in the order in which requests take them.
	Routes []string `json:"routes,omitempty"`
	// Initiator: this side sent the INVITE that made the dialog, so it owns the
	// Call-ID (RFC 3261 14.1).
	Initiator bool `json:"initiator,omitempty"`
	// Secure: only TLS, and a sips Contact (RFC 3261 12.1).
	Secure bool `json:"secure,omitempty"`
	// PeerUpdate and PeerTimer: the peer allows UPDATE, supports session timers.
	PeerUpdate bool `json:"peer_update,omitempty"`
	PeerTimer  bool `json:"peer_timer,omitempty"`
	// Session timer in force; nil for none.
	Session *Session `json:"session,omitempty"`
	// LocalSDP is what this side last described itself as.
	LocalSDP string `json:"local_sdp,omitempty"`
	// What the network needs to send in the dialog.
	Trunk   string `json:"trunk"`
	Number  string `json:"number,omitempty"`
	Contact string `json:"contact"`
	// Flow: the Contact belongs to the flow of a registration (RFC 5626).
	Flow    bool   `json:"flow,omitempty"`
	Network string `json:"network"`
	// Auth is the state of the digest challenges, kept for whoever sends.
	Auth json.RawMessage `json:"auth,omitempty"`
}

// Session is a session timer (RFC 4028).
type Session struct {
	// Interval in seconds.
	Interval uint32 `json:"interval"`
	// Refresher: this side refreshes.
	Refresher bool `json:"refresher,omitempty"`
	// Expires is when the session ends without a refresh.
	Expires time.Time `json:"expires"`
}

// skip is how far the local CSeq jumps when a dialog is taken over, as the last
// process may have sent requests that it had no time to store. It is ten times the
// most that is left unstored.
const skip = 10 * storeEvery

// storeEvery is the number of local CSeqs after which the dialog is stored even if
// nothing else changed.
const storeEvery = 100

// Marshal is the stored form.
func (s State) Marshal() []byte {
	s.Version = StateVersion
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings, numbers and times cannot fail
	}
	return b
}

// ParseState reads the stored form.
func ParseState(b []byte) (State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("a stored SIP dialog cannot be read: %w", err)
	}
	if s.Version < 1 || s.Version > StateVersion {
		return State{}, fmt.Errorf("a stored SIP dialog has version %d, this program reads up to %d", s.Version, StateVersion)
	}
	if s.CallID == "" || s.LocalTag == "" || s.Target == "" {
		return State{}, fmt.Errorf("a stored SIP dialog lacks its identifiers")
	}
	return s, nil
}

func (s State) clone() State {
	s.Routes = append([]string(nil), s.Routes...)
	if s.Session != nil {
		t := *s.Session
		s.Session = &t
	}
	return s
}
