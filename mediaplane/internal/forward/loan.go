package forward

import "time"

// A mapping that has settled can be lent: an engine outside the table forwards
// by it, until the table wants it back.
//
//	user space ──Settled, Lend──▶ lent ──Reclaim──▶ user space
//	                                └──Progress──┘
//
// The sequence numbers of the input are divided between the two at the floor of
// the loan: those up to it stay with the table, those beyond it are the engine's.
// So no packet is sent twice and none overtakes those that the table has still
// to read, and no two packets are sent with one index.
//
// Whatever would change a lent mapping takes it back first, through
// Sink.Reclaim: another source, a payload type that is not mapped, an event, a
// change of the table, of keys or of addresses.

const (
	// calmPackets of media must have passed undisturbed before a mapping counts
	// as settled.
	calmPackets = 5
	// A loan that did not last longLoan doubles the packets wanted before the
	// next, up to calmPackets<<maxFlaps.
	longLoan = 10 * time.Second
	maxFlaps = 6
	// leadTime is how far beyond the newest packet a loan begins, beside
	// leadPackets: longer than packets wait to be read.
	leadTime    = 60 * time.Millisecond
	leadPackets = 2
	maxLead     = 1024
	// lostJump is more than an engine can have sent since it was asked last.
	lostJump = 1 << 13
)

// Mapping is how the packets of one source become those of its one output.
type Mapping struct {
	Stream, Leg       string
	Output, OutputLeg string
	// Source is the SSRC that arrives, SSRC the one that is sent.
	Source, SSRC uint32
	// Sequence is the extended sequence number of the newest packet, Index the
	// one that it was sent with. Their difference is constant.
	Sequence int64
	Index    uint64
	// Lead is how many sequence numbers the table should keep for itself.
	Lead int64
	// TimeOffset is added to timestamps, which count in Clock Hz.
	TimeOffset uint32
	Clock      uint32
	// Payloads maps payload types; -1 leaves a packet to the table.
	Payloads [128]int16
	// Time is the timestamp of the newest packet, At when it came.
	Time uint32
	At   time.Time
	// Jitter so far.
	Jitter time.Duration
}

// Progress is how far a mapping has come since it was lent.
type Progress struct {
	// Sequence is the extended sequence number of the newest packet. It means
	// nothing while there are no Packets.
	Sequence int64
	// Packets and Bytes (headers and payload) of plain RTP; Octets of payload.
	Packets, Bytes, Octets uint64
	AuthFailures           uint64
	// Replays were dropped; Copies are those among them that arrived as plain
	// RTP.
	Replays, Copies uint64
	// Time is the timestamp of the newest packet, At when it came.
	Time uint32
	At   time.Time
	// Jitter of arrivals (RFC 3550 appendix A.8).
	Jitter time.Duration
	// Took says which sequence numbers came; asked for those near Sequence, once
	// the mapping is taken back.
	Took func(sequence int64) bool
	// Lost: it is not known any more how far the mapping has come; the rest is
	// what was known last.
	Lost bool
}

// loan of the mapping of a stream.
type loan struct {
	link       *link
	floor      int64
	clockEpoch uint64
	payloads   [128]int16
	since      time.Time
	last       Progress
}

// Settled answers the mapping of a stream with nothing left to do for the table,
// or in words why there is none.
func (t *Table) Settled(stream string, now time.Time) (Mapping, string) {
	s := t.byID(stream)
	switch {
	case s == nil:
		return Mapping{}, "no such stream"
	case s.loan != nil:
		return Mapping{}, "lent already"
	case len(s.links) == 0:
		return Mapping{}, "no rule forwards the stream"
	case len(s.links) > 1:
		return Mapping{}, "the stream goes to several outputs"
	case !s.config.Direction.receives():
		return Mapping{}, "the direction of the stream lets nothing in"
	case !s.links[0].to.config.Direction.sends():
		return Mapping{}, "the direction of the output lets nothing out"
	case !s.in.active:
		return Mapping{}, "no packet has come yet"
	case now.Sub(s.events.at) < eventSilence:
		return Mapping{}, "telephone-event in progress"
	}
	r, l := &s.in, s.links[0]
	o := &l.to.out
	switch {
	case l.to.dial.active:
		return Mapping{}, "digits are being sent"
	case l.to.player != nil && !l.to.player.ended:
		return Mapping{}, "a tone plays on the output"
	case s.calm < calmPackets<<s.flaps:
		return Mapping{}, "the source is settling"
	case o.input != s || o.epoch != r.epoch || !o.tsMapped || o.clockEpoch != r.clockEpoch || r.clock == 0 || o.clock != r.clock,
		o.index != uint64(r.highest+o.seqOffset), r.anchorEx != r.highest, r.probation.on:
		return Mapping{}, "the source is settling"
	}
	m := Mapping{
		Stream: s.config.ID, Leg: s.config.Leg, Output: l.to.config.ID, OutputLeg: l.to.config.Leg,
		Source: r.ssrc, SSRC: o.ssrc, Sequence: r.highest, Index: o.index, Lead: s.lead(),
		TimeOffset: o.tsOffset, Clock: r.clock, Payloads: s.lendable(l), Time: r.anchorTS, At: r.anchorAt,
		Jitter: r.jitterDuration(),
	}
	return m, ""
}

// lead is how many sequence numbers pass in leadTime.
func (s *Stream) lead() int64 {
	r := &s.in
	if r.frame == 0 {
		return leadPackets + int64(leadTime/(20*time.Millisecond))
	}
	frame := max(time.Millisecond, time.Duration(r.frame)*time.Second/time.Duration(r.clock))
	// A frame of video takes several packets.
	packets := int64(1)
	if span := r.anchorAt.Sub(s.calmSince); r.clock == videoClock && span > 0 {
		packets = max(1, int64(s.calm)*int64(frame)/int64(span))
	}
	return min(maxLead, leadPackets+packets*int64((leadTime+frame-1)/frame))
}

// lendable are the payload types whose packets need nothing but the rewriting of
// headers: media in the clock rate of the mapping.
func (s *Stream) lendable(l *link) [128]int16 {
	var payloads [128]int16
	for pt := range payloads {
		payloads[pt] = -1
		f := s.formats[pt]
		if f == nil || f.Event() || f.ClockRate != s.in.clock {
			continue
		}
		to := int16(pt)
		if !l.all {
			to = l.payloads[pt]
		}
		if to >= 0 && l.to.formats[to] != nil && l.to.formats[to].ClockRate != s.in.clock {
			continue
		}
		payloads[pt] = to
	}
	return payloads
}

// Lend gives the settled mapping of a stream away: packets beyond floor, an
// extended sequence number, are forwarded elsewhere from now on.
func (t *Table) Lend(m Mapping, floor int64, now time.Time) {
	s := t.byID(m.Stream)
	t.lent++
	s.loan = &loan{
		link: s.links[0], floor: floor, clockEpoch: s.in.clockEpoch, payloads: m.Payloads, since: now,
	}
}

// Lent says whether a packet that arrived on a leg is the engine's to forward,
// which left it to the table. It answers the stream then. The packet may still be
// protected by SRTP.
func (t *Table) Lent(leg string, packet []byte) (stream string, ok bool) {
	if t.lent == 0 {
		return "", false
	}
	for _, s := range t.on(leg) {
		if s.loan == nil {
			continue
		}
		if h, valid := parseHeader(packet); valid && t.stream(leg, h) == s && !s.keeps(h) {
			return s.config.ID, true
		}
	}
	return "", false
}

// keeps says whether a packet of a lent stream is one of those that stayed with
// the table, and does not disturb the mapping.
func (s *Stream) keeps(h header) bool {
	if h.ssrc != s.in.ssrc || s.loan.payloads[h.payload] < 0 {
		return false
	}
	delta := int64(int16(h.sequence - uint16(s.in.highest)))
	return delta >= -maxMisorder && s.in.highest+delta <= s.loan.floor
}

// Progress of a lent mapping.
func (t *Table) Progress(stream string, p Progress) {
	if s := t.byID(stream); s != nil && s.loan != nil {
		t.advance(s, p)
	}
}

// Reclaim takes the mapping of a stream back, if it is lent.
func (t *Table) Reclaim(stream string, now time.Time) {
	if s := t.byID(stream); s != nil {
		t.reclaim(s, now)
	}
}

// ReclaimLeg takes every mapping back that receives or sends on a leg.
func (t *Table) ReclaimLeg(leg string, now time.Time) {
	for _, s := range t.streams {
		if s.loan != nil && (s.config.Leg == leg || s.loan.link.to.config.Leg == leg) {
			t.reclaim(s, now)
		}
	}
}

// ReclaimAll takes every mapping back.
func (t *Table) ReclaimAll(now time.Time) {
	for _, s := range t.streams {
		t.reclaim(s, now)
	}
}

func (t *Table) reclaim(s *Stream, now time.Time) {
	if s.loan == nil {
		return
	}
	t.advance(s, t.sink.Reclaim(s.config.ID))
	s.flaps = min(s.flaps+1, maxFlaps)
	if now.Sub(s.loan.since) >= longLoan {
		s.flaps = 0
	}
	s.loan = nil
	t.lent--
	s.disturb(now)
}

// disturb makes a stream wait before its mapping counts as settled.
func (s *Stream) disturb(now time.Time) { s.calm, s.calmSince = 0, now }

// advance brings a stream and its output to where an engine has brought them.
func (t *Table) advance(s *Stream, p Progress) {
	l, to := s.loan, s.loan.link.to
	packets, bytes, octets := p.Packets-l.last.Packets, p.Bytes-l.last.Bytes, p.Octets-l.last.Octets
	s.counters.AuthFailures += p.AuthFailures - l.last.AuthFailures
	s.counters.Replays += p.Replays - l.last.Replays
	copies := p.Copies - l.last.Copies
	l.last = p
	s.counters.ReceivedPackets += copies
	s.in.received += int64(copies)
	if p.Lost {
		to.out.resume(to.out.index + lostJump)
	}
	if p.Packets > 0 {
		s.in.follow(l.floor, p)
	}
	if packets == 0 {
		return
	}
	s.counters.ReceivedPackets += packets
	s.counters.ReceivedBytes += bytes
	to.counters.SentPackets += packets
	to.counters.SentBytes += bytes
	to.reports.packets += uint32(packets)
	to.reports.octets += uint32(octets)
	s.in.received += int64(packets)
	s.in.jitter = p.Jitter.Seconds() * float64(s.in.clock)
	if p.At.After(s.quiet) {
		s.quiet, s.counters.LastReceived = p.At, p.At
	}
	if s.timedOut {
		s.timedOut = false
		t.sink.MediaResumed(s.config.ID)
	}
	if p.Sequence <= s.in.anchorEx {
		return
	}
	s.in.anchorTS, s.in.anchorAt, s.in.anchorEx = p.Time, p.At, p.Sequence
	o := &to.out
	o.sent(uint64(p.Sequence+o.seqOffset), p.Time+o.tsOffset, p.At)
}

// follow notes the sequence numbers beyond floor that an engine has taken.
func (r *reception) follow(floor int64, p Progress) {
	if p.Sequence > r.highest {
		r.raise(p.Sequence)
	}
	if p.Took == nil {
		return
	}
	for ext := max(floor+1, p.Sequence-seenWindow+1); ext <= p.Sequence; ext++ {
		if p.Took(ext) {
			r.mark(ext)
		}
	}
}

func (t *Table) byID(id string) *Stream {
	for _, s := range t.streams {
		if s.config.ID == id {
			return s
		}
	}
	return nil
}

// Adopt makes a mapping that was lent by an earlier process one of this table.
// It reports false, and changes nothing, when the table forwards otherwise.
func (t *Table) Adopt(m Mapping, p Progress, now time.Time) bool {
	s := t.byID(m.Stream)
	if s == nil || len(s.links) != 1 || s.links[0].to.config.ID != m.Output || s.in.active ||
		!s.config.Direction.receives() || !s.links[0].to.config.Direction.sends() {
		return false
	}
	l, r := s.links[0], &s.in
	o := &l.to.out
	r.clock = m.Clock
	if o.ssrc != m.SSRC || s.lendable(l) != m.Payloads {
		r.clock = 0
		return false
	}
	r.restart(header{ssrc: m.Source, sequence: uint16(m.Sequence)})
	r.base, r.highest, r.received = m.Sequence+1, m.Sequence, 0
	clear(r.seen[:])
	r.anchored, r.anchorTS, r.anchorAt, r.anchorEx = true, m.Time, m.At, m.Sequence
	o.input, o.epoch, o.clockEpoch, o.clock = s, r.epoch, r.clockEpoch, m.Clock
	o.seqOffset, o.base = int64(m.Index)-m.Sequence, r.base
	o.tsMapped, o.tsOffset = true, m.TimeOffset
	o.index, o.started, o.ts, o.at = m.Index, true, m.Time+m.TimeOffset, m.At
	s.first, s.quiet, s.counters.LastReceived = true, m.At, m.At
	t.Lend(m, m.Sequence, now)
	t.advance(s, p)
	// What was lost before is not known: the count begins here.
	r.received = 0
	return true
}
