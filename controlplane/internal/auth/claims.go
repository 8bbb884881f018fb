package auth

import (
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// unknownLife is how long an introspected token counts as alive when its issuer
// does not say; the issuer is asked again long before.
const unknownLife = time.Hour

// claims are those of a JWT or the members of an introspection answer, which
// have the same names and meanings (RFC 7662 §2.2).
type claims map[string]json.RawMessage

// text is a claim that is a non-empty string.
func (c claims) text(name string) (string, bool) {
	var s string
	err := json.Unmarshal(c[name], &s)
	return s, err == nil && s != ""
}

// list is a claim that is a string or an array of strings.
func (c claims) list(name string) ([]string, bool) {
	raw, ok := c[name]
	if !ok {
		return nil, false
	}
	var l []string
	if json.Unmarshal(raw, &l) == nil && l != nil {
		return l, true
	}
	if s, ok := c.text(name); ok {
		return []string{s}, true
	}
	return nil, false
}

// date is a NumericDate (RFC 7519 §2); there is false when the claim is missing.
func (c claims) date(name string) (at time.Time, there bool, err error) {
	raw, ok := c[name]
	if !ok {
		return time.Time{}, false, nil
	}
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil || string(raw) == "null" || !(f >= 0 && f < 1e11) {
		return time.Time{}, true, invalid("%s is not a date", name)
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(frac*1e9)), true, nil
}

func (c claims) audienceIn(audiences []string) bool {
	list, _ := c.list("aud")
	return slices.ContainsFunc(list, func(a string) bool { return slices.Contains(audiences, a) })
}

// interpret reads what both kinds of token have in common: times, client,
// subscriber, scopes and binding.
func (i *issuer) interpret(c claims, now time.Time) (access, error) {
	a := access{owner: call.Owner{Tenant: i.Tenant, Issuer: i.Issuer.Issuer}}
	var err error
	if a.expires, err = i.checkTimes(c, now); err != nil {
		return access{}, err
	}
	if a.owner.ClientID, err = clientID(c); err != nil {
		return access{}, err
	}
	if a.owner.Subject, err = i.subject(c, a.owner.ClientID); err != nil {
		return access{}, err
	}
	if a.scopes, err = scopes(c); err != nil {
		return access{}, err
	}
	return a, a.readBinding(c)
}

func (i *issuer) checkTimes(c claims, now time.Time) (expires time.Time, err error) {
	exp, there, err := c.date("exp")
	switch {
	case err != nil:
		return exp, err
	case !there:
		exp = now.Add(unknownLife)
	case !now.Before(exp.Add(i.ClockSkew)):
		return exp, invalid("the token has expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		at, there, err := c.date(name)
		if err != nil {
			return exp, err
		}
		if there && at.After(now.Add(i.ClockSkew)) {
			return exp, invalid("%s of the token lies ahead", name)
		}
	}
	return exp, nil
}

// clientID is client_id (RFC 9068 §2.2), or azp, where older servers put it.
func clientID(c claims) (string, error) {
	for _, name := range []string{"client_id", "azp"} {
		if _, ok := c[name]; !ok {
			continue
		}
		id, ok := c.text(name)
		if !ok || len(id) > 256 {
			return "", invalid("%s of the token is not a usable string", name)
		}
		return id, nil
	}
	return "", invalid("the token names no client: neither client_id nor azp")
}

// subject is the number of the subscriber, empty for a token of the client alone.
// A number that is there but wrong makes the token bad: read as none, it would
// give the rights of the client. A sub equal to the client is the client's own
// token (RFC 9068 §2.2).
func (i *issuer) subject(c claims, client string) (call.Number, error) {
	names := []string{i.PhoneNumberClaim}
	if i.PhoneNumberClaim != "phone_number" {
		names = append(names, "phone_number")
	}
	for _, name := range names {
		raw, ok := c[name]
		if !ok || string(raw) == "null" {
			continue
		}
		s, _ := c.text(name)
		number, err := call.ParseNumber(strings.TrimPrefix(s, "tel:"))
		if err != nil {
			return "", invalid("%s of the token is not an E.164 number with plus sign", name)
		}
		if string(c["phone_number_verified"]) == "false" {
			return "", invalid("the issuer has not verified the phone number of the token")
		}
		return number, nil
	}
	sub, _ := c.text("sub")
	if sub == client {
		return "", nil
	}
	number, err := call.ParseNumber(strings.TrimPrefix(sub, "tel:"))
	if err != nil {
		return "", nil
	}
	return number, nil
}

// scopes reads scope, a string of names with spaces between them (RFC 6749
// §3.3), or scp, an array of names; some servers mix the forms.
func scopes(c claims) ([]string, error) {
	var found []string
	for _, name := range []string{"scope", "scp"} {
		raw, ok := c[name]
		if !ok || string(raw) == "null" || string(raw) == `""` {
			continue
		}
		list, ok := c.list(name)
		if !ok {
			return nil, invalid("%s of the token is neither a string nor an array of strings", name)
		}
		for _, s := range list {
			for _, scope := range strings.Fields(s) {
				if !slices.Contains(found, scope) {
					found = append(found, scope)
				}
			}
		}
	}
	return found, nil
}

// readBinding reads cnf (RFC 7800). A token bound in a way that is not known
// here is refused, as nobody would check it.
func (a *access) readBinding(c claims) error {
	raw, ok := c["cnf"]
	if !ok {
		return nil
	}
	var cnf claims
	if err := json.Unmarshal(raw, (*map[string]json.RawMessage)(&cnf)); err != nil || len(cnf) == 0 {
		return invalid("cnf of the token is not an object with members")
	}
	for name := range cnf {
		value, ok := cnf.text(name)
		if b, err := base64.RawURLEncoding.DecodeString(value); !ok || err != nil || len(b) != 32 {
			return invalid("cnf of the token has a %.20q that is not a SHA-256 thumbprint", name)
		}
		switch name {
		case "jkt":
			a.jkt = value
		case "x5t#S256":
			a.x5t = value
		default:
			return invalid("the token is bound by %.20q, which is not supported", name)
		}
	}
	return nil
}
