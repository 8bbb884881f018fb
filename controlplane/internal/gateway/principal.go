package gateway

import (
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Principal is on whose behalf a use case runs: a validated access token.
type Principal struct {
	// Owner has an empty Subject when the token is bound to no subscriber.
	Owner call.Owner
	// Scopes granted, each once.
	Scopes []string
	// Expires is when the token dies.
	Expires time.Time
}

// TwoLegged reports whether the token is the application's own.
func (p Principal) TwoLegged() bool { return p.Owner.Subject == "" }

// Has reports whether the scope was granted.
func (p Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }
