package session

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// quality as a node tells it; nil while nothing is known.
func quality(q forward.Quality) *mediav1.MediaQuality {
	if q == (forward.Quality{}) {
		return nil
	}
	return &mediav1.MediaQuality{Mos: q.MOS, Rating: q.Rating, Loss: q.Loss, Jitter: durationpb.New(q.Jitter)}
}

// observe puts the quality of a session's streams into the metrics. The lock is
// held.
func (s *Session) observe() {
	m := s.node.metrics
	for _, st := range s.table.State() {
		kind := "rtp"
		if _, ok := s.legs[st.Leg].(*webrtcLeg); ok {
			kind = "webrtc"
		}
		for direction, q := range map[string]forward.Quality{"in": st.Counters.Incoming, "out": st.Counters.Outgoing} {
			if q.MOS > 0 {
				m.mos.WithLabelValues(direction, kind).Observe(q.MOS)
				m.loss.WithLabelValues(direction, kind).Observe(q.Loss)
			}
		}
	}
}
