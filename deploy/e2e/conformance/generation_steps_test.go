package conformance

import (
	"fmt"

	"github.com/cucumber/godog"
)

func (w *world) bindGenerations(sc *godog.ScenarioContext) {
	sc.Step(`^from here on generation (\S+) is used$`, func(name string) error {
		g, ok := generationNamed(name)
		if !ok {
			return fmt.Errorf("there is no generation %q", name)
		}
		w.gen = g
		return nil
	})
	sc.Step(`^from here on the paths are (\S+), (\S+) and (\S+)$`, func(registrations, calls, subscriptions string) error {
		w.gen.registrations, w.gen.calls, w.gen.subscriptions = registrations, calls, subscriptions
		return nil
	})
}
