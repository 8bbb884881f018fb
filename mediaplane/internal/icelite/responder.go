// Package icelite is the ICE of a node that is reachable where it says it is: an
// ICE-lite agent (RFC 8445 section 2.5) answers connectivity checks and never
// sends its own, so it needs no goroutine and no timer per call.
//
// Respond is a pure function from a request to a response. Association holds
// what one leg has learned from the checks that Respond accepted: the valid
// paths, the selected one, and whether consent is fresh (RFC 7675).
package icelite

import (
	"net"
	"net/netip"
	"strings"

	"github.com/pion/stun/v4"
)

// Credentials of the two sides of an ICE session (RFC 8839 section 5.4).
type Credentials struct {
	LocalUfrag, LocalPassword string
	// RemoteUfrag is empty until the remote description is known: an agent
	// must answer checks before that (RFC 8445 section 7.3).
	RemoteUfrag string
}

// Verdict is what became of a STUN message.
type Verdict uint8

// Verdicts.
const (
	// Accepted: an authenticated check; Response answers it with success.
	Accepted Verdict = iota
	// Refused: an authenticated check that Response answers with an error.
	Refused
	// Indication: an authenticated or unauthenticated keep-alive, no answer.
	Indication
	// Malformed: no STUN, or a broken fingerprint.
	Malformed
	// Foreign: not a binding request for a session of this node.
	Foreign
	// BadIntegrity: the right user name with a wrong MESSAGE-INTEGRITY.
	BadIntegrity
)

// Result of Respond.
type Result struct {
	Verdict Verdict
	// Response to send back to the source; nil when there is none.
	Response []byte
	// LocalUfrag names the session that the check is for.
	LocalUfrag string
	// UseCandidate: the controlling agent nominates this path.
	UseCandidate bool
}

// Respond checks a STUN message and makes the response. lookup finds the
// credentials for a local user name fragment.
func Respond(b []byte, from netip.AddrPort, lookup func(ufrag string) (Credentials, bool)) Result {
	msg := stun.New()
	if err := stun.Decode(b, msg); err != nil {
		return Result{Verdict: Malformed}
	}
	if _, ok := msg.Attributes.Get(stun.AttrFingerprint); ok {
		if err := stun.Fingerprint.Check(msg); err != nil {
			return Result{Verdict: Malformed}
		}
	}
	switch msg.Type {
	case stun.BindingRequest:
	case stun.NewType(stun.MethodBinding, stun.ClassIndication):
		return Result{Verdict: Indication}
	default:
		return Result{Verdict: Foreign}
	}

	var username stun.Username
	if err := username.GetFrom(msg); err != nil {
		return Result{Verdict: Foreign}
	}
	local, remote, ok := strings.Cut(string(username), ":")
	if !ok {
		return Result{Verdict: Foreign}
	}
	creds, ok := lookup(local)
	if !ok || (creds.RemoteUfrag != "" && creds.RemoteUfrag != remote) {
		return Result{Verdict: Foreign}
	}
	integrity := stun.NewShortTermIntegrity(creds.LocalPassword)
	if err := integrity.Check(msg); err != nil {
		return Result{Verdict: BadIntegrity, LocalUfrag: local}
	}

	result := Result{LocalUfrag: local}
	trusted := beforeIntegrity(msg.Attributes)
	if unknown := unknownRequired(trusted); len(unknown) > 0 {
		result.Verdict = Refused
		result.Response = answer(msg.TransactionID, stun.ClassErrorResponse, integrity, stun.CodeUnknownAttribute, unknown)
		return result
	}
	if _, ok := trusted.Get(stun.AttrICEControlled); ok {
		// A lite agent is always controlled (RFC 8445 section 6.1.1).
		result.Verdict = Refused
		result.Response = answer(msg.TransactionID, stun.ClassErrorResponse, integrity, stun.CodeRoleConflict)
		return result
	}
	_, result.UseCandidate = trusted.Get(stun.AttrUseCandidate)
	result.Response = answer(msg.TransactionID, stun.ClassSuccessResponse, integrity,
		&stun.XORMappedAddress{IP: net.IP(from.Addr().AsSlice()), Port: int(from.Port())})
	if result.Response == nil {
		result.Verdict = Malformed
	}
	return result
}

func answer(id [stun.TransactionIDSize]byte, class stun.MessageClass, integrity stun.MessageIntegrity, attributes ...stun.Setter) []byte {
	setters := append([]stun.Setter{
		stun.NewTransactionIDSetter(id),
		stun.NewType(stun.MethodBinding, class),
	}, attributes...)
	msg, err := stun.Build(append(setters, integrity, stun.Fingerprint)...)
	if err != nil {
		return nil
	}
	return msg.Raw
}

// beforeIntegrity drops what follows MESSAGE-INTEGRITY: it is not protected and
// must be ignored (RFC 8489 section 14.5).
func beforeIntegrity(all stun.Attributes) stun.Attributes {
	for i, a := range all {
		if a.Type == stun.AttrMessageIntegrity {
			return all[:i]
		}
	}
	return nil
}

// unknownRequired lists comprehension-required attributes that the responder
// does not know (RFC 8489 section 6.3.1).
func unknownRequired(attributes stun.Attributes) stun.UnknownAttributes {
	var unknown stun.UnknownAttributes
	for _, a := range attributes {
		if a.Type >= 0x8000 {
			continue
		}
		switch a.Type {
		case stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrMessageIntegritySHA256,
			stun.AttrPriority, stun.AttrUseCandidate, stun.AttrRealm, stun.AttrNonce:
		default:
			unknown = append(unknown, a.Type)
		}
	}
	return unknown
}
