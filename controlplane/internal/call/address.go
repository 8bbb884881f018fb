package call

import (
	"encoding/json"
	"strconv"
	"strings"
)

// MaxAddressLength bounds an address, in characters.
const MaxAddressLength = 256

// AddressKind tells the documented forms of an address apart.
type AddressKind int

// The forms that the call-handling API documents.
const (
	// TelGlobal is tel:+E164 (RFC 3966).
	TelGlobal AddressKind = iota + 1
	// TelLocal is tel: with a local number and phone-context.
	TelLocal
	// SIPUser is sip:user@host.
	SIPUser
	// SIPLocal is sip: with a local number, phone-context and user=phone.
	SIPLocal
	// EmergencyService is urn:service:sos with optional subservice (RFC 5031).
	EmergencyService
	// Anonymous is sip:anonymous@anonymous.invalid (RFC 3323).
	Anonymous
)

// Address is one party of a call. It is parsed once, at the edge where it enters,
// and never holds characters that could break out of a SIP header. The zero
// Address is absent.
type Address struct {
	kind AddressKind
	// user: +E164 or local digits for the tel and local forms, the user part of
	// a SIP URI, or the service ("sos.fire").
	user string
	// host of a SIP URI, in lower case.
	host string
	// context is the phone-context, with + when global, lower case when a domain.
	context string
	raw     string
}

const anonymousURI = "sip:anonymous@anonymous.invalid"

// AnonymousAddress is the address of a caller who withholds the number.
func AnonymousAddress() Address {
	return Address{kind: Anonymous, user: "anonymous", host: "anonymous.invalid", raw: anonymousURI}
}

// ParseAddress accepts the forms of the call-handling API: tel:+E164, tel:local
// with phone-context, sip:user@host, sip:local with phone-context and user=phone,
// urn:service:sos and the anonymous URI; at most MaxAddressLength characters. The
// error is an *Error with InvalidArgument.
func ParseAddress(s string) (Address, error) {
	if s == "" {
		return Address{}, Errorf(InvalidArgument, "an address must not be empty")
	}
	if len(s) > MaxAddressLength {
		return Address{}, Errorf(InvalidArgument, "an address has at most %d characters, this one has %d", MaxAddressLength, len(s))
	}
	scheme, rest, _ := strings.Cut(s, ":")
	var a Address
	var ok bool
	switch strings.ToLower(scheme) {
	case "tel":
		a, ok = parseTel(rest)
	case "sip":
		a, ok = parseSIP(rest)
	case "urn":
		a, ok = parseURN(rest)
	}
	if !ok {
		return Address{}, Errorf(InvalidArgument, "%q is not an address of a documented form (tel:+15550100, tel:100;phone-context=+1555, sip:user@example.com, urn:service:sos, %s)", clip(s), anonymousURI)
	}
	a.raw = s
	return a, nil
}

func parseTel(rest string) (Address, bool) {
	number, context, hasContext := strings.Cut(rest, ";phone-context=")
	if !hasContext {
		return Address{kind: TelGlobal, user: number}, isE164(number)
	}
	if !isLocalNumber(number) || !isPhoneContext(context) {
		return Address{}, false
	}
	return Address{kind: TelLocal, user: number, context: strings.ToLower(context)}, true
}

func parseSIP(rest string) (Address, bool) {
	user, hostport, ok := strings.Cut(rest, "@")
	if !ok || user == "" {
		return Address{}, false
	}
	host, params, _ := strings.Cut(hostport, ";")
	if !isDomain(host) {
		return Address{}, false
	}
	host = strings.ToLower(host)
	if number, context, local := strings.Cut(user, ";phone-context="); local {
		if !isLocalNumber(number) || !isPhoneContext(context) || !strings.EqualFold(params, "user=phone") {
			return Address{}, false
		}
		return Address{kind: SIPLocal, user: number, context: strings.ToLower(context), host: host}, true
	}
	if params != "" && !strings.EqualFold(params, "user=phone") {
		return Address{}, false
	}
	if strings.EqualFold(user, "anonymous") && host == "anonymous.invalid" {
		return AnonymousAddress(), true
	}
	if !isSIPUser(user) {
		return Address{}, false
	}
	return Address{kind: SIPUser, user: user, host: host}, true
}

func parseURN(rest string) (Address, bool) {
	service, found := strings.CutPrefix(strings.ToLower(rest), "service:")
	if !found {
		return Address{}, false
	}
	labels := strings.Split(service, ".")
	if labels[0] != "sos" {
		return Address{}, false
	}
	for _, l := range labels {
		if !isLabel(l) {
			return Address{}, false
		}
	}
	return Address{kind: EmergencyService, user: service}, true
}

// Kind is the form of the address, 0 when absent.
func (a Address) Kind() AddressKind { return a.kind }

// IsZero reports whether the address is absent.
func (a Address) IsZero() bool { return a.kind == 0 }

// String is the address as it was sent.
func (a Address) String() string { return a.raw }

// User is the number with or without plus, the user of a SIP URI, or the
// emergency service.
func (a Address) User() string { return a.user }

// Host of a SIP URI, empty for the other forms.
func (a Address) Host() string { return a.host }

// PhoneContext of a local number, empty for the other forms.
func (a Address) PhoneContext() string { return a.context }

// Number is the E.164 number that the address stands for, if it does: tel:+E164,
// or a SIP URI whose user is one.
func (a Address) Number() (Number, bool) {
	if (a.kind == TelGlobal || a.kind == SIPUser) && isE164(a.user) {
		return Number(a.user), true
	}
	return "", false
}

// Canonical is the form by which addresses are compared: tel:+E164 wherever the
// address stands for a number, lower-case scheme, host and context.
func (a Address) Canonical() string {
	if n, ok := a.Number(); ok {
		return "tel:" + string(n)
	}
	switch a.kind {
	case TelLocal:
		return "tel:" + a.user + ";phone-context=" + a.context
	case SIPUser, Anonymous:
		return "sip:" + a.user + "@" + a.host
	case SIPLocal:
		return "sip:" + a.user + ";phone-context=" + a.context + "@" + a.host + ";user=phone"
	case EmergencyService:
		return "urn:service:" + a.user
	}
	return ""
}

// Equal reports whether both name the same party.
func (a Address) Equal(b Address) bool { return a.kind != 0 && a.Canonical() == b.Canonical() }

// MarshalJSON writes the address as it was sent.
func (a Address) MarshalJSON() ([]byte, error) { return json.Marshal(a.raw) }

// UnmarshalJSON parses the address; the empty string is the absent one.
func (a *Address) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "" {
		*a = Address{}
		return nil
	}
	parsed, err := ParseAddress(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

func isLocalNumber(s string) bool {
	if len(s) < 1 || len(s) > 15 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && c != '*' && c != '#' {
			return false
		}
	}
	return true
}

// isPhoneContext accepts +digits or a domain name (RFC 3966 3).
func isPhoneContext(s string) bool {
	if digits, global := strings.CutPrefix(s, "+"); global {
		return onlyDigits(digits) && len(digits) <= 15
	}
	return isDomain(s)
}

// isDomain wants at least two labels and no port.
func isDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(labels) < 2 || len(s) > 253 {
		return false
	}
	for _, l := range labels {
		if !isLabel(l) {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' {
			return false
		}
	}
	return true
}

// isSIPUser is the documented subset of RFC 3261's user. Escapes must be whole
// and not stand for control characters, so that nobody who decodes them is led
// astray.
func isSIPUser(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			v, err := strconv.ParseUint(s[i+1:min(i+3, len(s))], 16, 8)
			if err != nil || i+2 >= len(s) || v < ' ' || v == 0x7f {
				return false
			}
			i += 2
		case !isAlphanumeric(c) && !strings.ContainsRune("_.!+-", rune(c)):
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
