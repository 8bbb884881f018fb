package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Summary is the medians of a row.
type Summary struct {
	Suite   string  `json:"suite"`
	Flows   int     `json:"flows"`
	System  string  `json:"system"`
	Highest float64 `json:"highest"`
	Rounds  int     `json:"rounds"`
	// At 80 % of the highest rate.
	Rate float64 `json:"rate"`
	CPU  float64 `json:"cpu_ns"`
	Loss float64 `json:"loss"`
	// Ratio is rtpengine's CPU time by this one's; 0 without rtpengine.
	Ratio float64 `json:"times_cheaper"`
	// At half of rtpengine's highest rate.
	CommonRate  float64 `json:"common_rate"`
	CommonCPU   float64 `json:"common_cpu_ns"`
	CommonRatio float64 `json:"common_times_cheaper"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	P999        float64 `json:"p999_us"`
	// Packets that were decrypted and compared with what was sent, and how many
	// of all were wrong, repeated or out of order.
	Verified uint64 `json:"verified"`
	Wrong    uint64 `json:"wrong"`
	Repeated uint64 `json:"repeated"`
	Disorder uint64 `json:"out_of_order"`
}

// Summarize makes the medians, in the order of the report.
func (r *Results) Summarize() []Summary {
	rows := slices.Clone(r.Rows)
	order := []string{RTPEngine, User, XDP, Floor}
	slices.SortStableFunc(rows, func(a, b *Row) int {
		return cmp.Or(cmp.Compare(place(a.Suite), place(b.Suite)), cmp.Compare(a.Flows, b.Flows),
			cmp.Compare(slices.Index(order, a.System), slices.Index(order, b.System)))
	})
	var all []Summary
	for _, row := range rows {
		s := row.summary()
		if peer := r.find(row.Suite, row.Flows, RTPEngine); peer != nil {
			of := peer.summary()
			s.Ratio, s.CommonRatio = ratio(of.CPU, s.CPU), ratio(of.CommonCPU, s.CommonCPU)
		}
		all = append(all, s)
	}
	return all
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func place(suite string) int {
	return slices.IndexFunc(suites, func(s Suite) bool { return s.Name == suite })
}

func (row *Row) summary() Summary {
	s := Summary{
		Suite: row.Suite, Flows: row.Flows, System: row.System, Highest: row.Highest, Rounds: len(row.Own),
		Rate:       median(row.Own, func(p Point) float64 { return p.Rate }),
		CPU:        median(row.Own, func(p Point) float64 { return p.CPU }),
		Loss:       median(row.Own, func(p Point) float64 { return p.Loss }),
		CommonRate: median(row.Common, func(p Point) float64 { return p.Rate }),
		CommonCPU:  median(row.Common, func(p Point) float64 { return p.CPU }),
		P50:        median(row.Common, func(p Point) float64 { return p.P50 }),
		P99:        median(row.Common, func(p Point) float64 { return p.P99 }),
		P999:       median(row.Common, func(p Point) float64 { return p.P999 }),
	}
	for _, p := range slices.Concat(row.Own, row.Common) {
		s.Verified += p.Verified
		s.Wrong += p.Wrong
		s.Repeated += p.Duplicates
		s.Disorder += p.Reordered
	}
	return s
}

// Report writes the results as Markdown that reads well as text.
func (r *Results) Report(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s.\n\n", r.Time.Format("2006-01-02 15:04 UTC"), r.Machine)
	b.WriteString("CPU time for each forwarded packet (receive, transform, send), medians of the rounds;\n" +
		"at 80 % of the highest rate of each system that loses at most 0.1 %, and at one common\n" +
		"rate, half of rtpengine's, where latency is measured too.\n\n")
	all := r.Summarize()
	writeTable(&b, all)
	fmt.Fprintln(&b)
	for _, line := range r.bars(all) {
		fmt.Fprintln(&b, line)
	}
	for _, s := range all {
		if s.Wrong+s.Repeated+s.Disorder > 0 {
			fmt.Fprintf(&b, "%s, %s, %d calls: %d of %d packets compared are wrong; %d came twice, %d out of order\n",
				titles[s.System], s.Suite, s.Flows, s.Wrong, s.Verified, s.Repeated, s.Disorder)
		}
	}
	if config := r.Configurations[RTPEngine]; config != "" {
		fmt.Fprintf(&b, "\nrtpengine's configuration:\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(config), "\n", "\n    "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeTable writes a Markdown table whose columns are aligned.
func writeTable(b *strings.Builder, all []Summary) {
	rows := [][]string{
		{"suite", "calls", "system", "highest, 1/s", "CPU at 80 %", "loss", "times cheaper", "CPU, common", "times cheaper", "p50", "p99", "p99.9"},
	}
	for _, s := range all {
		rows = append(rows, []string{
			s.Suite, fmt.Sprint(s.Flows), titles[s.System], fmt.Sprintf("%.0f", s.Highest), nanos(s.CPU), fmt.Sprintf("%.3f %%", 100*s.Loss),
			times(s.Ratio), nanos(s.CommonCPU), times(s.CommonRatio), micro(s.P50), micro(s.P99), micro(s.P999),
		})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		for k, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
		if i == 0 {
			for _, width := range widths {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
}

func nanos(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f ns", v)
}

func micro(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f µs", v)
}

func times(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", v)
}

// bar is what an engine has to reach against rtpengine in user space.
type bar struct {
	system string
	suites []string
	times  float64
}

var targets = []bar{
	{XDP, []string{"cm", "gcm"}, 4.5},
	{XDP, []string{"plain"}, 12},
	{User, []string{"cm", "gcm"}, 1.5},
}

// bars says of each target whether it was reached.
func (r *Results) bars(all []Summary) []string {
	var lines []string
	say := func(ok bool, format string, args ...any) {
		verdict := "reached"
		if !ok {
			verdict = "MISSED"
		}
		lines = append(lines, fmt.Sprintf("%-8s "+format, append([]any{verdict}, args...)...))
	}
	for _, t := range targets {
		for _, s := range all {
			if s.System == t.system && slices.Contains(t.suites, s.Suite) && s.Ratio > 0 {
				say(s.Ratio >= t.times, "%s, %s, %d calls: %.1f times cheaper than rtpengine, at least %g wanted", titles[s.System], s.Suite, s.Flows, s.Ratio, t.times)
			}
		}
	}
	for _, s := range all {
		peer := r.find(s.Suite, s.Flows, RTPEngine)
		if s.System != XDP || peer == nil || s.P99 == 0 {
			continue
		}
		of := peer.summary()
		say(s.P99 < of.P50, "%s, %s, %d calls: p99 of the latency added is %.0f µs, rtpengine's p50 is %.0f µs", titles[XDP], s.Suite, s.Flows, s.P99, of.P50)
	}
	return lines
}
