package forward

import (
	"encoding/binary"
	"time"
)

// telephoneEvent is the payload of RFC 4733 section 2.3.
type telephoneEvent struct {
	code     uint8
	end      bool
	duration uint16
}

func parseEvent(payload []byte) (telephoneEvent, bool) {
	if len(payload) < 4 {
		return telephoneEvent{}, false
	}
	return telephoneEvent{
		code:     payload[0],
		end:      payload[1]&0x80 != 0,
		duration: binary.BigEndian.Uint16(payload[2:]),
	}, true
}

func putDuration(payload []byte, duration uint16) {
	binary.BigEndian.PutUint16(payload[2:], duration)
}

// Digits of the events 0 to 15, in their order (RFC 4733 section 3.2).
const Digits = "0123456789*#ABCD"

// eventSilence ends an event whose end packets were all lost.
const eventSilence = 300 * time.Millisecond

// eventDetector makes one report of the packets of each event. The end packet
// is sent three times, and may be the only one that arrives.
type eventDetector struct {
	active   bool
	reported bool
	code     uint8
	ts       uint32
	before   uint32
	duration uint16
	clock    uint32
	at       time.Time
}

// take a packet of an event; report is called for completed digits.
func (d *eventDetector) take(ts uint32, e telephoneEvent, clock uint32, now time.Time, report func(byte, time.Duration)) {
	switch {
	case d.active && d.ts == ts && d.code == e.code:
	case d.active && !d.reported && d.code == e.code && ts-d.ts == uint32(d.duration) && d.duration != 0:
		d.before += uint32(d.duration)
		d.ts, d.duration = ts, 0
	case d.active && int32(ts-d.ts) < 0 && now.Sub(d.at) < eventSilence:
		return // a straggler of an earlier event
	default:
		d.finish(report)
		*d = eventDetector{active: true, code: e.code, ts: ts, clock: clock}
	}
	d.at = now
	d.duration = max(d.duration, e.duration)
	if e.end {
		d.finish(report)
	}
}

// expire completes an event that has gone silent.
func (d *eventDetector) expire(now time.Time, report func(byte, time.Duration)) {
	if d.active && !d.reported && now.Sub(d.at) >= eventSilence {
		d.finish(report)
	}
}

func (d *eventDetector) finish(report func(byte, time.Duration)) {
	if !d.active || d.reported {
		return
	}
	d.reported = true
	if int(d.code) >= len(Digits) || d.clock == 0 {
		return
	}
	units := time.Duration(d.before + uint32(d.duration))
	report(Digits[d.code], units*time.Second/time.Duration(d.clock))
}
