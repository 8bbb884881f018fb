package certificate

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Names are the SIP identities of a certificate (RFC 5922 7.1), lower case: the
// hosts of SIP URIs without a user, else DNS names; addresses beside them.
func Names(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.URIs {
		// sip:example.com is an opaque URI: the host is in Opaque.
		if !strings.EqualFold(u.Scheme, "sip") || strings.Contains(u.Opaque, "@") || u.User != nil {
			continue
		}
		host := u.Opaque
		if host == "" {
			host = u.Host
		}
		host, _, _ = strings.Cut(host, ";")
		host, _, _ = strings.Cut(host, "?")
		if host != "" {
			out = append(out, canonical(host))
		}
	}
	if len(out) == 0 {
		for _, n := range c.DNSNames {
			out = append(out, canonical(n))
		}
	}
	for _, a := range c.IPAddresses {
		out = append(out, a.String())
	}
	return out
}

// Matches reports whether two lists of names have one in common.
func Matches(have, want []string) bool {
	return slices.ContainsFunc(want, func(w string) bool { return slices.Contains(have, canonical(w)) })
}

func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(strings.TrimSpace(name), "[]"), "."))
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().String()
	}
	return name
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, names []string, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now}); err != nil {
		return err
	}
	if have := Names(chain[0]); !Matches(have, names) {
		return fmt.Errorf("the server's certificate is for %s, not for %s (RFC 5922)", strings.Join(have, ", "), strings.Join(names, " or "))
	}
	return nil
}
