package forward

import "time"

// Verdict is what became of a packet.
type Verdict uint8

// Verdicts.
const (
	// Forwarded to at least one output.
	Forwarded Verdict = iota
	// Held: valid, but the direction of the stream lets nothing in.
	Held
	// Unrouted: valid, but there is no rule for the stream, as before an answer.
	Unrouted
	// Withheld: valid, but no output takes it: not its payload type, or its
	// direction lets nothing out.
	Withheld
	// NoWay: valid, but no output's leg can send yet.
	NoWay
	// Malformed: no RTP, or no payload type of the leg's streams.
	Malformed
	// Doubtful: out of all order, and not confirmed by a second packet yet.
	Doubtful
	// Duplicate: it came before.
	Duplicate
)

// SendResult is what became of an outgoing packet.
type SendResult uint8

// SendResults.
const (
	// Sent to the network.
	Sent SendResult = iota
	// Dropped after its index was used.
	Dropped
	// NotReady: the leg cannot send yet, the index is still free.
	NotReady
)

// videoClock is the RTP clock of every video format, in Hz.
const videoClock = 90000

// stream finds what a packet on a leg belongs to: first by SSRC, then by payload
// type (RFC 8843 section 9.2).
func (t *Table) stream(leg string, h header) *Stream {
	streams := t.on(leg)
	for _, s := range streams {
		if s.in.active && s.in.ssrc == h.ssrc && s.accepts(h.payload) {
			return s
		}
	}
	for _, s := range streams {
		if s.accepts(h.payload) {
			return s
		}
	}
	return nil
}

func (s *Stream) accepts(payload uint8) bool {
	return len(s.config.Formats) == 0 || s.formats[payload] != nil
}

// Valid says whether a packet is RTP of one of the leg's streams.
func (t *Table) Valid(leg string, packet []byte) bool {
	h, ok := parse(packet)
	return ok && t.stream(leg, h) != nil
}

// Receive takes an RTP packet that arrived on a leg, and sends it on. The packet
// is not changed.
func (t *Table) Receive(leg string, packet []byte, now time.Time) Verdict {
	h, ok := parse(packet)
	var s *Stream
	if ok {
		s = t.stream(leg, h)
	}
	if s == nil {
		t.unknown(leg, h, ok, now)
		return Malformed
	}
	format := s.formats[h.payload]
	var event telephoneEvent
	isEvent := format != nil && format.Event()
	if isEvent {
		if event, ok = parseEvent(packet[h.start:h.end]); !ok {
			s.counters.Malformed++
			return Malformed
		}
	}

	if s.loan != nil && !s.keeps(h) {
		t.reclaim(s, now)
	}
	epoch, clockEpoch := s.in.epoch, s.in.clockEpoch
	ext, order := s.in.sequence(h)
	s.counters.ReceivedPackets++
	s.counters.ReceivedBytes += uint64(len(packet))
	if order == duplicate {
		s.counters.Replays++
		return Duplicate
	}
	s.counters.LastReceived = now
	s.quiet = now
	if s.timedOut {
		s.timedOut = false
		t.sink.MediaResumed(s.config.ID)
	}
	if !s.first {
		s.first = true
		t.sink.FirstPacket(s.config.ID, h.ssrc, h.payload)
	}
	if order != inOrder {
		s.disturb(now)
		return Doubtful
	}
	if format != nil && !isEvent {
		s.in.timing(h, ext, format.ClockRate, now)
		if !format.Noise() {
			s.receiving = format
		}
	}
	if s.loan != nil && s.in.clockEpoch != s.loan.clockEpoch {
		t.reclaim(s, now)
	}
	if isEvent || epoch != s.in.epoch || clockEpoch != s.in.clockEpoch {
		s.disturb(now)
	}
	if !s.config.Direction.receives() {
		s.counters.Gated++
		s.gate()
		return Held
	}
	if isEvent {
		s.events.take(h.time, event, format.ClockRate, now, func(digit byte, d time.Duration) {
			t.sink.DTMF(s.config.ID, digit, d)
		})
	}
	verdict := Unrouted
	for i, l := range s.links {
		if v := t.send(s, l, packet, h, ext, format, event, now); i == 0 || v == Forwarded {
			verdict = v
		}
	}
	if verdict != Forwarded {
		s.counters.Gated++
		s.disturb(now)
		return verdict
	}
	s.calm++
	return Forwarded
}

// unknown counts a packet that is for no stream. One of a known source has a
// place in its sequence all the same, which must not look like a loss.
func (t *Table) unknown(leg string, h header, isRTP bool, now time.Time) {
	streams := t.on(leg)
	if len(streams) == 0 {
		return
	}
	s := streams[0]
	if source := t.bySource(leg, h.ssrc); isRTP && source != nil {
		s = source
		t.reclaim(s, now)
		s.disturb(now)
		if ext, order := s.in.sequence(h); order == inOrder {
			for _, l := range s.links {
				l.to.out.skip(s, ext)
			}
		}
	}
	s.counters.Malformed++
}

// gate starts new mappings at the outputs: what is held back is no loss.
func (s *Stream) gate() {
	for _, l := range s.links {
		if l.to.out.input == s {
			l.to.out.forget()
		}
	}
}

func (t *Table) send(s *Stream, l *link, packet []byte, h header, ext int64, format *Format, event telephoneEvent, now time.Time) Verdict {
	o := &l.to.out
	payload := int16(h.payload)
	if !l.all {
		payload = l.payloads[h.payload]
	}
	if !l.to.config.Direction.sends() {
		o.forget()
		return Withheld
	}
	if payload < 0 {
		o.skip(s, ext)
		return Withheld
	}
	l.to.player.end(t, l.to, now)
	index, fresh, ok := o.position(s, ext)
	if !ok {
		return Withheld
	}

	b := append(t.scratch[:0], packet...)
	t.scratch = b
	marker := h.marker
	var ts uint32
	target := l.to.formats[payload]
	switch {
	case format != nil && format.Event():
		to := format.ClockRate
		if target != nil && target.Event() {
			to = target.ClockRate
		}
		var duration uint16
		ts, duration = o.eventTime(&s.in, h, event, format.ClockRate, to, now)
		putDuration(b[h.start:], duration)
	default:
		clock := s.in.clock
		if target != nil {
			clock = target.ClockRate
		}
		if clock == 0 {
			clock = 8000
		}
		ts = o.mediaTime(&s.in, h.time, clock, now)
		// A new mapping is a new talkspurt to a jitter buffer. In video the
		// marker ends a frame, and is the sender's alone.
		marker = marker || fresh && clock != videoClock
	}
	rewrite(b, marker, uint8(payload), uint16(index), ts, o.ssrc)

	switch t.deliver(l.to, b, len(b)-(h.end-h.start), index, ts, now) {
	case NotReady:
		o.forget()
		return NoWay
	case Dropped:
		return Withheld
	}
	if target != nil && !target.Event() && !target.Noise() {
		l.to.sending = target
	}
	return Forwarded
}

// deliver sends a packet of a stream, and counts it. overhead is what of it is no
// payload.
func (t *Table) deliver(s *Stream, b []byte, overhead int, index uint64, ts uint32, now time.Time) SendResult {
	result := t.sink.SendRTP(s.config.Leg, b, s.out.ssrc, index)
	if result == NotReady {
		return result
	}
	s.out.sent(index, ts, now)
	if result == Sent {
		s.counters.SentPackets++
		s.counters.SentBytes += uint64(len(b))
		s.reports.octets += uint32(len(b) - overhead)
		s.reports.packets++
	}
	return result
}

// Failure is why a packet did not reach Receive.
type Failure uint8

// Failures.
const (
	AuthFailure Failure = iota
	Replay
	ForeignSource
	// Garbage is no RTP at all.
	Garbage
)

// Count a packet of a leg that did not reach Receive. It is counted at the
// stream that it claims to belong to.
func (t *Table) Count(leg string, packet []byte, f Failure) {
	streams := t.on(leg)
	if len(streams) == 0 {
		return
	}
	s := streams[0]
	if h, ok := parse(packet); ok {
		if claimed := t.stream(leg, h); claimed != nil {
			s = claimed
		}
	}
	switch f {
	case AuthFailure:
		s.counters.AuthFailures++
	case Replay:
		s.counters.Replays++
	case Garbage:
		s.counters.Malformed++
	case ForeignSource:
		s.counters.ForeignSource++
	}
}
