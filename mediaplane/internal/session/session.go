package session

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// leg is one transport association.
type leg interface {
	id() string
	// route answers how RTP reaches and leaves the leg, or what is still
	// missing; receiving says that packets of the leg are to be forwarded.
	route(receiving bool) (route, string)
	start(now time.Time)
	resume()
	sendRTP(packet []byte, ssrc uint32, index uint64) forward.SendResult
	sendRTCP(packet []byte)
	tick(now time.Time)
	checkpoint(force bool)
	state() *mediav1.LegState
	close()
}

// Session is one session of the node.
type Session struct {
	node *Manager
	id   string
	log  *slog.Logger

	// applying serialises changes; it is taken before mu, which packets need.
	applying sync.Mutex
	removed  bool

	mu             sync.Mutex
	plan           *Plan
	legs           map[string]leg
	order          []string
	senders        []namedLeg // legs in order: few, and looked up for each packet
	table          *forward.Table
	claimed        time.Time
	nextQuality    time.Time
	nextCheckpoint time.Time
	player         *time.Timer // of tones and digits, while there are any

	offloads map[string]*offload // by the stream that packets come from
	refusals map[string]*refusal

	source        netip.AddrPort // of the packet in work
	out           *udp.Batch     // of the loop that brought it
	plain, cipher []byte
}

type namedLeg struct {
	name string
	leg  leg
}

func newSession(node *Manager, id string) *Session {
	s := &Session{
		node: node, id: id, log: node.log.With("session", id), legs: map[string]leg{},
		offloads: map[string]*offload{}, refusals: map[string]*refusal{},
		plain: make([]byte, 0, udp.MaxPacket), cipher: make([]byte, 0, udp.MaxPacket+64),
	}
	s.table = forward.New(s, node.random())
	return s
}

// apply makes the session as the plan says, or leaves it as it was.
func (s *Session) apply(p *Plan) error {
	next, fresh, err := s.prepare(p)
	if err != nil {
		return err
	}
	now := s.node.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.plan == nil
	s.table.ReclaimAll(now)
	clear(s.refusals)
	old := s.legs
	for _, id := range s.order {
		if next[id] != old[id] {
			s.table.Bye(id)
		}
	}
	s.plan, s.claimed = p, now
	s.legs = next
	s.order, s.senders = s.order[:0], s.senders[:0]
	for _, lp := range p.legs {
		s.order = append(s.order, lp.id)
		s.senders = append(s.senders, namedLeg{lp.id, next[lp.id]})
	}
	for id, l := range old {
		if next[id] != l {
			l.close()
		}
	}
	s.table.Apply(p.table, now)
	for _, lp := range p.legs {
		l := next[lp.id]
		if slices.Contains(fresh, l) {
			l.start(now)
		} else {
			switch l := l.(type) {
			case *webrtcLeg:
				l.update(lp.webrtc)
			case *rtpLeg:
				l.update(lp.rtp)
			}
		}
		l.resume()
	}
	if first {
		s.adopt(now)
		s.nextQuality = now.Add(s.node.config.QualityInterval)
		s.nextCheckpoint = now.Add(s.node.config.CheckpointInterval)
		attrs := make([]any, 0, 2*len(p.labels))
		for _, k := range slices.Sorted(maps.Keys(p.labels)) {
			attrs = append(attrs, k, p.labels[k])
		}
		s.log = s.log.With(slog.Group("labels", attrs...))
	}
	s.play()
	s.log.Debug("session applied", "owner_epoch", p.Epoch, "generation", p.Generation, "legs", len(p.legs), "streams", len(p.table.Streams))
	return nil
}

// prepare gets everything that applying a plan can fail for: ports and names.
// When it fails it gives back what it got.
func (s *Session) prepare(p *Plan) (next map[string]leg, fresh []leg, err error) {
	next = make(map[string]leg, len(p.legs))
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range undo {
				f()
			}
		}
	}()
	for _, cfg := range p.table.Streams {
		if err := s.sameSSRC(cfg); err != nil {
			return nil, nil, err
		}
	}
	for _, lp := range p.legs {
		switch {
		case lp.webrtc != nil:
			l, kept := s.legs[lp.id].(*webrtcLeg)
			if !kept {
				l = newWebRTCLeg(s, lp.id, lp.webrtc)
				fresh = append(fresh, l)
			}
			known := kept && l.answers(lp.webrtc.ice.LocalUfrag)
			if err := s.node.mux.reserve(l, lp.webrtc.ice); err != nil {
				return nil, nil, &FieldError{Field: lp.field + ".webrtc.local_ice.ufrag", Reason: err.Error()}
			}
			if !known {
				undo = append(undo, func() { s.node.mux.release(l, lp.webrtc.ice.LocalUfrag) })
			}
			next[lp.id] = l
		case lp.rtp != nil:
			l, kept := s.legs[lp.id].(*rtpLeg)
			if kept && l.fits(lp.rtp) {
				next[lp.id] = l
				continue
			}
			pair, advertised, err := s.node.openPair(lp.field+".rtp.local", lp.rtp)
			if err != nil {
				return nil, nil, err
			}
			undo = append(undo, pair.Close)
			l = &rtpLeg{session: s, name: lp.id, plan: lp.rtp, pair: pair, advertised: advertised}
			if err := s.node.read(pair, l.receive, l.receiveControl); err != nil {
				return nil, nil, fmt.Errorf("%w: %s.rtp.local: %w", ErrPorts, lp.field, err)
			}
			fresh = append(fresh, l)
			next[lp.id] = l
		}
	}
	return next, fresh, nil
}

// fits says whether a leg can stay on its ports under a plan.
func (l *rtpLeg) fits(p *rtpPlan) bool {
	local := l.local()
	switch {
	case !p.local.IsValid():
		return true
	case p.local.Addr().IsUnspecified():
		return p.local.Addr().Is4() == local.Addr().Is4()
	case p.local.Port() == 0:
		return p.local.Addr() == local.Addr()
	}
	return p.local == local
}

// sameSSRC refuses another SSRC for a stream that has one.
func (s *Session) sameSSRC(cfg forward.StreamConfig) error {
	if cfg.SSRC == 0 || s.plan == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.table.State() {
		if st.ID == cfg.ID && st.Leg == cfg.Leg && st.SSRC != cfg.SSRC {
			return &FieldError{Field: "streams[" + cfg.ID + "].ssrc", Reason: "a stream keeps its SSRC for life; this one sends with another"}
		}
	}
	return nil
}

// enter takes the lock for a loop that brings a packet.
func (s *Session) enter(out *udp.Batch) {
	s.mu.Lock()
	s.out = out
}

func (s *Session) leave() {
	s.out = nil
	s.mu.Unlock()
}

// receive puts one plain packet through the table. The lock is held.
func (s *Session) receive(leg string, packet []byte) {
	switch s.table.Receive(leg, packet, s.node.now()) {
	case forward.Held:
		s.node.metrics.drop(dropHeld)
	case forward.Unrouted:
		s.node.metrics.drop(dropUnrouted)
	case forward.Withheld:
		s.node.metrics.drop(dropWithheld)
	case forward.NoWay:
		s.node.metrics.drop(dropNoWay)
	case forward.Malformed:
		s.node.metrics.drop(dropMalformed)
	case forward.Doubtful:
		s.node.metrics.drop(dropDoubtful)
	case forward.Duplicate:
		s.node.metrics.drop(dropDuplicate)
	}
}

// fail tells that a leg cannot carry media. The lock is held.
func (s *Session) fail(leg, cause, reason string) {
	s.node.metrics.failed.WithLabelValues(cause).Inc()
	s.log.Warn("leg failed", "leg", leg, "cause", cause, "reason", reason)
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_LegFailed{
		LegFailed: &mediav1.LegFailed{Leg: leg, Reason: reason},
	}})
}

// unprotect decrypts an SRTP packet of a leg, or counts why not. The lock is held.
func (s *Session) unprotect(leg string, t *srtp.Transform, b []byte) ([]byte, bool) {
	if stream, lent := s.table.Lent(leg, b); lent {
		// The engine left it to user space. Only who has the keys may take the
		// stream from the engine, and not with a packet that it had already.
		index, err := t.Authenticate(s.plain[:0], b)
		if pos, ok := s.node.config.Engine.Position(s.offloads[stream].plan.Key); err == nil && ok && pos.Packets > 0 && s.offloads[stream].has(b) && pos.Took(index) {
			err = srtp.ErrReplay
		}
		if err != nil {
			s.refuse(leg, b, err)
			return nil, false
		}
		s.table.Reclaim(stream, s.node.now())
	}
	plain, err := t.Unprotect(s.plain[:0], b)
	if err != nil {
		s.refuse(leg, b, err)
		return nil, false
	}
	return plain, true
}

// refuse counts a packet that could not be unprotected. The lock is held.
func (s *Session) refuse(leg string, packet []byte, err error) {
	if errors.Is(err, srtp.ErrReplay) {
		s.table.Count(leg, packet, forward.Replay)
		s.node.metrics.drop(dropReplay)
		return
	}
	s.table.Count(leg, packet, forward.AuthFailure)
	s.node.metrics.auth.Inc()
	s.node.metrics.drop(dropAuth)
}

// tick does what time brings.
func (s *Session) tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil || s.removed {
		return
	}
	s.sync()
	s.offer(now)
	s.table.Tick(now)
	for _, l := range s.legs {
		l.tick(now)
	}
	if !now.Before(s.nextCheckpoint) {
		s.nextCheckpoint = now.Add(s.node.config.CheckpointInterval)
		for _, l := range s.legs {
			l.checkpoint(false)
		}
	}
	if !now.Before(s.nextQuality) {
		s.nextQuality = now.Add(s.node.config.QualityInterval)
		if s.node.hub.watched() {
			for _, st := range s.streamStates() {
				s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_Quality{Quality: &mediav1.Quality{Stream: st}}})
			}
		}
	}
}

// orphaned says whether nobody has claimed the session for too long.
func (s *Session) orphaned(now, watched time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil {
		return false
	}
	after := s.plan.orphanAfter
	if after == 0 {
		after = s.node.config.OrphanAfter
	}
	last := s.claimed
	if watched.After(last) {
		last = watched
	}
	return now.Sub(last) >= after
}

// end closes the session for an owner with this epoch, and tells why. It
// refuses an epoch lower than the session's with *StaleError.
func (s *Session) end(reason string, epoch uint64) (*mediav1.SessionState, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan != nil && epoch < s.plan.Epoch {
		return nil, &StaleError{s.plan.Epoch, s.plan.Generation}
	}
	if s.removed {
		return nil, nil
	}
	s.removed = true
	if s.plan == nil {
		return nil, nil
	}
	s.table.ReclaimAll(s.node.now())
	state := s.state()
	s.observe()
	if s.player != nil {
		s.player.Stop()
	}
	for _, id := range s.order {
		s.table.Bye(id)
		s.legs[id].close()
	}
	s.log.Debug("session removed", "reason", reason)
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_Removed{Removed: &mediav1.SessionRemoved{Reason: reason, State: state}}})
	return state, nil
}

// State of the session; nil before the first spec was applied.
func (s *Session) State() *mediav1.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil || s.removed {
		return nil
	}
	s.sync()
	return s.state()
}

func (s *Session) state() *mediav1.SessionState {
	st := &mediav1.SessionState{Id: s.id, OwnerEpoch: s.plan.Epoch, Generation: s.plan.Generation, Streams: s.streamStates()}
	for _, id := range s.order {
		st.Legs = append(st.Legs, s.legs[id].state())
	}
	return st
}

func (s *Session) streamStates() []*mediav1.StreamState {
	list := make([]*mediav1.StreamState, 0, 2)
	for _, st := range s.table.State() {
		c := st.Counters
		counters := &mediav1.StreamCounters{
			ReceivedPackets: c.ReceivedPackets, ReceivedBytes: c.ReceivedBytes,
			SentPackets: c.SentPackets, SentBytes: c.SentBytes,
			LostPackets: c.Lost, Jitter: durationpb.New(c.Jitter),
			AuthFailures: c.AuthFailures, Replays: c.Replays,
			ForeignSource: c.ForeignSource, Malformed: c.Malformed, Gated: c.Gated,
		}
		if !c.LastReceived.IsZero() {
			counters.LastReceived = timestamppb.New(c.LastReceived)
		}
		if c.RoundTrip > 0 {
			counters.RoundTrip = durationpb.New(c.RoundTrip)
		}
		engine, reason := s.engineOf(st.ID)
		list = append(list, &mediav1.StreamState{
			Id: st.ID, Leg: st.Leg, Ssrc: st.SSRC, Engine: engine, EngineReason: reason, Counters: counters,
			Received: quality(c.Incoming), Sent: quality(c.Outgoing),
		})
	}
	return list
}
