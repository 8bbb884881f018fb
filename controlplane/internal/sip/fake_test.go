package sip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests.
const patience = 10 * time.Second

// event is one call of NetworkEvents.
type event struct {
	kind     string
	callID   string
	incoming gateway.IncomingCall
	answer   gateway.Answer
	sdp      string
	dialog   gateway.Dialog
	digit    string
	ms       int
	ending   gateway.Ending
	text     string
}

// listener is a fake of the gateway: it notes what it is told and answers offers.
type listener struct {
	t      *testing.T
	events chan event
	mu     sync.Mutex
	ended  map[string]int
	// answer to Offered; nil refuses with 488.
	answer func(callID, sdp string) (string, error)
	find   func(sipCallID, tag string) (string, gateway.Dialog, error)
	// storing is waited for by Answered, when set.
	storing chan struct{}
	// refer makes the Invite of a Referred; nil refuses with 603.
	refer func(callID string, to call.Address) gateway.Invite
	// dialogs as last told, by call.
	dialogs map[string]gateway.Dialog
}

func newListener(t *testing.T) *listener {
	return &listener{t: t, events: make(chan event, 1000), ended: map[string]int{}, dialogs: map[string]gateway.Dialog{}}
}

func (l *listener) note(e event) {
	l.mu.Lock()
	if l.ended[e.callID] > 0 && e.callID != "" {
		l.t.Errorf("call %s was told %s after its end", e.callID, e.kind)
	}
	if e.kind == "ended" {
		l.ended[e.callID]++
	}
	if !e.dialog.IsZero() {
		l.dialogs[e.callID] = e.dialog
	}
	if !e.answer.Dialog.IsZero() {
		l.dialogs[e.callID] = e.answer.Dialog
	}
	l.mu.Unlock()
	l.events <- e
}

func (l *listener) Incoming(_ context.Context, in gateway.IncomingCall) {
	l.note(event{kind: "incoming", callID: in.CallID, incoming: in})
}
func (l *listener) Ready(_ context.Context, id string) {
	l.note(event{kind: "ready", callID: id})
}
func (l *listener) Provisional(_ context.Context, id string, a gateway.Answer) {
	l.note(event{kind: "provisional", callID: id, answer: a})
}
func (l *listener) Answered(_ context.Context, id string, a gateway.Answer) {
	l.note(event{kind: "answered", callID: id, answer: a})
	if l.storing != nil {
		<-l.storing
	}
}
func (l *listener) Acknowledged(_ context.Context, id, sdp string) {
	l.note(event{kind: "acknowledged", callID: id, sdp: sdp})
}
func (l *listener) Confirmed(_ context.Context, id string, a gateway.Answer) {
	l.note(event{kind: "confirmed", callID: id, answer: a})
}
func (l *listener) Offered(_ context.Context, id, sdp string) (string, error) {
	l.note(event{kind: "offered", callID: id, sdp: sdp})
	l.mu.Lock()
	f := l.answer
	l.mu.Unlock()
	if f == nil {
		return "", &gateway.RejectedError{Signal: call.Signal{Code: 488, Phrase: "Not Acceptable Here"}}
	}
	return f(id, sdp)
}
func (l *listener) Referred(_ context.Context, id string, to call.Address) (gateway.Invite, error) {
	l.note(event{kind: "referred", callID: id, text: to.Canonical()})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refer == nil {
		return gateway.Invite{}, &gateway.RejectedError{Signal: call.Signal{Code: 603, Phrase: "Decline"}}
	}
	return l.refer(id, to), nil
}
func (l *listener) Transferred(_ context.Context, id string, a gateway.Answer) error {
	l.note(event{kind: "transferred", callID: id, answer: a})
	return nil
}
func (l *listener) TransferFailed(_ context.Context, id string) {
	l.note(event{kind: "stays", callID: id})
}
func (l *listener) DialogChanged(_ context.Context, id string, d gateway.Dialog) {
	l.note(event{kind: "changed", callID: id, dialog: d})
}
func (l *listener) Digit(_ context.Context, id, digit string, ms int) {
	l.note(event{kind: "digit", callID: id, digit: digit, ms: ms})
}
func (l *listener) Ended(_ context.Context, id string, e gateway.Ending) {
	l.note(event{kind: "ended", callID: id, ending: e})
}
func (l *listener) BindingLost(_ context.Context, a gateway.Account, description string) {
	l.note(event{kind: "lost", text: a.RegistrationID + ": " + description})
}
func (l *listener) FindDialog(_ context.Context, sipCallID, tag string) (string, gateway.Dialog, error) {
	if l.find == nil {
		return "", gateway.Dialog{}, errors.New("not found")
	}
	return l.find(sipCallID, tag)
}

// want is the next event that is not a change of the dialog; it must be of a kind.
func (l *listener) want(kind string) event {
	l.t.Helper()
	for {
		select {
		case e := <-l.events:
			if e.kind == "changed" && kind != "changed" {
				continue
			}
			if e.kind != kind {
				l.t.Fatalf("the gateway was told %+v, not %s", e, kind)
			}
			return e
		case <-time.After(patience):
			l.t.Fatalf("the gateway was not told %s", kind)
		}
	}
}

// ladder is a Tracer that keeps what it gets.
type ladder struct {
	mu      sync.Mutex
	entries []gateway.TraceEntry
}

func (l *ladder) Trace(e gateway.TraceEntry) {
	l.mu.Lock()
	l.entries = append(l.entries, e)
	l.mu.Unlock()
}

func (l *ladder) forget() {
	l.mu.Lock()
	l.entries = nil
	l.mu.Unlock()
}

func (l *ladder) titles(callID string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.entries {
		if e.CallID == callID {
			out = append(out, fmt.Sprintf("%s>%s %s", e.From, e.To, e.Title))
		}
	}
	return out
}

// bundle is a Network under test with a phone as its trunk.
type bundle struct {
	n      *Network
	l      *listener
	p      *phone
	ladder *ladder
	addr   string
	cfg    Config
	stop   func()
	// metrics and accounts may be nil.
	metrics  prometheus.Registerer
	accounts gateway.SIPAccounts
}

func setup(t *testing.T, network string, change ...func(*Config)) *bundle {
	t.Helper()
	return setupWith(t, newPhone(t, network), change...)
}

func setupWith(t *testing.T, p *phone, change ...func(*Config)) *bundle {
	t.Helper()
	cfg := testConfig()
	tr := trunk.Default()
	tr.Name, tr.Domain, tr.Targets, tr.Transport = "test", "ims.example.com", []string{p.addr()}, p.network
	cfg.Trunks = []trunk.Config{tr}
	for _, f := range change {
		f(&cfg)
	}
	b := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: cfg}
	b.start(t)
	return b
}

// testConfig has short timers and free ports.
func testConfig() Config {
	cfg := Default()
	cfg.Listeners = []Listener{{Network: "udp", Address: "127.0.0.1:0"}, {Network: "tcp", Address: "127.0.0.1:0"}}
	cfg.Timers.T1, cfg.Timers.T2, cfg.Timers.T4 = 40*time.Millisecond, 160*time.Millisecond, 200*time.Millisecond
	return cfg
}

func (b *bundle) start(t *testing.T) {
	t.Helper()
	n, err := New(b.cfg, Deps{Events: b.l, Tracer: b.ladder, Metrics: b.metrics, Accounts: b.accounts})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	b.n = n
	for _, bound := range n.Bound() {
		if b.p != nil && bound.Network == b.p.network {
			b.addr = bound.HostPort()
		}
	}
}
