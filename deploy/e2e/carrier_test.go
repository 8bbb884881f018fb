package e2e

import (
	"fmt"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/browser"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

// Numbers beyond the carrier's proxy.
const (
	landline = "+15559000"
	faraway  = "+15559001"
)

// Tones of the browsers and of the far end.
const (
	browserHz = 700
	secondHz  = 1100
	farHz     = 950
)

// carrier is a gateway whose network is Kamailio, with places for telephones
// behind it.
type carrier struct {
	t                 *testing.T
	gateway           *gateway.Gateway
	proxy             *kamailio.Proxy
	landline, faraway int // ports of the telephones
}

func newCarrier(t *testing.T, more gateway.Settings) *carrier {
	t.Helper()
	c := &carrier{t: t, landline: port.Free(t), faraway: port.Free(t)}
	proxy := port.Free(t)
	settings := gateway.Settings{
		"parts.network":            false,
		"control_plane.sip.trunks": trunk(address(proxy), nil),
	}
	for k, v := range more {
		settings[k] = v
	}
	c.gateway = gateway.PrepareAllInOne(t, settings)
	c.proxy = kamailio.Start(t, kamailio.Config{Port: proxy, Routes: []kamailio.Route{
		{Number: landline, Address: address(c.landline)},
		{Number: faraway, Address: address(c.faraway), Transport: "tcp"},
		{Number: ada, Address: c.gateway.SIP},
		{Number: grace, Address: c.gateway.SIP, Transport: "tcp"},
	}})
	c.gateway.Start()
	return c
}

// Chromium calls a telephone and is called by one: different tones each way, hold
// by either side, and each side hangs up once in each direction.
func TestBrowserAndCarrier(t *testing.T) {
	t.Parallel()
	c := newCarrier(t, nil)
	b := browser.Start(t, browserHz)
	b.LogIn(c.gateway.URL+"/", ada)

	step := func(name string, play func()) {
		t.Helper()
		t.Log(name)
		play()
	}
	step("outgoing, the browser hangs up", func() {
		far := audio.Listen(t, farHz)
		phone := sipp.Listen(t, sipp.Config{Media: far.Port(), Port: c.landline})
		b.Dial(landline)
		talk(t, b, phone, far)
		b.Click("keys")
		for _, key := range []string{"7", "star", "0"} {
			b.Click("keypad-" + key)
		}
		await(t, "keys at the far end", func() error {
			if d := far.Digits(); d != "7*0" {
				return fmt.Errorf("there are %q", d)
			}
			return nil
		})
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	step("outgoing with early media, the far end hangs up", func() {
		far := audio.Listen(t, farHz)
		phone := sipp.Listen(t, sipp.Config{Media: far.Port(), Port: c.faraway, ALaw: true, TCP: true, Early: true})
		b.Dial(faraway)
		talk(t, b, phone, far)
		phone.Do("bye")
		b.AwaitEnded(patient, "ended")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	step("outgoing, cancelled", func() {
		phone := sipp.Listen(t, sipp.Config{Media: port.Range(t, 2), Port: c.landline, Cancelled: true})
		b.Dial(landline)
		b.AwaitState(patient, "ringing")
		b.Click("hangup")
		b.AwaitEnded(patient, "cancelled")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	incoming := func(media int, tcp bool) *sipp.Telephone {
		t.Helper()
		phone := sipp.Call(t, sipp.Config{Media: media, TCP: tcp, From: landline, Name: "Landline", To: ada, Via: c.proxy.Address()})
		b.AwaitState(patient, "incoming")
		if peer := b.Text("call-peer"); peer != "+1 555 9000" {
			t.Errorf("the caller is shown as %q", peer)
		}
		return phone
	}
	step("incoming, the browser hangs up", func() {
		far := audio.Listen(t, farHz)
		phone := incoming(far.Port(), false)
		b.Click("answer")
		talk(t, b, phone, far)
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	step("incoming, the far end hangs up", func() {
		far := audio.Listen(t, farHz)
		phone := incoming(far.Port(), true)
		b.Click("answer")
		talk(t, b, phone, far)
		phone.Do("bye")
		b.AwaitEnded(patient, "ended")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	step("incoming without a number, given up", func() {
		phone := sipp.Call(t, sipp.Config{
			Media: port.Range(t, 2), From: landline, Name: "Landline", To: ada, Via: c.proxy.Address(), Anonymous: true, GiveUp: true,
		})
		b.AwaitState(patient, "incoming")
		if peer := b.Text("call-peer"); peer != "Anonymous" {
			t.Errorf("a caller who withholds the number is shown as %q", peer)
		}
		phone.Cancel()
		b.AwaitEnded(patient, "missed")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
	step("incoming, declined", func() {
		phone := sipp.Call(t, sipp.Config{
			Media: port.Range(t, 2), From: landline, Name: "Landline", To: ada, Via: c.proxy.Address(), Refused: 603,
		})
		b.AwaitState(patient, "incoming")
		b.Click("decline")
		b.AwaitEnded(patient, "declined")
		phone.AwaitSuccess(patient)
		b.Dismiss()
	})
}

// talk checks a call from its answer on: both hear each other, and each holds and
// resumes once.
func talk(t *testing.T, b *browser.Browser, phone *sipp.Telephone, far *audio.Endpoint) {
	t.Helper()
	b.AwaitState(patient, "connected")
	phone.AwaitAnswered(patient)
	b.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)

	b.Click("hold")
	b.AwaitState(patient, "held")
	phone.AwaitMessage(patient, `a=recvonly`) // its answer
	b.AwaitSilence(patient)
	far.AwaitSilence(patient)
	b.Click("resume")
	b.AwaitState(patient, "connected")
	b.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)

	phone.Do("hold")
	b.AwaitState(patient, "remote-held")
	far.AwaitSilence(patient)
	b.AwaitTone(patient, farHz) // music on hold
	phone.Do("resume")
	b.AwaitState(patient, "connected")
	b.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)
}

// Two browsers call each other through the carrier's proxy, which hands the call
// back with the Call-ID that it came with.
func TestTwoBrowsers(t *testing.T) {
	t.Parallel()
	c := newCarrier(t, nil)
	one, two := browser.Start(t, browserHz), browser.Start(t, secondHz)
	one.LogIn(c.gateway.URL+"/", ada)
	two.LogIn(c.gateway.URL+"/", grace)
	one.Dial(grace)
	two.AwaitState(patient, "incoming")
	one.AwaitState(patient, "ringing", "early-media")
	two.Click("answer")
	two.AwaitState(patient, "connected")
	one.AwaitState(patient, "connected")
	one.AwaitTone(patient, secondHz)
	two.AwaitTone(patient, browserHz)
	two.Click("hold")
	two.AwaitState(patient, "held")
	one.AwaitState(patient, "remote-held")
	one.AwaitSilence(patient)
	two.AwaitSilence(patient)
	two.Click("resume")
	two.AwaitState(patient, "connected")
	one.AwaitState(patient, "connected")
	one.AwaitTone(patient, secondHz)
	two.AwaitTone(patient, browserHz)
	two.Click("hangup")
	two.AwaitEnded(patient, "ended")
	one.AwaitEnded(patient, "ended")
}
