package camara

import (
	"regexp"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// narrowPattern is the only form of an address before r3.1.
var narrowPattern = regexp.MustCompile(`^(tel:\+[0-9]{5,15}|sip:[A-Za-z0-9_.!%+\-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,})$`)

var notUser = regexp.MustCompile(`[^A-Za-z0-9_.!%+\-]`)

// isHomeDomain reports whether addresses of the domain fit the narrow pattern.
func isHomeDomain(s string) bool {
	a, err := call.ParseAddress("sip:sos@" + s)
	return err == nil && a.Host() == s && narrowPattern.MatchString(a.String())
}

// narrowAddress writes an address so that it fits the pattern of older releases:
// local numbers and emergency services become users of the home domain.
func narrowAddress(a call.Address, home string) string {
	if a.IsZero() {
		return ""
	}
	if a.Kind() == call.SIPUser && a.Host() == home && strings.HasPrefix(a.User(), "+0") {
		// A number that E.164 does not allow came in by the narrow pattern.
		if s := "tel:" + a.User(); narrowPattern.MatchString(s) {
			return s
		}
	}
	if s := a.String(); narrowPattern.MatchString(s) {
		return s
	}
	user := notUser.ReplaceAllStringFunc(a.User(), escapeDigit)
	host := home
	switch a.Kind() {
	case call.EmergencyService:
		user = "sos"
	case call.SIPUser:
		host = a.Host()
	}
	for _, h := range []string{host, home} {
		if s := "sip:" + user + "@" + h; narrowPattern.MatchString(s) {
			return s
		}
	}
	return call.AnonymousAddress().String()
}

// escapeDigit escapes the digits that have no place in the narrow user (RFC 3261
// 25.1).
func escapeDigit(c string) string {
	switch c {
	case "*":
		return "%2A"
	case "#":
		return "%23"
	}
	return "_"
}
