package softphone

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Settings tell the page where things are; it reads them as settings.json. URLs
// may be relative to the page ("/relay"): then one page works under every
// address that the gateway is reached at. None ends with a slash.
type Settings struct {
	// Title is shown at the top; empty is "Isthmus".
	Title string `json:"title"`
	// Issuer is the OAuth server's issuer identifier. It is compared, so it
	// must be exactly the one in the discovery document.
	Issuer string `json:"issuer"`
	// DiscoveryURL is where the discovery document is read; empty is
	// Issuer + "/.well-known/openid-configuration".
	DiscoveryURL string `json:"discoveryUrl"`
	// ClientID of a public client that may use authorization_code and
	// refresh_token. Its redirect URI is the page's own address.
	ClientID string `json:"clientId"`
	// Scopes to ask for; nil is DefaultScopes.
	Scopes []string `json:"scopes"`
	// RegistrationURL, CallHandlingURL and EventsURL are the roots of the CAMARA
	// APIs with their version: "/webrtc-registration/v0.4",
	// "/webrtc-call-handling/v0.4", "/webrtc-events-subscriptions/v0.3".
	RegistrationURL string `json:"registrationUrl"`
	CallHandlingURL string `json:"callHandlingUrl"`
	EventsURL       string `json:"eventsUrl"`
	// RelayURL is where relay channels are opened by POST, "/relay/channels".
	// The streams must be on its origin.
	RelayURL string `json:"relayUrl"`
	// LadderURL is the event stream of the gateway's message ladder; empty: the
	// page draws only what it sees itself.
	LadderURL string `json:"ladderUrl"`
	// NetworkURL is the root of the demo network's control surface, with
	// GET /numbers and POST /call below it; empty: a real network, and the page
	// lists no demo numbers.
	NetworkURL string `json:"networkUrl"`
	// PhoneContext completes dialled digits that are no E.164 number
	// (RFC 3966): "+1" or a domain. Empty: digits stand for +digits.
	PhoneContext string `json:"phoneContext"`
	// ICEServers for browsers that need STUN or TURN to reach the media node,
	// beside those that the relay names when a channel is opened.
	ICEServers []ICEServer `json:"iceServers"`
	// RawAudio turns echo cancellation, noise suppression and gain control off,
	// so that tests can send tones.
	RawAudio bool `json:"rawAudio"`
}

// ICEServer is an RTCIceServer of the WebRTC API.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// DefaultScopes are what the page needs: OpenID Connect for the subscriber's
// number, and the CAMARA WebRTC APIs of release r3.1.
func DefaultScopes() []string {
	scopes := []string{"openid", "offline_access"}
	for _, api := range []string{"webrtc-registration", "webrtc-call-handling"} {
		for _, action := range []string{"create", "read", "write", "delete"} {
			scopes = append(scopes, api+":sessions:"+action)
		}
	}
	const events = "webrtc-events-subscriptions"
	for _, event := range []string{"session-invitation", "session-status", "registration-ends"} {
		scopes = append(scopes, events+":org.camaraproject."+events+".v0."+event+":create")
	}
	return append(scopes, events+":read", events+":update", events+":delete")
}

// Validate reports everything that is missing or malformed, by JSON name.
func (s Settings) Validate() error {
	var errs []error
	need := func(key, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: is required", key))
		}
	}
	need("issuer", s.Issuer)
	need("clientId", s.ClientID)
	for key, value := range s.urls() {
		if key != "discoveryUrl" && key != "ladderUrl" && key != "networkUrl" {
			need(key, value)
		}
		u, err := url.Parse(value)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https", u.User != nil, u.Fragment != "":
			errs = append(errs, fmt.Errorf("%s: %q is neither an http or https URL nor a path", key, value))
		case strings.HasSuffix(value, "/"):
			errs = append(errs, fmt.Errorf("%s: %q ends with a slash", key, value))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("softphone settings: %w", err)
	}
	return nil
}

func (s Settings) urls() map[string]string {
	return map[string]string{
		"issuer": s.Issuer, "discoveryUrl": s.DiscoveryURL, "registrationUrl": s.RegistrationURL,
		"callHandlingUrl": s.CallHandlingURL, "eventsUrl": s.EventsURL, "relayUrl": s.RelayURL,
		"ladderUrl": s.LadderURL, "networkUrl": s.NetworkURL,
	}
}

// origins are those that the page must be allowed to talk to beside its own.
func (s Settings) origins() []string {
	var list []string
	for _, v := range s.urls() {
		if u, err := url.Parse(v); err == nil && u.Host != "" {
			list = append(list, u.Scheme+"://"+u.Host)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
