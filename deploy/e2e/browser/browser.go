// Package browser runs Chromium as the user's browser in end-to-end tests. Its
// microphone is a file with a tone, what it plays is measured in the page, and
// the softphone is worked by its buttons, the way people do.
package browser

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Width and height of a laptop's and of a phone's window.
var (
	laptop = [2]int64{1366, 820}
	phone  = [2]int64{390, 844}
)

// patience bounds one step in the browser.
const patience = 20 * time.Second

//go:embed instrument.js
var instrument string

// Browser is a window of Chromium with a page.
type Browser struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	console bytes.Buffer
}

// Start opens a browser until the test ends. Its microphone hears the tone hz, a
// whole number. The test is skipped when Chromium is not installed.
func Start(t testing.TB, hz int) *Browser {
	t.Helper()
	path := process.Find(t, "chromium", "chromium")
	dir := t.TempDir()
	microphone := filepath.Join(dir, "microphone.wav")
	if err := os.WriteFile(microphone, wav(hz), 0o600); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Flag("headless", "new"),
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("allow-loopback-in-peer-connection", true),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-audio-capture", microphone),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("mute-audio", true),
		chromedp.WindowSize(int(laptop[0]), int(laptop[1])),
		chromedp.WSURLReadTimeout(patience),
	)
	allocated, stop := chromedp.NewExecAllocator(context.Background(), options...)
	b := &Browser{t: t}
	ctx, end := chromedp.NewContext(allocated)
	b.ctx = ctx
	var console sync.WaitGroup
	// Cleanups run last to first: the pictures are taken before the end.
	t.Cleanup(func() {
		end()
		stop()
		console.Wait()
	})
	t.Cleanup(b.explain)
	// What starts the browser must not be bounded: the bound would end it.
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument,
		page.AddScriptToEvaluateOnNewDocumentParams{Source: instrument}); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	console.Go(func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return // the end of the browser
			}
			b.say(m)
		}
	})
	return b
}

// say takes what the page writes to its console.
func (b *Browser) say(m chromedp.ConsoleMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(&b.console, "%s: %s %s\n", m.Type, m.Text, m.URL)
}

// wav is a second of a tone, which is repeated without a seam.
func wav(hz int) []byte {
	const rate = 48000
	samples := make([]int16, rate)
	tone.NewGenerator(rate, tone.DefaultAmplitude, float64(hz)).Read(samples)
	var b bytes.Buffer
	b.WriteString("RIFF")
	for _, field := range []any{
		uint32(36 + 2*len(samples)), [4]byte{'W', 'A', 'V', 'E'}, [4]byte{'f', 'm', 't', ' '}, uint32(16),
		uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2), uint16(16),
		[4]byte{'d', 'a', 't', 'a'}, uint32(2 * len(samples)), samples,
	} {
		_ = binary.Write(&b, binary.LittleEndian, field) // a buffer takes everything
	}
	return b.Bytes()
}

// explain shows, after a failure, what the browser said and how the page looks.
func (b *Browser) explain() {
	if !b.t.Failed() {
		return
	}
	b.mu.Lock()
	b.t.Logf("the browser's console:\n%s", b.console.String())
	b.mu.Unlock()
	dir := os.Getenv("ISTHMUS_E2E_ARTIFACTS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "isthmus-e2e-failures")
	}
	for name, size := range map[string][2]int64{"laptop": laptop, "phone": phone} {
		file := filepath.Join(dir, strings.ReplaceAll(b.t.Name(), "/", "-")+"-"+name+".png")
		if err := b.picture(file, size); err != nil {
			b.t.Logf("picture of the page: %v", err)
			continue
		}
		b.t.Logf("picture of the page: %s", file)
	}
}

func (b *Browser) picture(file string, size [2]int64) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(size[0], size[1])); err != nil {
		return err
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o644)
}

// PhoneSize gives the window the size of a phone's.
func (b *Browser) PhoneSize() {
	b.t.Helper()
	b.run("resize", chromedp.EmulateViewport(phone[0], phone[1]))
}

// LaptopSize gives the window the size of a laptop's.
func (b *Browser) LaptopSize() {
	b.t.Helper()
	b.run("resize", chromedp.EmulateViewport(laptop[0], laptop[1]))
}

// run does something in the browser within the bound.
func (b *Browser) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// Open loads a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.run("open "+url, chromedp.Navigate(url))
}

// Reload loads the page again.
func (b *Browser) Reload() {
	b.t.Helper()
	b.run("reload", chromedp.Reload())
}

// Evaluate runs an expression in the page and answers its value, awaited when it
// is a promise.
func Evaluate[T any](b *Browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise, byUser))
}

// byUser lets the page do what needs a gesture of the user.
func byUser(p *runtime.EvaluateParams) {
	yes := true
	p.UserGesture = &yes
}

// Await waits until an expression is true in the page.
func (b *Browser) Await(within time.Duration, what, expression string) {
	b.t.Helper()
	condition.Await(b.t, within, what, func() error {
		ok, err := Evaluate[bool](b, "!!("+expression+")")
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s is not true", expression)
		}
		return nil
	})
}

// Hear answers what the page plays: half a second at 8000 samples a second.
func (b *Browser) Hear() ([]int16, error) {
	text, err := Evaluate[string](b, "window.endToEnd.hear()")
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	samples := make([]int16, len(raw)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return samples, nil
}

// AwaitTone waits until what the page plays is the tone.
func (b *Browser) AwaitTone(within time.Duration, hz float64) {
	b.t.Helper()
	b.awaitSound(within, fmt.Sprintf("%.0f Hz", hz), func(a tone.Analysis) bool { return a.Is(hz) })
}

// AwaitSilence waits until the page plays nothing.
func (b *Browser) AwaitSilence(within time.Duration) {
	b.t.Helper()
	b.awaitSound(within, "silence", tone.Analysis.Silent)
}

// AwaitSound waits until the page plays anything.
func (b *Browser) AwaitSound(within time.Duration) {
	b.t.Helper()
	b.awaitSound(within, "a sound", func(a tone.Analysis) bool { return !a.Silent() })
}

func (b *Browser) awaitSound(within time.Duration, what string, good func(tone.Analysis) bool) {
	b.t.Helper()
	condition.Await(b.t, within, what+" in the browser", func() error {
		samples, err := b.Hear()
		if err != nil {
			return err
		}
		if a := tone.Dominant(samples, tone.Rate); !good(a) {
			return fmt.Errorf("heard %v", a)
		}
		return nil
	})
}

// AwaitKey waits until what the page plays is the tone of a telephone key.
func (b *Browser) AwaitKey(within time.Duration, key byte) {
	b.t.Helper()
	low, high, ok := tone.DTMF(key)
	if !ok {
		b.t.Fatalf("%c is no telephone key", key)
	}
	condition.Await(b.t, within, fmt.Sprintf("the tone of key %c in the browser", key), func() error {
		samples, err := b.Hear()
		if err != nil {
			return err
		}
		// The tone may be shorter than what was recorded.
		for from := 0; from+tone.Rate/20 <= len(samples); from += tone.Rate / 20 {
			part := samples[from : from+tone.Rate/20]
			if tone.Share(part, tone.Rate, low) > 0.25 && tone.Share(part, tone.Rate, high) > 0.25 {
				return nil
			}
		}
		return fmt.Errorf("heard %v", tone.Dominant(samples, tone.Rate))
	})
}
