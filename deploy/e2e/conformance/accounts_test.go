package conformance

import (
	"fmt"
	"net"
	"testing"

	"github.com/cucumber/godog"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// Kinds of account that a number may have at a registrar. Each generation has a
// number of each kind.
var accountKinds = []string{"good", "refused", "unknown", "silent", "dead"}

const password = "of the account"

// accountNumber is a subscriber that has to register with the network.
func accountNumber(kind string, g generation) (string, error) {
	for i, k := range accountKinds {
		for j, other := range generations {
			if k == kind && other.name == g.name {
				return fmt.Sprintf("%s9%02d%04d", subscribers, i, j), nil
			}
		}
	}
	return "", fmt.Errorf("there is no account of kind %q in generation %s", kind, g.name)
}

// members of the network: the registrar knows the good numbers and the refused
// ones, the latter with another password than the gateway.
func members() []telco.Subscriber {
	var out []telco.Subscriber
	for _, g := range generations {
		good, _ := accountNumber("good", g)
		refused, _ := accountNumber("refused", g)
		out = append(out, telco.Subscriber{Number: good, Password: password}, telco.Subscriber{Number: refused, Password: "another"})
	}
	return out
}

// accounts are trunks on which each number registers by itself: with the
// network's registrar, with one that never answers, and with one that is down.
func accounts(t *testing.T, registrar string) []settings {
	t.Helper()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	trunk := func(name, target, transport string, kinds ...string) settings {
		credentials := settings{}
		for _, g := range generations {
			for _, k := range kinds {
				number, _ := accountNumber(k, g)
				credentials[number] = settings{"username": number, "password": password}
			}
		}
		return settings{
			"name": name, "mode": "register", "targets": []string{target}, "transport": transport, "domain": "telco.example",
			"trusted": true, "credentials": credentials,
		}
	}
	return []settings{
		trunk("accounts", registrar, "udp", "good", "refused", "unknown"),
		trunk("silent", silent.LocalAddr().String(), "udp", "silent"),
		trunk("dead", "127.0.0.1:1", "tcp", "dead"),
	}
}

func (w *world) bindAccounts(sc *godog.ScenarioContext) {
	sc.Step(`^`+who+` has a number without an emergency address$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		a.number = newNumber(without)
		if a.tokenNumber == "" {
			return nil
		}
		a.tokenNumber = a.number
		return w.renew(a, devoauth.TokenRequest{})
	})
	sc.Step(`^`+who+` has an account with the network that is ([a-z]+)$`, func(name, kind string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		if a.number, err = accountNumber(kind, w.gen); err != nil {
			return err
		}
		a.tokenNumber = a.number
		return w.renew(a, devoauth.TokenRequest{})
	})
}
