package forward

import (
	"math/rand/v2"
	"slices"
	"time"
)

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

	player *player // of the tone
	dial   dialler
	// sending and receiving are the formats of the newest media.
	sending, receiving *Format

	// calm counts the media packets since the last disturbance.
	calm      int
	calmSince time.Time
	flaps     int
	loan      *loan
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
	ids     []string
	legs    []legStreams
	scratch []byte
	lent    int // mappings
	nextRTC time.Time
}

// legStreams are the streams of one leg. A session has few: looking through them
// is faster than a map.
type legStreams struct {
	leg     string
	streams []*Stream
}

// on lists the streams of a leg.
func (t *Table) on(leg string) []*Stream {
	for i := range t.legs {
		if t.legs[i].leg == leg {
			return t.legs[i].streams
		}
	}
	return nil
}

func (t *Table) put(leg string, s *Stream) {
	for i := range t.legs {
		if t.legs[i].leg == leg {
			t.legs[i].streams = append(t.legs[i].streams, s)
			return
		}
	}
	t.legs = append(t.legs, legStreams{leg, []*Stream{s}})
}

// New makes an empty table. random supplies SSRCs and the starts of sequences
// and timestamps; it must not be predictable (RFC 3550 section 5.1).
func New(sink Sink, random *rand.Rand) *Table {
	return &Table{sink: sink, rand: random, scratch: make([]byte, 0, 2048)}
}

// Apply makes the table as cfg says. Streams that stay keep their state.
func (t *Table) Apply(cfg Config, now time.Time) {
	t.ReclaimAll(now)
	t.timeout = cfg.MediaTimeout
	old := t.streams
	t.streams = make([]*Stream, 0, len(cfg.Streams))
	t.ids = make([]string, 0, len(cfg.Streams))
	t.legs = nil
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
		if s.player != nil && !s.player.tone.Equal(c.Tone) {
			s.player.end(t, s, now)
			s.player = nil
		}
		s.config = c
		s.formats = [128]*Format{}
		for j := range c.Formats {
			s.formats[c.Formats[j].PayloadType&0x7f] = &c.Formats[j]
		}
		if c.Tone != nil && s.player == nil {
			s.player = newPlayer(s, c.Tone, now)
		}
		s.links, s.fedBy = nil, nil
		t.streams, t.ids = append(t.streams, s), append(t.ids, c.ID)
		t.put(c.Leg, s)
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
	s := &Stream{quiet: now, calmSince: now}
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
	for _, s := range t.on(leg) {
		s.out.rekey()
	}
}

// Resume makes the streams of a leg that send with ssrc go on after index.
func (t *Table) Resume(leg string, ssrc uint32, index uint64) {
	for _, s := range t.on(leg) {
		if s.out.ssrc == ssrc {
			s.out.resume(index)
		}
	}
}

// Streams lists the IDs of the streams.
func (t *Table) Streams() []string { return t.ids }

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
		c.Incoming, c.Outgoing = s.quality()
		list[i] = State{ID: s.config.ID, Leg: s.config.Leg, SSRC: s.out.ssrc, Counters: c}
	}
	return list
}

// Outgoing lists the SSRCs that the streams of a leg send with, and the index
// that each has come to.
func (t *Table) Outgoing(leg string) map[uint32]uint64 {
	m := map[uint32]uint64{}
	for _, s := range t.on(leg) {
		m[s.out.ssrc] = s.out.index
	}
	return m
}
