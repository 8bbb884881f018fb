// Package histogram counts durations in buckets that grow with them, 32 for each
// power of two, so that every value is known to 3 %. The layout is also that of
// the counters which the packet generator keeps in the kernel.
package histogram

import (
	"math"
	"math/bits"
	"time"
)

// Buckets is how many there are. The last holds everything from 2^36 ns (69 s).
const Buckets = 1024

// Histogram of durations. The zero value is empty and ready.
type Histogram struct {
	Counts [Buckets]uint64
	sum    float64
}

// Bucket that a duration falls into; negative ones count as none.
func Bucket(d time.Duration) int {
	if d < 32 {
		return int(max(d, 0))
	}
	if d>>36 != 0 {
		return Buckets - 1
	}
	e := bits.Len64(uint64(d)) - 6
	return (e+1)<<5 + int(uint64(d)>>e&31)
}

// Middle of a bucket.
func Middle(bucket int) time.Duration {
	if bucket < 64 {
		return time.Duration(bucket)
	}
	e := bucket>>5 - 1
	low := uint64(bucket&31|32) << e
	return time.Duration(low + 1<<e/2)
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) { h.AddMany(Bucket(d), 1) }

// AddMany counts n durations of a bucket.
func (h *Histogram) AddMany(bucket int, n uint64) {
	h.Counts[bucket] += n
	h.sum += float64(Middle(bucket)) * float64(n)
}

// Merge adds what another histogram counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
	h.sum += o.sum
}

// Count of all durations.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Mean of all durations, 0 without any.
func (h *Histogram) Mean() time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(n))
}

// Quantile q (0 to 1): the duration that this share of all is not above; 0
// without any.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	want := uint64(math.Ceil(q * float64(total)))
	want = min(max(want, 1), total)
	var seen uint64
	for i, n := range h.Counts {
		if seen += n; seen >= want {
			return Middle(i)
		}
	}
	return Middle(Buckets - 1)
}
