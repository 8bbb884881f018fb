// Package rpc is the node's side of the contract between the planes: the
// MediaNode service, who may call it, and the announcements to control planes.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/session"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// Identity is what a node says of itself.
type Identity struct {
	// ID is stable; Incarnation changes with each start.
	ID, Incarnation string
	// URL of the MediaNode service, as control planes reach it.
	URL     string
	Version string
}

// Server implements the MediaNode service.
type Server struct {
	identity  Identity
	sessions  *session.Manager
	metrics   *session.Metrics
	heartbeat time.Duration
	log       *slog.Logger
	ending    chan struct{}
	end       sync.Once
}

var _ mediav1connect.MediaNodeHandler = (*Server)(nil)

// NewServer makes the service. heartbeat is sent on a watch when nothing else was.
func NewServer(identity Identity, sessions *session.Manager, metrics *session.Metrics, heartbeat time.Duration, log *slog.Logger) *Server {
	return &Server{identity: identity, sessions: sessions, metrics: metrics, heartbeat: heartbeat, log: log, ending: make(chan struct{})}
}

// Node describes the node as it is now.
func (s *Server) Node() *mediav1.Node {
	n := &mediav1.Node{
		Id: s.identity.ID, Incarnation: s.identity.Incarnation, Url: s.identity.URL, Version: s.identity.Version,
		Capacity: s.sessions.Capacity(), Draining: s.sessions.Draining(),
		Engine: s.sessions.Engine().Name(), EngineReason: s.sessions.Engine().Reason(),
	}
	for _, a := range s.sessions.WebRTCAddresses() {
		n.WebrtcAddresses = append(n.WebrtcAddresses, &mediav1.SocketAddress{Ip: a.Addr().String(), Port: uint32(a.Port())})
	}
	for _, a := range s.sessions.RTPAddresses() {
		n.RtpAddresses = append(n.RtpAddresses, &mediav1.SocketAddress{Ip: a.String()})
	}
	return n
}

// EndWatches lets every watch send what it still has and then end.
func (s *Server) EndWatches() { s.end.Do(func() { close(s.ending) }) }

// ApplySession makes a session as its spec says.
func (s *Server) ApplySession(_ context.Context, req *connect.Request[mediav1.ApplySessionRequest]) (*connect.Response[mediav1.ApplySessionResponse], error) {
	state, err := s.sessions.Apply(req.Msg.GetSpec())
	if err != nil {
		return nil, s.problem("ApplySession", req.Msg.GetSpec().GetId(), err)
	}
	return connect.NewResponse(&mediav1.ApplySessionResponse{State: state}), nil
}

// RemoveSession ends a session.
func (s *Server) RemoveSession(_ context.Context, req *connect.Request[mediav1.RemoveSessionRequest]) (*connect.Response[mediav1.RemoveSessionResponse], error) {
	if req.Msg.GetId() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("id: missing"))
	}
	state, err := s.sessions.Remove(req.Msg.GetId(), req.Msg.GetOwnerEpoch())
	if err != nil {
		return nil, s.problem("RemoveSession", req.Msg.GetId(), err)
	}
	return connect.NewResponse(&mediav1.RemoveSessionResponse{State: state}), nil
}

// SendDTMF sends digits as telephone-events.
func (s *Server) SendDTMF(_ context.Context, req *connect.Request[mediav1.SendDTMFRequest]) (*connect.Response[mediav1.SendDTMFResponse], error) {
	m := req.Msg
	if err := s.sessions.SendDTMF(m.GetSession(), m.GetOwnerEpoch(), m.GetStream(), m.GetDigits()); err != nil {
		return nil, s.problem("SendDTMF", m.GetSession(), err)
	}
	return connect.NewResponse(&mediav1.SendDTMFResponse{}), nil
}

// GetNode describes the node.
func (s *Server) GetNode(context.Context, *connect.Request[mediav1.GetNodeRequest]) (*connect.Response[mediav1.GetNodeResponse], error) {
	return connect.NewResponse(&mediav1.GetNodeResponse{Node: s.Node()}), nil
}

// Drain makes the node refuse new sessions.
func (s *Server) Drain(context.Context, *connect.Request[mediav1.DrainRequest]) (*connect.Response[mediav1.DrainResponse], error) {
	n := s.sessions.Drain()
	s.log.Info("draining", "sessions", n)
	return connect.NewResponse(&mediav1.DrainResponse{Sessions: uint32(n)}), nil
}

// Watch sends a snapshot, then events. A watcher that does not keep up is
// disconnected: it gets a snapshot when it comes back.
func (s *Server) Watch(ctx context.Context, _ *connect.Request[mediav1.WatchRequest], stream *connect.ServerStream[mediav1.WatchResponse]) error {
	watcher := s.sessions.Watch()
	defer watcher.Close()
	snapshot := &mediav1.Snapshot{Node: s.Node(), Sessions: s.sessions.States()}
	if err := stream.Send(&mediav1.WatchResponse{Message: &mediav1.WatchResponse_Snapshot{Snapshot: snapshot}}); err != nil {
		return err
	}
	stopped := s.cutWhenLost(ctx, watcher)
	defer stopped()
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for {
		var msg mediav1.WatchResponse
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Lost():
			return connect.NewError(connect.CodeResourceExhausted, errors.New("the watcher did not take events fast enough; watch again"))
		case <-s.ending:
			return s.flush(watcher, stream)
		case e := <-watcher.Events():
			msg.Message = &mediav1.WatchResponse_Event{Event: e}
			beat.Reset(s.heartbeat)
		case now := <-beat.C:
			msg.Message = &mediav1.WatchResponse_Heartbeat{Heartbeat: &mediav1.Heartbeat{Time: timestamppb.New(now)}}
		}
		if err := stream.Send(&msg); err != nil {
			return err
		}
	}
}

// cutWhenLost ends the writing of a watch whose watcher was too slow: it may hang
// in a write that nobody takes.
func (s *Server) cutWhenLost(ctx context.Context, watcher *session.Watcher) (stop func()) {
	controller, ok := ctx.Value(controllerKey{}).(*http.ResponseController)
	if !ok {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-done:
		case <-watcher.Lost():
			s.metrics.WatcherLost()
			s.log.Warn("watcher disconnected: it did not take events fast enough")
			_ = controller.SetWriteDeadline(time.Now().Add(lostGrace))
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// lostGrace is how long a watch that was lost may take to end properly.
const lostGrace = time.Second

type controllerKey struct{}

// WithController lets handlers behind it cut their own responses.
func WithController(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), controllerKey{}, http.NewResponseController(w))))
	})
}

func (s *Server) flush(watcher *session.Watcher, stream *connect.ServerStream[mediav1.WatchResponse]) error {
	for {
		select {
		case e := <-watcher.Events():
			if err := stream.Send(&mediav1.WatchResponse{Message: &mediav1.WatchResponse_Event{Event: e}}); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// problem maps an error to a Connect code.
func (s *Server) problem(method, id string, err error) error {
	var field *session.FieldError
	var stale *session.StaleError
	var result *connect.Error
	switch {
	case errors.As(err, &field):
		result = connect.NewError(connect.CodeInvalidArgument, err)
	case errors.As(err, &stale):
		result = connect.NewError(connect.CodeAborted, err)
		if detail, derr := connect.NewErrorDetail(&mediav1.StaleSpec{OwnerEpoch: stale.Epoch, Generation: stale.Generation}); derr == nil {
			result.AddDetail(detail)
		}
	case errors.Is(err, session.ErrPorts), errors.Is(err, session.ErrFull):
		result = connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, session.ErrNoSession):
		result = connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, session.ErrDTMF):
		result = connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, session.ErrDraining):
		result = connect.NewError(connect.CodeUnavailable, err)
	default:
		result = connect.NewError(connect.CodeInternal, err)
	}
	s.log.Info("request refused", "method", method, "session", id, "code", result.Code().String(), "error", err)
	return result
}
