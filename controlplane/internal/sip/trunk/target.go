package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is a place that the configuration names: a host, with the port when it
// was given.
type Target struct {
	// Host is a name or an address, without brackets.
	Host string
	// Port is 0 when the DNS or the transport says it.
	Port uint16
}

// ParseTarget reads host, host:port, an IPv4 address, or an IPv6 address with or
// without brackets.
func ParseTarget(s string) (Target, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		return Target{Host: a.String()}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, ""
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	} else if !hostName(host) {
		return Target{}, fmt.Errorf("%q is neither host:port nor an address nor a domain", s)
	}
	if port == "" {
		return Target{Host: host}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Target{}, fmt.Errorf("%q has no valid port", s)
	}
	return Target{Host: host, Port: uint16(n)}, nil
}

// uriHost is the host as it stands in a URI.
func (t Target) uriHost() string {
	if strings.Contains(t.Host, ":") {
		return "[" + t.Host + "]"
	}
	return t.Host
}

// Addr of a target that is given by address.
func (t Target) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.Host)
	return a.Unmap(), err == nil
}

func hostName(s string) bool {
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '*') {
				return false
			}
		}
	}
	return len(s) <= 253
}
