package bench

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// fakeNode is a media node that grants every session and has no media, so that a
// control plane can be measured alone, with as many calls as one likes.
type fakeNode struct {
	mediav1connect.UnimplementedMediaNodeHandler
	url string
}

func (n *fakeNode) node() *mediav1.Node {
	address := []*mediav1.SocketAddress{{Ip: "127.0.0.1", Port: 9}}
	return &mediav1.Node{
		Id: "fake", Incarnation: "1", Url: n.url, WebrtcAddresses: address, RtpAddresses: address, Engine: "user",
		Capacity: &mediav1.Capacity{MaxSessions: 1_000_000, FreeRtpPorts: 1_000_000},
	}
}

// ApplySession implements mediav1connect.MediaNodeHandler.
func (n *fakeNode) ApplySession(_ context.Context, r *connect.Request[mediav1.ApplySessionRequest]) (*connect.Response[mediav1.ApplySessionResponse], error) {
	spec := r.Msg.GetSpec()
	state := &mediav1.SessionState{Id: spec.GetId(), OwnerEpoch: spec.GetOwnerEpoch(), Generation: spec.GetGeneration()}
	for _, leg := range spec.GetLegs() {
		state.Legs = append(state.Legs, &mediav1.LegState{
			Id:    leg.GetId(),
			Local: []*mediav1.SocketAddress{{Ip: "127.0.0.1", Port: 9}}, LocalRtcp: &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 10},
		})
	}
	return connect.NewResponse(&mediav1.ApplySessionResponse{State: state}), nil
}

// RemoveSession implements mediav1connect.MediaNodeHandler.
func (*fakeNode) RemoveSession(context.Context, *connect.Request[mediav1.RemoveSessionRequest]) (*connect.Response[mediav1.RemoveSessionResponse], error) {
	return connect.NewResponse(&mediav1.RemoveSessionResponse{}), nil
}

// GetNode implements mediav1connect.MediaNodeHandler.
func (n *fakeNode) GetNode(context.Context, *connect.Request[mediav1.GetNodeRequest]) (*connect.Response[mediav1.GetNodeResponse], error) {
	return connect.NewResponse(&mediav1.GetNodeResponse{Node: n.node()}), nil
}

// Watch implements mediav1connect.MediaNodeHandler.
func (n *fakeNode) Watch(ctx context.Context, _ *connect.Request[mediav1.WatchRequest], out *connect.ServerStream[mediav1.WatchResponse]) error {
	message := &mediav1.WatchResponse{Message: &mediav1.WatchResponse_Snapshot{Snapshot: &mediav1.Snapshot{Node: n.node()}}}
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for {
		if err := out.Send(message); err != nil {
			return err
		}
		message = &mediav1.WatchResponse{Message: &mediav1.WatchResponse_Heartbeat{Heartbeat: &mediav1.Heartbeat{}}}
		select {
		case <-beat.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// bearer adds the secret of the planes.
type bearer struct {
	secret string
	next   http.RoundTripper
}

func (t bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.secret)
	return t.next.RoundTrip(r)
}

// startFakeNode serves a fake node and announces it until the benchmark ends.
func startFakeNode(b *testing.B, controlPlane, secret string) {
	b.Helper()
	n := &fakeNode{}
	address := port.Address(b)
	n.url = "http://" + address
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.Handle(mediav1connect.NewMediaNodeHandler(n))
	server := &http.Server{Addr: address, Handler: mux, Protocols: protocols}
	transport := &http.Transport{Protocols: protocols}
	registry := mediav1connect.NewNodeRegistryClient(&http.Client{Transport: bearer{secret, transport}}, controlPlane)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = server.ListenAndServe() }) // until it is closed
	work.Go(func() {
		again := time.NewTicker(200 * time.Millisecond)
		defer again.Stop()
		for {
			// The control plane may not be up yet.
			_, _ = registry.Announce(ctx, connect.NewRequest(&mediav1.AnnounceRequest{Node: n.node()}))
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
		}
	})
	b.Cleanup(func() {
		stop()
		server.Close()
		transport.CloseIdleConnections()
		work.Wait()
	})
}
