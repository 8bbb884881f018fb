package forward

import "time"

// sender owns the outgoing side of a stream: one SSRC whose sequence numbers and
// timestamps go on whatever is put through it.
type sender struct {
	ssrc    uint32
	started bool
	// index is the 48-bit packet index of the newest packet, ts its timestamp,
	// at the moment when this timestamp was first sent.
	index uint64
	ts    uint32
	at    time.Time

	// The mapping in force: from which input, and since which of its epochs.
	input      *Stream
	epoch      uint64
	clockEpoch uint64
	seqOffset  int64
	base       int64
	tsMapped   bool
	tsOffset   uint32
	clock      uint32

	event eventMapping
}

// eventMapping keeps the packets of one telephone-event on one timestamp.
type eventMapping struct {
	active bool
	code   uint8
	in     uint32 // timestamp of the segment that is arriving
	out    uint32
	before uint32 // duration of earlier segments, in input units
	last   uint16 // duration of this segment so far
}

// resume makes the next packet follow index.
func (o *sender) resume(index uint64) {
	o.index, o.started = index, true
	o.forget()
}

// rekey starts the rollover counter anew, as both sides do with fresh keys
// (RFC 3711 section 3.3.1).
func (o *sender) rekey() {
	o.index &= 0xffff
	o.forget()
}

// skip closes the gap that a packet of the mapping in force would leave which is
// not for this output.
func (o *sender) skip(in *Stream, ext int64) {
	if o.input != in || o.epoch != in.in.epoch || ext+o.seqOffset <= int64(o.index) {
		return
	}
	o.seqOffset--
	o.base = ext + 1
}

// forget drops the mapping: the next packet starts a new one.
func (o *sender) forget() { o.input = nil }

// insert makes room for a packet of the node's own that was sent between those of
// the mapping in force: they come one number later.
func (o *sender) insert() {
	if o.input == nil {
		return
	}
	o.seqOffset++
	o.base = o.input.in.highest + 1
}

// position maps a packet's extended sequence number to an outgoing index. fresh
// is true for the first packet of a mapping, ok false for packets that belong
// before it.
func (o *sender) position(in *Stream, ext int64) (index uint64, fresh, ok bool) {
	r := &in.in
	if o.input != in || o.epoch != r.epoch {
		o.input, o.epoch, o.base = in, r.epoch, ext
		o.clockEpoch, o.tsMapped = r.clockEpoch, false
		o.event.active = false
		o.seqOffset = int64(o.index+1) - ext
		fresh = true
	}
	if ext < o.base {
		return 0, false, false
	}
	return uint64(ext + o.seqOffset), fresh, true
}

// mediaTime maps the timestamp of a media packet with an outgoing clock rate.
func (o *sender) mediaTime(r *reception, ts uint32, clock uint32, now time.Time) uint32 {
	if !o.tsMapped || o.clockEpoch != r.clockEpoch || o.clock != clock {
		o.tsOffset = o.follow(clock, r.frame, now) - ts
		o.tsMapped, o.clockEpoch, o.clock = true, r.clockEpoch, clock
	}
	return ts + o.tsOffset
}

// follow is the timestamp that goes on from the newest one by the time that has
// passed, by one frame at least.
func (o *sender) follow(clock, frame uint32, now time.Time) uint32 {
	if o.at.IsZero() {
		return o.ts
	}
	if frame == 0 {
		frame = clock / defaultFrames
	}
	passed := uint32(max(0, now.Sub(o.at)).Seconds() * float64(clock))
	return o.ts + max(passed, frame)
}

// sent notes a packet that went out.
func (o *sender) sent(index uint64, ts uint32, now time.Time) {
	if index <= o.index && o.started {
		return
	}
	if o.at.IsZero() || int32(ts-o.ts) > 0 {
		o.ts, o.at = ts, now
	}
	o.index, o.started = index, true
}

// eventTime maps the timestamp and duration of a telephone-event packet.
//
// Senders disagree about its clock when the event's format and the media's have
// different rates: RFC 4733 puts both on one time line, and so do browsers, which
// stamp events of the 8 kHz format with the 48 kHz time of Opus; others count in
// the event's own rate. A timestamp that fits the media's time line is mapped as
// media; any other is placed by the time of its arrival.
func (o *sender) eventTime(r *reception, h header, e telephoneEvent, from, to uint32, now time.Time) (ts uint32, duration uint16) {
	m := &o.event
	switch {
	case m.active && m.in == h.time && m.code == e.code:
	case m.active && from != to && m.code == e.code && h.time-m.in == uint32(m.last):
		// The next segment of a long event (RFC 4733 section 2.5.1.3). In
		// another clock rate segments end elsewhere, so that they become one.
		m.before += uint32(m.last)
		m.in = h.time
	default:
		*m = eventMapping{active: true, code: e.code, in: h.time}
		if o.tsMapped && o.clockEpoch == r.clockEpoch && r.onMediaClock(h.time, now) {
			m.out = h.time + o.tsOffset
		} else {
			clock := o.clock
			if clock == 0 {
				clock = to
			}
			m.out = o.follow(clock, r.frame, now)
		}
	}
	m.last = e.duration
	if from == to {
		return m.out, e.duration
	}
	// An event that is too long for 16 bits in the outgoing rate stays at the
	// largest duration: one long digit rather than several short ones.
	total := (uint64(m.before) + uint64(e.duration)) * uint64(to) / uint64(from)
	return m.out, uint16(min(total, 0xffff))
}
