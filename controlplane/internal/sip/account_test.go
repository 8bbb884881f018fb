package sip

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// shelf is a store of accounts.
type shelf struct {
	mu  sync.Mutex
	all []gateway.SIPAccount
}

func (s *shelf) set(a ...gateway.SIPAccount) {
	s.mu.Lock()
	s.all = a
	s.mu.Unlock()
}

func (s *shelf) SIPAccounts(context.Context) ([]gateway.SIPAccount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all, nil
}

func (s *shelf) SIPAccountsOf(_ context.Context, tenant string, n call.Number) ([]gateway.SIPAccount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []gateway.SIPAccount
	for _, a := range s.all {
		if a.Tenant == tenant && a.Number == n {
			out = append(out, a)
		}
	}
	return out, nil
}

func stored(username, password string) gateway.SIPAccount {
	return gateway.SIPAccount{Tenant: call.DefaultTenant, Trunk: "ims", Number: "+15550100", Username: username, Password: password}
}

// Accounts in the store come, change and go while the gateway runs.
func TestStoredAccounts(t *testing.T) {
	p := newPhone(t, "udp")
	s := &shelf{}
	cfg := testConfig()
	longLived(p.addr())(&cfg)
	cfg.Trunks[0].Credentials = map[string]trunk.Credentials{"+15550199": {Username: "x", Password: "y"}}
	b := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: cfg, accounts: s}
	b.start(t)
	// Without an account the number is not this trunk's to register.
	if err := b.n.Register(t.Context(), account("r0", "+15550100")); err != nil {
		t.Fatal(err)
	}
	s.set(stored("ann", "old"))
	done := make(chan error, 1)
	go func() { done <- b.n.Register(t.Context(), account("r1", "+15550100")) }()
	const challenge = `WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"`
	p.reply(p.request("REGISTER"), 401, "x", challenge)
	r := p.request("REGISTER")
	if a := header.First(r, "Authorization"); !strings.Contains(a, `username="ann"`) {
		t.Errorf("credentials %s", a)
	}
	// The password is wrong, and is changed in this moment.
	s.set(stored("bob", "new"))
	p.reply(r, 401, "x", challenge)
	p.reply(p.request("REGISTER"), 401, "x", challenge)
	r = p.request("REGISTER")
	if a := header.First(r, "Authorization"); !strings.Contains(a, `username="bob"`) {
		t.Errorf("credentials %s", a)
	}
	p.reply(r, 200, "x", "Contact: "+r.req().Contact().Value()+";expires=3600")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A call of the number takes the account's trunk and answers with it.
	invite := b.invite(t, "c1")
	p.reply(invite, 407, "a", `Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"`)
	p.request("ACK")
	if a := header.First(p.request("INVITE"), "Proxy-Authorization"); !strings.Contains(a, `username="bob"`) {
		t.Errorf("credentials of a call: %s", a)
	}
	s.set()
	if _, err := b.n.Invite(t.Context(), outgoing("c2")); err == nil {
		t.Error("a number whose account is gone still has a trunk")
	}
}

// After a restart the accounts of the store are there for the numbers to be kept.
func TestStoredAccountsAreKept(t *testing.T) {
	p := newPhone(t, "udp")
	s := &shelf{}
	s.set(stored("ann", "secret"), gateway.SIPAccount{Tenant: "another", Trunk: "ims", Number: "+15550101"}, gateway.SIPAccount{Trunk: "gone"})
	cfg := testConfig()
	longLived(p.addr())(&cfg)
	cfg.Trunks[0].Credentials, cfg.RegisterRate = nil, 1000
	b := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: cfg, accounts: s}
	b.start(t)
	b.n.Keep([]gateway.Account{account("r1", "+15550100"), account("r2", "+15550101")})
	if r := p.request("REGISTER"); r.To().Address.User != "+15550100" {
		t.Errorf("registers %s", r.To().Value())
	}
}
