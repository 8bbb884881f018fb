package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/browser"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
)

// The path of somebody who has just cloned the project and typed make run. The
// steps follow each other on one page.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	g := gateway.AllInOne(t, gateway.Settings{
		"demo_network.ring_time":    "500ms",
		"demo_network.ring_timeout": "4s",
	})
	b := browser.Start(t, 700)
	b.LogIn(g.URL+"/", ada)

	step := func(name string, play func()) {
		t.Helper()
		t.Log(name)
		play()
	}
	step("echo, mute, hold, hang up", func() {
		b.Dial(echo)
		b.AwaitState(patient, "ringing", "connected")
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 700)
		b.Click("mute")
		b.AwaitSilence(patient)
		b.Click("mute")
		b.AwaitTone(patient, 700)
		b.Click("hold")
		b.AwaitState(patient, "held")
		b.AwaitSilence(patient)
		b.Click("resume")
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 700)
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
	})
	step("ladder", func() { ladder(t, b) })
	step("reload", func() {
		b.Dismiss()
		b.Dial(echo)
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 700)
		b.Reload()
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 700)
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		b.Dismiss()
	})
	for number, outcome := range map[string]string{busy: "busy", declined: "declined", unknown: "unknown", noAnswer: "no-answer"} {
		step(outcome, func() {
			b.Click("number-" + number)
			b.AwaitEnded(patient, outcome)
			b.Dismiss()
		})
	}
	step("cancel", func() {
		b.Dial(longRing)
		b.AwaitState(patient, "ringing")
		b.Click("hangup")
		b.AwaitEnded(patient, "cancelled")
		b.Dismiss()
	})
	step("early media", func() {
		b.Dial(earlyMedia)
		b.AwaitState(patient, "early-media")
		b.AwaitSound(patient)
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 440)
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		b.Dismiss()
	})
	step("far end hangs up", func() {
		b.Dial(hangsUp)
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 440)
		b.AwaitEnded(patient, "ended")
		b.Dismiss()
	})
	step("keypad", func() {
		b.Dial(keys)
		b.AwaitState(patient, "connected")
		b.Click("keys")
		for _, key := range "5#" {
			b.Click("keypad-" + map[rune]string{'5': "5", '#': "pound"}[key])
			b.AwaitKey(patient, byte(key))
		}
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		b.Dismiss()
	})
	step("call me, answer", func() {
		b.Click("call-me")
		b.AwaitState(patient, "incoming")
		b.Click("answer")
		b.AwaitState(patient, "connected")
		b.AwaitTone(patient, 440)
		b.Click("hangup")
		b.AwaitEnded(patient, "ended")
		b.Dismiss()
	})
	step("call me, decline", func() {
		b.Click("call-me")
		b.AwaitState(patient, "incoming")
		b.Click("decline")
		b.AwaitEnded(patient, "declined")
		b.Dismiss()
	})
	step("a caller who gives up, on a phone's screen", func() {
		b.PhoneSize()
		fits(t, b)
		resp, err := http.Post(g.URL+"/network/call", "application/json", strings.NewReader(`{"to":"`+ada+`","ring":1}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		b.AwaitState(patient, "incoming", "ended")
		fits(t, b)
		b.AwaitEnded(patient, "missed")
		b.Dismiss()
		b.Click("tab-messages")
		fits(t, b)
		b.Click("tab-phone")
		b.LaptopSize()
		fits(t, b)
	})
	step("log out", func() {
		b.Click("logout")
		b.Await(patient, "the login button", `document.querySelector('[data-testid="login"]').checkVisibility()`)
	})
}

// fits fails when the page is wider than its window.
func fits(t *testing.T, b *browser.Browser) {
	t.Helper()
	b.Await(patient, "a page that fits the window", `document.documentElement.scrollWidth <= window.innerWidth`)
}

// ladder checks that the page shows every kind of message of the call that was
// made, and opens one.
func ladder(t *testing.T, b *browser.Browser) {
	for _, want := range []struct{ from, to, title string }{
		{"device", "oauth", "POST token"},
		{"device", "gateway", "POST"},
		{"gateway", "device", "session-status"},
		{"gateway", "network", "INVITE"},
		{"network", "gateway", "180"},
		{"network", "gateway", "200"},
		{"gateway", "network", "ACK"},
		{"gateway", "network", "BYE"},
		{"device", "device", "ICE"},
	} {
		await(t, fmt.Sprintf("%v on the ladder", want), func() error {
			steps := b.Ladder()
			if slices.ContainsFunc(steps, func(s browser.Step) bool {
				return s.From == want.from && s.To == want.to && strings.Contains(s.Title, want.title)
			}) {
				return nil
			}
			return fmt.Errorf("there are only %+v", steps)
		})
	}
	await(t, "milestones of the media node", func() error {
		if slices.ContainsFunc(b.Ladder(), func(s browser.Step) bool { return s.From == "media" || s.To == "media" }) {
			return nil
		}
		return errors.New("there are none")
	})
	text, err := browser.Evaluate[string](b, `(async () => {
		const row = [...document.querySelectorAll('[data-testid="ladder-entry"]')]
			.find((e) => e.dataset.from === "gateway" && e.dataset.to === "network" && e.dataset.title.includes("INVITE"));
		row.querySelector("button").click();
		await new Promise(requestAnimationFrame);
		return row.querySelector('[data-testid="ladder-text"]').textContent;
	})()`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "INVITE sip:"+echo) || !strings.Contains(text, "m=audio") {
		t.Errorf("the opened INVITE is %q", text)
	}
}

// The same over TLS, with the local certificate authority, as from another
// machine: page, tokens, APIs and events.
func TestSecureListener(t *testing.T) {
	t.Parallel()
	g := gateway.AllInOne(t, gateway.Settings{"demo_network.ring_time": "100ms"})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.Roots}}}
	t.Cleanup(client.CloseIdleConnections)
	for path, says := range map[string]string{
		"/": `data-testid="call-button"`, "/settings.json": `"relayUrl"`, "/openapi/": "<",
		"/oauth/.well-known/openid-configuration": g.Secure + "/oauth/token",
	} {
		resp, err := client.Get(g.Secure + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), says) {
			t.Errorf("GET %s: %s, %v, without %s:\n%.500s", path, resp.Status, err, says, text)
		}
	}
	d := device.New(t, device.Config{API: g.Secure, Token: g.Token(ada), Number: ada, Roots: g.Roots})
	call := d.Call("tel:"+echo, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, browserHz)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	g.Control.Stop()
	if code := g.Control.ExitCode(); code != 0 {
		t.Errorf("the all-in-one ends with code %d", code)
	}
}
