package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

// Accounts are the SIP accounts in the store of a configuration, for those who
// provision them. A running control plane takes changes over when a number registers
// or calls next, or when its registrar refuses the credentials that it has.
type Accounts struct {
	config Config
	store  *store.Store
}

// Account is one number's account on a trunk of the mode register, without its
// password.
type Account struct {
	Trunk    string
	Number   string
	Username string
}

// OpenAccounts opens the store. It must be closed.
func OpenAccounts(ctx context.Context, c Config, log *slog.Logger) (*Accounts, error) {
	s, err := store.Open(ctx, c.Store, log)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Accounts{c, s}, nil
}

// Close releases the store.
func (a *Accounts) Close() error { return a.store.Close() }

// Set gives a number (E.164 with +) an account, in place of the one that it has. An
// empty trunk stands for the only one of the mode register.
func (a *Accounts) Set(ctx context.Context, trunkName, number, username, password string) error {
	t, n, err := a.find(trunkName, number)
	if err != nil {
		return err
	}
	switch {
	case username == "" || password == "":
		return errors.New("an account needs a user name and a password")
	case strings.ContainsAny(username+password, "\r\n"):
		return errors.New("a user name or password must not have a line break in it")
	}
	return a.store.SetSIPAccount(ctx, gateway.SIPAccount{Tenant: t.Tenant, Trunk: t.Name, Number: n, Username: username, Password: password})
}

// Delete removes a number's account.
func (a *Accounts) Delete(ctx context.Context, trunkName, number string) error {
	t, n, err := a.find(trunkName, number)
	if err != nil {
		return err
	}
	err = a.store.DeleteSIPAccount(ctx, t.Tenant, t.Name, n)
	if errors.Is(err, gateway.ErrNotFound) {
		return fmt.Errorf("%s has no account on trunk %s in the store", n, t.Name)
	}
	return err
}

// List answers all accounts in the store, by trunk and number.
func (a *Accounts) List(ctx context.Context) ([]Account, error) {
	all, err := a.store.SIPAccounts(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Account, len(all))
	for i, s := range all {
		out[i] = Account{Trunk: s.Trunk, Number: string(s.Number), Username: s.Username}
	}
	return out, nil
}

// find is the trunk that registers numbers.
func (a *Accounts) find(name, number string) (trunk.Config, call.Number, error) {
	n, err := call.ParseNumber(number)
	if err != nil {
		return trunk.Config{}, "", fmt.Errorf("%q is not a number such as +15550100", number)
	}
	var found []trunk.Config
	for _, t := range a.config.SIP.Trunks {
		if t = t.Complete(); t.Mode == trunk.ModeRegister && (name == "" || t.Name == name) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], n, nil
	case name != "":
		return trunk.Config{}, "", fmt.Errorf("sip.trunks has no trunk %q of mode register", name)
	case len(found) == 0:
		return trunk.Config{}, "", errors.New("sip.trunks has no trunk of mode register, whose numbers could have accounts")
	}
	return trunk.Config{}, "", errors.New("several trunks are of mode register: name one")
}
