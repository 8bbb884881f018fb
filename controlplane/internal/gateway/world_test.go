package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	aliceNumber = call.Number("+15550100")
	bobNumber   = call.Number("+15550199")
)

// world is a Gateway among fakes. It lives in a synctest bubble.
type world struct {
	t     testing.TB
	g     *Gateway
	store *fakeStore
	net   *fakeNetwork
	media *fakeMedia
	sinks fakeSinks
	trace fakeTracer
	stop  func()
	// shown counts the events of a subscription that were looked at.
	shown map[string]int
}

type fakeSinks struct{ err error }

func (s *fakeSinks) Check(context.Context, string) error { return s.err }

type fakeTracer struct {
	mu      sync.Mutex
	entries []TraceEntry
}

func (f *fakeTracer) Trace(e TraceEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, e)
}

// play runs a test in a bubble of its own, with a gateway of the default
// configuration as changed by change.
func play(t *testing.T, change func(*Config), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newFakeStore(), change)
		test(w)
		w.close()
	})
}

func newWorld(t testing.TB, store *fakeStore, change func(*Config)) *world {
	w := &world{t: t, store: store, net: newFakeNetwork(), media: newFakeMedia(), shown: map[string]int{}}
	c := Default()
	c.Applications = []Application{{ClientID: "app", Numbers: []string{"+1555"}}}
	if change != nil {
		change(&c)
	}
	var err error
	w.g, err = New(t.Context(), c, Deps{
		Store: store, Network: w.net, Media: w.media, Sinks: &w.sinks, Tracer: &w.trace,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.g.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// close ends the gateway and checks what must be true of every run.
func (w *world) close() {
	w.t.Helper()
	synctest.Wait()
	w.stop()
	w.audit()
}

// audit checks every queue: sequence numbers without a gap, one final event per
// session and nothing behind it, nothing behind the end of a subscription, and
// no status that the stored session contradicts.
func (w *world) audit() {
	w.t.Helper()
	rows := w.store.contents.Load()
	for id, events := range rows.outbox {
		sequence := map[string]int32{}
		status, final := map[string]call.Status{}, map[string]call.Status{}
		for i, e := range events {
			if e.Type == call.SubscriptionEnded && i != len(events)-1 {
				w.t.Errorf("subscription %s: %d events after its end", id, len(events)-1-i)
			}
			if e.Session == nil {
				continue
			}
			m := e.Session.MediaSessionID
			sequence[m]++
			if e.Session.Sequence != sequence[m] {
				w.t.Errorf("session %s: event %d has number %d", m, sequence[m], e.Session.Sequence)
			}
			if before, over := final[m]; over {
				w.t.Errorf("session %s: %s is told after %s", m, e.Session.Status, before)
			}
			if before, known := status[m]; known && !call.CanFollow(call.Origination, before, e.Session.Status) {
				w.t.Errorf("session %s: %s is told after %s", m, e.Session.Status, before)
			}
			status[m] = e.Session.Status
			if e.Session.Status.Final() {
				final[m] = e.Session.Status
			}
		}
		for m, status := range final {
			if text, ok := rows.sessions[m]; ok {
				if stored := decode[call.MediaSession](text).Status; stored != status {
					w.t.Errorf("session %s: told %s, stored %s", m, status, stored)
				}
			}
		}
	}
	w.media.mu.Lock()
	defer w.media.mu.Unlock()
	for _, s := range append(w.media.wrong, w.net.wrong...) {
		w.t.Error(s)
	}
	for id := range w.media.plans {
		if _, live := rows.calls[id]; !live {
			w.t.Errorf("call %s is over and still has media", id)
		}
	}
}

// device is an app on a device with a registration and a subscription for
// everything.
type device struct {
	w    *world
	p    Principal
	id   string
	reg  call.Registration
	sub  call.Subscription
	conn *peerConnection
}

func principal(number call.Number) Principal {
	return Principal{Owner: call.Owner{Tenant: call.DefaultTenant, Issuer: "https://as.example", ClientID: "app", Subject: number}}
}

var everything = []call.EventType{call.SessionInvitation, call.SessionStatus, call.RegistrationEnds}

func (w *world) device(number call.Number, name string) *device {
	w.t.Helper()
	d := &device{w: w, p: principal(number), id: name, conn: newPeerConnection(name)}
	var err error
	if d.sub, err = w.g.Subscribe(w.t.Context(), d.p, SubscribeRequest{DeviceID: name, Types: everything, Sink: call.Sink{URL: "https://sink.example/" + name}}); err != nil {
		w.t.Fatal(err)
	}
	if d.reg, err = w.g.Register(w.t.Context(), d.p, RegisterRequest{DeviceID: name}); err != nil {
		w.t.Fatal(err)
	}
	w.net.took()
	return d
}

// told renders the events of a subscription since the last time.
func (w *world) told(subscription string) []string {
	synctest.Wait()
	events := w.store.contents.Load().outbox[subscription]
	var out []string
	for _, e := range events[w.shown[subscription]:] {
		out = append(out, render(e))
	}
	w.shown[subscription] = len(events)
	return out
}

func render(e call.Event) string {
	switch {
	case e.Session != nil:
		text := string(e.Session.Status)
		if e.Type == call.SessionInvitation {
			text = "invitation"
		}
		if e.Session.Offer != "" {
			text += "+offer"
		}
		if e.Session.Answer != "" {
			text += "+answer"
		}
		return text
	case e.Registration != nil:
		return "registration-ends " + string(e.Registration.Reason)
	}
	return "subscription-ended " + string(e.Subscription.Reason)
}

// hears checks what a device was told since the last time.
func (d *device) hears(want ...string) {
	d.w.t.Helper()
	if got := d.w.told(d.sub.ID); !slices.Equal(got, want) {
		d.w.t.Errorf("device %s is told %q, want %q", d.id, got, want)
	}
}

// last is the newest event that a device was told.
func (d *device) last() call.SessionChange {
	d.w.t.Helper()
	synctest.Wait()
	events := d.w.store.contents.Load().outbox[d.sub.ID]
	if len(events) == 0 || events[len(events)-1].Session == nil {
		d.w.t.Fatalf("device %s was told nothing about a session", d.id)
	}
	return *events[len(events)-1].Session
}

// calls starts a call to bob.
func (d *device) calls() call.MediaSession {
	d.w.t.Helper()
	m, err := d.originate(func(*OriginateRequest) {})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return m
}

func (d *device) originate(change func(*OriginateRequest)) (call.MediaSession, error) {
	r := OriginateRequest{
		RegistrationID: d.reg.ID, Originator: d.reg.Number().Address(), Receiver: bobNumber.Address(),
		CallType: call.Regular, Offer: d.conn.offer(),
	}
	change(&r)
	return d.w.g.Originate(d.w.t.Context(), d.p, r)
}

func (d *device) put(id string, r StatusRequest) (call.MediaSession, error) {
	return d.w.g.UpdateSession(d.w.t.Context(), d.p, id, r)
}

// mustPut wants the request to be granted, with the status shown.
func (d *device) mustPut(id string, r StatusRequest) call.MediaSession {
	d.w.t.Helper()
	m, err := d.put(id, r)
	if err != nil {
		d.w.t.Fatalf("put %s: %v", r.Status, err)
	}
	if r.Status != "" && m.Status != r.Status {
		d.w.t.Errorf("put %s answers %s", r.Status, m.Status)
	}
	return m
}

func (d *device) get(id string) call.MediaSession {
	d.w.t.Helper()
	m, err := d.w.g.Session(d.w.t.Context(), d.p, id)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return m
}

// refused wants an error with the code.
func (w *world) refused(err error, code call.Code) {
	w.t.Helper()
	if call.CodeOf(err) != code {
		w.t.Errorf("the answer is %v, want %s", err, code)
	}
}

func dialogOf(callID string) Dialog {
	return Dialog{SIPCallID: "sip-" + callID, LocalTag: "local", RemoteTag: "remote", State: []byte("state")}
}

func (w *world) provisional(callID string, code int, phrase, sdp string) {
	w.g.Provisional(w.t.Context(), callID, Answer{Signal: call.Signal{Code: code, Phrase: phrase}, SDP: sdp})
}

// answer is a far end's 200 to the newest INVITE.
func (w *world) answer(callID, text string) {
	w.net.mu.Lock()
	w.net.calls[callID].answered = true
	w.net.mu.Unlock()
	w.g.Answered(w.t.Context(), callID, Answer{Signal: call.Signal{Code: 200, Phrase: "OK"}, SDP: text, Dialog: dialogOf(callID)})
}

// offered is our SDP in a call, as the network has it.
func (w *world) offered(callID string) string {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	return w.net.calls[callID].localSDP
}

// over tells the end of a call by the network's own doing.
func (w *world) over(callID string, e Ending) {
	w.t.Helper()
	if _, first := w.net.finish(callID); !first {
		w.t.Fatalf("the call ended before")
	}
	w.g.Ended(w.t.Context(), callID, e)
}

// settle tells the end of a call that was asked to end.
func (w *world) settle(callID string) {
	w.t.Helper()
	c, first := w.net.finish(callID)
	if !first || c.cause == nil {
		w.t.Fatalf("nobody asked for the end of the call: %v", w.net.took())
	}
	w.g.Ended(w.t.Context(), callID, w.net.ending(c))
}

// did checks what was asked of the network since the last time.
func (w *world) did(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.net.took(); !slices.Equal(got, want) {
		w.t.Errorf("the network was asked for %q, want %q", got, want)
	}
}

// gone checks that nothing is left of a call but its sessions.
func (w *world) gone(callID string) {
	w.t.Helper()
	synctest.Wait()
	if _, ok := w.store.contents.Load().calls[callID]; ok {
		w.t.Error("the call is still in the store")
	}
	if p, ok := w.media.plan(callID); ok {
		w.t.Errorf("the call still has media: %+v", p)
	}
	if slices.ContainsFunc(w.g.held(), func(lc *liveCall) bool { return lc.ID == callID }) {
		w.t.Error("the gateway still holds the call")
	}
}

// connected is an outgoing call that was answered.
func (w *world) connected(d *device) call.MediaSession {
	w.t.Helper()
	m := d.calls()
	w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
	w.net.took()
	d.hears("Connected+answer")
	return d.get(m.ID)
}

// rings starts an incoming call to alice from bob.
func (w *world) rings(offer string) (callID string) {
	w.net.mu.Lock()
	callID = fmt.Sprintf("in-%d", len(w.net.calls))
	w.net.calls[callID] = &fakeCall{incoming: true, remoteSDP: offer}
	w.net.mu.Unlock()
	w.g.Incoming(w.t.Context(), IncomingCall{
		CallID: callID, Tenant: call.DefaultTenant, Caller: bobNumber.Address(), CallerName: "Bob",
		Callee: aliceNumber.Address(), SDP: offer, Dialog: dialogOf(callID), Media: w.net.media,
	})
	return callID
}

// invited is the session of the invitation that a device got last.
func (d *device) invited() call.MediaSession {
	d.w.t.Helper()
	d.hears("invitation+offer")
	return d.get(d.last().MediaSessionID)
}

// picksUp answers an incoming call.
func (d *device) picksUp(m call.MediaSession) call.MediaSession {
	d.w.t.Helper()
	return d.mustPut(m.ID, StatusRequest{Status: call.Connected, Answer: d.conn.answer(m.Offer)})
}

// ack confirms an incoming call.
func (w *world) ack(callID, sdp string) {
	w.g.Confirmed(w.t.Context(), callID, Answer{SDP: sdp, Dialog: dialogOf(callID)})
}

// pass lets the bubble's time go by, and all that it brings.
func pass(d time.Duration) {
	delay(d)
	synctest.Wait()
}

// delay is for what takes time beside the test.
func delay(d time.Duration) { time.Sleep(d) }

// without removes what differs between descriptions of the same thing.
func sameTransport(a, b string) bool {
	pick := func(s string) (lines []string) {
		for line := range strings.Lines(s) {
			for _, key := range []string{"a=ice-", "a=fingerprint", "a=candidate", "a=setup", "m="} {
				if strings.HasPrefix(line, key) {
					lines = append(lines, line)
				}
			}
		}
		return lines
	}
	return slices.Equal(pick(a), pick(b))
}
