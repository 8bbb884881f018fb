package forward

import "time"

const (
	// maxDropout and maxMisorder bound what counts as loss and as reordering
	// of one sequence (RFC 3550 appendix A.1).
	maxDropout  = 3000
	maxMisorder = 100
	// tsSlack is how far in time a timestamp may run away from the arrival
	// before it counts as a restart of the clock.
	tsSlack = 3 * time.Second
	// seenWindow is how many of the newest sequence numbers are remembered, to
	// drop what comes twice. It is more than maxMisorder.
	seenWindow = 512
	// defaultFrames is the packet rate assumed until two packets are known.
	defaultFrames = 50
)

// reception follows the source of a stream: which SSRC it is, where its sequence
// stands (RFC 3550 appendix A.1), how much was lost (A.3) and how much it jitters
// (A.8).
//
//	none ──first packet──▶ source ──other SSRC──▶ source (new epoch)
//
// The source before the present one, and a sequence number out of all order,
// have to show two packets in a row before they are believed: stragglers must
// not turn the stream back and forth.
type reception struct {
	active bool
	ssrc   uint32
	// epoch changes whenever sequence numbers start anew, clock epoch whenever
	// timestamps do.
	epoch, clockEpoch uint64

	base, highest int64
	received      int64
	// seen has a bit for each of the newest sequence numbers that came.
	seen       [seenWindow / 64]uint64
	lostBefore int64
	// totalBefore is what was expected of earlier sources.
	totalBefore int64
	ended       bool // BYE received

	previous    uint32
	hasPrevious bool
	// probation: the sequence number that would make a doubted packet credible.
	probation struct {
		on   bool
		ssrc uint32
		next uint16
	}

	// anchor is the newest media packet (not a telephone-event).
	anchored bool
	anchorTS uint32
	anchorAt time.Time
	anchorEx int64
	clock    uint32
	frame    uint32
	jitter   float64 // in timestamp units

	// For the interval of a receiver report.
	expectedPrior, receivedPrior int64

	lastSR   uint32 // middle 32 bits of its NTP time
	lastSRAt time.Time
}

// order is what a packet's sequence number says about it.
type order uint8

const (
	inOrder   order = iota // or late, but to be forwarded
	doubtful               // out of all order, and not confirmed yet
	duplicate              // came before
	before                 // older than the source's beginning
)

// sequence takes a packet's sequence number. ext is the extended one.
func (r *reception) sequence(h header) (ext int64, o order) {
	switch {
	case !r.active:
		return r.restart(h), inOrder
	case h.ssrc != r.ssrc:
		doubted := r.hasPrevious && h.ssrc == r.previous && !r.ended
		if doubted && !r.proved(h) {
			return 0, doubtful
		}
		return r.restart(h), inOrder
	}

	delta := int64(int16(h.sequence - uint16(r.highest)))
	if delta > maxDropout || delta < -maxMisorder {
		if !r.proved(h) {
			return 0, doubtful
		}
		return r.restart(h), inOrder
	}
	r.probation.on = false
	r.ended = false
	ext = r.highest + delta
	if ext > r.highest {
		r.raise(ext)
	} else if r.has(ext) {
		r.received++ // a copy makes up for a loss (RFC 3550 appendix A.3)
		return ext, duplicate
	}
	r.mark(ext)
	r.received++
	if ext < r.base {
		return ext, before
	}
	return ext, inOrder
}

// raise makes ext the highest sequence number; those that it passes are missing.
func (r *reception) raise(ext int64) {
	if ext-r.highest >= seenWindow {
		clear(r.seen[:])
	} else {
		for i := r.highest + 1; i <= ext; i++ {
			r.seen[i%seenWindow/64] &^= 1 << (i % 64)
		}
	}
	r.highest = ext
}

func (r *reception) has(ext int64) bool { return r.seen[ext%seenWindow/64]>>(ext%64)&1 == 1 }
func (r *reception) mark(ext int64)     { r.seen[ext%seenWindow/64] |= 1 << (ext % 64) }

func (r *reception) proved(h header) bool {
	p := &r.probation
	if p.on && p.ssrc == h.ssrc && p.next == h.sequence {
		return true
	}
	p.on, p.ssrc, p.next = true, h.ssrc, h.sequence+1
	return false
}

func (r *reception) restart(h header) int64 {
	if r.active {
		r.lostBefore += r.lost()
		r.totalBefore += r.highest - r.base + 1
		if h.ssrc != r.ssrc {
			r.previous, r.hasPrevious = r.ssrc, true
			r.lastSRAt = time.Time{}
		}
	}
	r.active, r.ended = true, false
	r.ssrc = h.ssrc
	r.epoch++
	r.clockEpoch++
	// One cycle of room, so that reordered packets stay positive.
	r.base = 1<<16 + int64(h.sequence)
	r.highest = r.base
	r.received = 1
	clear(r.seen[:])
	r.mark(r.base)
	r.expectedPrior, r.receivedPrior = 0, 0
	r.probation.on = false
	r.anchored = false
	r.jitter = 0
	return r.base
}

// timing takes the timestamp of a media packet. It starts a new clock epoch when
// the timestamp has nothing to do with those before.
func (r *reception) timing(h header, ext int64, clock uint32, now time.Time) {
	if r.clock != clock {
		// RFC 7160: another clock rate is another time line.
		if r.anchored {
			r.clockEpoch++
		}
		r.clock, r.anchored, r.jitter, r.frame = clock, false, 0, 0
	}
	if r.anchored {
		moved := time.Duration(int64(int32(h.time-r.anchorTS))) * time.Second / time.Duration(clock)
		elapsed := now.Sub(r.anchorAt)
		forward := ext > r.anchorEx
		if moved > elapsed+tsSlack || (forward && moved < -tsSlack) {
			r.clockEpoch++
			r.jitter = 0
		} else {
			d := elapsed.Seconds()*float64(clock) - float64(int32(h.time-r.anchorTS))
			if d < 0 {
				d = -d
			}
			if forward {
				r.jitter += (d - r.jitter) / 16
			}
			if ext == r.anchorEx+1 && moved > 0 && moved <= 200*time.Millisecond {
				r.frame = h.time - r.anchorTS
			}
		}
		if !forward {
			return
		}
	}
	r.anchored, r.anchorTS, r.anchorAt, r.anchorEx = true, h.time, now, ext
}

// onMediaClock says whether the timestamp of a telephone-event lies on the time
// line of the media packets around it, as RFC 4733 section 2.2.1 wants.
func (r *reception) onMediaClock(ts uint32, now time.Time) bool {
	if !r.anchored || r.clock == 0 {
		return false
	}
	moved := time.Duration(int64(int32(ts-r.anchorTS))) * time.Second / time.Duration(r.clock)
	return moved > -time.Second && moved < now.Sub(r.anchorAt)+time.Second
}

// lost since the present source began; negative when packets were duplicated.
func (r *reception) lost() int64 {
	if !r.active {
		return 0
	}
	return r.highest - r.base + 1 - r.received
}

// total packets expected of all sources.
func (r *reception) total() int64 {
	if !r.active {
		return r.totalBefore
	}
	return r.totalBefore + r.highest - r.base + 1
}

func (r *reception) totalLost() int64 { return r.lostBefore + r.lost() }

func (r *reception) jitterDuration() time.Duration {
	if r.clock == 0 {
		return 0
	}
	return time.Duration(r.jitter / float64(r.clock) * float64(time.Second))
}

// extended is the highest sequence number as a report shows it: with the cycles
// counted since the source began.
func (r *reception) extended(ext int64) uint32 { return uint32(ext - 1<<16) }

// fraction is the share of packets lost since it was asked last, in 1/256.
func (r *reception) fraction() uint8 {
	expected := r.highest - r.base + 1
	expectedInterval := expected - r.expectedPrior
	lostInterval := expectedInterval - (r.received - r.receivedPrior)
	r.expectedPrior, r.receivedPrior = expected, r.received
	if expectedInterval <= 0 || lostInterval <= 0 {
		return 0
	}
	return uint8(min(255, lostInterval*256/expectedInterval))
}
