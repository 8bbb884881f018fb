package conformance

import (
	"fmt"
	"net/http"
	"regexp"

	"github.com/cucumber/godog"
)

var kindNames = regexp.MustCompile(`session-status|session-invitation|registration-ends`)

// everything is all kinds of event.
var everything = []string{"session-status", "session-invitation", "registration-ends"}

func (w *world) bindSubscriptions(sc *godog.ScenarioContext) {
	sc.Step(`^`+who+` subscribes$`, func(name string) error { return w.subscribe(name, "session-status", nil) })
	sc.Step(`^`+who+` subscribes with$`, func(name string, table *godog.Table) error {
		return w.subscribe(name, "session-status", table)
	})
	sc.Step(`^`+who+` subscribes to ((?:session|registration).+) with$`, func(name, kinds string, table *godog.Table) error {
		return w.subscribe(name, kinds, table)
	})
	sc.Step(`^`+who+` is subscribed to everything$`, func(name string) error { return w.subscribed(name, everything, nil) })
	sc.Step(`^`+who+` is subscribed to ((?:session|registration)\S*(?: and \S+)?)$`, func(name, kinds string) error {
		return w.subscribed(name, kindNames.FindAllString(kinds, -1), nil)
	})
	sc.Step(`^`+who+` is subscribed to (everything|(?:session|registration)\S*(?: and \S+)?) with$`, func(name, kinds string, table *godog.Table) error {
		list := everything
		if kinds != "everything" {
			list = kindNames.FindAllString(kinds, -1)
		}
		return w.subscribed(name, list, table)
	})
	sc.Step(`^`+who+` has (\d+) subscriptions$`, func(name string, want int) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		for range want {
			if err := w.must(w.subscribeTo(a, everything[:1], nil), w.answered(http.StatusCreated, "")); err != nil {
				return err
			}
		}
		return nil
	})
	sc.Step(`^the subscription of `+who+` is gone$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		return eventually(func() error {
			return w.must(w.call(a, http.MethodGet, w.gen.subscriptions+"/"+a.subscriptionID, nil), w.answered(http.StatusNotFound, "NOT_FOUND"))
		})
	})
	sc.Step(`^`+who+` ends its subscription$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		return w.must(w.call(a, http.MethodDelete, w.gen.subscriptions+"/"+a.subscriptionID, nil), w.answered(http.StatusNoContent, ""))
	})
	sc.Step(`^`+who+` changes its subscription with$`, func(name string, table *godog.Table) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		body := map[string]any{}
		if err := w.change(a, body, table); err != nil {
			return err
		}
		return w.sendJSON(a, http.MethodPut, w.gen.subscriptions+"/"+a.subscriptionID, body)
	})
}

func (w *world) subscribe(name, kinds string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	return w.subscribeTo(a, kindNames.FindAllString(kinds, -1), table)
}

func (w *world) subscribeTo(a *actor, kinds []string, table *godog.Table) error {
	var types []any
	for _, k := range kinds {
		types = append(types, w.gen.prefix+k)
	}
	detail := map[string]any{"deviceId": a.deviceID}
	if w.gen.single && a.registrationID != "" {
		detail["registrationId"] = a.registrationID
	}
	body := map[string]any{
		"protocol": "HTTP", "sink": w.sink.url(w.gen, a.name), "types": types,
		"config": map[string]any{"subscriptionDetail": detail},
	}
	if err := w.change(a, body, table); err != nil {
		return err
	}
	if err := w.sendJSON(a, http.MethodPost, w.gen.subscriptions, body); err != nil {
		return err
	}
	if w.last.status == http.StatusCreated {
		a.subscriptionID = w.field("id")
	}
	return nil
}

// subscribed subscribes to all kinds, in as many subscriptions as it takes.
func (w *world) subscribed(name string, kinds []string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	batches := [][]string{kinds}
	if w.gen.single {
		batches = nil
		for _, k := range kinds {
			batches = append(batches, []string{k})
		}
	}
	for _, batch := range batches {
		if err := w.must(w.subscribeTo(a, batch, table), w.answered(http.StatusCreated, "")); err != nil {
			return fmt.Errorf("subscribe %s: %w", name, err)
		}
	}
	return nil
}
