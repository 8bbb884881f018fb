package store

import (
	"context"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// credentials are the sealed part of an account.
type credentials struct {
	Username string
	Password string
}

func accountPlace(tenant, trunk string, number call.Number) string {
	return place("sip_accounts", tenant, trunk, string(number))
}

// SetSIPAccount stores an account, in place of the one that the number has on the
// trunk.
func (s *Store) SetSIPAccount(ctx context.Context, a gateway.SIPAccount) error {
	blob, err := sealJSON(s.seal, credentials{a.Username, a.Password}, accountPlace(a.Tenant, a.Trunk, a.Number))
	if err != nil {
		return err
	}
	err = s.q.SetSIPAccount(ctx, queries.SetSIPAccountParams{Tenant: a.Tenant, Trunk: a.Trunk, Number: string(a.Number), Data: blob})
	if err != nil {
		return fmt.Errorf("store the account of %s on trunk %s: %w", a.Number, a.Trunk, err)
	}
	return nil
}

// DeleteSIPAccount removes an account; it answers gateway.ErrNotFound when there is
// none.
func (s *Store) DeleteSIPAccount(ctx context.Context, tenant, trunk string, number call.Number) error {
	n, err := s.q.DeleteSIPAccount(ctx, queries.DeleteSIPAccountParams{Tenant: tenant, Trunk: trunk, Number: string(number)})
	if err == nil && n == 0 {
		err = gateway.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove the account of %s on trunk %s: %w", number, trunk, err)
	}
	return nil
}

// SIPAccounts lists all accounts.
func (s *Store) SIPAccounts(ctx context.Context) ([]gateway.SIPAccount, error) {
	rows, err := s.reader.q.SIPAccounts(ctx)
	return each(rows, s.sipAccount, lookup(err, "SIP", "accounts"))
}

// SIPAccountsOf lists those of a number.
func (s *Store) SIPAccountsOf(ctx context.Context, tenant string, number call.Number) ([]gateway.SIPAccount, error) {
	rows, err := s.reader.q.SIPAccountsOfNumber(ctx, tenant, string(number))
	return each(rows, s.sipAccount, lookup(err, "SIP accounts of", string(number)))
}

func (s *Store) sipAccount(row queries.SIPAccount) (gateway.SIPAccount, error) {
	number := call.Number(row.Number)
	c, err := openJSON[credentials](s.seal, row.Data, accountPlace(row.Tenant, row.Trunk, number))
	return gateway.SIPAccount{Tenant: row.Tenant, Trunk: row.Trunk, Number: number, Username: c.Username, Password: c.Password}, err
}
