package e2e

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/baresip"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// A telephone that knows neither UPDATE nor session timers nor reliable
// responses, and sends back what it hears.
func TestBaresip(t *testing.T) {
	t.Parallel()
	c := newCarrier(t, nil)
	phone := baresip.Listen(t, c.landline, landline, baresip.Options{})
	d := c.gateway.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, browserHz)
	call.Hold()
	call.AwaitSilence(patient)
	// This version does not start its microphone again; the session is as before.
	call.Resume()
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitOutput(patient, "session closed")
}

// Keys in SDP, both ways, with a telephone that offers, demands or lacks them. That
// it hears itself shows that both sides have the same keys.
func TestSDES(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		policy, encryption string
		profile            string // of the gateway's offer and of the telephone's
		keys               bool   // whether SRTP comes of it, out and in
		fails              bool
	}{
		{policy: "required", encryption: "srtp-mand", profile: "RTP/SAVP", keys: true},
		{policy: "optional", encryption: "srtp", profile: "RTP/AVP", keys: true},
		{policy: "optional", profile: "RTP/AVP"},
		{policy: "required", fails: true},
	} {
		name := s.encryption
		if name == "" {
			name = "clear"
		}
		t.Run(s.policy+" "+name, func(t *testing.T) {
			t.Parallel()
			phoneAt := port.Free(t)
			g := gateway.PrepareAllInOne(t, gateway.Settings{
				"parts.network":            false,
				"control_plane.sip.trunks": trunk(address(phoneAt), map[string]any{"media": map[string]any{"srtp": s.policy}}),
			})
			phone := baresip.Listen(t, phoneAt, landline, baresip.Options{Encryption: s.encryption})
			g.Start()
			d := g.Device(ada)
			call := d.Call("tel:"+landline, browserHz)
			if s.fails {
				call.AwaitStatus(patient, "Failed")
				return
			}
			call.AwaitConnected(patient)
			call.AwaitTone(patient, browserHz)
			call.HangUp()
			call.AwaitStatus(patient, "Terminated")
			phone.AwaitOutput(patient, "session closed")

			caller := baresip.Listen(t, port.Free(t), faraway, baresip.Options{Encryption: s.encryption, Calls: fmt.Sprintf("sip:%s@%s", ada, g.SIP), Hz: farHz})
			incoming := d.AwaitInvitation(patient, secondHz, func(device.Session) bool { return true })
			incoming.Answer()
			incoming.AwaitMedia(patient)
			incoming.AwaitTone(patient, farHz)
			caller.AwaitOutput(patient, "incoming rtp for 'audio' established")
			incoming.HangUp()

			log := g.Control.Output()
			if !regexp.MustCompile(`m=audio \d+ ` + s.profile + ` `).MatchString(log) {
				t.Errorf("no message has %s", s.profile)
			}
			if n := len(regexp.MustCompile(`SRTP keys in force`).FindAllString(log, -1)); s.keys != (n == 2) {
				t.Errorf("SRTP is in force %d times", n)
			}
			if key := regexp.MustCompile(`inline:[A-Za-z0-9+/]`).FindString(log); key != "" {
				t.Error("the log shows a key")
			}
		})
	}
}

// The same telephone over connections: it is called and calls by TCP, and by TLS
// with keys in SDP, each side known by its certificate.
func TestBaresipOverStreams(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			at, sip := port.Range(t, 2), port.Free(t)
			o := baresip.Options{Transport: transport}
			target, more := address(at), map[string]any{"transport": transport}
			settings := gateway.Settings{"sip.listeners": []map[string]any{{"network": transport, "address": address(sip)}}}
			if transport == "tls" {
				a := authority.New(t)
				o.CA, o.Encryption = a.CA, "srtp-mand"
				o.Certificate, o.Key = a.Certificate, a.Key
				target = address(at + 1)
				more["media"] = map[string]any{"srtp": "required"}
				settings["sip.tls.certificate"], settings["sip.tls.key"] = a.Certificate, a.Key
				settings["sip.tls.ca"], settings["sip.tls.client_ca"] = a.CA, a.CA
			}
			settings["sip.trunks"] = trunk(target, more)
			g := gateway.NewSplit(t, "", 1, settings)
			phone := baresip.Listen(t, at, landline, o)
			d := g.Device(ada)
			call := d.Call("tel:"+landline, browserHz)
			call.AwaitConnected(patient)
			call.AwaitTone(patient, browserHz)
			call.HangUp()
			call.AwaitStatus(patient, "Terminated")
			phone.AwaitOutput(patient, "session closed")

			o.Calls, o.Hz = fmt.Sprintf("sip:%s@%s;transport=%s", ada, address(sip), transport), farHz
			caller := baresip.Listen(t, port.Range(t, 2), faraway, o)
			in := d.AwaitInvitation(patient, secondHz, nil)
			in.AwaitMedia(patient)
			in.Answer()
			in.AwaitTone(patient, farHz)
			caller.AwaitOutput(patient, "incoming rtp for 'audio' established")
			in.HangUp()
			in.AwaitStatus(patient, "Terminated")
			caller.AwaitOutput(patient, "session closed")
		})
	}
}
