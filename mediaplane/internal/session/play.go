package session

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Errors of SendDTMF, beside *FieldError and *StaleError.
var (
	ErrNoSession = errors.New("the node has no such session")
	ErrDTMF      = errors.New("the digits cannot be sent")
)

const (
	maxSegments    = 16
	maxFrequencies = 4
	maxDigits      = 64
)

// play sends what is due of tones and digits, and comes back when there is more.
// The session's lock is held.
func (s *Session) play() {
	if s.player != nil {
		s.player.Stop()
		s.player = nil
	}
	if s.removed || s.plan == nil {
		return
	}
	now := s.node.now()
	next := s.table.Play(now)
	if next.IsZero() {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(next.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.player == timer {
			s.play()
		}
	})
	s.player = timer
}

// SendDTMF sends digits on a stream of a session as telephone-events. Its errors
// are *FieldError, *StaleError, ErrNoSession, or wrap ErrDTMF.
func (m *Manager) SendDTMF(id string, epoch uint64, stream string, digits []*mediav1.Digit) error {
	list := make([]forward.Digit, len(digits))
	c := &checker{}
	if len(digits) < 1 || len(digits) > maxDigits {
		c.fail("digits", "%d, must be 1 to %d", len(digits), maxDigits)
	}
	for i, d := range digits {
		field := fmt.Sprintf("digits[%d]", i)
		if len(d.GetDigit()) != 1 || !strings.Contains(forward.Digits, d.GetDigit()) {
			c.fail(field+".digit", "%q is none of %s", d.GetDigit(), forward.Digits)
			continue
		}
		list[i] = forward.Digit{Digit: d.GetDigit()[0], Duration: c.duration(field+".duration", d.GetDuration())}
	}
	if c.err != nil {
		return c.err
	}
	m.mu.Lock()
	s := m.sessions[id]
	m.mu.Unlock()
	if s == nil {
		return ErrNoSession
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.plan == nil || s.removed:
		return ErrNoSession
	case epoch < s.plan.Epoch:
		return &StaleError{s.plan.Epoch, s.plan.Generation}
	}
	if err := s.table.Dial(stream, list, m.now()); err != nil {
		return fmt.Errorf("%w: %w", ErrDTMF, err)
	}
	s.play()
	return nil
}

// tone checks what a stream is to play.
func (c *checker) tone(field string, s *mediav1.Stream) *forward.Tone {
	t := s.GetTone()
	if t == nil {
		return nil
	}
	f := format(s, t.GetPayloadType())
	if f == nil || f.GetClockRate() != 8000 || !strings.EqualFold(f.GetEncoding(), "PCMU") && !strings.EqualFold(f.GetEncoding(), "PCMA") {
		c.fail(field+".payload_type", "%d is no PCMU or PCMA format of the stream", t.GetPayloadType())
	}
	if n := len(t.GetSegments()); n < 1 || n > maxSegments {
		c.fail(field+".segments", "%d, must be 1 to %d", n, maxSegments)
	}
	tone := &forward.Tone{PayloadType: uint8(t.GetPayloadType())}
	for i, g := range t.GetSegments() {
		at := fmt.Sprintf("%s.segments[%d]", field, i)
		segment := forward.ToneSegment{Hz: g.GetFrequencies(), Duration: c.duration(at+".duration", g.GetDuration())}
		if segment.Duration < 10*time.Millisecond || segment.Duration > time.Minute {
			c.fail(at+".duration", "%s, must be 10ms to 60s", segment.Duration)
		}
		if len(segment.Hz) > maxFrequencies {
			c.fail(at+".frequencies", "%d, at most %d", len(segment.Hz), maxFrequencies)
		}
		for _, hz := range segment.Hz {
			if !(hz >= 20 && hz <= 3400) {
				c.fail(at+".frequencies", "%g Hz, must be 20 to 3400", hz)
			}
		}
		tone.Segments = append(tone.Segments, segment)
	}
	return tone
}
