//go:build linux

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// All systems forward a little of everything, and what they forward is right.
// Nothing is said about how fast.
func TestSmallBenchmark(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces and loading BPF programs needs root")
	}
	dir := t.TempDir()
	node := filepath.Join(dir, "mediaplane")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", node, "../../mediaplane/cmd/mediaplane")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the media node: %v\n%s", err, out)
	}
	const calls, rate = 10, 2000
	r := NewResults("test")
	err := Run(t.Context(), Config{
		Suites: []string{"gcm", "plain"}, Flows: []int{calls}, Systems: []string{RTPEngine, User, XDP, Floor},
		Rounds: 1, Probe: 300 * time.Millisecond, Measure: 500 * time.Millisecond, Rate: rate, Node: node, Log: t.Logf,
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 7 {
		t.Errorf("%d rows, want 7", len(r.Rows))
	}
	for _, row := range r.Rows {
		p := row.Own[0]
		if p.Sent != rate/2 || p.Forwarded == 0 || p.Verified == 0 || p.Wrong != 0 || p.Duplicates != 0 || p.CPU <= 0 {
			t.Errorf("%s, %s: %+v", row.System, row.Suite, p)
		}
		if row.System == XDP && row.Engines[XDP] != 2*calls {
			t.Errorf("%s: streams are executed by %v", row.Suite, row.Engines)
		}
	}
	left, err := filepath.Glob("/run/netns/" + prefix + "-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
