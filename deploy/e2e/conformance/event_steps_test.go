package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cucumber/godog"
)

func (w *world) bindEvents(sc *godog.ScenarioContext) {
	sc.Step(`^`+who+` is told "([^"]*)"$`, func(name, status string) error { return w.told(name, status, nil) })
	sc.Step(`^`+who+` is told "([^"]*)" with$`, w.told)
	sc.Step(`^`+who+` has been told ("[^"]*"(?:, "[^"]*")*)$`, w.toldInOrder)
	sc.Step(`^`+who+` gets an? ([a-z-]+) event$`, func(name, kind string) error { return w.gets(name, kind, nil) })
	sc.Step(`^`+who+` gets an? ([a-z-]+) event with$`, w.gets)
	sc.Step(`^the sink of `+who+` has got exactly$`, w.gotExactly)
	sc.Step(`^the deliveries to `+who+` have the header (\S+) "([^"]*)"$`, func(name, header, want string) error {
		return w.eachDelivery(name, func(d delivery) error {
			if have := d.header.Get(header); have != want {
				return fmt.Errorf("%s of a delivery is %q", header, have)
			}
			return nil
		})
	})
	sc.Step(`^the deliveries to `+who+` have no header (\S+)$`, func(name, header string) error {
		return w.eachDelivery(name, func(d delivery) error {
			if have := d.header.Values(header); len(have) > 0 {
				return fmt.Errorf("%s of a delivery is %q", header, have)
			}
			return nil
		})
	})
	sc.Step(`^the sink of `+who+` will answer ([^"]+)$`, func(name, codes string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		for _, word := range strings.Split(codes, ", ") {
			code, rest, _ := strings.Cut(word, " ")
			n, err := strconv.Atoi(code)
			if err != nil {
				return err
			}
			r := reply{status: n}
			if header, value, ok := strings.Cut(rest, ": "); ok {
				if value, err = w.expand(a, value); err != nil {
					return err
				}
				r.header = map[string]string{strings.TrimPrefix(header, "with "): value}
			}
			w.sink.answer(w.sinkPath(a), r)
		}
		return nil
	})
	sc.Step(`^the sink of `+who+` will not answer (\d+) times$`, func(name string, n int) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		w.sink.answer(w.sinkPath(a), slices.Repeat([]reply{{hang: true}}, n)...)
		return nil
	})
	sc.Step(`^the sink of `+who+` answers 500 to everything that is "([^"]*)"$`, func(_, status string) error {
		w.sink.mu.Lock()
		defer w.sink.mu.Unlock()
		w.sink.refused[status] = true
		return nil
	})
	sc.Step(`^the first event of `+who+` came (\d+) times, the last time at least (\S+) after the first$`, w.repeated)
}

// awaitEvent waits for an event of a kind that an actor's sink accepted and that
// is as wanted.
func (w *world) awaitEvent(a *actor, kind string, wanted func(event) error) (event, error) {
	var found event
	err := w.sink.await(w.sinkPath(a), func(all []delivery) error {
		err := fmt.Errorf("no %s event came to %s", kind, a.name)
		for _, d := range all {
			if d.event.kind() != kind || d.status/100 != 2 {
				continue
			}
			wrong := wanted(d.event)
			if wrong == nil {
				found = d.event
				return nil
			}
			err = wrong
		}
		return err
	})
	return found, err
}

// told waits for a session-status event of the actor's session.
func (w *world) told(name, status string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	e, err := w.awaitEvent(a, "session-status", func(e event) error {
		if e.text("status") != status || e.text("mediaSessionId") != a.sessionID {
			return fmt.Errorf("%s is not told %q", a.name, status)
		}
		return nil
	})
	if err != nil || table == nil {
		return err
	}
	return w.expect(a, e.Data, table)
}

// toldInOrder waits for the last status and compares all that were told.
func (w *world) toldInOrder(name, list string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	want := strings.Split(strings.Trim(list, `"`), `", "`)
	if err := w.told(name, want[len(want)-1], nil); err != nil {
		return err
	}
	return w.sink.await(w.sinkPath(a), func(all []delivery) error {
		var have []string
		for _, d := range all {
			if d.event.kind() == "session-status" && d.event.text("mediaSessionId") == a.sessionID && d.status/100 == 2 {
				have = append(have, d.event.text("status"))
			}
		}
		if !slices.Equal(have, want) {
			return fmt.Errorf("%s has been told %q", a.name, have)
		}
		return nil
	})
}

func (w *world) gets(name, kind string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	_, err = w.awaitEvent(a, kind, func(e event) error {
		if table == nil {
			return nil
		}
		return w.expect(a, e.all, table)
	})
	return err
}

// gotExactly compares everything that an actor's sink has accepted with a list of
// kinds and what they tell, the last being awaited.
func (w *world) gotExactly(name string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	var want []string
	for _, row := range table.Rows {
		want = append(want, row.Cells[0].Value+" "+row.Cells[1].Value)
	}
	return w.sink.await(w.sinkPath(a), func(all []delivery) error {
		var have []string
		for _, d := range all {
			if d.status/100 == 2 {
				have = append(have, d.event.kind()+" "+d.event.text("status")+d.event.text("terminationReason"))
			}
		}
		if !slices.Equal(have, want) {
			return fmt.Errorf("it has got %q instead of %q", have, want)
		}
		return nil
	})
}

func (w *world) eachDelivery(name string, check func(delivery) error) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	all, _ := w.sink.all(w.sinkPath(a))
	if len(all) == 0 {
		return errors.New("there was no delivery")
	}
	for _, d := range all {
		if err := check(d); err != nil {
			return err
		}
	}
	return nil
}

// repeated: the same event came several times, the last accepted.
func (w *world) repeated(name string, times int, apart string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	least, err := time.ParseDuration(apart)
	if err != nil {
		return err
	}
	return w.sink.await(w.sinkPath(a), func(all []delivery) error {
		var same []delivery
		for _, d := range all {
			if d.event.ID == all[0].event.ID {
				same = append(same, d)
			}
		}
		switch n := len(same); {
		case n != times || same[n-1].status/100 != 2:
			return fmt.Errorf("the first event came %d times", n)
		case same[n-1].at.Sub(same[0].at) < least:
			return fmt.Errorf("it was repeated after %s", same[n-1].at.Sub(same[0].at))
		}
		return nil
	})
}
