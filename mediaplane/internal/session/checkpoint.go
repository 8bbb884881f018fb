package session

import (
	"net/netip"
	"slices"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// checkpoint is what a leg has reported last of its association.
type checkpoint struct {
	sources []srtp.Source
	joined  uint64 // watchers that had come by then
}

// report tells watchers what another node would need to go on with a leg, if it
// is news to one of them. The session's lock is held.
func (c *checkpoint) report(s *Session, leg string, t *srtp.Transform, remote netip.AddrPort, force bool) {
	if !s.node.hub.watched() {
		return
	}
	sources := t.Sources()
	outgoing := s.table.Outgoing(leg)
	for _, src := range sources {
		if src.Outgoing {
			delete(outgoing, src.SSRC)
		}
	}
	for ssrc, index := range outgoing {
		sources = append(sources, srtp.Source{SSRC: ssrc, Outgoing: true, Index: index, RTCPIndex: t.RTCPIndex(ssrc)})
	}
	slices.SortFunc(sources, func(a, b srtp.Source) int { return int(int64(a.SSRC) - int64(b.SSRC)) })
	joined := s.node.hub.joined.Load()
	if !force && joined == c.joined && slices.Equal(sources, c.sources) {
		return
	}
	c.sources, c.joined = sources, joined
	keys := t.Keys()
	state := &mediav1.SRTPState{Profile: profileTo(keys.Profile), LocalMaster: keys.Local, RemoteMaster: keys.Remote}
	for _, src := range sources {
		state.Sources = append(state.Sources, &mediav1.SRTPSource{
			Ssrc: src.SSRC, Outgoing: src.Outgoing, RolloverCounter: uint32(src.Index >> 16),
			LastSequence: uint32(src.Index & 0xffff), RtcpIndex: src.RTCPIndex,
		})
	}
	report := &mediav1.Checkpoint{Leg: leg, Srtp: state}
	if remote.IsValid() {
		report.Remote = socketAddress(remote)
	}
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_Checkpoint{Checkpoint: report}})
}

// resume makes the streams of a leg go on where the SSRCs that they send with were
// left: by another node, or by a stream that a spec took away and another one
// brings back. The table must have the leg's streams by now.
func (s *Session) resume(leg string, t *srtp.Transform) {
	if t == nil {
		return
	}
	for ssrc, at := range s.table.Outgoing(leg) {
		if index, ok := t.Resume(ssrc); ok && index != at {
			s.table.Resume(leg, ssrc, index)
		}
	}
}
