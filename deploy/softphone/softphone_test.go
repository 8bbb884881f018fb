package softphone_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// eventually polls a condition of the test's own side.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestOutgoingCall(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.screenshot("registered")
	tb.do(chromedp.SendKeys(chromedp.CSS(id("dial-input")), "+1 555 0100"))
	tb.click("call-button")
	tb.state("ringing")
	tb.screenshot("ringing")
	tb.state("connected")
	tb.audible()
	tb.screenshot("connected")

	tb.click("keys")
	tb.click("keypad-5")
	eventually(t, "a key is heard", func() bool { return g.only().keys.Load() > 0 })

	tb.click("hold")
	tb.state("held")
	tb.screenshot("held")
	tb.click("resume")
	tb.state("connected")
	tb.audible()

	tb.click("mute")
	tb.wait(fmt.Sprintf(`document.querySelector('%s').ariaValueNow < 5`, id("meter-remote")))
	tb.click("mute")
	tb.audible()

	g.mu.Lock()
	g.rejectHold = true
	g.mu.Unlock()
	tb.click("hold")
	tb.wait(fmt.Sprintf(`document.querySelector('%s').textContent.includes("INCOMPATIBLE_STATE")`, id("call-notice")))
	tb.state("connected")
	tb.audible()

	tb.click("hangup")
	tb.outcome("ended", "Call ended")
	eventually(t, "the session is deleted", func() bool { return g.asked("DELETE /calls/sessions/") == 1 })
	tb.screenshot("ended")
}

func TestOutcomes(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	for _, tc := range []struct{ number, outcome, text string }{
		{"+15550102", "busy", "Busy"},
		{"+15550103", "declined", "Declined"},
		{"+15550104", "unknown", "Unknown number"},
		{"+15550105", "no-answer", "No answer"},
		{"+15550101", "failed", "Failed"},
	} {
		tb.click("number-" + tc.number)
		tb.outcome(tc.outcome, tc.text)
		tb.screenshot(tc.outcome)
		tb.click("dismiss")
	}
	g.mu.Lock()
	g.refuse = object{"status": 503, "code": "UNAVAILABLE", "message": "No trunk is up."}
	g.mu.Unlock()
	tb.click("number-+15550100")
	tb.outcome("failed", "Failed")
	tb.wait(fmt.Sprintf(`document.querySelector('%s').textContent.includes("UNAVAILABLE")`, id("call-reason")))

	tb.click("dismiss")
	tb.click("number-+15550105")
	tb.state("ringing")
	tb.click("hangup")
	tb.outcome("cancelled", "Cancelled")
}

func TestEarlyMedia(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.click("number-+15550106")
	tb.state("early-media")
	tb.audible()
	tb.screenshot("early-media")
	tb.state("connected")
	heard := g.only().heard.Load()
	eventually(t, "audio goes on after the final answer", func() bool { return g.only().heard.Load() > heard+20 })
	tb.audible()
}

func TestIncomingCall(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.click("call-me")
	tb.state("incoming")
	// Media are ready before anybody answers.
	eventually(t, "the peers are connected", func() bool { return g.only().pc.ConnectionState().String() == "connected" })
	eventually(t, "it rings at the caller's", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.onlyLocked().status() == "Ringing" })
	tb.screenshot("incoming")
	tb.click("answer")
	tb.state("connected")
	tb.audible()

	g.mu.Lock()
	g.onlyLocked().tell("Hold", nil)
	g.mu.Unlock()
	tb.state("remote-held")
	g.mu.Lock()
	g.onlyLocked().tell("Resume", nil)
	g.mu.Unlock()
	tb.state("connected")

	g.mu.Lock()
	g.onlyLocked().tell("Terminated", object{"reason": "BYE"})
	g.mu.Unlock()
	tb.outcome("ended", "Call ended")
	g.drop()

	tb.click("call-me")
	tb.state("incoming")
	tb.click("decline")
	tb.outcome("declined", "Declined")

	tb.click("call-me")
	tb.state("incoming")
	g.mu.Lock()
	g.onlyLocked().tell("SessionCancelled", nil)
	g.mu.Unlock()
	tb.outcome("missed", "Missed call")
}

func TestReload(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.click("number-+15550100")
	tb.state("connected")
	tb.audible()
	tb.do(chromedp.Reload())
	tb.registered()
	tb.state("connected")
	tb.audible()
	if n := g.asked("POST /reg/sessions"); n != 1 {
		t.Errorf("%d registrations were made, want the first one found again", n)
	}
	if n := g.asked("POST /relay/channels"); n != 1 {
		t.Errorf("%d relay channels were opened, want the first one found again", n)
	}
	if n := g.asked("POST /events/subscriptions"); n != 1 {
		t.Errorf("%d subscriptions were made, want the first one found again", n)
	}
	tb.click("hold")
	tb.state("held")
	tb.do(chromedp.Reload())
	tb.state("held")
	tb.click("resume")
	tb.state("connected")
	tb.audible()
	tb.click("hangup")
	tb.outcome("ended", "Call ended")
	// A call that rings is found again too, and can be answered.
	tb.click("call-me")
	tb.state("incoming")
	eventually(t, "it rings at the caller's", func() bool { return g.asked("PUT /calls/sessions/"+g.only().data["mediaSessionId"].(string)) == 2 })
	tb.screenshot("incoming")
}

func TestStreamBreaksAndResumes(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.click("number-+15550100")
	tb.state("connected")
	g.relay.breakOff()
	g.mu.Lock()
	g.onlyLocked().tell("Terminated", object{"reason": "BYE"})
	g.mu.Unlock()
	tb.outcome("ended", "Call ended")
	g.relay.mu.Lock()
	defer g.relay.mu.Unlock()
	if len(g.relay.connects) != 2 || g.relay.connects[1] == "" {
		t.Errorf("the stream was connected with Last-Event-ID %q, want once without and once with", g.relay.connects)
	}
}

func TestRefresh(t *testing.T) {
	g := newFakeGateway(t)
	g.life = 6 * time.Second
	tb := openTab(t, g)
	tb.login()
	eventually(t, "the registration is refreshed", func() bool { return g.asked("PUT /reg/sessions/") > 0 })
	eventually(t, "the subscription is refreshed, and its credential", func() bool { return g.asked("PUT /events/subscriptions/") > 1 })
	if n := g.asked("POST /events/subscriptions"); n != 1 || g.asked("POST /relay/channels") != 1+g.asked("POST /relay/channels/") {
		t.Errorf("%d subscriptions were made, want one that is refreshed", n)
	}

	g.mu.Lock()
	g.noRotation = true
	before := len(g.subscriptions)
	g.mu.Unlock()
	eventually(t, "the channel is replaced", func() bool {
		return g.asked("DELETE /relay/channels/") > 0 && g.asked("DELETE /events/subscriptions/") > 0
	})
	g.mu.Lock()
	after := len(g.subscriptions)
	g.mu.Unlock()
	if before != 1 || after != 1 {
		t.Errorf("%d subscriptions before and %d after the channel was replaced, want one each", before, after)
	}
	tb.registered()
	tb.click("number-+15550102")
	tb.outcome("busy", "Busy")
}

func TestLogout(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.do(chromedp.Navigate(g.url + "/"))
	tb.do(chromedp.WaitVisible(chromedp.CSS(id("login"))))
	tb.screenshot("login")
	tb.login()
	tb.click("logout")
	tb.do(chromedp.WaitVisible(chromedp.CSS(id("login"))))
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.registrations) != 0 || len(g.subscriptions) != 0 {
		t.Errorf("left behind: %d registrations, %d subscriptions", len(g.registrations), len(g.subscriptions))
	}
}

func TestNoMicrophone(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g, chromedp.Flag("use-fake-ui-for-media-stream", false), chromedp.Flag("deny-permission-prompts", true))
	tb.login()
	tb.click("number-+15550100")
	tb.state("connected")
	tb.wait(fmt.Sprintf(`document.querySelector('%s').textContent.includes("nobody hears you")`, id("call-notice")))
	eventually(t, "silence is sent", func() bool { return g.only().heard.Load() > 0 })
	tb.screenshot("no-microphone")
	tb.click("hangup")
	tb.outcome("ended", "Call ended")
}

// TestAnotherTab closes the tab without logging out, and logs in anew.
func TestAnotherTab(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	// What a tab keeps for itself goes with it.
	tb.do(chromedp.Evaluate[chromedp.Void](`sessionStorage.clear()`))
	tb.login()
	for _, request := range []string{"POST /relay/channels", "POST /events/subscriptions", "POST /reg/sessions"} {
		if n := g.asked(request); n != 1 {
			t.Errorf("%s was asked %d times; the second tab should go on with what the first left", request, n)
		}
	}
	// Two tabs at a time are two devices.
	ctx, cancel := chromedp.NewContext(tb.ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	other := &tab{t: t, ctx: ctx, g: g}
	other.login()
	if n := g.asked("POST /reg/sessions"); n != 2 {
		t.Errorf("%d registrations were made, want one for each open tab", n)
	}
}
