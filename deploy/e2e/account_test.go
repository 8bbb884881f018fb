package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

// Each subscriber has a SIP account of its own: the gateway registers it with
// digest authentication, calls with it and is called at its contact.
func TestAccounts(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		for _, transport := range []string{"udp", "tcp"} {
			t.Run(algorithm+" "+transport, func(t *testing.T) {
				t.Parallel()
				testAccounts(t, algorithm, transport)
			})
		}
	}
}

func testAccounts(t *testing.T, algorithm, transport string) {
	far := audio.Listen(t, farHz)
	phone := sipp.Listen(t, sipp.Config{Media: far.Port()})
	registrar := port.Free(t)
	g := gateway.PrepareAllInOne(t, gateway.Settings{
		"parts.network": false,
		"control_plane.sip.trunks": []map[string]any{{
			"name": "accounts", "mode": "register", "registrar": address(registrar), "transport": transport,
			"domain": kamailio.Domain, "trusted": true,
			"credentials": map[string]any{
				ada:   map[string]any{"username": ada, "password": "the right one"},
				grace: map[string]any{"username": grace, "password": "a wrong one"},
			},
		}},
	})
	proxy := kamailio.Start(t, kamailio.Config{
		Port: registrar, Algorithm: algorithm,
		Routes:   []kamailio.Route{{Number: landline, Address: phone.Address()}},
		Accounts: []kamailio.Account{{User: ada, Password: "the right one"}, {User: grace, Password: "the right one"}},
	})
	g.Start()

	d := g.Device(ada)
	proxy.AwaitLog(patient, "REGISTER of "+ada+", algorithm "+algorithm+", expires 3600")

	out := d.Call("tel:"+landline, browserHz)
	out.AwaitConnected(patient)
	out.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)
	phone.Do("bye")
	out.AwaitStatus(patient, "Terminated")
	phone.AwaitSuccess(patient)

	caller := sipp.Call(t, sipp.Config{Media: far.Port(), From: landline, Name: "Landline", To: ada, Via: proxy.Address()})
	in := d.AwaitInvitation(patient, browserHz, nil)
	in.Answer()
	in.AwaitMedia(patient)
	in.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)
	in.HangUp()
	caller.AwaitSuccess(patient)

	if err := d.Deregister(); err != nil {
		t.Error(err)
	}
	proxy.AwaitLog(patient, "REGISTER of "+ada+", algorithm "+algorithm+", expires 0")
	refused := sipp.Call(t, sipp.Config{Media: port.Range(t, 2), From: landline, Name: "Landline", To: ada, Via: proxy.Address(), Refused: 480})
	refused.AwaitSuccess(patient)

	other := device.New(t, device.Config{API: g.URL, Token: g.Token(grace), Number: grace, Roots: g.Roots, Idle: true})
	if err := other.Register(); !device.FailedWith(err, 403) {
		t.Errorf("registration with a wrong password: %v, want 403", err)
	}
}

// An operator gives a number its SIP account while the gateway runs; the number is
// registered again when the gateway comes back from a crash.
func TestStoredAccount(t *testing.T) {
	t.Parallel()
	registrar := port.Free(t)
	g := gateway.PrepareAllInOne(t, gateway.Settings{
		"parts.network":                   false,
		"control_plane.sip.register_rate": 1000,
		"control_plane.sip.trunks": []map[string]any{{
			"name": "accounts", "mode": "register", "registrar": address(registrar), "domain": kamailio.Domain, "trusted": true,
		}},
	})
	proxy := kamailio.Start(t, kamailio.Config{Port: registrar, Algorithm: "SHA-256", Accounts: []kamailio.Account{{User: ada, Password: "the right one"}}})
	g.Start()
	g.CommandWith("the right one\n", "account", "set", ada)
	if list := g.Command("account", "list"); !strings.Contains(list, ada) || !strings.Contains(list, "accounts") || strings.Contains(list, "right") {
		t.Errorf("isthmus account list prints\n%s", list)
	}
	g.Device(ada)
	registered := func(times int) error {
		const line = "REGISTER of " + ada + ", algorithm SHA-256, expires 3600"
		if n := strings.Count(proxy.Output(), line); n < times {
			return fmt.Errorf("%d registrations, want %d", n, times)
		}
		return nil
	}
	if err := condition.Until(patient, func() error { return registered(1) }); err != nil {
		t.Fatal(err)
	}
	g.Control.Kill()
	g.Restart()
	if err := condition.Until(patient, func() error { return registered(2) }); err != nil {
		t.Error(err)
	}
	g.Command("account", "delete", ada)
	if list := g.Command("account", "list"); strings.Contains(list, ada) {
		t.Errorf("after the deletion isthmus account list prints\n%s", list)
	}
}
