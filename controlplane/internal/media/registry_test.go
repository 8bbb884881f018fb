package media

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret of both planes"

// fakeNode is a media node's service whose answers the test decides.
type fakeNode struct {
	mediav1connect.UnimplementedMediaNodeHandler
	url string

	mu       sync.Mutex
	sessions map[string]*mediav1.SessionState
	refuse   error
	hang     chan struct{}
	events   chan *mediav1.SessionEvent
	removed  chan string
}

func newFakeNode(t *testing.T) *fakeNode {
	t.Helper()
	n := &fakeNode{
		sessions: map[string]*mediav1.SessionState{},
		events:   make(chan *mediav1.SessionEvent, 16),
		removed:  make(chan string, 16),
	}
	mux := http.NewServeMux()
	mux.Handle(mediav1connect.NewMediaNodeHandler(n))
	server := httptest.NewUnstartedServer(mux)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols = &protocols
	server.Start()
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

func (n *fakeNode) ApplySession(ctx context.Context, r *connect.Request[mediav1.ApplySessionRequest]) (*connect.Response[mediav1.ApplySessionResponse], error) {
	if r.Header().Get("Authorization") != "Bearer "+secret {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("no secret"))
	}
	n.mu.Lock()
	hang, refuse := n.hang, n.refuse
	n.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if refuse != nil {
		return nil, refuse
	}
	state := &mediav1.SessionState{
		Id: r.Msg.Spec.Id, OwnerEpoch: r.Msg.Spec.OwnerEpoch, Generation: r.Msg.Spec.Generation,
		Legs: []*mediav1.LegState{
			{Id: gateway.CoreLegID, Local: []*mediav1.SocketAddress{{Ip: "198.18.0.1", Port: 4000}}, LocalRtcp: &mediav1.SocketAddress{Ip: "198.18.0.1", Port: 4001}},
			{Id: "b", Local: []*mediav1.SocketAddress{{Ip: "198.18.0.1", Port: 3000}}},
		},
	}
	n.mu.Lock()
	n.sessions[state.Id] = state
	n.mu.Unlock()
	return connect.NewResponse(&mediav1.ApplySessionResponse{State: state}), nil
}

func (n *fakeNode) RemoveSession(_ context.Context, r *connect.Request[mediav1.RemoveSessionRequest]) (*connect.Response[mediav1.RemoveSessionResponse], error) {
	n.mu.Lock()
	delete(n.sessions, r.Msg.Id)
	n.mu.Unlock()
	n.removed <- r.Msg.Id
	return connect.NewResponse(&mediav1.RemoveSessionResponse{}), nil
}

func (n *fakeNode) Watch(ctx context.Context, _ *connect.Request[mediav1.WatchRequest], s *connect.ServerStream[mediav1.WatchResponse]) error {
	n.mu.Lock()
	snapshot := &mediav1.Snapshot{}
	for _, state := range n.sessions {
		snapshot.Sessions = append(snapshot.Sessions, state)
	}
	n.mu.Unlock()
	if err := s.Send(&mediav1.WatchResponse{Message: &mediav1.WatchResponse_Snapshot{Snapshot: snapshot}}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.events:
			if err := s.Send(&mediav1.WatchResponse{Message: &mediav1.WatchResponse_Event{Event: e}}); err != nil {
				return err
			}
		}
	}
}

func (n *fakeNode) announcement(id, incarnation string, used uint32) *mediav1.Node {
	return &mediav1.Node{
		Id: id, Incarnation: incarnation, Url: n.url,
		WebrtcAddresses: []*mediav1.SocketAddress{{Ip: "198.18.0.1", Port: 3000}},
		Capacity:        &mediav1.Capacity{Sessions: used, MaxSessions: 100},
	}
}

// fakeEvents keeps what it is told.
type fakeEvents struct {
	gateway.MediaEvents
	mu      sync.Mutex
	present map[string][]string
	lost    chan string
	digits  chan string
}

func (e *fakeEvents) Sessions(_ context.Context, node string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.present[node])
}

func (e *fakeEvents) SessionLost(_ context.Context, callID, _ string) { e.lost <- callID }

func (e *fakeEvents) MediaDigit(_ context.Context, callID, leg, digit string, _ time.Duration) {
	e.digits <- callID + " " + leg + " " + digit
}

func setup(t *testing.T, change func(*Config)) (*Registry, *fakeEvents) {
	t.Helper()
	c := Default()
	c.SharedSecret = secret
	if change != nil {
		change(&c)
	}
	r, err := New(c, Deps{Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEvents{present: map[string][]string{}, lost: make(chan string, 16), digits: make(chan string, 16)}
	r.Attach(e)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, e
}

func plan(id string) gateway.MediaPlan {
	return gateway.MediaPlan{
		CallID: id, Epoch: 1, Generation: 1,
		Core:     &gateway.CoreLeg{},
		Browsers: []gateway.BrowserLeg{{ID: "b", SessionID: "b"}},
	}
}

// within fails the test when nothing comes for a long time.
func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("not reached")
	}
}

func TestSessionsGoToTheLeastLoadedNodeThatTakesThem(t *testing.T) {
	r, _ := setup(t, nil)
	busy, idle := newFakeNode(t), newFakeNode(t)
	r.announced(busy.announcement("busy", "1", 50))
	r.announced(idle.announcement("idle", "1", 10))

	state, err := r.Apply(t.Context(), plan("c1"))
	if err != nil || state.Node != "idle" {
		t.Fatalf("placed on %q: %v", state.Node, err)
	}
	want := gateway.MediaState{
		Node: "idle", Candidates: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:3000")},
		Core: netip.MustParseAddrPort("198.18.0.1:4000"), CoreRTCP: netip.MustParseAddrPort("198.18.0.1:4001"),
	}
	if !slices.Equal(state.Candidates, want.Candidates) || state.Core != want.Core || state.CoreRTCP != want.CoreRTCP {
		t.Fatalf("state %+v, want %+v", state, want)
	}

	idle.mu.Lock()
	idle.refuse = connect.NewError(connect.CodeResourceExhausted, errors.New("no ports"))
	idle.mu.Unlock()
	if state, err = r.Apply(t.Context(), plan("c2")); err != nil || state.Node != "busy" {
		t.Fatalf("a full node: placed on %q: %v", state.Node, err)
	}

	busy.mu.Lock()
	busy.refuse = connect.NewError(connect.CodeInvalidArgument, errors.New("bad spec"))
	busy.mu.Unlock()
	if _, err = r.Apply(t.Context(), plan("c3")); !errors.Is(err, gateway.ErrNoMediaNode) {
		t.Fatalf("nobody takes it: %v", err)
	}
}

func TestASlowNodeHoldsUpOnlyItsOwnCall(t *testing.T) {
	r, _ := setup(t, func(c *Config) { c.RequestTimeout = time.Second })
	slow, quick := newFakeNode(t), newFakeNode(t)
	slow.hang = make(chan struct{})
	t.Cleanup(func() { close(slow.hang) })
	r.announced(slow.announcement("slow", "1", 0))
	r.announced(quick.announcement("quick", "1", 90))

	state, err := r.Apply(t.Context(), plan("c1"))
	if err != nil || state.Node != "quick" {
		t.Fatalf("placed on %q: %v", state.Node, err)
	}
	if id := within(t, slow.removed); id != "c1" {
		t.Fatalf("removed %q from the slow node", id)
	}
}

func TestASnapshotTellsWhatIsLostAndWhatIsTooMuch(t *testing.T) {
	r, e := setup(t, nil)
	n := newFakeNode(t)
	n.sessions["stray"] = &mediav1.SessionState{Id: "stray", OwnerEpoch: 1}
	n.sessions["kept"] = &mediav1.SessionState{Id: "kept", OwnerEpoch: 1}
	e.present["n"] = []string{"kept", "gone"}
	r.announced(n.announcement("n", "1", 2))
	if id := within(t, e.lost); id != "gone" {
		t.Fatalf("lost %q", id)
	}
	if id := within(t, n.removed); id != "stray" {
		t.Fatalf("removed %q", id)
	}
}

// A session may reach its node after the snapshot of a watch that began after the
// request did.
func TestASessionThatCameAfterTheSnapshotIsNotLost(t *testing.T) {
	r, e := setup(t, nil)
	fake := newFakeNode(t)
	fake.hang = make(chan struct{})
	r.announced(fake.announcement("n", "1", 0))
	n := r.nodes["n"]
	applied := make(chan error, 1)
	go func() {
		_, err := r.Apply(t.Context(), plan("c1"))
		applied <- err
	}()
	for !n.appliedSince("c1", time.Time{}) {
		runtime.Gosched()
	}
	watchBegan := time.Now()
	close(fake.hang)
	if err := within(t, applied); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.present["n"] = []string{"c1"}
	e.mu.Unlock()
	n.compare(t.Context(), &mediav1.Snapshot{}, watchBegan)
	compared := make(chan struct{})
	n.lanes.do("c1", func() { close(compared) })
	within(t, compared)
	if len(e.lost) > 0 {
		t.Errorf("lost %s", <-e.lost)
	}
	n.compare(t.Context(), &mediav1.Snapshot{}, time.Now())
	within(t, e.lost)
}

func TestARestartedNodeHasLostItsSessions(t *testing.T) {
	r, e := setup(t, nil)
	n := newFakeNode(t)
	r.announced(n.announcement("n", "1", 0))
	if _, err := r.Apply(t.Context(), plan("c1")); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.present["n"] = []string{"c1"}
	e.mu.Unlock()
	n.mu.Lock()
	clear(n.sessions)
	n.mu.Unlock()
	r.announced(n.announcement("n", "2", 0))
	if id := within(t, e.lost); id != "c1" {
		t.Fatalf("lost %q", id)
	}
}

func TestASilentNodeIsLost(t *testing.T) {
	r, e := setup(t, func(c *Config) { c.AnnounceInterval = 10 * time.Millisecond })
	n := newFakeNode(t)
	e.present["n"] = []string{"c1"}
	n.sessions["c1"] = &mediav1.SessionState{Id: "c1"}
	r.announced(n.announcement("n", "1", 1))
	if id := within(t, e.lost); id != "c1" {
		t.Fatalf("lost %q", id)
	}
	if err := r.Ready(); !errors.Is(err, gateway.ErrNoMediaNode) {
		t.Fatalf("ready without a node: %v", err)
	}
}

func TestANodeThatDoesNotComeBackHasLostItsSessions(t *testing.T) {
	c := Default()
	c.SharedSecret, c.AdoptWait = secret, 20*time.Millisecond
	r, err := New(c, Deps{Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEvents{present: map[string][]string{}, lost: make(chan string, 16)}
	r.Attach(e)
	n := newFakeNode(t)
	r.Adopt([]gateway.MediaPlan{{CallID: "there", Node: "n"}, {CallID: "away", Node: "m"}})
	e.present["n"] = []string{"there"}
	n.sessions["there"] = &mediav1.SessionState{Id: "there"}
	r.announced(n.announcement("n", "1", 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	if id := within(t, e.lost); id != "away" {
		t.Fatalf("lost %q", id)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestEventsReachTheCallsInOrder(t *testing.T) {
	r, e := setup(t, nil)
	n := newFakeNode(t)
	for _, digit := range []string{"1", "2", "3"} {
		n.events <- &mediav1.SessionEvent{Session: "c1", Event: &mediav1.SessionEvent_Dtmf{Dtmf: &mediav1.DTMF{Stream: "b", Digit: digit}}}
	}
	r.announced(n.announcement("n", "1", 0))
	for _, digit := range []string{"1", "2", "3"} {
		if got := within(t, e.digits); got != "c1 b "+digit {
			t.Fatalf("told %q, want digit %s", got, digit)
		}
	}
}

func TestAnnouncementsNeedTheSecretAndSoundWords(t *testing.T) {
	r, _ := setup(t, nil)
	mux := http.NewServeMux()
	mux.Handle(r.Handler())
	server := httptest.NewServer(mux)
	defer server.Close()
	n := newFakeNode(t)
	announce := func(secret string, node *mediav1.Node) error {
		client := mediav1connect.NewNodeRegistryClient(server.Client(), server.URL)
		req := connect.NewRequest(&mediav1.AnnounceRequest{Node: node})
		if secret != "" {
			req.Header().Set("Authorization", "Bearer "+secret)
		}
		res, err := client.Announce(t.Context(), req)
		if err == nil && res.Msg.Interval.AsDuration() != Default().AnnounceInterval {
			t.Errorf("interval %s", res.Msg.Interval.AsDuration())
		}
		return err
	}
	good := n.announcement("n", "1", 0)
	for _, wrong := range []string{"", "another secret"} {
		if err := announce(wrong, good); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("secret %q: %v", wrong, err)
		}
	}
	if r.Ready() == nil {
		t.Fatal("an unauthenticated node was taken")
	}
	for field, change := range map[string]func(*mediav1.Node){
		"node.id":               func(n *mediav1.Node) { n.Id = "" },
		"node.incarnation":      func(n *mediav1.Node) { n.Incarnation = "" },
		"node.webrtc_addresses": func(n *mediav1.Node) { n.WebrtcAddresses = nil },
		"node.url":              func(n *mediav1.Node) { n.Url = "http://198.18.0.1:7070" },
	} {
		bad := n.announcement("n", "1", 0)
		change(bad)
		if err := announce(secret, bad); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := announce(secret, good); err != nil {
		t.Fatal(err)
	}
	if err := r.Ready(); err != nil {
		t.Fatal(err)
	}
}
