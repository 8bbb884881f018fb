package sip

import (
	"context"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Accounts of numbers are in the configuration or in the store. Those of the store
// are looked up whenever a number registers or calls, and when a registrar refuses
// the credentials that are known, so that a change needs no restart.

// loadAccounts gives trunks all accounts of the store.
func (n *Network) loadAccounts(ctx context.Context, trunks *trunk.Set) {
	if n.stored == nil {
		return
	}
	all, err := n.stored.SIPAccounts(ctx)
	if err != nil {
		n.log.Error("sip: cannot list the accounts in the store, numbers are looked up one by one", "error", err)
	}
	for _, a := range all {
		if t := trunks.ByName(a.Trunk); t != nil && t.Tenant == a.Tenant {
			t.SetAccount(a.Number, &trunk.Credentials{Username: a.Username, Password: a.Password})
		}
	}
}

// learnAccount brings a number's accounts up to date. A store that fails leaves them
// as they are.
func (n *Network) learnAccount(ctx context.Context, tenant string, number call.Number) {
	if n.stored == nil {
		return
	}
	var registering []*trunk.Trunk
	for _, t := range n.set().All() {
		if t.Mode == trunk.ModeRegister && t.Tenant == tenant {
			registering = append(registering, t)
		}
	}
	if len(registering) == 0 {
		return
	}
	accounts, err := n.stored.SIPAccountsOf(ctx, tenant, number)
	if err != nil {
		n.log.Warn("sip: cannot look up the account of a number", "number", number, "error", err)
		return
	}
	for _, t := range registering {
		t.SetAccount(number, credentials(accounts, t.Name))
	}
}

func credentials(accounts []gateway.SIPAccount, trunkName string) *trunk.Credentials {
	for _, a := range accounts {
		if a.Trunk == trunkName {
			return &trunk.Credentials{Username: a.Username, Password: a.Password}
		}
	}
	return nil
}

// renewed reports whether a number has other credentials than those of a session that
// was refused; the next session has them.
func (n *Network) renewed(callID string, t *trunk.Trunk, number call.Number) bool {
	n.learnAccount(n.ctx, t.Tenant, number)
	c, ok := t.CredentialsOf(number)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !ok || n.accounts[callID].Has(digest.Credentials{Username: c.Username, Password: c.Password}) {
		return false
	}
	delete(n.accounts, callID)
	return true
}
