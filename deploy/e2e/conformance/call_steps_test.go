package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/cucumber/godog"
)

func (w *world) bindCalls(sc *godog.ScenarioContext) {
	sc.Step(`^`+who+` calls$`, func(name string) error { return w.originate(name, nil) })
	sc.Step(`^`+who+` calls with$`, w.originate)
	sc.Step(`^`+who+` is calling$`, w.calling)
	sc.Step(`^`+who+` is calling with$`, func(name string, table *godog.Table) error {
		return w.steps(
			func() error { return w.originate(name, table) },
			func() error { return w.answered(http.StatusCreated, "") },
			w.arrived,
		)
	})
	sc.Step(`^`+who+` is in a call$`, func(name string) error {
		return w.steps(
			func() error { return w.calling(name) },
			func() error { return w.far.Answer() },
			func() error { return w.sessionBecomes(name, "Connected") },
		)
	})
	sc.Step(`^`+who+` puts "([^"]*)"$`, func(name, status string) error { return w.put(name, status, nil) })
	sc.Step(`^`+who+` puts "([^"]*)" with$`, w.put)
	sc.Step(`^`+who+` puts "([^"]*)" with an answer$`, func(name, status string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		if a.peer == nil {
			return errors.New("the device was not invited")
		}
		return w.sendJSON(a, http.MethodPut, w.gen.calls+"/"+a.sessionID+"/status",
			map[string]any{"status": status, "answer": map[string]any{"sdp": a.peer.made}})
	})
	sc.Step(`^`+who+` puts "([^"]*)" with a new offer$`, func(name, status string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		offer, err := a.peer.again()
		if err != nil {
			return err
		}
		w.vars["newOffer"] = offer
		return w.sendJSON(a, http.MethodPut, w.gen.calls+"/"+a.sessionID+"/status",
			map[string]any{"status": status, "offer": map[string]any{"sdp": offer}})
	})
	sc.Step(`^`+who+` hangs up$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		return w.must(w.call(a, http.MethodDelete, w.gen.calls+"/"+a.sessionID, nil), w.answered(http.StatusNoContent, ""))
	})
	sc.Step(`^the session of `+who+` (?:is|becomes) "([^"]*)"$`, w.sessionBecomes)
	sc.Step(`^the session of `+who+` is gone$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		return eventually(func() error {
			return w.must(w.call(a, http.MethodGet, w.gen.calls+"/"+a.sessionID, nil), w.answered(http.StatusNotFound, "NOT_FOUND"))
		})
	})
	sc.Step(`^`+who+` has the offer byte by byte in the answer$`, func(name string) error {
		a, err := w.actor(name)
		if err != nil {
			return err
		}
		if have := w.field("offer.sdp"); have != a.peer.made {
			return fmt.Errorf("it is %q instead of %q", have, a.peer.made)
		}
		return nil
	})
	sc.Step(`^the media of `+who+` are connected$`, w.media)
	sc.Step(`^the device's media take the answer$`, func() error {
		a := w.actors["the device"]
		sdp, err := w.toldAnswer(a)
		if err != nil {
			return err
		}
		w.vars["earlyAnswer"] = sdp
		return w.must(checkWebRTC(sdp), a.peer.accept(sdp))
	})
	sc.Step(`^the device's media become connected$`, func() error { return w.actors["the device"].peer.awaitMedia() })
	sc.Step(`^the device and the second device have different sessions$`, func() error {
		if id := w.actors["the device"].sessionID; id == w.actors["the second device"].sessionID {
			return fmt.Errorf("both have %s", id)
		}
		return nil
	})
	sc.Step(`^both answers are for the same media$`, func() error {
		a := w.actors["the device"]
		if err := w.call(a, http.MethodGet, w.gen.calls+"/"+a.sessionID, nil); err != nil {
			return err
		}
		early, last := w.vars["earlyAnswer"], w.field("answer.sdp")
		for _, name := range []string{"a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "m=audio "} {
			if one, two := lineOf(early, name), lineOf(last, name); one == "" || one != two {
				return fmt.Errorf("first %q, then %q", one, two)
			}
		}
		return nil
	})
	sc.Step(`^the device's media take the answer's description$`, func() error {
		return w.actors["the device"].peer.accept(w.field("answer.sdp"))
	})
	sc.Step(`^the device calls with an offer of a codec that is not relayed$`, func() error {
		a, err := w.actor("the device")
		if err != nil {
			return err
		}
		offer, err := w.value(a, "offer")
		if err != nil {
			return err
		}
		offer = strings.NewReplacer("PCMU/8000", "L16/44100", "SAVPF 0 ", "SAVPF 96 ", "rtpmap:0 ", "rtpmap:96 ").Replace(offer)
		w.vars["offer"] = offer
		w.next.header = http.Header{"Registrationid": {a.registrationID}}
		body := `{"originatorAddress":"tel:{number}","receiverAddress":"tel:{far}","offer":{"sdp":{offer}}}`
		if err := w.send("the device", http.MethodPost, "{calls}", &body); err != nil {
			return err
		}
		a.sessionID = w.field("mediaSessionId")
		return nil
	})
	sc.Step(`^the answer's description is WebRTC's$`, func() error { return checkWebRTC(w.field("answer.sdp")) })
}

// steps runs steps until one fails.
func (w *world) steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) originate(name string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	p, err := w.peerOf(a)
	if err != nil {
		return err
	}
	offer, err := p.offer()
	if err != nil {
		return err
	}
	body := map[string]any{
		"originatorAddress": "tel:" + a.number, "receiverAddress": "tel:" + w.farNumber, "offer": map[string]any{"sdp": offer},
	}
	if err := w.change(a, body, table); err != nil {
		return err
	}
	if w.next.header == nil {
		w.next.header = http.Header{}
	}
	if w.next.header.Get("registrationId") == "" && a.registrationID != "" {
		w.next.header.Set("registrationId", a.registrationID)
	}
	if err := w.sendJSON(a, http.MethodPost, w.gen.calls, body); err != nil {
		return err
	}
	if w.last.status == http.StatusCreated {
		a.sessionID = w.field("mediaSessionId")
	}
	return nil
}

// calling is a call that has reached the far end.
func (w *world) calling(name string) error {
	return w.steps(
		func() error { return w.originate(name, nil) },
		func() error { return w.answered(http.StatusCreated, "") },
		w.arrived,
	)
}

func (w *world) put(name, status string, table *godog.Table) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	body := map[string]any{"status": status}
	if err := w.change(a, body, table); err != nil {
		return err
	}
	return w.sendJSON(a, http.MethodPut, w.gen.calls+"/"+a.sessionID+"/status", body)
}

func (w *world) sessionBecomes(name, status string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	return eventually(func() error {
		if err := w.must(w.call(a, http.MethodGet, w.gen.calls+"/"+a.sessionID, nil), w.answered(http.StatusOK, "")); err != nil {
			return err
		}
		if have := w.field("status"); have != status {
			return fmt.Errorf("the session is %q instead of %q", have, status)
		}
		return nil
	})
}

// media takes the answer of the session if there is one, and waits for ICE and
// DTLS.
func (w *world) media(name string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	if err := w.must(w.call(a, http.MethodGet, w.gen.calls+"/"+a.sessionID, nil), w.answered(http.StatusOK, "")); err != nil {
		return err
	}
	if err := a.peer.accept(w.field("answer.sdp")); err != nil {
		return err
	}
	return a.peer.awaitMedia()
}

// checkWebRTC holds a description of the gateway against what browsers need.
func checkWebRTC(sdp string) error {
	for _, want := range []string{"UDP/TLS/RTP/SAVPF", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=fingerprint:sha-256 ", "a=rtcp-mux", "a=mid:", "a=setup:", "a=group:BUNDLE"} {
		if !strings.Contains(sdp, want) {
			return fmt.Errorf("there is no %s in %q", want, sdp)
		}
	}
	if strings.Contains(sdp, "a=crypto:") || strings.Contains(sdp, "RTP/AVP ") {
		return fmt.Errorf("the network's description shows in %q", sdp)
	}
	if strings.Count(sdp, "\r\n") != strings.Count(sdp, "\n") || !strings.HasSuffix(sdp, "\r\n") {
		return fmt.Errorf("lines do not end with CRLF in %q", sdp)
	}
	return nil
}

// toldAnswer is the last answer in an event of the actor's session.
func (w *world) toldAnswer(a *actor) (string, error) {
	all, _ := w.sink.all(w.sinkPath(a))
	for _, d := range slices.Backward(all) {
		v, _ := at(d.event.Data, "answer.sdp")
		if sdp, ok := v.(string); ok && d.event.text("mediaSessionId") == a.sessionID {
			return sdp, nil
		}
	}
	return "", errors.New("no event has an answer")
}

func lineOf(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}
