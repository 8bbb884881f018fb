package forward

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Verdict is what became of a packet.
type Verdict uint8

// Verdicts.
const (
	// Forwarded to at least one output.
	Forwarded Verdict = iota
	// Gated: valid, but the direction or the rules forward none.
	Gated
	// Malformed: no RTP, or no payload type of the leg's streams.
	Malformed
	// Doubtful: out of all order, and not confirmed by a second packet yet.
	Doubtful
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

// Stream is one stream of the table.
type Stream struct {
	config   StreamConfig
	formats  [128]*Format
	in       reception
	out      sender
	links    []*link
	fedBy    *Stream
	counters Counters
	events   eventDetector

	first    bool
	quiet    time.Time // media timeout counts from here
	timedOut bool

	reports reports
}

// link is one output of a rule.
type link struct {
	to       *Stream
	all      bool
	payloads [128]int16 // -1: not sent
}

// Table is the forwarding table of one session.
type Table struct {
	sink    Sink
	rand    *rand.Rand
	timeout time.Duration
	streams []*Stream
	byLeg   map[string][]*Stream
	scratch []byte
	nextRTC time.Time
}

// New makes an empty table. random supplies SSRCs and the starts of sequences
// and timestamps; it must not be predictable (RFC 3550 section 5.1).
func New(sink Sink, random *rand.Rand) *Table {
	return &Table{sink: sink, rand: random, byLeg: map[string][]*Stream{}, scratch: make([]byte, 0, 2048)}
}

// Apply makes the table as cfg says. Streams that stay keep their state.
func (t *Table) Apply(cfg Config, now time.Time) {
	t.timeout = cfg.MediaTimeout
	old := t.streams
	t.streams = make([]*Stream, 0, len(cfg.Streams))
	clear(t.byLeg)
	byID := make(map[string]*Stream, len(cfg.Streams))
	for _, c := range cfg.Streams {
		i := slices.IndexFunc(old, func(s *Stream) bool { return s.config.ID == c.ID && s.config.Leg == c.Leg })
		var s *Stream
		if i >= 0 {
			s = old[i]
			if !s.config.Direction.receives() && c.Direction.receives() {
				s.quiet, s.timedOut = now, false
			}
		} else {
			s = t.newStream(c, now)
		}
		c.SSRC = s.out.ssrc
		s.config = c
		s.formats = [128]*Format{}
		for j := range c.Formats {
			s.formats[c.Formats[j].PayloadType&0x7f] = &c.Formats[j]
		}
		s.links, s.fedBy = nil, nil
		t.streams = append(t.streams, s)
		t.byLeg[c.Leg] = append(t.byLeg[c.Leg], s)
		byID[c.ID] = s
	}
	for _, r := range cfg.Rules {
		in := byID[r.Input]
		for _, o := range r.Outputs {
			to := byID[o.Stream]
			if in == nil || to == nil {
				continue
			}
			l := &link{to: to, all: len(o.Payloads) == 0}
			for i := range l.payloads {
				l.payloads[i] = -1
			}
			for _, p := range o.Payloads {
				l.payloads[p.From&0x7f] = int16(p.To & 0x7f)
			}
			in.links = append(in.links, l)
			to.fedBy = in
		}
	}
	if t.nextRTC.IsZero() {
		t.nextRTC = now.Add(reportInterval)
	}
}

func (t *Table) newStream(c StreamConfig, now time.Time) *Stream {
	s := &Stream{quiet: now}
	s.out.ssrc = c.SSRC
	for s.out.ssrc == 0 {
		s.out.ssrc = t.rand.Uint32()
	}
	// Below 2^15, so that losing the first packets cannot make the peer guess
	// a wrong rollover counter (RFC 3711 section 3.3.1).
	s.out.index = uint64(t.rand.Uint32N(1 << 15))
	s.out.ts = t.rand.Uint32()
	s.reports.started = now
	return s
}

// stream finds what a packet on a leg belongs to: first by SSRC, then by payload
// type (RFC 8843 section 9.2).
func (t *Table) stream(leg string, h header) *Stream {
	streams := t.byLeg[leg]
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
		t.unknown(leg, h, ok)
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

	s.counters.ReceivedPackets++
	s.counters.ReceivedBytes += uint64(len(packet))
	s.counters.LastReceived = now
	s.quiet = now
	if s.timedOut {
		s.timedOut = false
		t.sink.MediaResumed(s.config.ID)
	}
	ext, ok := s.in.sequence(h)
	if !s.first {
		s.first = true
		t.sink.FirstPacket(s.config.ID, h.ssrc, h.payload)
	}
	if !ok {
		return Doubtful
	}
	if format != nil && !isEvent {
		s.in.timing(h, ext, format.ClockRate, now)
	}
	if !s.config.Direction.receives() {
		s.counters.Gated++
		s.gate()
		return Gated
	}
	if isEvent {
		s.events.take(h.time, event, format.ClockRate, now, func(digit byte, d time.Duration) {
			t.sink.DTMF(s.config.ID, digit, d)
		})
	}
	verdict := Gated
	for _, l := range s.links {
		if t.send(s, l, packet, h, ext, format, event, now) {
			verdict = Forwarded
		}
	}
	if verdict == Gated {
		s.counters.Gated++
	}
	return verdict
}

// unknown counts a packet that is for no stream. One of a known source has a
// place in its sequence all the same, which must not look like a loss.
func (t *Table) unknown(leg string, h header, isRTP bool) {
	streams := t.byLeg[leg]
	if len(streams) == 0 {
		return
	}
	s := streams[0]
	if source := t.bySource(leg, h.ssrc); isRTP && source != nil {
		s = source
		if ext, ok := s.in.sequence(h); ok {
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

func (t *Table) send(s *Stream, l *link, packet []byte, h header, ext int64, format *Format, event telephoneEvent, now time.Time) bool {
	o := &l.to.out
	payload := int16(h.payload)
	if !l.all {
		payload = l.payloads[h.payload]
	}
	if !l.to.config.Direction.sends() {
		o.forget()
		return false
	}
	if payload < 0 {
		o.skip(s, ext)
		return false
	}
	index, fresh, ok := o.position(s, ext)
	if !ok {
		return false
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

	switch t.sink.SendRTP(l.to.config.Leg, b, o.ssrc, index) {
	case NotReady:
		o.forget()
		return false
	case Dropped:
		o.sent(index, ts, now)
		return false
	}
	o.sent(index, ts, now)
	l.to.counters.SentPackets++
	l.to.counters.SentBytes += uint64(len(b))
	l.to.reports.octets += uint32(h.end - h.start)
	l.to.reports.packets++
	return true
}

// Tick does what time brings: media timeouts, events without an end, reports.
func (t *Table) Tick(now time.Time) {
	for _, s := range t.streams {
		s.events.expire(now, func(digit byte, d time.Duration) { t.sink.DTMF(s.config.ID, digit, d) })
		if silent := now.Sub(s.quiet); t.timeout > 0 && !s.timedOut && s.config.Direction.receives() && silent >= t.timeout {
			s.timedOut = true
			t.sink.MediaTimeout(s.config.ID, silent)
		}
	}
	if now.Before(t.nextRTC) {
		return
	}
	// Half to one and a half times the interval (RFC 3550 section 6.3.1).
	t.nextRTC = now.Add(reportInterval/2 + time.Duration(t.rand.Int64N(int64(reportInterval))))
	for _, s := range t.streams {
		t.report(s, now)
	}
}

// Rekey tells that a leg has fresh SRTP keys.
func (t *Table) Rekey(leg string) {
	for _, s := range t.byLeg[leg] {
		s.out.rekey()
	}
}

// Resume makes the streams of a leg that send with ssrc go on after index.
func (t *Table) Resume(leg string, ssrc uint32, index uint64) {
	for _, s := range t.byLeg[leg] {
		if s.out.ssrc == ssrc {
			s.out.resume(index)
		}
	}
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
	streams := t.byLeg[leg]
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

// State is what a stream reports of itself.
type State struct {
	ID, Leg  string
	SSRC     uint32
	Counters Counters
}

// State of every stream.
func (t *Table) State() []State {
	list := make([]State, len(t.streams))
	for i, s := range t.streams {
		c := s.counters
		c.Lost = s.in.totalLost()
		c.Jitter = s.in.jitterDuration()
		list[i] = State{ID: s.config.ID, Leg: s.config.Leg, SSRC: s.out.ssrc, Counters: c}
	}
	return list
}

// Outgoing lists the SSRCs that the streams of a leg send with, and the index
// that each has come to.
func (t *Table) Outgoing(leg string) map[uint32]uint64 {
	m := map[uint32]uint64{}
	for _, s := range t.byLeg[leg] {
		m[s.out.ssrc] = s.out.index
	}
	return m
}
