package browser

import (
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
)

// byID selects by data-testid.
func byID(id string) string { return fmt.Sprintf(`[data-testid=%q]`, id) }

// Click presses what has a data-testid, once it can be pressed.
func (b *Browser) Click(id string) {
	b.t.Helper()
	b.run("click "+id, chromedp.Click(chromedp.CSS(byID(id)), chromedp.NodeVisible, chromedp.NodeEnabled))
}

// LogIn opens the softphone, logs in as a subscriber and waits until it is
// registered.
func (b *Browser) LogIn(url, number string) {
	b.t.Helper()
	b.Open(url)
	b.Click("login")
	choose := fmt.Sprintf(`button[name="number"][value=%q]`, number)
	b.run("choose the subscriber", chromedp.Click(chromedp.CSS(choose), chromedp.NodeVisible))
	b.AwaitRegistered()
}

// AwaitRegistered waits until the softphone is registered.
func (b *Browser) AwaitRegistered() {
	b.t.Helper()
	b.awaitData(patience, "registration-state", "state", "registered")
}

// Dial types a number and calls it.
func (b *Browser) Dial(number string) {
	b.t.Helper()
	b.run("dial "+number, chromedp.SendKeys(chromedp.CSS(byID("dial-input")), number))
	b.Click("call-button")
}

// AwaitState waits until the call is in one of the states.
func (b *Browser) AwaitState(within time.Duration, states ...string) {
	b.t.Helper()
	// What was dismissed is hidden, and stays as it was.
	b.Await(within, "a call", fmt.Sprintf(`document.querySelector('%s')?.hidden === false`, byID("call")))
	b.awaitData(within, "call-state", "state", states...)
}

// AwaitEnded waits until the call is over, with the outcome.
func (b *Browser) AwaitEnded(within time.Duration, outcome string) {
	b.t.Helper()
	b.AwaitState(within, "ended")
	b.awaitData(time.Second, "call-state", "outcome", outcome)
}

// Dismiss takes the ended call off the display.
func (b *Browser) Dismiss() {
	b.t.Helper()
	b.Click("dismiss")
	b.Await(patience, "the dial pad", visible("call-button"))
}

func visible(id string) string {
	return fmt.Sprintf(`document.querySelector('%s')?.checkVisibility()`, byID(id))
}

func (b *Browser) awaitData(within time.Duration, id, key string, values ...string) {
	b.t.Helper()
	condition.Await(b.t, within, fmt.Sprintf("%s to be %s", id, strings.Join(values, " or ")), func() error {
		have, err := Evaluate[string](b, fmt.Sprintf(`document.querySelector('%s')?.dataset[%q] ?? "absent"`, byID(id), key))
		if err != nil {
			return err
		}
		for _, v := range values {
			if have == v {
				return nil
			}
		}
		return fmt.Errorf("it is %q; %s", have, b.problems())
	})
}

// problems that the page shows.
func (b *Browser) problems() string {
	text, err := Evaluate[string](b, `["problem", "call-reason", "call-notice"].map((id) => document.querySelector('[data-testid="' + id + '"]'))
		.filter((e) => e?.checkVisibility()).map((e) => e.textContent.trim()).filter(Boolean).join("; ")`)
	if err != nil {
		return err.Error()
	}
	return "the page says: " + text
}

// Text of what has a data-testid.
func (b *Browser) Text(id string) string {
	b.t.Helper()
	text, err := Evaluate[string](b, fmt.Sprintf(`document.querySelector('%s')?.textContent ?? ""`, byID(id)))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// Step of the message ladder.
type Step struct {
	From, To, Title string
	Own             bool
}

// Ladder answers the steps that the page shows.
func (b *Browser) Ladder() []Step {
	b.t.Helper()
	steps, err := Evaluate[[]Step](b, `[...document.querySelectorAll('[data-testid="ladder-entry"]')]
		.map((e) => ({From: e.dataset.from, To: e.dataset.to, Title: e.dataset.title, Own: e.dataset.own === "true"}))`)
	if err != nil {
		b.t.Fatal(err)
	}
	return steps
}
