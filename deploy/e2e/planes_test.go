package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// both are the two ends of a call.
type both struct {
	device *device.Call
	far    *telco.Call
}

// connect calls the number and waits until both ends hear each other.
func connect(t *testing.T, d *device.Device, number string, calls <-chan *telco.Call) both {
	t.Helper()
	b := both{device: d.Call("tel:"+number, browserHz)}
	b.device.AwaitConnected(patient)
	b.far = next(t, "call at the far end", calls)
	b.device.AwaitTone(patient, farHz)
	hears(t, b.far, browserHz)
	return b
}

// longestGap between two packets that a machine with too much to do may cause.
const longestGap = 2 * time.Second

// unbroken fails when a call that goes on has lost packets since it was told to
// forget, changed its source or was silent for longer than that.
func (b both) unbroken(t *testing.T) {
	t.Helper()
	s := b.device.Stats()
	if s.Packets == 0 || s.Lost > 0 || s.Gap > longestGap || len(s.SSRCs) != 1 {
		t.Errorf("the device's audio was interrupted: %+v", s)
	}
	if b.device.MediaState().String() != "connected" {
		t.Errorf("the media are %s", b.device.MediaState())
	}
}

// Control plane and two media nodes are processes of their own, with PostgreSQL.
// Calls are spread over both. One node dies: its calls end, with event and
// reason, the others go on and new ones go there; a third node is used as soon as
// it is started.
func TestNodeLost(t *testing.T) {
	t.Parallel()
	n := network(t)
	calls := handle(t, n, landline, farHz)
	g := gateway.NewSplit(t, pgtest.Start(t), 2, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil)})
	d := g.Device(ada)
	// Ready with one node is ready; the test wants both.
	g.AwaitMetric(patient, 2, "isthmus_media_nodes")

	byNode := map[int][]both{}
	for range 4 {
		b := connect(t, d, landline, calls)
		byNode[b.device.MediaPort()] = append(byNode[b.device.MediaPort()], b)
	}
	lost, kept := byNode[g.Nodes[0].Port], byNode[g.Nodes[1].Port]
	if len(lost) != 2 || len(kept) != 2 {
		t.Fatalf("of four calls %d are on the first node and %d on the second", len(lost), len(kept))
	}
	for _, b := range kept {
		b.device.Forget()
	}
	g.Nodes[0].Kill()
	for _, b := range lost {
		if s := b.device.AwaitStatus(patient, "Terminated", "Failed"); s.Status != "Terminated" || s.Reason == "" {
			t.Errorf("a call of the lost node ends with status %s, reason %q", s.Status, s.Reason)
		}
		if c := ended(t, b.far); !c.Remote {
			t.Errorf("the far end was not told: %v", c)
		}
	}
	for _, b := range kept {
		b.device.AwaitTone(patient, farHz)
		b.unbroken(t)
		hears(t, b.far, browserHz)
	}
	after := connect(t, d, landline, calls)
	if p := after.device.MediaPort(); p != g.Nodes[1].Port {
		t.Errorf("a new call went to port %d, not to the node that is left", p)
	}
	third := g.AddNode("node-3")
	g.AwaitMetric(patient, 2, "isthmus_media_nodes")
	fresh := connect(t, d, landline, calls)
	if p := fresh.device.MediaPort(); p != third.Port {
		t.Errorf("a call went to port %d, not to the empty node that was added", p)
	}
	for _, b := range append(kept, after, fresh) {
		b.device.HangUp()
		b.device.AwaitStatus(patient, "Terminated")
		ended(t, b.far)
	}
}

// The control plane dies without notice. The calls' audio goes on; its successor
// knows them, ends one with a BYE that the far end accepts, and tells of the BYE
// that ends the other.
func TestControlPlaneKilled(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(t *testing.T) string{
		"PostgreSQL": func(t *testing.T) string { return pgtest.Start(t) },
		"SQLite":     func(*testing.T) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testControlPlaneKilled(t, dsn(t))
		})
	}
}

func testControlPlaneKilled(t *testing.T, dsn string) {
	n := network(t)
	calls := handle(t, n, landline, farHz)
	g := gateway.NewSplit(t, dsn, 1, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil)})
	d := g.Device(ada)
	mine, theirs := connect(t, d, landline, calls), connect(t, d, landline, calls)
	held := connect(t, d, landline, calls)
	held.device.Hold()
	held.device.AwaitSilence(patient)

	mine.device.Forget()
	theirs.device.Forget()
	g.Control.Kill()
	hears(t, mine.far, browserHz)
	hears(t, theirs.far, browserHz)
	g.Restart()
	for _, b := range []both{mine, theirs} {
		s, err := b.device.Get()
		if err != nil || s.Status != "Connected" {
			t.Fatalf("after the restart the session is %q, %v", s.Status, err)
		}
		b.unbroken(t)
		b.device.AwaitTone(patient, farHz)
	}
	if s, err := held.device.Get(); err != nil || s.Status != "Hold" {
		t.Errorf("after the restart the session on hold is %q, %v", s.Status, err)
	}
	held.device.Resume()
	held.device.AwaitTone(patient, farHz)
	hears(t, held.far, browserHz)

	mine.device.HangUp()
	if c := ended(t, mine.far); !c.Remote || c.Code != 200 {
		t.Errorf("the far end saw %v, want the peer's BYE", c)
	}
	mine.device.AwaitStatus(patient, "Terminated")

	theirs.far.HangUp(t.Context())
	theirs.device.AwaitStatus(patient, "Terminated")

	held.far.HangUp(t.Context())
	held.device.AwaitStatus(patient, "Terminated")

	// And everything else works as before.
	again := connect(t, d, landline, calls)
	again.device.HangUp()
	ended(t, again.far)
}

// A caller reaches the device through the restarted control plane, too, and a
// call in set-up at the time of death fails with an event.
func TestControlPlaneKilledInSetup(t *testing.T) {
	t.Parallel()
	n := network(t)
	ringing := make(chan *telco.Call, 1)
	err := n.Handle(landline, func(_ context.Context, c *telco.Call) {
		if c.Ring() == nil {
			ringing <- c
			<-c.Ended()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil)})
	if err := n.SetGateway(g.SIP); err != nil {
		t.Fatal(err)
	}
	d := g.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitStatus(patient, "Ringing")
	next(t, "ringing telephone", ringing)
	// A delivery under way holds the next one back until its lease ends.
	await(t, "delivery of what was told so far", func() error {
		if n := g.Metric("isthmus_notify_queue"); n > 0 {
			return fmt.Errorf("%v events are under way", n)
		}
		return nil
	})
	g.Control.Kill()
	g.Restart()
	if s := call.AwaitStatus(patient, "Failed", "Terminated"); s.Reason == "" {
		t.Error("the event of a call lost in set-up has no reason")
	}

	in, err := n.Call(t.Context(), telco.CallRequest{From: landline, To: ada})
	if err != nil {
		t.Fatal(err)
	}
	invited := d.AwaitInvitation(patient, browserHz, nil)
	invited.Answer()
	invited.AwaitTone(patient, telco.ToneFrequency)
	invited.HangUp()
	ended(t, in)
}

// SIGTERM ends calls with BYE and delivers their events first; with keep_calls it
// leaves them to the next process.
func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("calls end", func(t *testing.T) {
		t.Parallel()
		n := network(t)
		calls := handle(t, n, landline, farHz)
		g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil)})
		sink := newSink(t, g.Authority)
		d := device.New(t, device.Config{API: g.URL, Token: g.Token(ada), Number: ada, Roots: g.Roots, Sink: sink.url})
		sink.deliverTo(d)
		b := connect(t, d, landline, calls)
		g.Control.Stop()
		if code := g.Control.ExitCode(); code != 0 {
			t.Errorf("the control plane ends with code %d", code)
		}
		if c := ended(t, b.far); !c.Remote || c.Code != 200 {
			t.Errorf("the far end saw %v, want a BYE", c)
		}
		// The process is gone, so what was not delivered never will be.
		if !told(d, b.device.ID, "Terminated") {
			t.Errorf("no Terminated was delivered before the end, only %v", b.device.Statuses())
		}
	})
	t.Run("calls are kept", func(t *testing.T) {
		t.Parallel()
		n := network(t)
		calls := handle(t, n, landline, farHz)
		g := gateway.NewSplit(t, "", 1, gateway.Settings{
			"sip.trunks": trunk(n.Addr().String(), nil), "shutdown.keep_calls": true,
		})
		d := g.Device(ada)
		b := connect(t, d, landline, calls)
		b.device.Forget()
		g.Control.Stop()
		hears(t, b.far, browserHz)
		g.Restart()
		if s, err := b.device.Get(); err != nil || s.Status != "Connected" {
			t.Fatalf("after the restart the session is %q, %v", s.Status, err)
		}
		b.device.AwaitTone(patient, farHz)
		b.unbroken(t)
		b.device.HangUp()
		ended(t, b.far)
	})
}

// The planes know each other by certificates. A node that another authority
// vouches for is not let in, and does not let itself be used.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	n := network(t)
	calls := handle(t, n, landline, farHz)
	a, stranger := authority.New(t), authority.New(t)
	g := gateway.SplitConfig{
		Nodes: 1,
		Control: gateway.Settings{
			"sip.trunks":          trunk(n.Addr().String(), nil),
			"nodes.shared_secret": "", "nodes.certificate": a.Certificate, "nodes.key": a.Key, "nodes.ca": a.CA,
			"nodes.listen.certificate": a.Certificate, "nodes.listen.key": a.Key, "nodes.listen.client_ca": a.CA,
		},
		Node: gateway.Settings{
			"rpc.shared_secret": "", "rpc.certificate": a.Certificate, "rpc.key": a.Key, "rpc.client_ca": a.CA, "rpc.server_ca": a.CA,
		},
	}.Start(t)
	b := connect(t, g.Device(ada), landline, calls)
	b.device.HangUp()
	ended(t, b.far)

	foreign := g.AddNode("foreign", gateway.Settings{
		"rpc.certificate": stranger.Certificate, "rpc.key": stranger.Key, "rpc.client_ca": stranger.CA,
	})
	foreign.AwaitOutput(patient, "announce failed")
	if nodes := g.Metric("isthmus_media_nodes"); nodes != 1 {
		t.Errorf("%v nodes are in use, want the one that was there", nodes)
	}
}

// told reports whether a status of a session has been delivered.
func told(d *device.Device, session, status string) bool {
	for _, e := range d.Events() {
		if e.Session.ID == session && e.Session.Status == status {
			return true
		}
	}
	return false
}

// awaitTold waits for that.
func awaitTold(t *testing.T, d *device.Device, session, status string) {
	t.Helper()
	await(t, fmt.Sprintf("event %s of session %s", status, session), func() error {
		if told(d, session, status) {
			return nil
		}
		return errors.New("it has not come")
	})
}
