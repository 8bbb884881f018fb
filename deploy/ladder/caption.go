package ladder

import "strings"

// caption is an entry's title, made short enough for an arrow: of a SIP request the
// method and whom it is for, of an API request the method and what it is about, of
// an event the status that it tells.
func caption(e Entry) string {
	method, rest, _ := strings.Cut(e.Title, " ")
	switch {
	case method == "notification":
		kind, status, _ := strings.Cut(rest, ": ")
		if kind == "session-status" {
			return "event " + status
		}
		return "event " + kind
	case strings.HasPrefix(rest, "sip") || strings.HasPrefix(rest, "tel:"):
		_, address, _ := strings.Cut(rest, ":")
		return method + " " + address[:len(address)-len(strings.TrimLeftFunc(address, inUser))]
	}
	for api, about := range map[string]string{
		"/webrtc-call-handling/": "call", "/webrtc-registration/": "registration", "/webrtc-events-subscriptions/": "subscription",
	} {
		if strings.HasPrefix(rest, api) {
			if strings.HasSuffix(rest, "/status") {
				about = "status"
			}
			return method + " " + about
		}
	}
	return e.Title
}

func inUser(r rune) bool { return r != '@' && r != ';' && r != ':' }
