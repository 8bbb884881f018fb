package softphone_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

func (tb *tab) count(selector string) int {
	tb.t.Helper()
	n, err := eval[int](tb, fmt.Sprintf("document.querySelectorAll(%q).length", selector))
	if err != nil {
		tb.fail(err.Error())
	}
	return n
}

func TestLadder(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	tb.click("number-+15550100")
	tb.state("connected")
	entry := func(from, to, title string) string {
		return fmt.Sprintf(`[data-testid=ladder-entry][data-from=%s][data-to=%s][data-title^="%s"]`, from, to, title)
	}
	for _, want := range []string{
		entry("device", "oauth", "GET authorize"), entry("oauth", "device", "redirect with code"), entry("device", "oauth", "POST token"),
		entry("device", "gateway", "POST relay/channels"), entry("device", "gateway", "POST events/subscriptions"), entry("device", "gateway", "POST reg/sessions"),
		entry("device", "gateway", "POST calls/sessions"), entry("gateway", "device", "201 Initial"),
		entry("gateway", "network", "INVITE"), entry("network", "gateway", "180 Ringing"), entry("gateway", "device", "session-status Ringing"),
		entry("device", "device", "ICE connected"), entry("device", "device", "DTLS connected"), entry("device", "device", "first RTP"),
		entry("media", "media", "first packet"),
	} {
		tb.wait(fmt.Sprintf("document.querySelector(%q)", want))
	}
	// The gateway tells of the page's own messages too; they are drawn once.
	for _, once := range []string{`[data-title="POST calls/sessions"]`, `[data-title^="POST /calls"]`, `[data-title="session-status Ringing"]`, `[data-title="session-status notified"]`} {
		want := 1
		if once == `[data-title^="POST /calls"]` || once == `[data-title="session-status notified"]` {
			want = 0
		}
		if n := tb.count(once); n != want {
			t.Errorf("%s is drawn %d times, want %d", once, n, want)
		}
	}

	tb.do(chromedp.Click(chromedp.CSS(`[data-title="POST calls/sessions"] button`)))
	text, err := eval[string](tb, fmt.Sprintf(`document.querySelector('%s').textContent`, id("ladder-text")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /calls/sessions HTTP/1.1", "registrationId: ", "Authorization: Bearer ey", "…", `"receiverAddress": "tel:+15550100"`, "      a=candidate:", "      m=audio "} {
		if !strings.Contains(text, want) {
			t.Errorf("the text of the request lacks %q:\n%s", want, text)
		}
	}
	token, err := eval[string](tb, `JSON.parse(sessionStorage["isthmus.tokens"]).access`)
	if err != nil || token == "" || strings.Contains(text, token) {
		t.Errorf("the text holds the access token (%v)", err)
	}
	tb.screenshot("open")

	// By call.
	tb.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => { const f = document.querySelector('%s'); f.selectedIndex = 1; f.dispatchEvent(new Event("change")); })()`, id("ladder-filter"))))
	if tb.count(`[data-title^="POST token"]:not([hidden])`) != 0 {
		t.Error("the log-in is shown among the messages of the call")
	}
	for _, want := range []string{`[data-title="POST calls/sessions"]`, `[data-title="180 Ringing"]`, `[data-title="session-status Connected"]`, `[data-title="ICE connected"]`} {
		if tb.count(want+":not([hidden])") != 1 {
			t.Errorf("%s is not shown among the messages of the call", want)
		}
	}
	tb.click("ladder-clear")
	if n := tb.count(id("ladder-entry")); n != 0 {
		t.Errorf("%d entries are left after clearing", n)
	}
}

// TestLooks takes pictures of the page's states, in both schemes and sizes, and
// checks that nothing is wider than the screen.
func TestLooks(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	for _, size := range []struct {
		name          string
		width, height int64
		dark          bool
	}{
		{"laptop-light", 1280, 800, false}, {"laptop-dark", 1280, 800, true}, {"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true},
	} {
		look := func(what string) {
			t.Helper()
			tb.screenshot(size.name + "-" + what)
			over, err := eval[bool](tb, `document.documentElement.scrollWidth > innerWidth || [...document.querySelectorAll("main section")].some((s) => s.scrollWidth > s.clientWidth)`)
			if err != nil || over {
				t.Errorf("%s: %s is wider than the screen (%v)", size.name, what, err)
			}
		}
		tb.size(size.width, size.height, size.dark)
		look("idle")
		tb.click("number-+15550100")
		tb.state("connected")
		tb.audible()
		look("call")
		if size.width < 600 {
			tb.click("tab-messages")
		}
		tb.do(chromedp.Click(chromedp.CSS(`[data-testid=ladder-entry]:last-child button`)))
		look("messages")
		tb.do(chromedp.Click(chromedp.CSS(`[data-testid=ladder-entry]:last-child button`)))
		if size.width < 600 {
			tb.click("tab-phone")
		}
		tb.click("hangup")
		tb.click("dismiss")
		tb.click("call-me")
		tb.state("incoming")
		look("incoming")
		tb.click("decline")
		tb.click("dismiss")
	}
}

func (tb *tab) typed(number string) {
	tb.t.Helper()
	tb.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector('%s').value = %q`, id("dial-input"), number)))
}

func TestDialledNumbers(t *testing.T) {
	g := newFakeGateway(t)
	tb := openTab(t, g)
	tb.login()
	for _, tc := range []struct{ dialled, receiver string }{
		{"+49 (30) 1234-567", "tel:+49301234567"},
		{"0049301234567", "tel:+49301234567"},
		{"110", "tel:110;phone-context=+1"},
		{"*43#", "tel:*43#;phone-context=+1"},
		{"sip:bob@example.com", "sip:bob@example.com"},
		{"bob@example.com", "sip:bob@example.com"},
	} {
		tb.typed(tc.dialled)
		tb.click("call-button")
		eventually(t, tc.dialled+" is called", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, s := range g.sessions {
				if s.data["receiverAddress"] == tc.receiver {
					return true
				}
			}
			return false
		})
		tb.outcome("failed", "Failed")
		tb.click("dismiss")
	}
	for _, dialled := range []string{"", "hello", "+0123", "12345678901234567890"} {
		tb.typed(dialled)
		tb.click("call-button")
		tb.wait(fmt.Sprintf(`document.querySelector('%s').textContent.includes("not a number")`, id("problem")))
		tb.do(chromedp.Click(chromedp.CSS(id("problem") + " button")))
	}
}

func TestTokenIsRefreshed(t *testing.T) {
	g := newFakeGateway(t, func(c *devoauth.Config) { c.AccessTokenTTL = 2 * time.Second })
	tb := openTab(t, g)
	tb.login()
	expired := time.After(2 * time.Second)
	<-expired
	tb.click("number-+15550100")
	tb.state("connected")
	if n := g.asked("POST /oauth/token"); n < 2 {
		t.Errorf("%d token requests, want the one of the log-in and a refresh", n)
	}
}
