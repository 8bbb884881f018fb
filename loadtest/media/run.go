package media

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/histogram"
)

// Options of a run.
type Options struct {
	Duration time.Duration
	// Rate of each stream in packets a second; 0: what the codec has.
	Rate float64
	// Ahead encrypts everything before the first packet is sent.
	Ahead bool
	// Every is the interval of the series and of Progress; 0: a second.
	Every time.Duration
	// Progress, when not nil, is told of every interval.
	Progress func(Sample)
}

// Bounds of options.
const (
	maxDuration = 24 * time.Hour
	maxRate     = 100000
)

func (o *Options) validate() error {
	switch {
	case o.Duration < 100*time.Millisecond || o.Duration > maxDuration:
		return fmt.Errorf("duration %s: must be 100ms to %s", o.Duration, maxDuration)
	case o.Rate < 0 || o.Rate > maxRate:
		return fmt.Errorf("%g packets a second of each stream: must be at most %d", o.Rate, maxRate)
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	return nil
}

// Percentiles of a distribution, in microseconds.
type Percentiles struct {
	Mean float64 `json:"mean_us"`
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

func percentiles(h *histogram.Histogram) Percentiles {
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	return Percentiles{us(h.Mean()), us(h.Quantile(0.5)), us(h.Quantile(0.99)), us(h.Quantile(0.999)), us(h.Quantile(1))}
}

// Bar of a distribution: how many were above From and not above the next From.
type Bar struct {
	From  float64 `json:"from_us"`
	Count uint64  `json:"count"`
}

// bars are eight for each power of two, those without anything left out.
func bars(h *histogram.Histogram) []Bar {
	var all []Bar
	for i := 0; i < histogram.Buckets; i += 4 {
		var n uint64
		for _, c := range h.Counts[i : i+4] {
			n += c
		}
		if n > 0 {
			all = append(all, Bar{float64(histogram.Middle(i)) / 1e3, n})
		}
	}
	return all
}

// Sample is one interval of a run.
type Sample struct {
	// At is its end, in seconds from the start.
	At float64 `json:"at"`
	// Sent, Received and Duplicates in the interval; what was sent near its end
	// arrives in the next.
	Sent       uint64      `json:"sent"`
	Received   uint64      `json:"received"`
	Duplicates uint64      `json:"duplicates"`
	Latency    Percentiles `json:"latency"`
	Jitter     Percentiles `json:"jitter"`
	// Total since the start. Lost counts packets under way as well.
	Total Counters `json:"total"`
}

// StreamResult is what became of one stream.
type StreamResult struct {
	Name string `json:"name"`
	Counters
}

// Result of a run.
type Result struct {
	Title string    `json:"title"`
	Start time.Time `json:"start"`
	// Seconds that packets were sent for.
	Seconds float64 `json:"seconds"`
	// Driver that sent and counted: sockets or kernel, and why not the kernel.
	Driver       string `json:"driver"`
	DriverReason string `json:"driver_reason,omitempty"`
	Streams      int    `json:"streams"`
	Codec        string `json:"codec"`
	Payload      int    `json:"payload_bytes"`
	Protection   string `json:"protection"`
	// Rate that was asked for and that was sent, all streams, in packets a second.
	Asked float64 `json:"asked_rate"`
	Rate  float64 `json:"rate"`
	// Moved is how far schedules were moved, since the generator was late, in
	// seconds; of the latest stream with the sockets.
	Moved float64 `json:"moved_s"`

	Total Counters `json:"total"`
	// Verified packets were decrypted and compared with what was sent.
	Verified  uint64         `json:"verified"`
	Latency   Percentiles    `json:"latency"`
	Jitter    Percentiles    `json:"jitter"`
	Series    []Sample       `json:"series"`
	Bars      []Bar          `json:"latency_bars"`
	PerStream []StreamResult `json:"per_stream"`
}

// LossRatio is the share of what was sent that never came.
func (r *Result) LossRatio() float64 {
	if r.Total.Sent == 0 {
		return 0
	}
	return float64(r.Total.Lost) / float64(r.Total.Sent)
}

// state of a driver so far.
type state struct {
	counters        Counters
	latency, jitter *histogram.Histogram
}

// watch makes the series of a run from its state, until done.
func watch(o Options, look func() (state, error), done <-chan struct{}) ([]Sample, error) {
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	begin := time.Now()
	last := state{latency: new(histogram.Histogram), jitter: new(histogram.Histogram)}
	var series []Sample
	for {
		ended := false
		select {
		case <-tick.C:
		case <-done:
			ended = true
		}
		now, err := look()
		if err != nil {
			return series, err
		}
		if ended && now.counters == last.counters {
			return series, nil
		}
		s := Sample{
			At: time.Since(begin).Seconds(), Total: now.counters,
			Sent: now.counters.Sent - last.counters.Sent, Received: now.counters.Received - last.counters.Received,
			Duplicates: now.counters.Duplicates - last.counters.Duplicates,
			Latency:    percentiles(difference(now.latency, last.latency)), Jitter: percentiles(difference(now.jitter, last.jitter)),
		}
		series, last = append(series, s), now
		if o.Progress != nil {
			o.Progress(s)
		}
		if ended {
			return series, nil
		}
	}
}

func difference(a, b *histogram.Histogram) *histogram.Histogram {
	d := new(histogram.Histogram)
	for i := range a.Counts {
		if n := a.Counts[i] - b.Counts[i]; n > 0 {
			d.AddMany(i, n)
		}
	}
	return d
}

// describe fills in what the load alone says.
func (l *Load) describe(o Options) *Result {
	r := &Result{
		Start: time.Now().UTC(), Streams: len(l.Streams), Codec: l.Codec.Name, Payload: l.Codec.Payload, Protection: "none",
		Asked: float64(len(l.Streams)) * l.rate(o),
	}
	for _, e := range l.Endpoints {
		if e.Keys != nil {
			r.Protection = ProfileName(e.Keys.Profile)
		}
	}
	return r
}

// rate of each stream.
func (l *Load) rate(o Options) float64 {
	if o.Rate > 0 {
		return o.Rate
	}
	return float64(time.Second) / float64(l.Codec.Interval)
}

// Run sends by sockets. The load is the one that they were connected for.
func (s *Sockets) Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := s.load.Validate(); err != nil {
		return nil, err
	}
	t, err := newTraffic(s, o)
	if err != nil {
		return nil, err
	}
	r := s.load.describe(o)
	r.Driver = "sockets"
	err = t.run(ctx, r)
	return r, err
}
