package softphone_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// firefox is a Firefox that is driven by WebDriver BiDi.
type firefox struct {
	t       *testing.T
	conn    *websocket.Conn
	context string
	id      int
}

// firefoxSettings make Firefox use a fake microphone without asking, and
// addresses of this machine.
const firefoxSettings = `
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
`

func openFirefox(t *testing.T) *firefox {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		if path, err = exec.LookPath("firefox"); err != nil {
			t.Skip("firefox is not installed")
		}
	}
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", profile, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_DISABLE_CONTENT_SANDBOX=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	address := make(chan string, 1)
	go func() {
		listening := regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			if m := listening.FindStringSubmatch(s.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	f := &firefox{t: t}
	select {
	case a := <-address:
		if f.conn, _, err = websocket.Dial(ctx, a+"/session", nil); err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("firefox does not say where it listens")
	}
	f.conn.SetReadLimit(16 << 20)
	f.do("session.new", object{"capabilities": object{}}, nil)
	var tree struct {
		Contexts []struct{ Context string }
	}
	f.do("browsingContext.getTree", object{}, &tree)
	f.context = tree.Contexts[0].Context
	return f
}

// do runs a command of WebDriver BiDi.
func (f *firefox) do(method string, params object, result any) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.id++
	if err := wsjson.Write(ctx, f.conn, object{"id": f.id, "method": method, "params": params}); err != nil {
		f.t.Fatal(err)
	}
	for {
		var answer struct {
			ID      int             `json:"id"`
			Type    string          `json:"type"`
			Result  json.RawMessage `json:"result"`
			Message string          `json:"message"`
		}
		if err := wsjson.Read(ctx, f.conn, &answer); err != nil {
			f.t.Fatalf("%s: %v", method, err)
		}
		if answer.ID != f.id {
			continue // an event
		}
		if answer.Type == "error" {
			f.t.Fatalf("%s: %s", method, answer.Message)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				f.t.Fatal(err)
			}
		}
		return
	}
}

func (f *firefox) eval(expression string) string {
	f.t.Helper()
	var r struct {
		Result struct{ Value any }
	}
	f.do("script.evaluate", object{
		"expression": "(async () => String(await (" + expression + ")))()", "target": object{"context": f.context}, "awaitPromise": true, "userActivation": true,
	}, &r)
	return fmt.Sprint(r.Result.Value)
}

func (f *firefox) wait(expression string) {
	f.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for f.eval("Boolean("+expression+")") != "true" {
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("never: %s\n%s", expression, f.eval("document.body.innerText"))
		}
	}
}

func (f *firefox) click(selector string) {
	f.t.Helper()
	f.wait(fmt.Sprintf(`(e => e?.getClientRects().length && !e.disabled)(document.querySelector(%q))`, selector))
	f.eval(fmt.Sprintf(`document.querySelector(%q).click()`, selector))
}

func (f *firefox) state(want string) {
	f.t.Helper()
	f.wait(fmt.Sprintf(`document.querySelector('%s').dataset.state === %q`, id("call-state"), want))
}

func (f *firefox) audible() {
	f.t.Helper()
	f.wait(fmt.Sprintf(`document.querySelector('%s').getAttribute("aria-valuenow") > 10`, id("meter-remote")))
}

// TestFirefox goes the whole way in the other browser.
func TestFirefox(t *testing.T) {
	g := newFakeGateway(t)
	f := openFirefox(t)
	f.do("browsingContext.navigate", object{"context": f.context, "url": g.url + "/", "wait": "complete"}, nil)
	f.click(id("login"))
	f.click(`button[name=number][value="` + alice + `"]`)
	f.wait(fmt.Sprintf(`document.querySelector('%s')?.dataset.state === "registered"`, id("registration-state")))

	f.click(id("number-+15550106"))
	f.state("early-media")
	f.audible()
	f.state("connected")
	f.audible()
	f.click(id("hold"))
	f.state("held")
	f.click(id("resume"))
	f.state("connected")
	f.audible()
	g.mu.Lock()
	g.rejectHold = true
	g.mu.Unlock()
	f.click(id("hold"))
	f.wait(fmt.Sprintf(`document.querySelector('%s').textContent.includes("INCOMPATIBLE_STATE")`, id("call-notice")))
	f.audible()
	f.do("browsingContext.reload", object{"context": f.context, "wait": "complete"}, nil)
	f.state("connected")
	f.audible()
	f.click(id("hangup"))
	f.state("ended")
	if strings.Contains(f.eval("document.body.innerText"), "(HTTP") {
		t.Error(f.eval("document.body.innerText"))
	}

	f.click(id("call-me"))
	f.state("incoming")
	f.click(id("answer"))
	f.state("connected")
	f.audible()
	f.click(id("keys"))
	f.click(id("keypad-5"))
	eventually(t, "a key is heard", func() bool { return g.only().keys.Load() > 0 })
	f.click(id("logout"))
	f.wait(`!document.getElementById("login").hidden`)
}
