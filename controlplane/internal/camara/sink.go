package camara

import (
	"net/url"
	"strings"
	"unicode"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// maxSink bounds a sink's URL, in characters.
const maxSink = 1024

// checkSubscription refuses what has a code of its own: the protocol, the sink,
// the credential. What is absent or of another JSON type is left to the schema.
func checkSubscription(body object) *failure {
	if p, ok := body["protocol"].(string); ok && p != "HTTP" {
		return refuse(call.InvalidProtocol, "protocol: only HTTP is supported.")
	}
	if s, ok := body["sink"].(string); ok {
		if reason := unusableSink(s); reason != "" {
			return refuse(call.InvalidSink, "sink: %s.", reason)
		}
	}
	credential, ok := body["sinkCredential"].(map[string]any)
	if !ok {
		return nil
	}
	if t, ok := credential["credentialType"].(string); ok && t != "ACCESSTOKEN" {
		return refuse(call.InvalidCredential, "sinkCredential.credentialType: only ACCESSTOKEN is supported.")
	}
	if t, ok := credential["accessTokenType"].(string); ok && t != "bearer" {
		return refuse(call.InvalidToken, "sinkCredential.accessTokenType: only bearer is supported.")
	}
	return nil
}

// unusableSink says what makes a URL no sink, empty when nothing does. Where it
// leads to is the gateway's to judge.
func unusableSink(s string) string {
	if len([]rune(s)) > maxSink {
		return "must have at most 1024 characters"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "must be a URL"
	case !strings.HasPrefix(s, "https://"):
		return "must be an https URL"
	case u.Hostname() == "":
		return "must name a host"
	case u.User != nil:
		return "must not hold a user or password"
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return "must not have a fragment"
	}
	return ""
}
