package bench

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files")

func point(rate, cpu, p50 float64) Point {
	return Point{Rate: rate, CPU: cpu, Loss: 0.0005, P50: p50, P99: 2 * p50, P999: 3 * p50, Sent: 1000, Forwarded: 999, Verified: 10}
}

func results() *Results {
	r := NewResults("2 CPUs, Linux 6.18, amd64")
	r.Time = time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	r.Configurations[RTPEngine] = "[rtpengine]\ntable = -1\n"
	for system, cost := range map[string]float64{RTPEngine: 15000, User: 11000, XDP: 3000} {
		row := r.row("gcm", 500, system)
		row.Highest = 1e9 / cost
		// Of three rounds the middle one counts.
		row.Own = []Point{point(0.8e9/cost, cost, 0), point(0.8e9/cost, 10*cost, 0), point(0.8e9/cost, cost/10, 0)}
		row.Common = []Point{point(33333, 2*cost, cost/100)}
	}
	r.row("plain", 500, Floor).Own = []Point{{Rate: 1e6, CPU: 330, Wrong: 2, Verified: 50, Duplicates: 1}}
	return r
}

func TestReport(t *testing.T) {
	var b bytes.Buffer
	if err := results().Report(&b); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/report.md"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Results are written, read, added to and written again.
func TestResultsAddUp(t *testing.T) {
	path := t.TempDir() + "/results.json"
	var b bytes.Buffer
	if err := results().Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path, "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if row := r.row("gcm", 500, XDP); len(row.Own) != 3 || row.Highest == 0 || r.Machine != "2 CPUs, Linux 6.18, amd64" {
		t.Errorf("read %+v", row)
	}
	if r.row("cm", 500, XDP); len(r.Rows) != 5 {
		t.Errorf("%d rows", len(r.Rows))
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, ""); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("nonsense was read: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Suites: []string{"cm"}, Flows: []int{5}, Systems: []string{"xdp"}, Rounds: 1, Probe: time.Second, Measure: time.Second}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		`suite "aes"`:    func(c *Config) { c.Suites = []string{"aes"} },
		`system "other"`: func(c *Config) { c.Systems = []string{"other"} },
		"0 flows":        func(c *Config) { c.Flows = []int{0} },
		"nothing":        func(c *Config) { c.Suites = nil },
		"0 rounds":       func(c *Config) { c.Rounds = 0 },
		"50ms":           func(c *Config) { c.Measure = 1 },
		"rate":           func(c *Config) { c.Rate = -1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
