package gateway

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// recorder keeps failures for rapid, which plays the same again to shrink them.
type recorder struct {
	*testing.T
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatal(args ...any) { r.Error(args...); r.SkipNow() }

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); r.SkipNow() }

// step is one thing that happens; beside: without waiting for what it causes.
type step struct {
	kind   string
	device int
	beside bool
}

func (s step) String() string {
	if s.beside {
		return fmt.Sprintf("%s(%d)&", s.kind, s.device)
	}
	return fmt.Sprintf("%s(%d)", s.kind, s.device)
}

// Those that end the call are few, so that it gets somewhere first.
var stepKinds = slices.Concat(
	[]string{"delete", "486", "cancel", "bye", "silence", "node lost", "minute"},
	repeat(2, "reoffer", "leg failed", "far offerless", "dialog", "dtls", "location", "digit", "ten seconds",
		"store down", "store up", "far end slow", "far end refuses", "far end agrees"),
	repeat(3, "ring", "progress", "180", "183", "ack", "reload", "second", "far hold", "far resume"),
	repeat(5, "connect", "200", "hold", "hold+offer", "resume"),
)

func repeat(n int, kinds ...string) []string { return slices.Repeat(kinds, n) }

// far plays the far end of one call: events one at a time, and only such as a
// dialog can bring forth.
type far struct {
	*world
	events sync.Mutex
	callID string
	acked  bool
}

// TestAnyOrder does anything at any time to one call, some of it at once, and
// ends it. Then each session has one final status, of which each subscription
// was told once and last, nothing is missing in between, and nothing is left.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		devices := rapid.IntRange(0, 3).Draw(rt, "ringing devices, or 0 for an outgoing call")
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{rapid.SampledFrom(stepKinds).Draw(t, "kind"), rapid.IntRange(0, 2).Draw(t, "device"), rapid.Bool().Draw(t, "beside")}
		}), 0, 25).Draw(rt, "steps")
		watchdog := time.AfterFunc(time.Minute, func() {
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			panic(fmt.Sprintf("deadlock after %d, %v", devices, steps))
		})
		defer watchdog.Stop()
		var r *recorder
		synctest.Test(t, func(t *testing.T) {
			r = &recorder{T: t}
			playSteps(r, devices, steps)
		})
		if len(r.failures) > 0 {
			rt.Fatalf("%s", strings.Join(r.failures, "\n"))
		}
	})
}

func playSteps(t *recorder, ringing int, steps []step) {
	w := newWorld(t, newFakeStore(), nil)
	f := &far{world: w}
	var devices []*device
	for i := range max(ringing, 1) {
		devices = append(devices, w.device(aliceNumber, fmt.Sprintf("d%d", i)))
	}
	if _, err := w.subscribe(principal(""), func(r *SubscribeRequest) { r.DeviceID = "d0" }); err != nil {
		t.Fatal(err)
	}
	w.net.reoffer = agree
	w.net.ended = func(callID string, _ Ending) {
		time.Sleep(50 * time.Millisecond) // A round trip.
		f.end(func(c *fakeCall) Ending { return w.net.ending(c) })
	}
	sessions := make([]string, len(devices))
	if ringing == 0 {
		m := devices[0].calls()
		sessions[0] = m.ID
		f.about(m.CallID)
	} else {
		f.about(w.rings(coreOffer(sdp.SendRecv)))
		for i, d := range devices {
			sessions[i] = d.invited().ID
		}
	}
	var besides sync.WaitGroup
	for _, s := range steps {
		i := s.device % len(devices)
		if s.beside {
			besides.Go(func() { f.play(s.kind, devices[i], sessions[i]) })
			continue
		}
		f.play(s.kind, devices[i], sessions[i])
		synctest.Wait()
	}
	besides.Wait()
	w.store.setDown(false)
	pass(time.Minute)
	f.end(func(c *fakeCall) Ending {
		if c.answered {
			return Ending{Kind: EndedBye}
		}
		return Ending{Kind: EndedFailed}
	})
	pass(time.Minute)

	rows := w.store.contents.Load()
	finals := map[[2]string]int{}
	for sub, events := range rows.outbox {
		for _, e := range events {
			if e.Session != nil && e.Session.Status.Final() {
				finals[[2]string{sub, e.Session.MediaSessionID}]++
			}
		}
	}
	for i, d := range devices {
		if n := finals[[2]string{d.sub.ID, sessions[i]}]; n != 1 {
			t.Errorf("device %d is told %d ends of its session: %q", i, n, w.told(d.sub.ID))
		}
		if text, ok := rows.sessions[sessions[i]]; ok {
			if m := decode[call.MediaSession](text); !m.Status.Final() {
				t.Errorf("session %d stays %s", i, m.Status)
			}
		}
	}
	if n := w.media.removed[f.callID]; n != 1 {
		t.Errorf("the media session was removed %d times", n)
	}
	w.gone(f.callID)
	w.close()
}

// about names the call.
func (f *far) about(callID string) {
	f.events.Lock()
	defer f.events.Unlock()
	f.callID = callID
}

// with runs f for the call unless it is over, as the next event of the network.
func (f *far) with(happens func(c *fakeCall) (event func())) {
	f.events.Lock()
	defer f.events.Unlock()
	f.net.mu.Lock()
	var event func()
	if c := f.net.calls[f.callID]; c != nil && !c.over {
		event = happens(c)
	}
	f.net.mu.Unlock()
	if event != nil {
		event()
	}
}

func (f *far) end(e func(c *fakeCall) Ending) {
	f.with(func(c *fakeCall) func() {
		c.over = true
		ending := e(c)
		return func() { f.g.Ended(f.t.Context(), f.callID, ending) }
	})
}

func (f *far) play(kind string, d *device, id string) {
	w, ctx := f.world, f.t.Context()
	// API requests may be refused; how is for other tests.
	switch kind {
	case "ring":
		d.put(id, StatusRequest{Status: call.Ringing})
	case "progress", "connect":
		r := StatusRequest{Status: call.InProgress}
		if kind == "connect" {
			r.Status = call.Connected
		}
		if m, err := w.g.Session(ctx, d.p, id); err == nil && m.Direction == call.Termination {
			r.Answer = d.conn.answer(m.Offer)
		}
		d.put(id, r)
	case "hold":
		d.put(id, StatusRequest{Status: call.Hold})
	case "hold+offer":
		d.put(id, StatusRequest{Status: call.Hold, Offer: d.conn.offer()})
	case "resume":
		d.put(id, StatusRequest{Status: call.Resume})
	case "reload":
		d.put(id, StatusRequest{Status: call.Connected, Offer: newPeerConnection("reloaded").offer()})
	case "reoffer":
		d.put(id, StatusRequest{Status: call.InProgress, Offer: newPeerConnection("again").offer()})
	case "location":
		d.put(id, StatusRequest{Location: &call.Location{Method: "GPS"}})
	case "delete":
		w.g.EndSession(ctx, d.p, id)
	case "180", "183":
		f.with(func(c *fakeCall) func() {
			if c.incoming || c.answered {
				return nil
			}
			code, text := 180, ""
			if kind == "183" {
				code, text = 183, coreAnswer(c.localSDP, sdp.SendRecv)
			}
			return func() { w.provisional(f.callID, code, "Provisional", text) }
		})
	case "200":
		f.with(func(c *fakeCall) func() {
			if c.incoming || c.answered {
				return nil
			}
			c.answered = true
			text := coreAnswer(c.localSDP, sdp.SendRecv)
			return func() {
				w.g.Answered(ctx, f.callID, Answer{Signal: call.Signal{Code: 200, Phrase: "OK"}, SDP: text, Dialog: dialogOf(f.callID)})
			}
		})
	case "486", "cancel", "bye":
		f.end2(kind)
	case "ack":
		f.with(func(c *fakeCall) func() {
			if !c.incoming || !c.answered || f.acked {
				return nil
			}
			f.acked = true
			return func() { w.ack(f.callID, "") }
		})
	case "far hold", "far resume", "far offerless":
		f.with(func(c *fakeCall) func() {
			if !c.answered || c.cause != nil {
				return nil
			}
			text := map[string]string{"far hold": coreOffer(sdp.SendOnly), "far resume": coreOffer(sdp.SendRecv)}[kind]
			return func() {
				offer, err := w.g.Offered(ctx, f.callID, text)
				if text == "" && err == nil {
					w.ack(f.callID, coreAnswer(offer, sdp.SendRecv))
				}
			}
		})
	case "dialog":
		f.with(func(c *fakeCall) func() {
			if !c.answered {
				return nil
			}
			return func() { w.g.DialogChanged(ctx, f.callID, dialogOf(f.callID)) }
		})
	default:
		f.playMedia(kind, id)
	}
}

func (f *far) end2(kind string) {
	f.with(func(c *fakeCall) func() {
		e := Ending{Kind: EndedBye}
		switch {
		case kind == "486" && !c.incoming && !c.answered:
			e = Ending{Kind: EndedRejected, Signal: call.Signal{Code: 486, Phrase: "Busy Here"}}
		case kind == "cancel" && c.incoming && !c.answered:
			e = Ending{Kind: EndedCancelled}
		case kind == "bye" && c.answered:
		default:
			return nil
		}
		c.over = true
		return func() { f.g.Ended(f.t.Context(), f.callID, e) }
	})
}

func (f *far) playMedia(kind, id string) {
	w, ctx := f.world, f.t.Context()
	leg := id
	if p, ok := w.media.plan(f.callID); ok {
		for _, b := range p.Browsers {
			if b.SessionID == id {
				leg = b.ID
			}
		}
	}
	reoffer := func(answer func(context.Context, string) (string, error)) {
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		w.net.reoffer = answer
	}
	switch kind {
	case "leg failed":
		w.g.LegFailed(ctx, f.callID, leg, "failed")
	case "dtls":
		w.g.DTLSConnected(ctx, f.callID, leg, "profile")
	case "silence":
		w.g.MediaTimeout(ctx, f.callID, CoreLegID, time.Minute)
	case "node lost":
		w.g.SessionLost(ctx, f.callID, "lost")
	case "digit":
		w.g.MediaDigit(ctx, f.callID, leg, "1", time.Second)
	case "second":
		time.Sleep(time.Second)
	case "ten seconds":
		time.Sleep(10 * time.Second)
	case "minute":
		time.Sleep(time.Minute)
	case "store down":
		w.store.setDown(true)
	case "store up":
		w.store.setDown(false)
	case "far end slow":
		reoffer(func(_ context.Context, offer string) (string, error) {
			time.Sleep(8 * time.Second)
			return coreAnswer(offer, sdp.SendRecv), nil
		})
	case "far end refuses":
		reoffer(func(context.Context, string) (string, error) {
			return "", &RejectedError{call.Signal{Code: 488, Phrase: "Not Acceptable Here"}}
		})
	case "far end agrees":
		reoffer(agree)
	default:
		panic(kind)
	}
}

// agree is a far end that is not asked in vain, a round trip away.
func agree(_ context.Context, offer string) (string, error) {
	time.Sleep(20 * time.Millisecond)
	return coreAnswer(offer, sdp.SendRecv), nil
}
