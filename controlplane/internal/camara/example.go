package camara

import (
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

// exampleEvents is how published call-flow examples spell the events API.
const exampleEvents = "webrtc-events-suscription"

// example finds the adapter for the paths that published call-flow examples use:
// their own spelling of the events API, and /subscriptions for a registration.
func (a *API) example(api, version, method string, rest []string) (ads []*adapter, segments []string) {
	if api == exampleEvents {
		switch version {
		case "v0.2":
			return a.adapters("webrtc-events", version), rest
		case "v0.3", "v0.3rc1", "vwip":
			return append(a.adapters("webrtc-events-subscriptions", "v0.3"), a.adapters("webrtc-events", "v0.3")...), rest
		}
		return nil, nil
	}
	if api == "webrtc-registration" && method == http.MethodPost && slices.Equal(rest, []string{"subscriptions"}) {
		return a.adapters(api, version), []string{"sessions"}
	}
	return nil, nil
}

func (a *API) adapters(api, version string) []*adapter {
	if ad := a.services[api][version]; ad != nil {
		return []*adapter{ad}
	}
	return nil
}

// resolveExample finds the operation of an example's path. When two generations
// share the path, the scopes of either do until the body tells which is meant.
func (a *API) resolveExample(m *match, api, version, method string, rest []string) (allow []string) {
	ads, segments := a.example(api, version, method, rest)
	for _, ad := range ads {
		found, id, missing, methods := find(ad.routes, method, segments)
		if found == nil {
			allow = methods
			continue
		}
		if m.route == nil {
			*m = match{route: found, version: version, id: id, missing: missing, example: api == exampleEvents}
		} else {
			m.other = found
		}
		m.scopes = append(m.scopes, found.Scopes...)
	}
	return allow
}

// chooseGeneration switches to the generation whose event types the body names,
// where the path leaves that open.
func (x *exchange) chooseGeneration(body object) {
	if !x.example {
		return
	}
	movePlaced(body)
	if x.other == nil {
		return
	}
	types := body.texts("types")
	if len(types) > 0 && strings.HasPrefix(types[0], dialects[Main2606].prefix) != strings.HasPrefix(dialects[x.adapter.generation].prefix, dialects[Main2606].prefix) {
		x.route, x.other = x.other, x.route
	}
}

// movePlaced moves into config what examples put beside it.
func movePlaced(body object) {
	config := body.object("config")
	if config == nil {
		return
	}
	for _, key := range []string{"initialEvent", "subscriptionMaxEvents", "subscriptionExpireTime"} {
		if v, ok := body[key]; ok && !config.has(key) {
			config[key] = v
			delete(body, key)
		}
	}
}

// tolerates reports whether a violation does not count: on an example's path
// either of deviceId and registrationId suffices.
func (x *exchange) tolerates(v apidoc.Violation) bool {
	if !x.example || v.Rule != "required" {
		return false
	}
	detail := x.body.object("config").object("subscriptionDetail")
	switch v.Field() {
	case "config.subscriptionDetail.deviceId":
		return detail.text("registrationId") != ""
	case "config.subscriptionDetail.registrationId":
		return detail.text("deviceId") != ""
	}
	return false
}
