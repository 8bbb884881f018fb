package gateway

import "context"

// Sinks judges where events may be delivered to.
type Sinks interface {
	// Check refuses a sink URL that policy forbids (scheme, private address).
	// The error text names the rule.
	Check(ctx context.Context, url string) error
}
