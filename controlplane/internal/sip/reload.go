package sip

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// running is the part of the configuration that changes while the network runs.
type running struct {
	trunks     *trunk.Set
	identities map[string]*certificate.Store
	// ctx is the life of what watches the trunks.
	ctx  context.Context
	stop context.CancelFunc
}

// ErrRestart answers a change that needs a restart.
var ErrRestart = errors.New("cannot change while the process runs")

// prepare makes a configuration ready to be put in force.
func (n *Network) prepare(cfg Config) (*running, error) {
	identities, err := n.openIdentities(cfg)
	if err != nil {
		return nil, err
	}
	trunks := make([]trunk.Config, len(cfg.Trunks))
	for i, t := range cfg.Trunks {
		trunks[i] = t.Complete()
	}
	r := &running{trunks: trunk.NewSet(trunks, cfg.Routes...), identities: identities}
	r.ctx, r.stop = context.WithCancel(n.ctx)
	return r, nil
}

// Reload puts the trunks, accounts, routes and certificates of a configuration in
// force. Calls go on with what they began with; the next request of a registration
// takes the new account. When anything else of the configuration has changed, or
// what is new is wrong, nothing happens and the error says what.
func (n *Network) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	fixed, was := cfg, n.cfg
	fixed.Trunks, was.Trunks, fixed.Routes, was.Routes = nil, nil, nil, nil
	if !reflect.DeepEqual(fixed, was) {
		return fmt.Errorf("%w: of the key sip only trunks and routes can", ErrRestart)
	}
	fresh, err := n.prepare(cfg)
	if err != nil {
		return err
	}
	n.loadAccounts(n.ctx, fresh.trunks)
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		fresh.stop()
		return errors.New("the SIP network is shutting down")
	}
	old := n.running.Load()
	// The listeners hold on to the identity that they have; it reads its files
	// again by itself.
	fresh.identities[""] = old.identities[""]
	fresh.trunks.Inherit(old.trunks)
	n.running.Store(fresh)
	serving := n.serving
	// Their next REGISTER makes them anew, with the accounts that there are now.
	n.accounts = map[string]*digest.Session{}
	n.mu.Unlock()
	old.stop()
	n.metrics.targetUp.Reset()
	if serving {
		n.watch(fresh)
	}
	n.log.Info("sip: trunks have a new configuration", "trunks", len(cfg.Trunks))
	return nil
}
