package softphone_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// tab is a browser tab with the softphone in it.
type tab struct {
	t   *testing.T
	ctx context.Context
	g   *fakeGateway
}

// patience is how long a test waits for the page.
const patience = 20 * time.Second

func openTab(t *testing.T, g *fakeGateway, flags ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	options := append(append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 800),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
	), flags...)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	tb := &tab{t: t, ctx: ctx, g: g}
	messages := chromedp.Console(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for m, err := range messages {
			if err == nil && (m.Type == chromedp.ConsoleException || strings.Contains(m.Text, "Content Security Policy")) {
				t.Errorf("the browser's console: %s", m)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
	})
	return tb
}

func (tb *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tb.fail(err.Error())
	}
}

func (tb *tab) fail(why string) {
	tb.t.Helper()
	tb.screenshot("failure")
	text, _ := eval[string](tb, `document.body.innerText`)
	tb.t.Fatalf("%s\n%s", why, text)
}

func eval[T any](tb *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

func id(testID string) string { return fmt.Sprintf(`[data-testid="%s"]`, testID) }

func (tb *tab) click(testID string) {
	tb.t.Helper()
	tb.do(chromedp.Click(chromedp.CSS(id(testID)), chromedp.NodeVisible))
}

// wait polls until the JavaScript expression is true, over reloads too.
func (tb *tab) wait(expression string) {
	tb.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := eval[bool](tb, "Boolean("+expression+")")
		if ok && err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.fail(fmt.Sprintf("never: %s (%v)", expression, err))
		}
	}
}

func (tb *tab) state(want string) {
	tb.t.Helper()
	tb.wait(fmt.Sprintf(`document.querySelector('%s').dataset.state === %q`, id("call-state"), want))
}

func (tb *tab) outcome(want, text string) {
	tb.t.Helper()
	tb.wait(fmt.Sprintf(`document.querySelector('%s').dataset.outcome === %q`, id("call-state"), want))
	got, err := eval[string](tb, fmt.Sprintf(`document.querySelector('%s').textContent`, id("call-state")))
	if err != nil || got != text {
		tb.t.Errorf("the state reads %q, want %q (%v)", got, text, err)
	}
}

func (tb *tab) registered() {
	tb.t.Helper()
	tb.wait(fmt.Sprintf(`document.querySelector('%s')?.dataset.state === "registered"`, id("registration-state")))
}

// login goes the newcomer's way to a registered phone.
func (tb *tab) login() {
	tb.t.Helper()
	tb.size(1280, 800, false)
	tb.do(chromedp.Navigate(tb.g.url + "/"))
	tb.click("login")
	tb.do(chromedp.Click(chromedp.CSS(`button[name=number][value="`+alice+`"]`), chromedp.NodeVisible))
	tb.registered()
}

// audible waits until something is heard from the far end.
func (tb *tab) audible() {
	tb.t.Helper()
	tb.wait(fmt.Sprintf(`document.querySelector('%s').ariaValueNow > 20`, id("meter-remote")))
}

// screenshot keeps a picture when SOFTPHONE_SCREENSHOTS names a directory.
func (tb *tab) screenshot(name string) {
	dir := os.Getenv("SOFTPHONE_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(tb.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tb.t.Log(err)
		return
	}
	name = strings.NewReplacer("/", "-", " ", "-").Replace(tb.t.Name() + "-" + name)
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		tb.t.Log(err)
	}
}

func (tb *tab) size(width, height int64, dark bool) {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	tb.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}
