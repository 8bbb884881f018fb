//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

// stand is one system with the calls of a stage and the generator in front of it.
type stand struct {
	system  system
	cable   *cable
	live    *media.Live
	sockets *media.Sockets
	keep    context.CancelFunc
	// Engines that execute the streams, of an Isthmus node.
	engines map[string]int
}

// maxLoss is the share of packets that may be lost at a system's highest rate.
const maxLoss = 0.001

// maxQueue is how much may be waiting in a system that keeps up, as time.
const maxQueue = 0.02

// sampleEvery packet that comes back is decrypted and compared. It is prime, so
// that streams take turns.
const sampleEvery = 211

// open sets the calls of a stage up and sends until every stream comes through.
func (s *stand) open(ctx context.Context, calls int, suite Suite) error {
	load, err := s.system.call(ctx, calls, suite)
	if err != nil {
		return err
	}
	if s.sockets, err = media.ConnectICE(ctx, load, generatorNamespace); err != nil {
		return err
	}
	keep, cancel := context.WithCancel(ctx)
	s.keep = cancel
	go s.sockets.Keep(keep)
	f, bounced := s.system.(*floor)
	s.live, err = media.OpenLive(load, media.Path{
		Namespace: generatorNamespace, Interface: s.cable.near, Link: s.cable.link, Bounced: bounced, CPU: generatorCPU,
	})
	if err != nil {
		return err
	}
	if bounced {
		if err := f.attach(s.live); err != nil {
			return err
		}
	}
	if err := s.live.Open(ctx); err != nil {
		return fmt.Errorf("%s, %d calls, %s: %w", s.system.name(), calls, suite.Name, err)
	}
	return s.warm(ctx, 2*calls)
}

// warm sends at an easy rate until the system has settled: an Isthmus node moves
// streams to its faster engine after their first packets.
func (s *stand) warm(ctx context.Context, streams int) error {
	node, is := s.system.(*isthmus)
	for range 15 {
		if _, err := s.live.Run(ctx, min(float64(streams)*10, 10000), time.Second, 0); err != nil {
			return err
		}
		if !is {
			return nil
		}
		engines, _, err := node.calls.Engines(ctx)
		if err != nil {
			return err
		}
		s.engines = engines
		if engines[node.engine] >= streams {
			return nil
		}
	}
	_, reasons, err := node.calls.Engines(ctx)
	return errors.Join(fmt.Errorf("%s: only %d of %d streams are executed by it: %v", node.engine, s.engines[node.engine], streams, reasons), err)
}

func (s *stand) close(ctx context.Context) error {
	if s.keep != nil {
		s.keep()
	}
	err := s.system.hangUp(context.WithoutCancel(ctx))
	if s.live != nil {
		s.live.Close()
	}
	if s.sockets != nil {
		s.sockets.Close()
	}
	s.live, s.sockets, s.keep = nil, nil, nil
	return err
}

// busy is the CPU time that the system has taken so far.
func (s *stand) busy() (time.Duration, error) {
	total, err := spent(s.cable.farPID)
	if err != nil || s.system.pid() == 0 {
		return total, err
	}
	process, err := spent(s.system.pid())
	return total + process, err
}

// Point is one measurement of a system.
type Point struct {
	// Rate that was sent, in packets a second.
	Rate float64 `json:"rate"`
	// CPU time for each packet that was forwarded, in nanoseconds.
	CPU  float64 `json:"cpu_ns"`
	Loss float64 `json:"loss"`
	// Latency added to a packet, in microseconds.
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	// Packets that were sent, forwarded, decrypted and compared.
	Sent      uint64 `json:"sent"`
	Forwarded uint64 `json:"forwarded"`
	Verified  uint64 `json:"verified"`
	// Wrong among those that were compared, repeated or out of order among all.
	Wrong      uint64 `json:"wrong"`
	Duplicates uint64 `json:"duplicates"`
	// Queued in the system when the last packet had been sent, in seconds of its
	// rate.
	Queued    float64 `json:"queued_s"`
	Reordered uint64  `json:"reordered"`
}

// measure sends at a rate for a while, promptly where latency counts.
func (s *stand) measure(ctx context.Context, rate float64, d time.Duration, prompt bool) (Point, error) {
	if err := s.cable.moderate(ctx, prompt); err != nil {
		return Point{}, err
	}
	p, err := s.live.Prepare(ctx, rate, d)
	if err != nil {
		return Point{}, err
	}
	if err := s.cable.pin(); err != nil {
		return Point{}, err
	}
	before, err := s.busy()
	if err != nil {
		return Point{}, err
	}
	m, err := p.Run(ctx, sampleEvery, prompt)
	if err != nil {
		return Point{}, err
	}
	after, err := s.busy()
	if err != nil {
		return Point{}, err
	}
	us := func(q float64) float64 { return float64(m.Latency.Quantile(q)) / 1e3 }
	arrived := m.Received + m.Stale
	point := Point{
		Rate: m.Rate, Loss: m.Loss(), P50: us(0.5), P99: us(0.99), P999: us(0.999),
		Sent: m.Sent, Forwarded: arrived, Verified: m.Verified.Packets,
		Wrong:      m.AuthFailures + m.Corrupt + m.Foreign + m.Verified.BadChecksums,
		Duplicates: m.Duplicates, Reordered: m.Reordered,
	}
	point.Queued = float64(m.Backlog-min(m.Backlog, m.Lost)) / m.Rate
	if arrived > 0 {
		point.CPU = float64(after-before) / float64(arrived)
	}
	return point, nil
}

// search finds the highest rate with at most maxLoss, to 5 %.
func (s *stand) search(ctx context.Context, guess float64, d time.Duration, log func(string, ...any)) (float64, error) {
	good, bad := 0.0, math.Inf(1)
	rate := guess
	for range 20 {
		p, err := s.probe(ctx, rate, d)
		if err != nil {
			return 0, err
		}
		ok := p.keepsUp()
		log("  %-10s %8.0f packets/s asked, %8.0f sent, %7.3f %% lost, %6.0f ns each, %3.0f ms queued", s.system.name(), rate, p.Rate, 100*p.Loss, p.CPU, 1e3*p.Queued)
		switch {
		case ok && p.Rate < enough*rate:
			// The generator is at its end.
			return max(good, p.Rate), nil
		case ok:
			good = rate
		default:
			bad = rate
		}
		switch {
		case good > 0 && bad/good < 1.06:
			return good, nil
		case math.IsInf(bad, 1):
			rate = good * 1.4
		case good == 0:
			rate = bad / 1.6
		default:
			rate = math.Sqrt(good * bad)
		}
		if rate < 100 {
			return 0, fmt.Errorf("%s loses %.1f %% at %.0f packets/s", s.system.name(), 100*p.Loss, bad)
		}
	}
	return good, nil
}

// attempts of a probe that looks bad: a shared machine has hiccups.
const attempts = 3

// probe measures until the system keeps up and the generator keeps its rate, and
// answers the best of a few attempts.
func (s *stand) probe(ctx context.Context, rate float64, d time.Duration) (Point, error) {
	var best Point
	for i := range attempts {
		p, err := s.measure(ctx, rate, d, false)
		if err != nil {
			return p, err
		}
		switch {
		case i == 0, p.keepsUp() && !best.keepsUp(), p.keepsUp() == best.keepsUp() && p.Rate > best.Rate:
			best = p
		}
		if best.keepsUp() && best.Rate > enough*rate || p.Loss > 0.1 {
			break
		}
	}
	return best, nil
}

// enough of the rate that was asked for must be sent.
const enough = 0.95

// keepsUp says whether the system carries the rate of a point.
func (p Point) keepsUp() bool { return p.Loss <= maxLoss && p.Queued <= maxQueue }
