package bench

import (
	"fmt"
	"io"
)

// Report writes the results as text.
func (r *Results) Report(w io.Writer) error {
	for _, row := range r.Rows {
		m := func(p []Point, f func(Point) float64) float64 { return median(p, f) }
		cpu := func(p Point) float64 { return p.CPU }
		fmt.Fprintf(w, "%-6s %5d %-10s highest %8.0f | own %8.0f %6.0f ns loss %.4f%% | common %8.0f %6.0f ns p50 %.1f p99 %.1f p999 %.1f | %v\n", row.Suite, row.Flows, row.System, row.Highest,
			m(row.Own, func(p Point) float64 { return p.Rate }), m(row.Own, cpu), 100*m(row.Own, func(p Point) float64 { return p.Loss }),
			m(row.Common, func(p Point) float64 { return p.Rate }), m(row.Common, cpu),
			m(row.Common, func(p Point) float64 { return p.P50 }), m(row.Common, func(p Point) float64 { return p.P99 }), m(row.Common, func(p Point) float64 { return p.P999 }), row.Engines)
	}
	return nil
}
