package camara

import (
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// dialect is how a generation spells event types, scopes and events. It stays
// with a subscription for its life.
type dialect struct {
	generation string
	// scope is what scopes begin with, prefix what event types begin with.
	scope  string
	prefix string
	// narrow: addresses must fit the narrow pattern of older releases.
	narrow bool
	// listed bounds the list of subscriptions, as the document states; 0 for no
	// bound.
	listed int
	// correlators: events carry the fields that only r2.2 has.
	correlators bool
}

// dialects by generation; only read.
var dialects = map[string]dialect{
	R31: {
		generation: R31,
		scope:      "webrtc-events-subscriptions",
		prefix:     "org.camaraproject.webrtc-events-subscriptions.v0.",
		listed:     100,
	},
	R22: {
		generation:  R22,
		scope:       "webrtc-events",
		prefix:      "org.camaraproject.webrtc-events.v0.",
		narrow:      true,
		correlators: true,
	},
	Main2606: {
		generation: Main2606,
		scope:      "webrtc-events",
		prefix:     "org.camaraproject.webrtc-events.v0.",
		narrow:     true,
		listed:     100,
	},
}

// dialectOf the generation that a subscription was made through; the newest for
// one that names none.
func dialectOf(generation string) dialect {
	if d, ok := dialects[generation]; ok {
		return d
	}
	return dialects[R31]
}

func (d dialect) typeName(t call.EventType) string { return d.prefix + string(t) }

// eventType is the reverse of typeName.
func (d dialect) eventType(name string) (call.EventType, bool) {
	t, ok := strings.CutPrefix(name, d.prefix)
	return call.EventType(t), ok
}

// createScope is what a token needs to subscribe to an event type.
func (d dialect) createScope(name string) string { return d.scope + ":" + name + ":create" }
