package histogram

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsHoldTheirValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, 1<<36-1).Draw(t, "d"))
		b := Bucket(d)
		if b < 0 || b >= Buckets {
			t.Fatalf("%d is in bucket %d", d, b)
		}
		if b > 0 && Bucket(d+1) < b {
			t.Fatalf("%d is in bucket %d, %d before it", d, b, d+1)
		}
		if m := Middle(b); Bucket(m) != b || float64(max(m-d, d-m)) > 0.032*float64(d)+0.5 {
			t.Fatalf("the middle of the bucket of %d is %d", d, m)
		}
	})
	for d, want := range map[time.Duration]int{-1: 0, 0: 0, 31: 31, 32: 32, 63: 63, 64: 64, 65: 64, 1 << 40: Buckets - 1} {
		if got := Bucket(d); got != want {
			t.Errorf("%d is in bucket %d, want %d", d, got, want)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h, other Histogram
	if h.Quantile(0.5) != 0 || h.Mean() != 0 || h.Count() != 0 {
		t.Error("an empty histogram has values")
	}
	for i := range 50 {
		h.Add(time.Duration(i + 1))
		other.Add(time.Duration(i + 51))
	}
	h.Merge(&other)
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.25: 25, 1: 100} {
		if got := h.Quantile(q); max(got-want, want-got) > 1 {
			t.Errorf("quantile %g is %d, want %d", q, got, want)
		}
	}
	if h.Count() != 100 || h.Mean() < 49 || h.Mean() > 52 {
		t.Errorf("%d values, mean %d", h.Count(), h.Mean())
	}
}
