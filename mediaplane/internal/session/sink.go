package session

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// emit publishes an event of the session. The lock is held, so that a session's
// events are in order.
func (s *Session) emit(e *mediav1.SessionEvent) {
	if !s.node.hub.watched() {
		return
	}
	e.Session = s.id
	e.Time = timestamppb.New(s.node.now())
	if s.plan != nil {
		e.Generation = s.plan.Generation
	}
	s.node.metrics.events.Inc()
	s.node.hub.publish(e)
}

// The methods below make Session the Sink of its table.

// SendRTP sends on a leg.
func (s *Session) SendRTP(leg string, packet []byte, ssrc uint32, index uint64) forward.SendResult {
	for _, l := range s.senders {
		if l.name == leg {
			return l.leg.sendRTP(packet, ssrc, index)
		}
	}
	return forward.NotReady
}

// SendRTCP sends on a leg.
func (s *Session) SendRTCP(leg string, packet []byte) {
	if l := s.legs[leg]; l != nil {
		l.sendRTCP(packet)
	}
}

// FirstPacket reports the first packet of a stream.
func (s *Session) FirstPacket(stream string, ssrc uint32, payloadType uint8) {
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_FirstPacket{FirstPacket: &mediav1.FirstPacket{
		Stream: stream, Ssrc: ssrc, PayloadType: uint32(payloadType), Source: socketAddress(s.source),
	}}})
}

// DTMF reports a digit.
func (s *Session) DTMF(stream string, digit byte, duration time.Duration) {
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_Dtmf{Dtmf: &mediav1.DTMF{
		Stream: stream, Digit: string(rune(digit)), Duration: durationpb.New(duration),
	}}})
}

// MediaTimeout reports a silent stream.
func (s *Session) MediaTimeout(stream string, silent time.Duration) {
	s.log.Info("media timeout", "stream", stream, "silent_for", silent)
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_MediaTimeout{MediaTimeout: &mediav1.MediaTimeout{
		Stream: stream, SilentFor: durationpb.New(silent),
	}}})
}

// MediaResumed reports that a silent stream is heard again.
func (s *Session) MediaResumed(stream string) {
	s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_MediaResumed{MediaResumed: &mediav1.MediaResumed{Stream: stream}}})
}
