package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cucumber/godog"
	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

var discard = log.New(io.Discard, "", 0)

// Numbers: subscribers are the gateway's, all others the network's.
const (
	subscribers = "+1999"
	farEnds     = "+1777"
	// without are subscribers without an emergency address.
	without = "+1999911"
)

var numbers atomic.Int64

// newNumber is one that no other scenario has.
func newNumber(prefix string) string { return fmt.Sprintf("%s%07d", prefix, numbers.Add(1)) }

// world is one scenario.
type world struct {
	site    *site
	gateway *gateway
	gen     generation

	actors map[string]*actor
	vars   map[string]string
	next   request
	last   *answer
	sink   *sink

	// reader of the relay, if there is one.
	reader *reader

	farNumber string
	arriving  chan *telco.Call
	// far is the network's side of the call in question.
	far *telco.Call
}

// actor is who uses the APIs: an application with a token and a device.
type actor struct {
	name                                                string
	client, number, tokenNumber, token                  string
	deviceID, registrationID, sessionID, subscriptionID string
	peer                                                *peer
}

func newWorld(s *site, g generation) *world {
	return &world{site: s, gen: g, actors: map[string]*actor{}, vars: map[string]string{}}
}

// bind makes the steps known. Hooks start and end the world.
func (w *world) bind(sc *godog.ScenarioContext) {
	sc.Before(func(ctx context.Context, p *godog.Scenario) (context.Context, error) {
		for _, tag := range p.Tags {
			if name := strings.TrimPrefix(tag.Name, "@on-"); w.site.gateways[name] != nil {
				w.gateway = w.site.gateways[name]
			}
		}
		if w.gateway == nil {
			w.gateway = w.site.gateways[usual]
		}
		w.sink = newSink(w.site.ca.Pair, w.gateway.documents)
		w.farNumber = newNumber(farEnds)
		w.arriving = make(chan *telco.Call, 8)
		return ctx, w.gateway.network.Handle(w.farNumber, func(ctx context.Context, c *telco.Call) {
			w.arriving <- c
			<-ctx.Done()
		})
	})
	sc.After(func(ctx context.Context, _ *godog.Scenario, err error) (context.Context, error) { return ctx, w.end() })
	sc.StepContext().After(func(ctx context.Context, step *godog.Step, _ godog.StepResultStatus, err error) (context.Context, error) {
		if err != nil {
			godog.T(ctx).Logf("in generation %s, on the %s gateway: %s", w.gen.name, w.gateway.name, step.Text)
			for _, a := range w.actors {
				all, _ := w.sink.all(w.sinkPath(a))
				godog.T(ctx).Logf("%s has got %s", a.name, summary(all))
			}
		}
		return ctx, nil
	})
	w.bindRequests(sc)
	w.bindAnswers(sc)
	w.bindRegistrations(sc)
	w.bindAccounts(sc)
	w.bindSubscriptions(sc)
	w.bindCalls(sc)
	w.bindIncoming(sc)
	w.bindNetwork(sc)
	w.bindEvents(sc)
	w.bindRelay(sc)
	w.bindTokens(sc)
	w.bindGenerations(sc)
}

// end gives everything back, and tells what the sink found wrong.
func (w *world) end() error {
	w.gateway.network.Handle(w.farNumber, nil)
	w.sink.over.Store(true)
	w.reader.stop()
	for _, a := range w.actors {
		if a.peer != nil {
			a.peer.close()
		}
		if a.registrationID != "" {
			// What is left of its calls ends with it.
			w.call(a, "DELETE", w.gen.registrations+"/"+a.registrationID, nil)
		}
	}
	w.sink.close()
	if len(w.sink.problems) > 0 {
		return errors.New("events: " + strings.Join(w.sink.problems, "\n"))
	}
	return nil
}

// who is the pattern of an actor in a step.
const who = `(the (?:second |third )?device|the stranger|the (?:other|server) application|the opaque device)`

// actor by its name, made at its first mention. Devices belong to one subscriber,
// the stranger is another; the other application acts for the same subscriber,
// the server application has a token of its own.
func (w *world) actor(name string) (*actor, error) {
	if a := w.actors[name]; a != nil {
		return a, nil
	}
	a := &actor{name: strings.TrimPrefix(name, "the "), client: phoneApp, deviceID: uuid.NewString()}
	switch name {
	case "the device", "the stranger":
		a.number = newNumber(subscribers)
	case "the opaque device":
		a.number, a.client = newNumber(subscribers), opaqueApp
	case "the server application":
		a.number, a.client = newNumber(subscribers), serverApp
	default:
		first, err := w.actor("the device")
		if err != nil {
			return nil, err
		}
		a.number = first.number
		if name == "the other application" {
			a.client = otherApp
		}
	}
	a.tokenNumber = a.number
	if a.client == serverApp {
		a.tokenNumber = ""
	}
	var err error
	if a.token, err = w.site.tokens.token(devoauth.TokenRequest{ClientID: a.client, Number: a.tokenNumber}); err != nil {
		return nil, err
	}
	w.actors[name] = a
	return a, nil
}

// path of an actor's sink.
func (w *world) sinkPath(a *actor) string {
	return w.sink.path(w.gen, a.name)
}

// eventually looks until check answers nil.
func eventually(check func() error) error {
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-ticker.C
	}
}
