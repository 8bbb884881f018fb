package sip

import (
	"crypto/tls"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// openIdentities reads the certificates of the configuration: the gateway's, under
// the empty name, and those that trunks have for themselves.
func (n *Network) openIdentities(cfg Config) (map[string]*certificate.Store, error) {
	main, err := certificate.Open(cfg.TLS.Config, certificate.Server{ClientCA: cfg.TLS.ClientCA, Require: cfg.TLS.RequireClient}, cfg.TLS.least(), n.log, n.now)
	if err != nil {
		return nil, fmt.Errorf("sip.tls.%w", err)
	}
	out := map[string]*certificate.Store{"": main}
	for i, t := range cfg.Trunks {
		if !t.TLS.Own() {
			continue
		}
		own := t.TLS.Config
		if own.CA == "" {
			own.CA = cfg.TLS.CA
		}
		if own.Certificate == "" {
			own.Certificate, own.Key = cfg.TLS.Certificate, cfg.TLS.Key
		}
		if out[t.Name], err = certificate.Open(own, certificate.Server{}, cfg.TLS.least(), n.log, n.now); err != nil {
			return nil, fmt.Errorf("sip.trunks[%d].tls.%w", i, err)
		}
	}
	return out, nil
}

// client is the TLS configuration to connect with on a route.
func (n *Network) client(r tap.Route) (*tls.Config, error) {
	s := n.running.Load().identities[r.Identity]
	if s == nil {
		return nil, fmt.Errorf("trunk %s has no certificates any more", r.Identity)
	}
	return s.Client(r.ServerName, r.Names), nil
}

func (n *Network) certificateEnd() float64 {
	if end := n.running.Load().identities[""].NotAfter(); !end.IsZero() {
		return float64(end.Unix())
	}
	return 0
}

// set is the trunks in force.
func (n *Network) set() *trunk.Set { return n.running.Load().trunks }
