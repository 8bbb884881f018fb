package forward

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	// dialStep between the packets of an event (RFC 4733 section 2.5.1.2).
	dialStep = 20 * time.Millisecond
	// dialGap between two digits; receivers need some to tell them apart.
	dialGap = 60 * time.Millisecond
	// dialEnds is how often the end of an event is sent (section 2.5.1.4).
	dialEnds = 3
	// dialVolume is the power level in dBm0 without its sign (section 2.3.4).
	dialVolume = 10
	// maxDialled digits wait at a time.
	maxDialled = 64
	// shortestDigit and longestDigit bound the durations that are played.
	shortestDigit = 40 * time.Millisecond
	longestDigit  = 5 * time.Second
)

// Digit is one to be sent as telephone-event.
type Digit struct {
	// Digit is one of 0-9 * # A-D.
	Digit    byte
	Duration time.Duration
}

// dialler sends digits on a stream as telephone-events, between the packets of
// media that are forwarded there: they keep their order and get one number later
// for each packet of an event.
type dialler struct {
	waiting []Digit
	next    time.Time

	active   bool
	code     byte
	format   Format
	ts       uint32
	duration uint32 // of the event, in units of the clock
	sent     uint32
	ends     int
}

// Dial queues digits. It fails when the stream has no telephone-event or too many
// digits wait.
func (t *Table) Dial(stream string, digits []Digit, now time.Time) error {
	s := t.byID(stream)
	switch {
	case s == nil:
		return fmt.Errorf("there is no stream %q", stream)
	case s.eventFormat() == nil:
		return fmt.Errorf("stream %q has no telephone-event", stream)
	case len(s.dial.waiting)+len(digits) > maxDialled:
		return fmt.Errorf("more than %d digits wait to be sent", maxDialled)
	}
	for _, d := range digits {
		if strings.IndexByte(Digits, d.Digit) < 0 {
			return fmt.Errorf("%q is no digit", d.Digit)
		}
	}
	if !s.dial.active && len(s.dial.waiting) == 0 && s.dial.next.Before(now) {
		s.dial.next = now
	}
	s.dial.waiting = append(s.dial.waiting, digits...)
	return nil
}

// eventFormat is the telephone-event to send: at the clock of the media if there
// is one (RFC 4733 section 2.1), else the first.
func (s *Stream) eventFormat() *Format {
	var first *Format
	for i, f := range s.config.Formats {
		if !f.Event() {
			continue
		}
		if f.ClockRate == s.out.clock {
			return &s.config.Formats[i]
		}
		if first == nil {
			first = &s.config.Formats[i]
		}
	}
	return first
}

// play sends the packets that are due.
func (d *dialler) play(t *Table, s *Stream, now time.Time) time.Time {
	if now.Sub(d.next) > catchUp {
		d.next = now
	}
	for d.active || len(d.waiting) > 0 {
		if d.next.After(now) {
			return d.next
		}
		if !d.active {
			d.begin(s, now)
		}
		d.packet(t, s, now)
		d.next = d.next.Add(dialStep)
		if d.ends == dialEnds {
			d.active = false
			d.next = d.next.Add(dialGap)
		}
	}
	return time.Time{}
}

func (d *dialler) begin(s *Stream, now time.Time) {
	digit := d.waiting[0]
	d.waiting = d.waiting[1:]
	f := s.eventFormat()
	if f == nil { // the formats changed meanwhile
		d.waiting = nil
		return
	}
	clock := f.ClockRate
	length := min(max(digit.Duration, shortestDigit), longestDigit)
	*d = dialler{
		waiting: d.waiting, next: d.next, active: true, code: byte(strings.IndexByte(Digits, digit.Digit)), format: *f,
		ts:       s.out.follow(clock, clock/defaultFrames, now),
		duration: min(0xffff, uint32(length*time.Duration(clock)/time.Second)),
	}
}

// packet sends one packet of the event. While the leg cannot send, time goes on
// all the same.
func (d *dialler) packet(t *Table, s *Stream, now time.Time) {
	if !d.active || !s.config.Direction.sends() {
		d.active = false
		return
	}
	first := d.sent == 0
	d.sent = min(d.duration, d.sent+d.format.ClockRate/defaultFrames)
	flags := byte(dialVolume)
	if d.sent == d.duration {
		flags |= 0x80
		d.ends++
	}
	if s.fedBy != nil {
		t.reclaim(s.fedBy, now)
		s.fedBy.disturb(now)
	}
	o := &s.out
	b := append(t.scratch[:0], 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, d.code, flags, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(d.sent))
	t.scratch = b
	index := o.index + 1
	rewrite(b, first, d.format.PayloadType, uint16(index), d.ts, o.ssrc)
	if t.deliver(s, b, minHeader, index, o.ts, now) != NotReady {
		o.insert()
	}
}
