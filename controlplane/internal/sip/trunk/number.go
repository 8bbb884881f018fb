package trunk

import (
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// digits writes an E.164 number the trunk's way.
func (t *Trunk) digits(n call.Number) string {
	if t.Numbers == "digits" {
		return n.Digits()
	}
	return string(n)
}

// Scheme of the trunk's URIs, with its colon.
func (t *Trunk) Scheme() string {
	if t.SIPS {
		return "sips:"
	}
	return "sip:"
}

// URI is the SIP URI of a calling number on the trunk.
func (t *Trunk) URI(n call.Number) string { return t.uri(t.callingOut, n) }

func (t *Trunk) uri(r rules, n call.Number) string {
	user, ok := r.apply(string(n))
	if !ok {
		user = t.digits(n)
	}
	return t.Scheme() + hashes(user) + "@" + t.Domain + ";user=phone"
}

// AOR is the address of record of a number, for REGISTER.
func (t *Trunk) AOR(n call.Number) string {
	return t.Scheme() + t.digits(n) + "@" + t.Domain
}

// RequestURI is how a call to the address is addressed (RFC 3261 19.1.6).
func (t *Trunk) RequestURI(a call.Address) string {
	if n, ok := a.Number(); ok && (a.Kind() == call.TelGlobal || a.Kind() == call.SIPUser) {
		return t.uri(t.calledOut, n)
	}
	switch a.Kind() {
	case call.TelLocal, call.SIPLocal:
		host := a.Host()
		if host == "" {
			host = t.Domain
		}
		return t.Scheme() + hashes(a.User()) + ";phone-context=" + a.PhoneContext() + "@" + host + ";user=phone"
	case call.EmergencyService:
		return EmergencyURI(a)
	default:
		return t.Scheme() + hashes(a.User()) + "@" + a.Host()
	}
}

// hashes escapes what may be dialled but not stand in a URI's user part.
func hashes(s string) string { return strings.ReplaceAll(s, "#", "%23") }

// NameAddr is a From or To value without tag.
func NameAddr(name, uri string) string {
	if name = header.Printable(name); name != "" {
		return header.Quote(name) + " <" + uri + ">"
	}
	return "<" + uri + ">"
}

// Caller is what an outgoing INVITE says about who calls: the From value and the
// fields of identity and privacy (RFC 3323, RFC 3325).
func (t *Trunk) Caller(n call.Number, name string, anonymous bool) (from string, fields [][2]string) {
	from = NameAddr(name, t.URI(n))
	if anonymous {
		from = `"Anonymous" <sip:anonymous@anonymous.invalid>`
		fields = append(fields, [2]string{"Privacy", "id"})
	}
	return from, append(fields, t.identity(t.Identity, n, name)...)
}

// EmergencyCaller is Caller for an emergency call: nothing is hidden, and the
// number is asserted also on a trunk that is otherwise not told, so that it can be
// called back.
func (t *Trunk) EmergencyCaller(n call.Number, name string) (from string, fields [][2]string) {
	identity := t.Identity
	if identity == "none" {
		identity = "asserted"
	}
	fields = t.identity(identity, n, name)
	if t.ResourcePriority != "" {
		fields = append(fields, [2]string{"Resource-Priority", t.ResourcePriority})
	}
	return NameAddr(name, t.URI(n)), fields
}

func (t *Trunk) identity(identity string, n call.Number, name string) (fields [][2]string) {
	field := ""
	switch identity {
	case "asserted":
		field = "P-Asserted-Identity"
	case "preferred":
		field = "P-Preferred-Identity"
	default:
		return nil
	}
	fields = append(fields, [2]string{field, NameAddr(name, t.URI(n))})
	if t.IdentityTel {
		fields = append(fields, [2]string{field, "<tel:" + string(n) + ">"})
	}
	return fields
}

// Associate replaces the identity in the fields of Caller by the URI that the
// registrar associates with the number (P-Associated-URI, RFC 7315): that is the one
// it will accept.
func (t *Trunk) Associate(fields [][2]string, n call.Number, associated []string) [][2]string {
	for i, f := range fields {
		if f[0] != "P-Preferred-Identity" && f[0] != "P-Asserted-Identity" {
			continue
		}
		name, uri, _, ok := header.NameAddr(f[1])
		if !ok || !strings.HasPrefix(uri, "sip:") {
			continue
		}
		for _, a := range associated {
			if number, ok := t.Address(a).Number(); ok && number == n && strings.HasPrefix(strings.ToLower(a), "sip") {
				fields[i][1] = NameAddr(name, a)
				break
			}
		}
	}
	return fields
}

// EmergencyURI is how an emergency call is addressed (RFC 5031): by the service
// that is asked for, or urn:service:sos when the address is any other.
func EmergencyURI(a call.Address) string {
	if a.Kind() == call.EmergencyService {
		return "urn:service:" + a.User()
	}
	return "urn:service:sos"
}

// Locates reports whether calls of the trunk carry their caller's location.
func (t *Trunk) Locates(emergency bool) bool {
	return t.Location == LocationAlways || t.Location == LocationEmergency && emergency
}

// Callee makes a call address of a called party's URI that came from the network.
// An E.164 number becomes a tel address, whatever the host; what no documented form
// fits is absent.
func (t *Trunk) Callee(uri string) call.Address { return t.address(uri, t.calledIn) }

// Address is Callee for a calling party.
func (t *Trunk) Address(uri string) call.Address { return t.address(uri, t.callingIn) }

func (t *Trunk) address(uri string, r rules) call.Address {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(uri), ":")
	if !ok {
		return call.Address{}
	}
	switch strings.ToLower(scheme) {
	case "tel":
		return t.number(rest, "", r)
	case "sip", "sips":
		user, host, ok := strings.Cut(rest, "@")
		if !ok {
			return call.Address{}
		}
		host, _, _ = strings.Cut(host, ";")
		host, _, _ = strings.Cut(host, "?")
		user = unescape(user)
		user, _, _ = strings.Cut(user, ":")
		if strings.EqualFold(host, "anonymous.invalid") || strings.EqualFold(user, "anonymous") {
			return call.AnonymousAddress()
		}
		return t.number(user, host, r)
	case "urn":
		a, _ := call.ParseAddress("urn:" + rest)
		return a
	}
	return call.Address{}
}

// number reads a telephone-subscriber (RFC 3966) or any other user part.
func (t *Trunk) number(user, host string, r rules) call.Address {
	number, params := header.Params(user)
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.()", r) {
			return -1 // visual separators
		}
		return r
	}, number)
	if made, ok := r.apply(plain); ok {
		plain, number = made, made
	}
	if n, err := call.ParseNumber(plain); err == nil {
		return n.Address()
	}
	if t.Numbers == "digits" {
		if n, err := call.ParseNumber("+" + plain); err == nil {
			return n.Address()
		}
	}
	if context := params["phone-context"]; context != "" {
		if a, err := call.ParseAddress("tel:" + plain + ";phone-context=" + context); err == nil {
			return a
		}
	}
	for _, h := range []string{hostOnly(host), t.Domain, "invalid.invalid"} {
		if h == "" {
			continue
		}
		if a, err := call.ParseAddress("sip:" + number + "@" + h); err == nil {
			return a
		}
	}
	return call.Address{}
}

func hostOnly(hostport string) string {
	if strings.HasPrefix(hostport, "[") {
		return ""
	}
	h, _, _ := strings.Cut(hostport, ":")
	return h
}

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := nibble(s[i+1]), nibble(s[i+2])
			if hi >= 0 && lo >= 0 {
				if c := byte(hi<<4 | lo); c > ' ' && c < 0x7f {
					b.WriteByte(c)
					i += 2
					continue
				}
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func nibble(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
