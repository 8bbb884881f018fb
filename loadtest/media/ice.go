package media

import (
	"github.com/pion/stun/v4"
)

// ICE holds the credentials of a pair (RFC 8839 section 5.4). The load tester is
// the controlling side.
type ICE struct {
	LocalUfrag, LocalPassword   string
	RemoteUfrag, RemotePassword string
}

// attributes of RFC 8445 section 16.1, as values.
var (
	useCandidate = stun.RawAttribute{Type: stun.AttrUseCandidate}
	priority     = stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{0x7e, 0xff, 0xff, 0xff}}
	controlling  = stun.RawAttribute{Type: stun.AttrICEControlling, Value: []byte{0, 0, 0, 0, 0, 0, 0, 1}}
)

// check is a connectivity check that nominates, and so renews consent too
// (RFC 7675).
func (i *ICE) check() (*stun.Message, error) {
	return stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(i.RemoteUfrag+":"+i.LocalUfrag),
		priority, controlling, useCandidate, stun.NewShortTermIntegrity(i.RemotePassword), stun.Fingerprint)
}
