package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Results of one or more runs.
type Results struct {
	Machine        string            `json:"machine"`
	Time           time.Time         `json:"time"`
	Configurations map[string]string `json:"configurations"`
	// Medians are made of Rows when results are written.
	Medians []Summary `json:"medians"`
	Rows    []*Row    `json:"rows"`
}

// Row is one system with one suite and number of flows.
type Row struct {
	Suite  string `json:"suite"`
	Flows  int    `json:"flows"`
	System string `json:"system"`
	// Highest rate with at most 0.1 % loss, in packets a second.
	Highest float64 `json:"highest"`
	// Own are measurements at 80 % of it, Common those at half of rtpengine's.
	Own    []Point `json:"own"`
	Common []Point `json:"common"`
	// Engines that executed the streams of an Isthmus node.
	Engines map[string]int `json:"engines,omitempty"`
}

// NewResults is empty.
func NewResults(machine string) *Results {
	return &Results{Machine: machine, Time: time.Now().UTC().Truncate(time.Second), Configurations: map[string]string{}}
}

// Read results from a file; a file that is not there holds none.
func Read(path, machine string) (*Results, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return NewResults(machine), nil
	}
	if err != nil {
		return nil, err
	}
	r := NewResults(machine)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: no results of a benchmark: %w", path, err)
	}
	return r, nil
}

// Write writes them as JSON.
func (r *Results) Write(w io.Writer) error {
	r.Medians = r.Summarize()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *Results) find(suite string, flows int, system string) *Row {
	i := slices.IndexFunc(r.Rows, func(o *Row) bool { return o.Suite == suite && o.Flows == flows && o.System == system })
	if i < 0 {
		return nil
	}
	return r.Rows[i]
}

// row is found or made.
func (r *Results) row(suite string, flows int, system string) *Row {
	if row := r.find(suite, flows, system); row != nil {
		return row
	}
	row := &Row{Suite: suite, Flows: flows, System: system}
	r.Rows = append(r.Rows, row)
	return row
}

// common is the one rate at which every system of a suite is measured: half of
// rtpengine's highest. 0 when that is not known.
func (r *Results) common(suite string, flows int) float64 {
	if row := r.find(suite, flows, RTPEngine); row != nil {
		return row.Highest / 2
	}
	return 0
}

// median of what points say.
func median(points []Point, of func(Point) float64) float64 {
	if len(points) == 0 {
		return 0
	}
	all := make([]float64, len(points))
	for i, p := range points {
		all[i] = of(p)
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}
