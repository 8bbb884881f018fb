package conformance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cucumber/godog"

	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// what the network's side of a call does. A caller is one, too.
func (w *world) bindNetwork(sc *godog.ScenarioContext) {
	sc.Step(`^the call arrives at the far end$`, w.arrived)
	sc.Step(`^the far end sends (\d{3})$`, func(code int) error {
		if code == 183 {
			return w.far.EarlyMedia()
		}
		return w.far.Progress(code)
	})
	sc.Step(`^the far end sends (\d{3}) with a description$`, func(code int) error { return w.far.ProgressWithMedia(code) })
	sc.Step(`^another branch of the far end sends (\d{3})$`, func(code int) error { return w.far.Branch(code, "branch-of-the-test") })
	sc.Step(`^the far end takes (\S+) to agree to changes$`, func(text string) error {
		d, err := time.ParseDuration(text)
		w.far.DelayChanges(d)
		return err
	})
	sc.Step(`^the far end answers$`, func() error { return w.far.Answer() })
	sc.Step(`^the far end rejects with (\d{3})(?: and cause (\d+))?$`, func(code int, cause string) error {
		q850 := 0
		if cause != "" {
			var err error
			if q850, err = strconv.Atoi(cause); err != nil {
				return err
			}
		}
		w.far.Reject(code, q850)
		return nil
	})
	sc.Step(`^the far end hangs up$`, func() error { return w.within(func(ctx context.Context) error { w.far.HangUp(ctx); return nil }) })
	sc.Step(`^the far end puts the call on hold$`, func() error { return w.within(w.far.Hold) })
	sc.Step(`^the far end stops all media$`, func() error { return w.within(w.far.HoldInactive) })
	sc.Step(`^the far end resumes the call$`, func() error { return w.within(w.far.Resume) })
	sc.Step(`^the far end refuses changes$`, func() error { w.far.RefuseChanges(); return nil })
	sc.Step(`^the far end's media are "([a-z]+)"$`, func(direction string) error {
		return eventually(func() error {
			if have := w.far.Stats().Direction; have != direction {
				return fmt.Errorf("they are %q", have)
			}
			return nil
		})
	})
	sc.Step(`^the far end hears of the cancellation$`, func() error { return w.over(487) })
	sc.Step(`^the far end hears the hang-up$`, func() error { return w.over(200) })
	sc.Step(`^no call has arrived at the far end$`, func() error {
		select {
		case <-w.arriving:
			return errors.New("one has")
		default:
			return nil
		}
	})
	sc.Step(`^the INVITE came from "([^"]*)"$`, func(want string) error {
		want, err := w.expand(w.actors["the device"], want)
		if err != nil {
			return err
		}
		if have := w.far.Peer(); have != want {
			return fmt.Errorf("it came from %q instead of %q", have, want)
		}
		return nil
	})
	sc.Step(`^the INVITE's header (\S+) holds "([^"]*)"$`, func(name, want string) error {
		want, err := w.expand(w.actors["the device"], want)
		if err != nil {
			return err
		}
		var have []string
		for _, h := range w.far.Invite().GetHeaders(name) {
			have = append(have, h.Value())
		}
		if !strings.Contains(strings.Join(have, ", "), want) {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the INVITE's body holds "([^"]*)"$`, func(want string) error {
		if have := string(w.far.Invite().Body()); !strings.Contains(have, want) {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the INVITE's body does not hold "([^"]*)"$`, func(unwanted string) error {
		if have := string(w.far.Invite().Body()); strings.Contains(have, unwanted) {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
}

// arrived waits for a call at the far end's number.
func (w *world) arrived() error {
	select {
	case w.far = <-w.arriving:
		return nil
	case <-time.After(patience):
		return errors.New("no call arrives at the far end")
	}
}

func (w *world) within(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return do(ctx)
}

// over waits for the end of the call, which must come from the gateway.
func (w *world) over(code int) error {
	select {
	case <-w.far.Ended():
	case <-time.After(patience):
		return errors.New("the call goes on")
	}
	if c := w.far.Cause(); !c.Remote || c.Code != code {
		return fmt.Errorf("the call is over by: %w", c)
	}
	return nil
}

func (w *world) bindIncoming(sc *godog.ScenarioContext) {
	ring := func(change func(*telco.CallRequest)) func(string) error {
		return func(name string) error {
			a, err := w.actor(name)
			if err != nil {
				return err
			}
			r := telco.CallRequest{
				From: w.farNumber, To: a.number, Ring: time.Minute,
				Talk: func(ctx context.Context, _ *telco.Call) { <-ctx.Done() },
			}
			change(&r)
			w.far, err = w.gateway.network.Call(context.Background(), r)
			return err
		}
	}
	sc.Step(`^the network calls `+who+`$`, ring(func(*telco.CallRequest) {}))
	sc.Step(`^the network calls `+who+` anonymously$`, ring(func(r *telco.CallRequest) { r.Anonymous = true }))
	sc.Step(`^the network calls `+who+` without an offer$`, ring(func(r *telco.CallRequest) { r.DelayedOffer = true }))
	sc.Step(`^the network calls `+who+` as "([^"]*)"$`, func(name, display string) error {
		return ring(func(r *telco.CallRequest) { r.DisplayName = display })(name)
	})
	sc.Step(`^the network calls a number that is not served$`, func() error {
		return ring(func(r *telco.CallRequest) { r.To = newNumber("+1666") })("the device")
	})
	sc.Step(`^`+who+` is invited$`, w.invited)
	sc.Step(`^`+who+` is in a call from the network$`, func(name string) error {
		return w.steps(
			func() error { return ring(func(*telco.CallRequest) {})(name) },
			func() error { return w.invited(name) },
			func() error {
				a := w.actors[name]
				return w.sendJSON(a, "PUT", w.gen.calls+"/"+a.sessionID+"/status",
					map[string]any{"status": "Connected", "answer": map[string]any{"sdp": a.peer.made}})
			},
			func() error { return w.answered(200, "") },
			w.callerAnswered,
		)
	})
	sc.Step(`^the caller hears (\d{3})$`, func(code int) error {
		return eventually(func() error {
			if have := w.far.LastProgress(); have != code {
				return fmt.Errorf("the caller has heard %d", have)
			}
			return nil
		})
	})
	sc.Step(`^the caller is answered$`, w.callerAnswered)
	sc.Step(`^the caller is refused with (\d{3})$`, w.over)
	sc.Step(`^the caller gives up$`, func() error { return w.within(func(ctx context.Context) error { w.far.HangUp(ctx); return nil }) })
}

func (w *world) callerAnswered() error {
	select {
	case <-w.far.Answered():
		return nil
	case <-w.far.Ended():
		return fmt.Errorf("the call is over by: %w", w.far.Cause())
	case <-time.After(patience):
		return errors.New("nobody answers")
	}
}

// invited waits for the invitation of a device and makes its answer ready.
func (w *world) invited(name string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	e, err := w.awaitEvent(a, "session-invitation", func(event) error { return nil })
	if err != nil {
		return err
	}
	a.sessionID = e.text("mediaSessionId")
	offer, _ := at(e.Data, "offer.sdp")
	text, _ := offer.(string)
	if err := checkWebRTC(text); err != nil {
		return fmt.Errorf("the offer of the invitation: %w", err)
	}
	p, err := w.peerOf(a)
	if err != nil {
		return err
	}
	_, err = p.answer(text)
	return err
}
