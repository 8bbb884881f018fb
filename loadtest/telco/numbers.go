package telco

import (
	"net/url"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Number is a telephone number that a scenario answers for.
type Number struct {
	Number      string   `yaml:"number" json:"number" help:"number in E.164 form with a plus sign"`
	Scenario    Scenario `yaml:"scenario" json:"scenario" help:"what happens when the number is called"`
	Description string   `yaml:"description" json:"description" help:"text for people"`
}

// DemoNumbers returns the numbers that every network has, in a fresh slice.
func DemoNumbers() []Number {
	return []Number{
		{"+15550100", ScenarioEcho, "Rings, answers and sends back what you say"},
		{"+15550101", ScenarioTone, "Rings, answers and plays a 440 Hz tone"},
		{"+15550102", ScenarioBusy, "Is busy"},
		{"+15550103", ScenarioDeclined, "Rings, then declines the call"},
		{"+15550104", ScenarioUnknown, "Is not a number in service"},
		{"+15550105", ScenarioNoAnswer, "Rings and is never answered"},
		{"+15550106", ScenarioEarlyMedia, "Plays an announcement before it answers, then a tone"},
		{"+15550107", ScenarioHangUp, "Answers and hangs up after five seconds"},
		{"+15550108", ScenarioHold, "Answers, puts you on hold with music and comes back, again and again"},
		{"+15550109", ScenarioDTMF, "Answers and plays back the keys you press"},
		{"+15550110", ScenarioLongRing, "Rings for a long time, then answers and echoes"},
		{"+15550111", ScenarioUnavailable, "Cannot be reached at the moment"},
		{"+15550112", ScenarioFailure, "Fails inside the network"},
		{"+15550113", ScenarioForwarded, "Is forwarded, rings and echoes"},
		{"+15550114", ScenarioCallBack, "Answers, hangs up and calls you back"},
	}
}

// isE164 reports whether s is a plus sign and 5 to 15 digits, the first of
// them not zero (ITU-T E.164, with the shortest length CAMARA admits).
func isE164(s string) bool {
	if len(s) < 6 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	return strings.Trim(s[1:], "0123456789") == ""
}

// normalizer turns dialled strings into E.164 numbers.
type normalizer struct {
	country string            // "+1"
	known   func(string) bool // whether a number is in service as it stands
}

// number returns the E.164 form of the user part of a SIP URI or of the
// subscriber part of a tel URI (RFC 3966): parameters and visual separators go,
// an international prefix becomes a plus sign, a local number gets the country
// code. What is no telephone number at all gives an empty string.
func (n normalizer) number(user string) string {
	user, params, _ := strings.Cut(user, ";")
	if unescaped, err := unescape(user); err == nil {
		user = unescaped
	}
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.() ", r) {
			return -1
		}
		return r
	}, user)
	if strings.HasPrefix(digits, "+") {
		if isE164(digits) {
			return digits
		}
		return ""
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	if rest, ok := strings.CutPrefix(digits, "00"); ok && isE164("+"+rest) {
		return "+" + rest
	}
	for param := range strings.SplitSeq(params, ";") {
		if context, ok := strings.CutPrefix(param, "phone-context="); ok && isE164(context+digits) {
			return context + digits
		}
	}
	if full := "+" + digits; isE164(full) && n.known(full) {
		return full
	}
	if full := n.country + strings.TrimLeft(digits, "0"); isE164(full) {
		return full
	}
	return ""
}

// uri returns the E.164 number in a SIP or tel URI, or an empty string.
func (n normalizer) uri(u *sip.Uri) string {
	if strings.EqualFold(u.Scheme, "tel") {
		return n.number(u.Raw())
	}
	return n.number(u.User)
}

// unescape resolves %HH escapes (RFC 3261 section 19.1.2).
func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	return url.PathUnescape(s)
}
