package conformance

import (
	"fmt"
	"net/http"

	"github.com/cucumber/godog"
)

func (w *world) bindRegistrations(sc *godog.ScenarioContext) {
	sc.Step(`^`+who+` registers$`, func(name string) error { return w.register(name, nil) })
	sc.Step(`^`+who+` registers with$`, w.register)
	sc.Step(`^`+who+` is registered$`, w.registered)
	sc.Step(`^`+who+` is registered with$`, func(name string, table *godog.Table) error {
		return w.must(w.register(name, table), w.created())
	})
	sc.Step(`^`+who+` refreshes with$`, func(name string, table *godog.Table) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		body := map[string]any{}
		if err := w.change(a, body, table); err != nil {
			return err
		}
		return w.sendJSON(a, http.MethodPut, w.gen.registrations+"/"+a.registrationID, body)
	})
	sc.Step(`^the registration of `+who+` is gone$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		// r2.2 cannot read registrations.
		g := w.gen
		if g.single {
			g = r31
		}
		return eventually(func() error {
			return w.must(w.call(a, http.MethodGet, g.registrations+"/"+a.registrationID, nil), w.answered(http.StatusNotFound, "NOT_FOUND"))
		})
	})
}

// must is the first error of steps; later ones are evaluated all the same.
func (w *world) must(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// created is the answer to a registration.
func (w *world) created() error {
	if w.gen.single {
		return w.answered(http.StatusOK, "")
	}
	return w.answered(http.StatusCreated, "")
}

func (w *world) register(name string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	body := map[string]any{"deviceId": a.deviceID}
	if a.tokenNumber == "" {
		body["phoneNumber"] = a.number
	}
	if err := w.change(a, body, table); err != nil {
		return err
	}
	if err := w.sendJSON(a, http.MethodPost, w.gen.registrations, body); err != nil {
		return err
	}
	if w.last.status < 300 {
		a.registrationID = w.field("registrationId")
	}
	return nil
}

func (w *world) registered(name string) error {
	if err := w.register(name, nil); err != nil {
		return err
	}
	if err := w.created(); err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	return nil
}
