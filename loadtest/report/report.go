// Package report writes what a run of the load tester measured: for people on a
// terminal, for programs in JSON, and as one HTML page with plots that needs
// nothing else.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

// JSON writes a result as one document.
func JSON(w io.Writer, r *media.Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Text writes the summary of a result.
func Text(w io.Writer, r *media.Result) error {
	var b strings.Builder
	for _, line := range summary(r) {
		fmt.Fprintf(&b, "%-14s %s\n", line.Name, line.Value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Progress writes one interval of a run as a line.
func Progress(w io.Writer, s media.Sample) {
	fmt.Fprintf(w, "%6.1fs  sent %d  received %d  lost %d  dup %d  reordered %d  auth %d  latency p50 %s p99 %s\n",
		s.At, s.Total.Sent, s.Total.Received, s.Total.Lost, s.Total.Duplicates, s.Total.Reordered, s.Total.AuthFailures,
		micros(s.Latency.P50), micros(s.Latency.P99))
}

// line of the summary.
type line struct{ Name, Value string }

func summary(r *media.Result) []line {
	t := r.Total
	lines := []line{
		{"streams", fmt.Sprintf("%d of %s, %d bytes of payload, SRTP %s", r.Streams, r.Codec, r.Payload, r.Protection)},
		{"driver", driver(r)},
		{"rate", fmt.Sprintf("%.0f packets/s for %s (%.0f asked)", r.Rate, time.Duration(r.Seconds*1e9).Round(time.Millisecond), r.Asked)},
		{"sent", fmt.Sprint(t.Sent)},
		{"received", fmt.Sprintf("%d, %d of them decrypted and compared", t.Received, r.Verified)},
		{"lost", fmt.Sprintf("%d (%.4f %%)", t.Lost, 100*r.LossRatio())},
		{"duplicates", fmt.Sprint(t.Duplicates)},
		{"reordered", fmt.Sprint(t.Reordered)},
		{"auth failures", fmt.Sprint(t.AuthFailures)},
		{"corrupt", fmt.Sprint(t.Corrupt)},
		{"foreign", fmt.Sprint(t.Foreign)},
		{"latency", distribution(r.Latency)},
		{"jitter", distribution(r.Jitter)},
	}
	if r.Moved > 0.001 {
		lines = append(lines, line{"late", fmt.Sprintf("the schedule was moved by %.3f s in all: this machine could not keep it", r.Moved)})
	}
	return lines
}

func driver(r *media.Result) string {
	if r.DriverReason != "" {
		return r.Driver + " (" + r.DriverReason + ")"
	}
	return r.Driver
}

func distribution(p media.Percentiles) string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s", micros(p.P50), micros(p.P99), micros(p.P999), micros(p.Max))
}

// micros writes microseconds with three digits that count.
func micros(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.3g s", us/1e6)
	case us >= 1000:
		return fmt.Sprintf("%.3g ms", us/1e3)
	}
	return fmt.Sprintf("%.3g µs", us)
}
