package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

var update = flag.Bool("update", false, "write golden files")

func result() *media.Result {
	p := func(us float64) media.Percentiles {
		return media.Percentiles{Mean: us, P50: us, P99: 10 * us, P999: 40 * us, Max: 100 * us}
	}
	r := &media.Result{
		Title: "Night run <1>", Start: time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC), Seconds: 3,
		Driver: "sockets", DriverReason: "no XDP here", Streams: 2, Codec: "opus", Payload: 80, Protection: "AEAD_AES_128_GCM",
		Asked: 100, Rate: 99.5, Moved: 0.015, Verified: 295,
		Total:   media.Counters{Sent: 300, Received: 295, Lost: 5, Duplicates: 2, Reordered: 1, AuthFailures: 3},
		Latency: p(80), Jitter: p(7),
		Bars: []media.Bar{{From: 70, Count: 1}, {From: 80, Count: 290}, {From: 8000, Count: 4}},
		PerStream: []media.StreamResult{
			{Name: "up", Counters: media.Counters{Sent: 150, Received: 150}},
			{Name: "down", Counters: media.Counters{Sent: 150, Received: 145, Lost: 5}},
		},
	}
	for i := range 3 {
		r.Series = append(r.Series, media.Sample{
			At: float64(i + 1), Sent: 100, Received: uint64(100 - 2*i), Latency: p(float64(80 + i)), Jitter: p(7),
			Total: media.Counters{Sent: uint64(100 * (i + 1)), Lost: uint64(2 * i)},
		})
	}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

func TestGolden(t *testing.T) {
	for name, write := range map[string]func(io.Writer, *media.Result) error{
		"report.txt": Text, "report.json": JSON, "report.html": HTML,
	} {
		var b bytes.Buffer
		if err := write(&b, result()); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
}

// The page loads nothing, hides nothing that was measured, and its plots are sound.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, result()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"Night run &lt;1&gt;", "prefers-color-scheme: dark", "width=device-width", "5 (1.6667 %)", "p99.9 3.2 ms", "no XDP here"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, bad := range []string{"http:", "https:", "src=", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q is there", bad)
		}
	}
	if i, k := strings.Index(page, "<td>down</td>"), strings.Index(page, "<td>up</td>"); i < 0 || k < i {
		t.Error("the stream that lost most is not first")
	}
	rest, figures := page, 0
	for {
		_, after, found := strings.Cut(rest, "<figure")
		if !found {
			break
		}
		figure, after, _ := strings.Cut(after, "</figure>")
		rest, figures = after, figures+1
		d := xml.NewDecoder(strings.NewReader("<figure" + figure + "</figure>"))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("figure %d: %v", figures, err)
			}
		}
	}
	if figures != 5 {
		t.Errorf("%d figures", figures)
	}
}

// A run that received nothing has a report too.
func TestNothingReceived(t *testing.T) {
	r := &media.Result{Title: "x", Total: media.Counters{Sent: 10, Lost: 10}, Series: []media.Sample{{At: 1, Sent: 10}}}
	var b bytes.Buffer
	if err := HTML(&b, r); err != nil || strings.Contains(b.String(), "NaN") {
		t.Errorf("%v", err)
	}
	b.Reset()
	var back media.Result
	if err := JSON(&b, r); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || back.Total != r.Total {
		t.Errorf("%v, %+v", err, back.Total)
	}
	if r := (&media.Result{}); r.LossRatio() != 0 {
		t.Error("nothing sent, and lost")
	}
}
