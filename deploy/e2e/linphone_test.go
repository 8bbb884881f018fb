package e2e

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/linphone"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// A telephone that people use, on a trunk without anything between: it is called
// and calls, both hear each other, and each hangs up once.
func TestLinphone(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			at := port.Free(t)
			g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(address(at), map[string]any{"transport": transport})})
			phone := linphone.Start(t, linphone.Config{Number: landline, Port: at, Hz: farHz})
			d := g.Device(ada)

			call := d.Call("tel:"+landline, browserHz)
			call.AwaitStatus(patient, "Ringing", "InProgress")
			phone.Type("answer")
			call.AwaitConnected(patient)
			call.AwaitTone(patient, farHz)
			phone.AwaitTone(patient, browserHz)
			call.Hold()
			call.AwaitSilence(patient)
			call.Resume()
			call.AwaitTone(patient, farHz)
			phone.AwaitTone(patient, browserHz)
			phone.Type("terminate")
			call.AwaitStatus(patient, "Terminated")

			phone.Type("call sip:" + ada + "@" + g.SIP + ";transport=" + transport)
			in := d.AwaitInvitation(patient, secondHz, nil)
			in.AwaitMedia(patient)
			in.Answer()
			in.AwaitTone(patient, farHz)
			phone.AwaitTone(patient, secondHz)
			in.HangUp()
			in.AwaitStatus(patient, "Terminated")
		})
	}
}

// The same telephone as a subscriber of the carrier: it registers with the proxy,
// and calls pass through that in both directions.
func TestLinphoneRegistered(t *testing.T) {
	t.Parallel()
	proxy := port.Free(t)
	g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(address(proxy), nil)})
	kamailio.Start(t, kamailio.Config{
		Port: proxy, Algorithm: "MD5",
		Accounts: []kamailio.Account{{User: landline, Password: "far end"}},
		Routes:   []kamailio.Route{{Number: ada, Address: g.SIP}},
	})
	phone := linphone.Start(t, linphone.Config{
		Number: landline, Hz: farHz, AutoAnswer: true,
		Registrar: address(proxy), Transport: "tcp", Domain: kamailio.Domain, Password: "far end",
	})
	d := g.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, farHz)
	phone.AwaitTone(patient, browserHz)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")

	phone.Type("call " + ada)
	in := d.AwaitInvitation(patient, secondHz, nil)
	in.AwaitMedia(patient)
	in.Answer()
	in.AwaitTone(patient, farHz)
	phone.AwaitTone(patient, secondHz)
	phone.Type("terminate")
	in.AwaitStatus(patient, "Terminated")
}
