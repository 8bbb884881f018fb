package sip

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Bounds of what is kept of a message: no sender makes a call's record large.
const (
	maxKept  = 8
	maxValue = 4096
)

// kept is the values of a list field, as far as they are within bounds.
func kept(m sip.Message, name string) []string {
	var out []string
	for _, v := range header.List(m, name) {
		if v = header.Printable(v); v != "" && len(v) <= maxValue && len(out) < maxKept {
			out = append(out, v)
		}
	}
	return out
}

// signalingOf is what an INVITE tells beside its parties. Of a trunk that is not
// trusted only what everybody may say is kept.
func signalingOf(t *trunk.Trunk, req *sip.Request) call.Signaling {
	s := call.Signaling{Identity: kept(req, "Identity")}
	for _, v := range s.Identity {
		if s.Attestation = attestation(v); s.Attestation != "" {
			break
		}
	}
	for _, v := range kept(req, "Alert-Info") {
		if _, uri, _, ok := header.NameAddr(v); ok {
			s.AlertInfo = append(s.AlertInfo, uri)
		}
	}
	if !t.Trusted {
		return s
	}
	s.Redirections = redirections(t, req)
	s.Priorities = kept(req, "Resource-Priority")
	s.Verstat = verstat(req)
	_, vector := header.Params("x;" + header.First(req, "P-Charging-Vector"))
	s.ChargingID = header.Printable(vector["icid-value"])
	if v := kept(req, "P-Access-Network-Info"); len(v) > 0 {
		s.AccessNetwork = v[0]
	}
	if v := kept(req, "P-Visited-Network-ID"); len(v) > 0 {
		s.VisitedNetwork = header.Unquote(v[0])
	}
	return s
}

// verstat is the network's verdict on the caller's number: a parameter of the
// asserted identity or of From, in the user part or after the URI.
func verstat(req *sip.Request) string {
	values := append(header.List(req, "P-Asserted-Identity"), header.First(req, "From"))
	for _, v := range values {
		_, uri, params, ok := header.NameAddr(v)
		if !ok {
			continue
		}
		if found := params["verstat"]; found != "" {
			return token(found)
		}
		_, rest, _ := strings.Cut(uri, ":")
		user, host, isSIP := strings.Cut(rest, "@")
		for _, part := range []string{user, host} {
			if _, params := header.Params("x;" + strings.ReplaceAll(part, "?", ";")); params["verstat"] != "" && (isSIP || part == user) {
				return token(params["verstat"])
			}
		}
	}
	return ""
}

// token keeps a word of the network short and plain.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 64)]
}

// attestation reads what a PASSporT (RFC 8225, RFC 8588) claims, without verifying
// it.
func attestation(identity string) string {
	compact, _, _ := strings.Cut(identity, ";")
	parts := strings.Split(strings.TrimSpace(compact), ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Attest string `json:"attest"`
	}
	if json.Unmarshal(text, &claims) != nil || len(claims.Attest) != 1 || !strings.Contains("ABC", claims.Attest) {
		return ""
	}
	return claims.Attest
}

// redirections reads History-Info or, from networks that write the older field,
// Diversion, whose first value is the latest.
func redirections(t *trunk.Trunk, req *sip.Request) []call.Redirection {
	hidden := false
	for _, v := range header.Values(req, "Privacy") {
		hidden = hidden || strings.Contains(strings.ToLower(v), "history")
	}
	history := kept(req, "History-Info")
	var out []call.Redirection
	// An entry says who was tried; the entry after it, why that led on.
	for i := 1; i < len(history); i++ {
		_, uri, _, ok := header.NameAddr(history[i])
		if !ok {
			continue
		}
		_, params := header.Params(strings.ReplaceAll(uri, "?", ";"))
		cause, err := strconv.Atoi(params["cause"])
		if err != nil {
			continue // a retargeting that is no diversion
		}
		_, by, _, _ := header.NameAddr(history[i-1])
		r := call.Redirection{Cause: cause}
		if base, headers, _ := strings.Cut(by, "?"); !hidden && !strings.Contains(strings.ToLower(headers), "privacy=") {
			r.By = t.Address(base)
		}
		out = append(out, r)
	}
	if len(history) > 0 {
		return out
	}
	diversions := kept(req, "Diversion")
	for i := len(diversions) - 1; i >= 0; i-- {
		_, uri, params, ok := header.NameAddr(diversions[i])
		if !ok {
			continue
		}
		r := call.Redirection{Cause: diversionCauses[strings.ToLower(params["reason"])]}
		if p := strings.ToLower(params["privacy"]); !hidden && (p == "" || p == "off") {
			r.By = t.Address(uri)
		}
		out = append(out, r)
	}
	return out
}

// diversionCauses maps the reasons of RFC 5806 to the causes of RFC 4458, as RFC
// 7544 does.
var diversionCauses = map[string]int{
	"unconditional": 302, "user-busy": 486, "no-answer": 408, "unavailable": 503,
	"deflection": 480, "away": 302, "do-not-disturb": 302, "time-of-day": 302, "follow-me": 302, "unknown": 404,
}

// boundary is what the gateway says at the edge of the trusted network (RFC 7315):
// the charging identity of the call, and where its access is. Nothing of that leaves
// toward a trunk that is not trusted.
func (n *Network) boundary(t *trunk.Trunk) []dialog.Field {
	var out []dialog.Field
	if !t.Trusted {
		return nil
	}
	if t.Charging {
		out = append(out, dialog.Field{Name: "P-Charging-Vector",
			Value: "icid-value=" + header.Quote(n.random(24)) + ";icid-generated-at=" + n.generatedAt(t)})
	}
	return append(out, access(t)...)
}

// access says where the access of a call or a registration is.
func access(t *trunk.Trunk) []dialog.Field {
	var out []dialog.Field
	if t.Trusted && t.AccessNetwork != "" {
		out = append(out, dialog.Field{Name: "P-Access-Network-Info", Value: t.AccessNetwork})
	}
	if t.Trusted && t.VisitedNetwork != "" {
		out = append(out, dialog.Field{Name: "P-Visited-Network-ID", Value: header.Quote(t.VisitedNetwork)})
	}
	return out
}

// generatedAt names the element that made a charging identity: what peers are told
// as our address anyway.
func (n *Network) generatedAt(t *trunk.Trunk) string {
	for _, b := range n.tap.Bound() {
		if b.Network == t.Transport {
			return b.Host
		}
	}
	return t.Domain
}

// early is the direction of early media that a response authorizes (RFC 5009): that
// of the first media line.
func early(m sip.Message) string {
	for _, v := range header.List(m, "P-Early-Media") {
		switch v = strings.ToLower(v); v {
		case "sendrecv", "sendonly", "recvonly", "inactive":
			return v
		}
	}
	return ""
}
