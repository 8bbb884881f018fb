//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/bench"
)

type benchCommand struct {
	Suites  []string      `name:"suite" default:"cm,gcm,plain" help:"Suites to measure: cm, gcm, gcm256, plain."`
	Flows   []int         `default:"500,5000" help:"Numbers of calls, a stream each way; all come at the rate of the smallest."`
	Systems []string      `name:"system" default:"rtpengine,user,xdp,floor" help:"What to measure: rtpengine, user, xdp, floor."`
	Rounds  int           `default:"3" help:"Rounds; the median counts."`
	Probe   time.Duration `default:"1s" help:"Time of one look at a rate while the highest is searched."`
	Measure time.Duration `default:"3s" help:"Time of one measurement."`
	Rate    float64       `help:"Measure at this rate (packets/s) and search none: for trying."`
	Short   bool          `help:"One suite, one round, 100 calls: for trying."`
	Node    string        `default:"bin/mediaplane" type:"existingfile" help:"The media node's program."`
	Table   bool          `help:"Measure nothing: report what --out holds."`
	Out     string        `type:"path" help:"File for the results in JSON. Rounds are added to those that it holds."`
}

func (b *benchCommand) Run(ctx context.Context) error {
	if b.Short {
		b.Suites, b.Flows, b.Rounds = []string{"gcm"}, []int{100}, 1
		b.Probe, b.Measure = 300*time.Millisecond, time.Second
	}
	results := bench.NewResults(machine())
	if b.Out != "" {
		var err error
		if results, err = bench.Read(b.Out, machine()); err != nil {
			return err
		}
	}
	if b.Table {
		return results.Report(os.Stdout)
	}
	err := bench.Run(ctx, bench.Config{
		Suites: b.Suites, Flows: b.Flows, Systems: b.Systems, Rounds: b.Rounds,
		Probe: b.Probe, Measure: b.Measure, Rate: b.Rate, Node: b.Node,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}, results)
	// What was measured before an error is kept.
	if err := errors.Join(err, save(b.Out, results.Write)); err != nil {
		return err
	}
	return results.Report(os.Stdout)
}

func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%d CPUs, Linux %s, %s", runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.GOARCH)
}
