package media

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"connectrpc.com/connect"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// node is one incarnation of a media node.
type node struct {
	name     string
	registry *Registry
	rpc      mediav1connect.MediaNodeClient
	log      *slog.Logger
	stop     context.CancelFunc
	// lanes take what is told of calls, so that one call that is busy holds up
	// neither the stream nor, but for a few, the other calls.
	lanes lanes
	// info and seen are guarded by the registry's lock.
	info *mediav1.Node
	seen time.Time

	mu sync.Mutex
	// applied sessions with the time of the first request, then of its success;
	// they are missing from a snapshot only if it is younger.
	applied map[string]time.Time
}

// run watches the node until ctx is done, again and again when the stream breaks.
func (n *node) run(ctx context.Context) {
	defer n.lanes.start(ctx)()
	const pause = 200 * time.Millisecond
	level := slog.LevelWarn
	for ctx.Err() == nil {
		started := time.Now()
		err := n.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > n.registry.config.AnnounceInterval {
			level = slog.LevelWarn
		}
		n.log.Log(ctx, level, "watching a media node broke off", "error", err)
		// Said once; until the node is lost or back it is tried quietly.
		level = slog.LevelDebug
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (n *node) watch(ctx context.Context) error {
	// A node that sends nothing at all, heartbeats included, is not there.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(n.patience(), cancel)
	defer silence.Stop()
	started := time.Now()
	stream, err := n.rpc.Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		silence.Reset(n.patience())
		switch m := stream.Msg().Message.(type) {
		case *mediav1.WatchResponse_Snapshot:
			n.compare(ctx, m.Snapshot, started)
		case *mediav1.WatchResponse_Event:
			n.lanes.do(m.Event.Session, func() { n.tell(ctx, m.Event) })
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the node closed the stream")
}

// patience is how long a watched node may send nothing: its heartbeats come
// every two seconds.
func (n *node) patience() time.Duration {
	return max(10*time.Second, missedIntervals*n.registry.config.AnnounceInterval)
}

// compare holds a snapshot against what should be on the node.
func (n *node) compare(ctx context.Context, s *mediav1.Snapshot, started time.Time) {
	has := map[string]*mediav1.SessionState{}
	for _, state := range s.Sessions {
		has[state.Id] = state
	}
	wanted := map[string]bool{}
	for _, id := range n.registry.events.Sessions(ctx, n.name) {
		wanted[id] = true
		if has[id] == nil && !n.appliedSince(id, started) {
			n.lanes.do(id, func() {
				n.registry.events.SessionLost(ctx, id, "media node "+n.name+" no longer has the session")
			})
		}
	}
	for id, state := range has {
		if !wanted[id] && !n.appliedSince(id, time.Time{}) {
			n.log.Info("remove a session that no call has", "call", id)
			n.remove(ctx, id, state.OwnerEpoch)
		}
	}
}

// appliedSince reports whether this process put the session there after t.
func (n *node) appliedSince(id string, t time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.applied[id]
	return ok && at.After(t)
}

// apply puts a session on the node. The times kept tell a snapshot's gaps from
// sessions that are younger than it.
func (n *node) apply(ctx context.Context, spec *mediav1.SessionSpec) (*mediav1.SessionState, error) {
	n.mu.Lock()
	_, known := n.applied[spec.Id]
	if !known {
		n.applied[spec.Id] = time.Now()
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, n.registry.config.RequestTimeout)
	defer cancel()
	res, err := n.rpc.ApplySession(ctx, connect.NewRequest(&mediav1.ApplySessionRequest{Spec: spec}))
	if err == nil {
		if !known {
			n.succeeded(spec.Id)
		}
		return res.Msg.State, nil
	}
	if !known {
		n.forget(spec.Id)
		if isTimeout(err) {
			// It may have the session all the same.
			n.registry.tasks.Go(func() { n.remove(ctx, spec.Id, spec.OwnerEpoch) })
		}
	}
	return nil, err
}

// succeeded notes that a session is there only now: a snapshot that was asked for
// while the request was on its way need not have it.
func (n *node) succeeded(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.applied[id]; ok {
		n.applied[id] = time.Now()
	}
}

func (n *node) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.applied, id)
}

// remove takes a session off the node; a later snapshot catches what fails here.
func (n *node) remove(ctx context.Context, id string, epoch uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.registry.config.RequestTimeout)
	defer cancel()
	res, err := n.rpc.RemoveSession(ctx, connect.NewRequest(&mediav1.RemoveSessionRequest{Id: id, OwnerEpoch: epoch}))
	n.forget(id)
	if err != nil {
		n.log.Warn("remove a media session", "call", id, "error", err)
		return
	}
	for _, s := range res.Msg.GetState().GetStreams() {
		c := s.GetCounters()
		in, out := s.GetReceived(), s.GetSent()
		n.log.Info("media stream ended", "call", id, "stream", s.Id, "engine", s.Engine,
			"mos_received", round(in.GetMos()), "mos_sent", round(out.GetMos()),
			"loss_received", round(in.GetLoss()), "loss_sent", round(out.GetLoss()),
			"received_packets", c.GetReceivedPackets(), "sent_packets", c.GetSentPackets(),
			"lost_packets", c.GetLostPackets(), "jitter", c.GetJitter().AsDuration(),
			"auth_failures", c.GetAuthFailures(), "replays", c.GetReplays(),
			"foreign_source", c.GetForeignSource(), "round_trip", c.GetRoundTrip().AsDuration())
	}
}

// round to two digits, for people.
func round(v float64) float64 { return math.Round(100*v) / 100 }
