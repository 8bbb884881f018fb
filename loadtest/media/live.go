//go:build linux

package media

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/histogram"
	"github.com/isthmus-gateway/isthmus/loadtest/liveframe"
	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// Path is how a Live reaches the target.
type Path struct {
	// Namespace of Interface; empty for the process's own.
	Namespace, Interface string
	// Link of the frames to a target's address.
	Link func(to netip.Addr) (liveframe.Link, error)
	// Bounced packets come back as they were sent, addresses and all.
	Bounced bool
	// CPU that sends; negative for any.
	CPU int
	// RingFrames bounds the packets that are encrypted ahead of a run; a run that
	// needs more goes on encrypting while it lasts. 0: 1<<20.
	RingFrames int
}

// Live runs a load by packets that the kernel sends and counts (XDP).
type Live struct {
	load    *Load
	path    Path
	wire    *liveframe.Wire
	sources []*source
	links   []liveframe.Link
	ring    []int // streams whose packets are encrypted here
	epoch   time.Time

	stop    context.CancelFunc
	samples sync.WaitGroup

	mu        sync.Mutex
	receivers []liveReceiver
	unknown   int // receivers that are not learned
	checked   Verification
	failure   error
	frame     []byte
}

type liveReceiver struct {
	stream  int
	opener  *opener
	learned bool
	delta   uint16
}

// Verification is what became of the packets that were decrypted and compared
// with what was sent.
type Verification struct {
	Packets      uint64 `json:"packets"`
	AuthFailures uint64 `json:"auth_failures"`
	Corrupt      uint64 `json:"corrupt"`
	Foreign      uint64 `json:"foreign"`
	BadChecksums uint64 `json:"bad_checksums"`
}

// OpenLive prepares a load whose endpoints have their keys.
func OpenLive(load *Load, path Path) (_ *Live, err error) {
	if err := load.Validate(); err != nil {
		return nil, err
	}
	if path.RingFrames == 0 {
		path.RingFrames = 1 << 20
	}
	run := rand.Uint32() | 1
	l := &Live{load: load, path: path, epoch: time.Now()}
	config := liveframe.Config{Interface: path.Interface}
	for i, s := range load.Streams {
		from := load.Endpoints[s.From]
		src, err := newSource(run, uint32(i), s, load.Codec, from.Keys)
		if err != nil {
			return nil, err
		}
		link, err := path.Link(from.Remote.Addr())
		if err != nil {
			return nil, err
		}
		l.sources, l.links = append(l.sources, src), append(l.links, link)
		frame := liveframe.Frame(nil, link, from.Local, from.Remote, src.packet)
		if from.Keys != nil {
			l.ring = append(l.ring, i)
			frame = append(frame, make([]byte, 16)...)
		} else if _, err := src.next(0, 0); err == nil {
			src.number = 0
			frame = liveframe.Frame(nil, link, from.Local, from.Remote, src.packet)
		}
		config.Streams = append(config.Streams, liveframe.Stream{
			Frame: frame, Ring: from.Keys != nil, Sequence: s.Sequence, Clock: load.Codec.Clock,
		})
		if s.To < 0 {
			continue
		}
		to := load.Endpoints[s.To]
		at := to.Local
		keys := to.Keys
		if path.Bounced {
			at, keys = from.Remote, nil
		}
		o, err := newOpener(run, uint32(i), load.Codec, keys)
		if err != nil {
			return nil, err
		}
		l.receivers = append(l.receivers, liveReceiver{stream: i, opener: o})
		config.Receivers = append(config.Receivers, liveframe.Receiver{At: at, Stream: i})
	}
	if len(l.ring) > 0 {
		config.Ring = path.RingFrames
	}
	l.unknown = len(l.receivers)
	err = netns.Do(path.Namespace, func() error {
		var err error
		l.wire, err = liveframe.Open(config)
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.samples.Go(func() {
		if err := l.wire.Samples(ctx, l.sample); err != nil {
			l.fail(err)
		}
	})
	return l, nil
}

// Close frees everything in the kernel.
func (l *Live) Close() {
	l.stop()
	l.samples.Wait()
	l.wire.Close()
}

// Wire is what sends.
func (l *Live) Wire() *liveframe.Wire { return l.wire }

func (l *Live) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = errors.Join(l.failure, err)
}

// sample decrypts one packet, compares it, and learns from it how the target
// maps the stream.
func (l *Live) sample(s liveframe.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.receivers[s.Receiver]
	packet, checksum, err := liveframe.Packet(s.Frame)
	if err != nil {
		l.checked.Foreign++
		return
	}
	l.checked.Packets++
	if !checksum {
		l.checked.BadChecksums++
	}
	got, err := r.opener.open(packet)
	switch {
	case errors.Is(err, errAuth):
		l.checked.AuthFailures++
		return
	case errors.Is(err, errForeign):
		l.checked.Foreign++
		return
	case err != nil:
		l.checked.Corrupt++
		return
	}
	delta := got.sequence - uint16(got.number)
	if r.learned && r.delta == delta {
		return
	}
	if !r.learned {
		l.unknown--
	}
	r.learned, r.delta = true, delta
	if err := l.wire.Learn(s.Receiver, got.ssrc, delta, uint32(got.number)); err != nil {
		l.failure = errors.Join(l.failure, err)
	}
}

// Unknown is how many streams have not arrived yet.
func (l *Live) Unknown() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unknown
}

// Open sends a few packets of every stream until all of them have arrived once.
func (l *Live) Open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// Rates that any target keeps up with.
	rate := min(20*float64(len(l.sources)), 10000)
	for l.Unknown() > 0 {
		rounds := 3.0
		if _, err := l.Run(ctx, rate, time.Duration(rounds*float64(len(l.sources))/rate*float64(time.Second)), 0); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d streams do not arrive: %w", l.Unknown(), len(l.receivers), context.Cause(ctx))
		}
	}
	return nil
}

// Measurement is what a run of a Live saw.
type Measurement struct {
	Counters
	// Stale packets were under way for so long that their sending time is gone.
	Stale uint64 `json:"stale"`
	// Backlog is how many packets were under way when the last was sent, those
	// that never came included.
	Backlog uint64 `json:"backlog"`
	// Rate is what was sent, in packets a second.
	Rate float64       `json:"rate"`
	Took time.Duration `json:"took"`
	// Moved is how far the schedule was moved, since the generator was late.
	Moved    time.Duration        `json:"moved"`
	Verified Verification         `json:"verified"`
	Latency  *histogram.Histogram `json:"-"`
	Jitter   *histogram.Histogram `json:"-"`
}

// Loss as a share of what was sent.
func (m *Measurement) Loss() float64 {
	if m.Sent == 0 {
		return 0
	}
	return float64(m.Lost) / float64(m.Sent)
}

// Run sends at a rate, all streams together, for about a duration. One packet in
// sampleEvery is decrypted and compared; 0 leaves it at those of streams that
// are not known yet.
func (l *Live) Run(ctx context.Context, rate float64, duration time.Duration, sampleEvery uint32) (*Measurement, error) {
	prepared, err := l.Prepare(ctx, rate, duration)
	if err != nil {
		return nil, err
	}
	return prepared.Run(ctx, sampleEvery, true)
}

// Prepared is a run whose first packets are encrypted.
type Prepared struct {
	live    *Live
	rate    float64
	packets uint64
	rest    func(context.Context) error
}

// Prepare encrypts what a run needs, as far as there is room.
func (l *Live) Prepare(ctx context.Context, rate float64, duration time.Duration) (*Prepared, error) {
	streams := float64(len(l.sources))
	rounds := max(int(rate*duration.Seconds()/streams+0.5), 1)
	p := &Prepared{live: l, rate: rate, packets: uint64(rounds * len(l.sources))}
	if len(l.ring) == 0 {
		return p, nil
	}
	// The time stamps of what is encrypted now follow the clock of the run,
	// which begins when everything is encrypted.
	ahead := min(rounds*len(l.ring), l.path.RingFrames)
	begin := time.Since(l.epoch) + time.Duration(ahead)*1200*time.Nanosecond
	round, next := 0, 0
	var pending []byte
	fill := func(ctx context.Context, wait bool) error {
		for ; round < rounds; round++ {
			at := begin + time.Duration(float64(round)*streams/rate*1e9)
			for ; next < len(l.ring); next++ {
				if pending == nil {
					var err error
					if pending, err = l.encrypt(l.ring[next], at); err != nil {
						return err
					}
				}
				for {
					ok, err := l.wire.Append(pending)
					if err != nil {
						return err
					}
					if ok {
						break
					}
					if !wait {
						return nil
					}
					select {
					case <-ctx.Done():
						return nil
					case <-time.After(time.Millisecond):
					}
				}
				pending = nil
			}
			next = 0
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	if err := fill(ctx, false); err != nil {
		return nil, err
	}
	p.rest = func(ctx context.Context) error { return fill(ctx, true) }
	return p, nil
}

// encrypt makes the next frame of a stream.
func (l *Live) encrypt(stream int, at time.Duration) ([]byte, error) {
	src := l.sources[stream]
	packet, err := src.next(0, l.timestamp(stream, at))
	if err != nil {
		return nil, err
	}
	from := l.load.Endpoints[src.stream.From]
	l.frame = liveframe.Frame(l.frame[:0], l.links[stream], from.Local, from.Remote, packet)
	return l.frame, nil
}

// timestamp is the RTP time of a stream; every stream begins elsewhere.
func (l *Live) timestamp(stream int, at time.Duration) uint32 {
	return l.load.Streams[stream].SSRC*2654435761 + uint32(at.Nanoseconds()/1000*int64(l.load.Codec.Clock)/1e6)
}

// Run sends what was prepared, once. Where latency counts it must be prompt;
// otherwise higher rates can be reached.
func (p *Prepared) Run(ctx context.Context, sampleEvery uint32, prompt bool) (*Measurement, error) {
	l := p.live
	before, err := l.wire.Total()
	if err != nil {
		return nil, err
	}
	if err := l.wire.Reset(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	checked := l.checked
	l.mu.Unlock()

	now := time.Since(l.epoch)
	load := liveframe.Load{Rate: p.rate, Packets: p.packets, SampleEvery: sampleEvery, Prompt: prompt}
	for i := range l.sources {
		load.Time = append(load.Time, l.timestamp(i, now))
	}
	rest, cancel := context.WithCancel(ctx)
	filled := make(chan error, 1)
	go func() {
		if p.rest == nil {
			filled <- nil
			return
		}
		filled <- p.rest(rest)
	}()
	var sent liveframe.Sent
	err = netns.Do(l.path.Namespace, func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if l.path.CPU >= 0 {
			var set, before unix.CPUSet
			set.Set(l.path.CPU)
			if unix.SchedGetaffinity(0, &before) == nil && unix.SchedSetaffinity(0, &set) == nil {
				defer func() { _ = unix.SchedSetaffinity(0, &before) }()
			}
			// A thread of a namespace is not used again.
			if l.path.Namespace != "" {
				_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
			}
		}
		var err error
		sent, err = l.wire.Run(ctx, load)
		return err
	})
	cancel()
	err = errors.Join(err, <-filled)
	if err != nil {
		return nil, err
	}
	end, err := l.wire.Total()
	if err != nil {
		return nil, err
	}
	after, err := l.settle(ctx, before.Packets+sent.Packets)
	if err != nil {
		return nil, err
	}
	m := &Measurement{Rate: float64(sent.Packets) / sent.Took.Seconds(), Took: sent.Took, Moved: sent.Moved}
	m.Sent = sent.Packets
	m.Received = after.Packets - before.Packets
	m.Duplicates = after.Duplicates - before.Duplicates
	m.Reordered = after.Reordered - before.Reordered
	m.Stale = after.Stale - before.Stale
	m.Backlog = m.Sent - min(m.Sent, end.Packets+end.Stale-before.Packets-before.Stale)
	m.Lost = m.Sent - min(m.Sent, m.Received+m.Stale)
	if m.Latency, m.Jitter, err = l.wire.Histograms(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m.Verified = l.checked.since(checked)
	m.AuthFailures, m.Corrupt, m.Foreign = m.Verified.AuthFailures, m.Verified.Corrupt, m.Verified.Foreign
	return m, l.failure
}

func (v Verification) since(o Verification) Verification {
	return Verification{
		Packets: v.Packets - o.Packets, AuthFailures: v.AuthFailures - o.AuthFailures, Corrupt: v.Corrupt - o.Corrupt,
		Foreign: v.Foreign - o.Foreign, BadChecksums: v.BadChecksums - o.BadChecksums,
	}
}

// settle waits for packets under way: until all have come, or none for a while.
func (l *Live) settle(ctx context.Context, want uint64) (liveframe.Received, error) {
	const step, patience = 5 * time.Millisecond, 40
	quiet := 0
	last, err := l.wire.Total()
	for err == nil && quiet < patience && last.Packets < want {
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(step):
		}
		var now liveframe.Received
		now, err = l.wire.Total()
		if now == last {
			quiet++
		} else {
			quiet = 0
		}
		last = now
	}
	return last, err
}
