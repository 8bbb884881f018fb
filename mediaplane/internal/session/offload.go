package session

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

// A plan that the engine refused is offered again after firstRefusal, and twice
// as late each time.
const (
	firstRefusal   = 2 * time.Second
	longestRefusal = time.Minute
)

// route is how RTP reaches a leg and leaves it.
type route struct {
	local, remote netip.AddrPort
	// srtp protects it; nil for plain RTP.
	srtp *srtp.Transform
}

// offload is the mapping of one stream that the engine executes.
type offload struct {
	plan    fastpath.Plan
	in, out *srtp.Transform
	// sequence is the forwarding table's number of the packet with index 0.
	sequence int64
	counted  fastpath.Counters // in the metrics
	passed   func(packets uint64)
	last     forward.Progress
}

// refusal is why the stream of a session is not with the engine.
type refusal struct {
	reason string
	again  time.Time
	wait   time.Duration
}

// monotonic is the clock of fastpath.Position.LastSeen.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

// offer gives every settled mapping to the engine. The lock is held.
func (s *Session) offer(now time.Time) {
	if s.node.offloads() {
		for _, stream := range s.table.Streams() {
			if s.offloads[stream] == nil {
				s.offerStream(stream, now)
			}
		}
	}
}

func (s *Session) offerStream(stream string, now time.Time) {
	r := s.refusals[stream]
	if r == nil {
		r = &refusal{}
		s.refusals[stream] = r
	}
	if now.Before(r.again) {
		return
	}
	m, reason := s.table.Settled(stream, now)
	var o *offload
	if reason == "" {
		o, reason = s.planOf(m, now)
	}
	if reason != "" {
		r.reason, r.wait = reason, 0
		return
	}
	if refused, ok := s.node.config.Engine.Upsert(o.plan); !ok {
		r.wait = min(max(2*r.wait, firstRefusal), longestRefusal)
		r.reason, r.again = string(refused), now.Add(r.wait)
		return
	}
	*r = refusal{}
	s.offloads[stream] = o
	s.table.Lend(m, o.sequence+int64(o.plan.Start.Index), now)
	s.log.Debug("stream offloaded", "stream", stream, "output", m.Output, "remote", o.plan.Key.Remote.String(), "to", o.plan.To.String())
}

// planOf makes the plan of a mapping, or answers what its legs still lack.
func (s *Session) planOf(m forward.Mapping, now time.Time) (*offload, string) {
	from, reason := s.legs[m.Leg].route(true)
	if reason != "" {
		return nil, reason
	}
	to, reason := s.legs[m.OutputLeg].route(false)
	if reason != "" {
		return nil, reason
	}
	index := uint64(m.Sequence)
	if from.srtp != nil {
		var ok bool
		if index, ok = from.srtp.Received(m.Source); !ok || uint16(index) != uint16(m.Sequence) {
			return nil, "the source is settling"
		}
	}
	o := &offload{in: from.srtp, out: to.srtp, sequence: m.Sequence - int64(index), passed: s.node.metrics.offloaded(s.legs[m.Leg], s.legs[m.OutputLeg])}
	o.plan = fastpath.Plan{
		Key:     fastpath.Key{Local: from.local, Remote: from.remote, SSRC: m.Source},
		Mode:    mode(from.srtp != nil, to.srtp != nil),
		Session: s.id, Input: m.Stream, Output: m.Output,
		From: to.local, To: to.remote, SSRC: m.SSRC,
		IndexOffset: int64(m.Index) - int64(index), TimeOffset: m.TimeOffset, ClockRate: m.Clock, Payloads: m.Payloads,
		Start: fastpath.Position{
			Index: index + uint64(m.Lead), Timestamp: m.Time, LastSeen: s.node.mono() - int64(now.Sub(m.At)), Jitter: m.Jitter,
		},
	}
	if from.srtp != nil {
		if o.plan.In = crypto(from.srtp.Keys(), false); o.plan.In == nil {
			return nil, unsupportedProfile
		}
	}
	if to.srtp != nil {
		if o.plan.Out = crypto(to.srtp.Keys(), true); o.plan.Out == nil {
			return nil, unsupportedProfile
		}
	}
	return o, ""
}

const unsupportedProfile = "the SRTP profile is for user space only"

func mode(in, out bool) fastpath.Mode {
	switch {
	case in && out:
		return fastpath.Transcrypt
	case in:
		return fastpath.Unprotect
	case out:
		return fastpath.Protect
	}
	return fastpath.Relay
}

// crypto of one direction; nil for a profile that no engine knows.
func crypto(k srtp.Keys, outgoing bool) *fastpath.Crypto {
	c := &fastpath.Crypto{Master: k.Remote}
	if outgoing {
		c.Master = k.Local
	}
	switch k.Profile {
	case srtp.AES128CMSHA1:
		c.Profile = fastpath.AES128CMSHA1
	case srtp.AES128GCM:
		c.Profile = fastpath.AES128GCM
	case srtp.AES256GCM:
		c.Profile = fastpath.AES256GCM
	default:
		return nil
	}
	return c
}

// Reclaim takes a plan back from the engine, and makes the SRTP of both legs go
// on from where it has come to.
func (s *Session) Reclaim(stream string) forward.Progress {
	o := s.offloads[stream]
	delete(s.offloads, stream)
	pos, ok := s.node.config.Engine.Remove(o.plan.Key)
	if !ok {
		s.log.Warn("the engine has lost a stream", "stream", stream)
		p := o.last
		p.Lost = true
		return p
	}
	o.take(pos)
	p := s.progress(o, pos)
	p.Took = func(sequence int64) bool { return pos.Took(uint64(sequence - o.sequence)) }
	return p
}

// has says whether a packet is of the plan's source.
func (o *offload) has(packet []byte) bool {
	return len(packet) >= 12 && binary.BigEndian.Uint32(packet[8:]) == o.plan.Key.SSRC
}

// take brings the SRTP of both legs to a final position.
func (o *offload) take(pos fastpath.Position) {
	if pos.Packets == 0 {
		return
	}
	floor, offset := o.plan.Start.Index, o.plan.IndexOffset
	if o.in != nil {
		o.in.Take(o.plan.Key.SSRC, false, floor, pos.Index, pos.Took)
	}
	if o.out != nil {
		o.out.Take(o.plan.SSRC, true, shift(floor, offset), shift(pos.Index, offset), func(index uint64) bool {
			return pos.Took(shift(index, -offset))
		})
	}
}

func shift(index uint64, by int64) uint64 { return uint64(int64(index) + by) }

// progress translates a position, and counts its packets in the node's metrics.
func (s *Session) progress(o *offload, pos fastpath.Position) forward.Progress {
	o.passed(pos.Packets - o.counted.Packets)
	s.node.metrics.offloadedFailures(pos.AuthFailures-o.counted.AuthFailures, pos.Replays-o.counted.Replays)
	o.counted = pos.Counters
	bytes, copies := pos.Bytes, pos.Replays
	if o.in != nil {
		bytes -= pos.Packets * uint64(o.in.Keys().Profile.TagLen())
		copies = 0
	}
	o.last = forward.Progress{
		Sequence: o.sequence + int64(pos.Index), Packets: pos.Packets, Bytes: bytes, Octets: pos.Octets,
		AuthFailures: pos.AuthFailures, Replays: pos.Replays, Copies: copies,
		Time: pos.Timestamp, At: s.node.now().Add(time.Duration(pos.LastSeen - s.node.mono())), Jitter: pos.Jitter,
	}
	return o.last
}

// sync brings the table and the SRTP of the legs to where the engine is. The lock
// is held.
func (s *Session) sync() {
	for stream, o := range s.offloads {
		pos, ok := s.node.config.Engine.Position(o.plan.Key)
		if !ok {
			s.table.Reclaim(stream, s.node.now())
			continue
		}
		if pos.Packets > 0 && o.in != nil {
			o.in.Follow(o.plan.Key.SSRC, false, pos.Index)
		}
		if pos.Packets > 0 && o.out != nil {
			o.out.Follow(o.plan.SSRC, true, shift(pos.Index, o.plan.IndexOffset))
		}
		s.table.Progress(stream, s.progress(o, pos))
	}
}

// engineOf tells what forwards the packets that a stream receives, and why it is
// not something faster.
func (s *Session) engineOf(stream string) (engine, reason string) {
	switch r := s.refusals[stream]; {
	case s.offloads[stream] != nil:
		return s.node.config.Engine.Name(), ""
	case !s.node.offloads():
		return fastpath.User{}.Name(), s.node.config.Engine.Reason()
	case r == nil || r.reason == "":
		return fastpath.User{}.Name(), "the source is settling"
	default:
		return fastpath.User{}.Name(), r.reason
	}
}

// engines counts the session's streams by what forwards them, and why.
func (s *Session) engines(count map[engineReason]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil || s.removed {
		return
	}
	for _, stream := range s.table.Streams() {
		engine, reason := s.engineOf(stream)
		count[engineReason{engine, reason}]++
	}
}
