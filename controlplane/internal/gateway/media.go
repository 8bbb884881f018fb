package gateway

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Media is the media plane: it turns plans into sessions on media nodes.
type Media interface {
	// Apply makes the plan's session so. A plan without a node gets one: the
	// least loaded that takes it. Errors: ErrNoMediaNode, ErrStalePlan.
	Apply(ctx context.Context, p MediaPlan) (MediaState, error)
	// Remove ends a plan's session in the background. It does not fail when the node is unreachable:
	// what the node still has is removed when it comes back, or orphaned.
	Remove(ctx context.Context, p MediaPlan)
	// Adopt tells which sessions another process left behind on which nodes.
	// One whose node does not come back in time is told as SessionLost.
	Adopt(plans []MediaPlan)
	// SendDTMF sends a digit on a browser leg of a plan as telephone-event. It
	// fails when the leg has none, and with ErrNoMediaNode.
	SendDTMF(ctx context.Context, p MediaPlan, leg, digit string, duration time.Duration) error
	// Ready answers an error while there is no node that takes sessions.
	Ready() error
}

// Errors of Media that the use cases decide on.
var (
	ErrNoMediaNode = errors.New("no media node can take the call")
	ErrStalePlan   = errors.New("another process has taken the media session over")
)

// MediaPlan is the desired media of one call. It is stored with the call, so
// that any process can go on with it.
type MediaPlan struct {
	CallID string
	// Node that has the session, empty until one was chosen.
	Node       string
	Epoch      uint64
	Generation uint64
	Browsers   []BrowserLeg
	Core       *CoreLeg
	// SilenceLimit is after which silence a side is told as MediaTimeout; 0 is
	// never. OrphanAfter is how long the node keeps the session for nobody.
	SilenceLimit time.Duration
	OrphanAfter  time.Duration
	// Talking is the browser leg whose media is passed to and from the core leg,
	// as far as both directions allow; empty while nobody is.
	Talking string
}

// BrowserLeg is a device's WebRTC association.
type BrowserLeg struct {
	// ID is unique in the call. A device that comes back with a new peer
	// connection gets a new leg, so SessionID says whose it is.
	ID        string
	SessionID string
	Identity  Identity
	Ufrag     string
	Password  string
	// The remote description; RemoteUfrag is empty until it is known.
	RemoteUfrag        string
	RemotePassword     string
	RemoteFingerprints []sdp.Fingerprint
	// Active: this side opens the DTLS handshake.
	Active bool
	SSRC   uint32
	// Offered is what the offerer's description allows, Codecs what is in force;
	// both carry the browser's payload numbers.
	Offered []sdp.Codec
	Codecs  []sdp.Codec
	// Able is what the browser last offered by itself; empty when it never did.
	Able []sdp.Codec
	// Direction as the gateway sees it.
	Direction sdp.Direction
	// Tone that the node plays to the browser while nothing else comes; nil for
	// none.
	Tone *Tone `json:",omitempty"`
	// Remote is the address that ICE selected, when known.
	Remote netip.AddrPort
	// SDP is how both sides last described themselves.
	SDP Descriptions
}

// Identity is a DTLS certificate made for one leg.
type Identity struct {
	// Certificate is X.509 DER, PrivateKey PKCS #8 DER.
	Certificate []byte
	PrivateKey  []byte
}

// CoreLeg is the RTP association with the operator's network.
type CoreLeg struct {
	// Local is the address chosen by the node, LocalRTCP that for RTCP; invalid
	// until then.
	Local     netip.AddrPort
	LocalRTCP netip.AddrPort
	// Remote is invalid until known.
	Remote netip.AddrPort
	// RemoteRTCP is invalid when it is the port after Remote's.
	RemoteRTCP netip.AddrPort
	RTCPMux    bool
	SSRC       uint32
	// Offered is what the gateway offered last. Codecs are in force and carry
	// the numbers to send with, Receive those that the far end sends with; they
	// differ only for answers that renumber.
	Offered []sdp.Codec
	Codecs  []sdp.Codec
	Receive []sdp.Codec
	// Direction as the gateway sees it.
	Direction sdp.Direction
	// Gate restricts media before the answer; empty when nothing does.
	Gate EarlyMedia
	// Ptime is the packet time that the far end asks for, in milliseconds; 0 when
	// it does not.
	Ptime int `json:",omitempty"`
	// Policy of the trunk.
	Policy MediaPolicy
	// OfferedKeys are what the gateway's last offer said of SRTP, LocalKey and
	// RemoteKey are in force; both are zero for media in the clear.
	OfferedKeys []sdp.Crypto `json:",omitempty"`
	LocalKey    sdp.Crypto   `json:",omitzero"`
	RemoteKey   sdp.Crypto   `json:",omitzero"`
	// SDP is how both sides last described themselves.
	SDP Descriptions
	// IPv6 asks for an address of that family.
	IPv6 bool
}

// CoreLegID names the core leg in MediaEvents.
const CoreLegID = "core"

// MediaState is what a node answers to a plan.
type MediaState struct {
	Node string
	// Candidates for every browser leg.
	Candidates []netip.AddrPort
	// Core is where the node receives from the operator's network.
	Core     netip.AddrPort
	CoreRTCP netip.AddrPort
}

// MediaEvents is told what the nodes see. Events of one call come one at a time.
type MediaEvents interface {
	// ICEConnected: a browser leg has a selected pair.
	ICEConnected(ctx context.Context, callID, leg string, remote netip.AddrPort)
	// DTLSConnected: a browser leg has keys.
	DTLSConnected(ctx context.Context, callID, leg, profile string)
	// FirstPacket arrived from a leg.
	FirstPacket(ctx context.Context, callID, leg string, source netip.AddrPort)
	// Latched: the core leg's true source is known.
	Latched(ctx context.Context, callID string, source netip.AddrPort)
	// LegFailed: a leg cannot carry media.
	LegFailed(ctx context.Context, callID, leg, reason string)
	// MediaTimeout: nothing arrived from a leg that should send.
	MediaTimeout(ctx context.Context, callID, leg string, silent time.Duration)
	// Digit was received as telephone-event from a leg.
	MediaDigit(ctx context.Context, callID, leg, digit string, duration time.Duration)
	// SessionLost: the node, or the session on it, is gone.
	SessionLost(ctx context.Context, callID, reason string)
	// Sessions lists the calls that should be on a node, so that what it has
	// beyond them can be removed.
	Sessions(ctx context.Context, node string) (callIDs []string)
}

// Call is the stored record of a call: what any process needs to go on with it.
type Call struct {
	ID     string
	Tenant string
	// Owner process of a call in set-up: its epoch.
	Epoch uint64
	// Direction as the devices see it.
	Direction call.Direction
	CreatedAt time.Time
	Media     MediaPlan
	// LocalHold and RemoteHold: who keeps the other side waiting.
	LocalHold  bool
	RemoteHold bool
	// Reoffered: the device has been sent a new offer and not answered it yet.
	Reoffered bool
	// Dialog is zero until it is confirmed.
	Dialog Dialog
	// Ringback is what the application asked for.
	Ringback Ringback `json:",omitempty"`
	// Signaling is what the network told of an incoming call.
	Signaling call.Signaling
}

// Descriptions are the SDP state between the gateway and one peer.
type Descriptions struct {
	// SessionID and Version of the gateway's o= line.
	SessionID uint64
	Version   uint64
	// Local was sent last, Remote received last; empty until then.
	Local  string
	Remote string
}
