package session

import (
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

// A process that ends without a word leaves its plans running in the kernel. The
// next one of the node gets the sessions from the control plane again, and those
// whose specs fit the plans take them over as they run:
//
//	engine ──adopt──▶ Manager.adopted ──spec applied, fits──▶ Session.offloads
//	                        └──spec differs, or none in time──▶ removed

// Adopt learns what the engine runs for an earlier process. It comes after the
// engine has started and before the first spec, which would find nothing to claim.
func (m *Manager) Adopt() {
	list := m.config.Engine.Adopted()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(list) == 0 {
		return
	}
	m.adopted = map[string][]fastpath.Adopted{}
	for _, a := range list {
		m.adopted[a.Session] = append(m.adopted[a.Session], a)
	}
	m.adoptUntil = m.now().Add(m.config.OrphanAfter)
	m.log.Info("streams of an earlier process go on", "streams", len(list), "sessions", len(m.adopted))
}

// disown ends plans whose sessions nobody has claimed in time.
func (m *Manager) disown(now time.Time) {
	m.mu.Lock()
	if len(m.adopted) == 0 || now.Before(m.adoptUntil) {
		m.mu.Unlock()
		return
	}
	list := m.adopted
	m.adopted = nil
	m.mu.Unlock()
	m.log.Warn("streams of an earlier process end: no control plane has claimed them", "sessions", len(list))
	for _, plans := range list {
		for _, a := range plans {
			m.config.Engine.Remove(a.Key)
		}
	}
}

// claim takes the running plans of a session.
func (m *Manager) claim(session string) []fastpath.Adopted {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.adopted[session]
	delete(m.adopted, session)
	return list
}

// adopt takes over the running plans that fit the spec, and ends the others. The
// lock is held, and the spec is applied.
func (s *Session) adopt(now time.Time) {
	plans := s.node.claim(s.id)
	for _, a := range plans {
		s.relatch(a.Input, a.Key.Local, a.Key.Remote)
	}
	for _, a := range plans {
		s.relatch(a.Output, a.From, a.To)
	}
	for _, a := range plans {
		if s.adoptPlan(a, now) {
			continue
		}
		s.log.Info("a running stream does not fit the session", "stream", a.Input, "output", a.Output)
		if pos, ok := s.node.config.Engine.Remove(a.Key); ok {
			s.resumeAfter(a, pos)
		}
	}
}

// relatch makes the leg of a stream that has learned its far end's address on
// this port before keep to it.
func (s *Session) relatch(stream string, local, remote netip.AddrPort) {
	l, ok := s.legOf(stream).(*rtpLeg)
	if ok && !l.plan.strict && !l.latched.IsValid() && l.pair.RTP.Local() == local && l.plan.remote != remote {
		l.latched = remote
	}
}

func (s *Session) legOf(stream string) leg {
	i := slices.IndexFunc(s.plan.table.Streams, func(c forward.StreamConfig) bool { return c.ID == stream })
	if i < 0 {
		return nil
	}
	return s.legs[s.plan.table.Streams[i].Leg]
}

// fits answers the transforms of a plan's legs, if it is what the spec asks for.
func (s *Session) fits(a fastpath.Adopted) (in, out *srtp.Transform, ok bool) {
	input, output := s.legOf(a.Input), s.legOf(a.Output)
	if input == nil || output == nil {
		return nil, nil, false
	}
	from, _ := input.route(false)
	to, _ := output.route(false)
	return from.srtp, to.srtp, from.local == a.Key.Local && from.remote == a.Key.Remote && to.local == a.From && to.remote == a.To &&
		fingerprint(from.srtp, false) == a.In && fingerprint(to.srtp, true) == a.Out
}

func fingerprint(t *srtp.Transform, outgoing bool) fastpath.Fingerprint {
	if t == nil {
		return fastpath.Fingerprint{}
	}
	return crypto(t.Keys(), outgoing).Fingerprint()
}

func (s *Session) adoptPlan(a fastpath.Adopted, now time.Time) bool {
	in, out, ok := s.fits(a)
	if !ok || s.offloads[a.Input] != nil {
		return false
	}
	pos, ok := s.node.config.Engine.Position(a.Key)
	if !ok {
		return false
	}
	// Only the low bits of a sequence number mean anything outside.
	sequence := int64(1<<17 | pos.Index&0xffff)
	input, output := s.legOf(a.Input), s.legOf(a.Output)
	o := &offload{plan: a.Plan, in: in, out: out, sequence: sequence - int64(pos.Index), counted: pos.Counters,
		passed: s.node.metrics.offloaded(input, output)}
	o.plan.Start.Index = pos.Index
	p := s.progress(o, pos)
	m := forward.Mapping{
		Stream: a.Input, Leg: input.id(), Output: a.Output, OutputLeg: output.id(), Source: a.Key.SSRC, SSRC: a.SSRC,
		Sequence: sequence, Index: shift(pos.Index, a.IndexOffset), TimeOffset: a.TimeOffset, Clock: a.ClockRate, Payloads: a.Payloads,
		Time: pos.Timestamp, At: p.At,
	}
	if !s.table.Adopt(m, p, now) {
		return false
	}
	s.offloads[a.Input] = o
	s.resumeAfter(a, pos)
	if l, ok := input.(*rtpLeg); ok && !l.plan.strict {
		l.latched = a.Key.Remote
	}
	s.log.Debug("stream adopted", "stream", a.Input, "output", a.Output, "packets", pos.Packets)
	return true
}

// resumeAfter makes both legs go on from a position that is known exactly, where
// a checkpoint would only allow a guess.
func (s *Session) resumeAfter(a fastpath.Adopted, pos fastpath.Position) {
	in, out, _ := s.fits(a)
	if in != nil && fingerprint(in, false) == a.In {
		in.Restore(a.Key.SSRC, false, pos.Index)
	}
	if out != nil && fingerprint(out, true) == a.Out {
		index := shift(pos.Index, a.IndexOffset)
		out.Restore(a.SSRC, true, index)
		if s.offloads[a.Input] == nil {
			s.table.Resume(s.legOf(a.Output).id(), a.SSRC, index)
		}
	}
}
