package report

import (
	"cmp"
	_ "embed"
	"html/template"
	"io"
	"slices"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// worstStreams of the page.
const worstStreams = 20

// HTML writes a result as a page: summary, plots, and the streams that lost most.
func HTML(w io.Writer, r *media.Result) error {
	streams := slices.Clone(r.PerStream)
	slices.SortStableFunc(streams, func(a, b media.StreamResult) int {
		return cmp.Or(cmp.Compare(b.Lost, a.Lost), cmp.Compare(bad(b), bad(a)))
	})
	return page.Execute(w, struct {
		*media.Result
		Summary []line
		Plots   []plot
		Worst   []media.StreamResult
	}{r, summary(r), plots(r), streams[:min(len(streams), worstStreams)]})
}

func bad(s media.StreamResult) uint64 { return s.Duplicates + s.Reordered + s.AuthFailures + s.Corrupt }

func plots(r *media.Result) []plot {
	var sent, received, lost, p50, p99, p999, j99 curve
	sent.Name, received.Name, lost.Name = "sent", "received", "lost"
	p50.Name, p99.Name, p999.Name, j99.Name = "p50", "p99", "p99.9", "p99"
	before := media.Sample{}
	for _, s := range r.Series {
		seconds := s.At - before.At
		if seconds <= 0 {
			continue
		}
		sent.add(s.At, float64(s.Sent)/seconds)
		received.add(s.At, float64(s.Received)/seconds)
		lost.add(s.At, float64(s.Total.Lost))
		if s.Received > 0 {
			p50.add(s.At, s.Latency.P50)
			p99.add(s.At, s.Latency.P99)
			p999.add(s.At, s.Latency.P999)
			j99.add(s.At, s.Jitter.P99)
		}
		before = s
	}
	return []plot{
		lines("Packets a second", count, sent, received),
		lines("Lost or under way, packets", count, lost),
		lines("Latency", micros, p50, p99, p999),
		lines("Jitter: change of latency from packet to packet", micros, j99),
		columns("Latency of all packets", r.Bars),
	}
}
