//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a benchmark.
type Config struct {
	// Suites, Flows and Systems to measure. Flows are calls; their packets
	// together come at the rate of the smallest number.
	Suites  []string
	Flows   []int
	Systems []string
	Rounds  int
	// Probe and Measure are how long one look at a rate takes, in the search and
	// in the rounds.
	Probe, Measure time.Duration
	// Rate, when not 0, replaces the search: every system is measured at it.
	Rate float64
	// Node is the media node's program.
	Node string
	// Log tells what is going on.
	Log func(format string, args ...any)
}

// Validate names what is wrong first.
func (c *Config) Validate() error {
	for _, s := range c.Suites {
		if _, err := SuiteNamed(s); err != nil {
			return err
		}
	}
	for _, s := range c.Systems {
		if titles[s] == "" {
			return fmt.Errorf("system %q: must be rtpengine, user, xdp or floor", s)
		}
	}
	for _, n := range c.Flows {
		if n < 1 || n > 20000 {
			return fmt.Errorf("%d flows: must be 1 to 20000", n)
		}
	}
	switch {
	case len(c.Suites) == 0 || len(c.Flows) == 0 || len(c.Systems) == 0:
		return errors.New("nothing to measure: give suites, flows and systems")
	case c.Rounds < 1 || c.Rounds > 100:
		return fmt.Errorf("%d rounds: must be 1 to 100", c.Rounds)
	case c.Probe < 50*time.Millisecond || c.Measure < 50*time.Millisecond || c.Measure > time.Minute:
		return errors.New("a measurement must take 50ms to 1m")
	case c.Rate < 0:
		return fmt.Errorf("a rate of %g packets a second", c.Rate)
	}
	return nil
}

// guesses are where searches begin, in packets a second.
var guesses = map[string]float64{RTPEngine: 45000, User: 70000, XDP: 250000, Floor: 1000000}

// files that a system should be able to open: rtpengine has four sockets for a
// call, a node as many where it only relays.
const files = 1 << 17

// openFiles raises the limit of open files as far as it can, and answers it.
func openFiles() int {
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}) == nil {
		return files
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	limit.Cur = limit.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	return int(min(limit.Cur, files))
}

// Run measures. Everything that it made is gone when it returns.
func Run(ctx context.Context, c Config, r *Results) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	// Thousands of sockets and maps.
	most := openFiles()/4 - 500
	for i, flows := range c.Flows {
		if flows > most {
			c.Log("%d calls in place of %d: this process may not raise the limit of open files", most, flows)
			c.Flows[i] = most
		}
	}
	l, err := newLab(ctx, c.Log)
	if err != nil {
		return err
	}
	defer l.close()
	var stands []*stand
	defer func() {
		for _, s := range stands {
			s.system.stop()
		}
	}()
	for i, name := range []string{RTPEngine, User, XDP, Floor} {
		if !slices.Contains(c.Systems, name) {
			continue
		}
		s := &stand{system: c.system(name)}
		if s.cable, err = l.cable(ctx, i, name); err != nil {
			return err
		}
		stands = append(stands, s)
		if err := s.system.start(ctx, l, s.cable); err != nil {
			return err
		}
		if config := s.system.config(); config != "" {
			r.Configurations[name] = config
		}
	}
	slices.Sort(c.Flows)
	for _, name := range c.Suites {
		suite, err := SuiteNamed(name)
		if err != nil {
			return err
		}
		for _, flows := range c.Flows {
			if err := c.stage(ctx, stands, suite, flows, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) system(name string) system {
	switch name {
	case RTPEngine:
		return &rtpengine{}
	case Floor:
		return &floor{}
	}
	return &isthmus{engine: name, program: c.Node}
}

// stage measures all systems with one suite and number of flows.
func (c *Config) stage(ctx context.Context, stands []*stand, suite Suite, flows int, r *Results) (err error) {
	c.Log("%s, %d calls", suite.Title, flows)
	var taking []*stand
	for _, s := range stands {
		// What the kernel does not look into has no suite.
		if s.system.name() != Floor || !suite.Secure {
			taking = append(taking, s)
		}
	}
	defer func() {
		for _, s := range taking {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	for _, s := range taking {
		begin := time.Now()
		if err := s.open(ctx, flows, suite); err != nil {
			return err
		}
		c.Log("  %-10s is ready after %.1f s", s.system.name(), time.Since(begin).Seconds())
	}
	for _, s := range taking {
		row := r.row(suite.Name, flows, s.system.name())
		row.Engines = s.engines
		switch first := r.row(suite.Name, c.Flows[0], s.system.name()); {
		case c.Rate > 0:
			row.Highest = c.Rate
		case flows != c.Flows[0] || row.Highest > 0:
			row.Highest = first.Highest
		default:
			if row.Highest, err = s.search(ctx, guesses[s.system.name()], c.Probe, c.Log); err != nil {
				return err
			}
		}
	}
	common := r.common(suite.Name, c.Flows[0])
	for round := range c.Rounds {
		for i := range taking {
			// Another one begins each time.
			s := taking[(i+round)%len(taking)]
			row := r.row(suite.Name, flows, s.system.name())
			own := 0.8 * row.Highest
			if c.Rate > 0 {
				own = c.Rate
			}
			p, err := s.measure(ctx, own, c.Measure, false)
			if err != nil {
				return err
			}
			row.Own = append(row.Own, p)
			c.Log("  %-10s %8.0f packets/s, %6.0f ns each, %.3f %% lost", s.system.name(), p.Rate, p.CPU, 100*p.Loss)
			if common == 0 || c.Rate > 0 {
				continue
			}
			if p, err = s.measure(ctx, common, c.Measure, true); err != nil {
				return err
			}
			row.Common = append(row.Common, p)
			c.Log("  %-10s %8.0f packets/s, %6.0f ns each, p50 %.0f µs, p99 %.0f µs", s.system.name(), p.Rate, p.CPU, p.P50, p.P99)
		}
	}
	return nil
}
