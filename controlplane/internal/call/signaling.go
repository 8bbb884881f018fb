package call

import (
	"fmt"
	"strings"
)

// Signaling is what the operator's network tells about an incoming call beside who
// calls whom. It decides nothing; it is kept with the call and logged, and what
// concerns the called person is told with the invitation.
type Signaling struct {
	// Verstat is the network's verdict on the caller's number (3GPP TS 24.229
	// 7.2A.20, ATIS-1000074): TN-Validation-Passed, TN-Validation-Failed or
	// No-TN-Validation; empty when there is none.
	Verstat string
	// Identity are the Identity fields (RFC 8224) as they came. The gateway does
	// not verify them.
	Identity []string
	// Attestation is what the first of them claims: A, B or C; empty when it
	// cannot be read.
	Attestation string
	// Redirections in their order, the first diversion first.
	Redirections []Redirection
	// AlertInfo are the URIs of Alert-Info (RFC 3261 20.4, RFC 7462).
	AlertInfo []string
	// Priorities are the r-values of Resource-Priority (RFC 4412).
	Priorities []string
	// ChargingID is the icid-value of P-Charging-Vector (RFC 7315).
	ChargingID string
	// AccessNetwork and VisitedNetwork are P-Access-Network-Info and
	// P-Visited-Network-ID.
	AccessNetwork  string
	VisitedNetwork string
}

// Redirection is one diversion of a call on its way here (RFC 7044, RFC 5806).
type Redirection struct {
	// By is who diverted; absent when that is private or cannot be read.
	By Address
	// Cause is the SIP code that RFC 4458 gives the reason: 302 unconditional, 486
	// busy, 408 no answer, 480 deflection or not reachable; 0 when not told.
	Cause int
}

// Reason is what the called person may want to know, empty when there is nothing.
func (s Signaling) Reason() string {
	var parts []string
	if n := len(s.Redirections); n > 0 {
		last := s.Redirections[n-1]
		text := "diverted"
		if !last.By.IsZero() && last.By.Kind() != Anonymous {
			text += " by " + last.By.Canonical()
		}
		if last.Cause != 0 {
			text += fmt.Sprintf(" (SIP cause %d)", last.Cause)
		}
		parts = append(parts, text)
	}
	if s.Verstat != "" {
		text := "caller " + s.Verstat
		if s.Attestation != "" {
			text += ", attestation " + s.Attestation
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
