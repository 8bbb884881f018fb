package media

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/histogram"
)

// traffic is one run over sockets: senders that share the streams, and a
// receiver for every endpoint.
type traffic struct {
	sockets   *Sockets
	options   Options
	gap       time.Duration // of a stream
	senders   [][]*outgoing
	outgoing  []*outgoing
	receivers []*receiver
	foreign   atomic.Uint64
}

// outgoing is a stream as its sender sees it.
type outgoing struct {
	source *source
	conn   *net.UDPConn
	remote netip.AddrPort
	base   uint32
	due    time.Duration // since the start
	moved  time.Duration
	count  uint64
	sent   atomic.Uint64
	errs   atomic.Uint64
	// ahead holds the packets that were encrypted before the run, and times when
	// they were sent.
	ahead [][]byte
	times []atomic.Int64
}

// receiver of an endpoint.
type receiver struct {
	conn   *net.UDPConn
	remote netip.AddrPort
	ice    *ICE
	opener *opener // nil: no stream arrives here
	from   *outgoing

	mu              sync.Mutex
	tally           tally
	verified        uint64
	auth, corrupt   uint64
	latency, jitter histogram.Histogram
	transit         int64
	any             bool
}

// drain is how long packets under way are waited for after the last was sent.
// When all have come, duplicates of them have until nothing came for calm.
const (
	drain = 500 * time.Millisecond
	calm  = 50 * time.Millisecond
)

// monotonic is CLOCK_MONOTONIC, in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

func newTraffic(s *Sockets, o Options) (*traffic, error) {
	l := s.load
	t := &traffic{sockets: s, options: o, gap: time.Duration(float64(time.Second) / l.rate(o))}
	t.senders = make([][]*outgoing, min(max(runtime.GOMAXPROCS(0)/2, 1), len(l.Streams)))
	run := rand.Uint32() | 1
	t.receivers = make([]*receiver, len(l.Endpoints))
	for i := range l.Endpoints {
		t.receivers[i] = &receiver{conn: s.conns[i], remote: l.Endpoints[i].Remote, ice: l.Endpoints[i].ICE}
	}
	for i, stream := range l.Streams {
		from := l.Endpoints[stream.From]
		src, err := newSource(run, uint32(i), stream, l.Codec, from.Keys)
		if err != nil {
			return nil, err
		}
		out := &outgoing{
			source: src, conn: s.conns[stream.From], remote: from.Remote, base: rand.Uint32(),
			count: uint64(o.Duration / t.gap), due: time.Duration(i) * t.gap / time.Duration(len(l.Streams)),
		}
		if o.Ahead {
			if err := out.encrypt(t.gap); err != nil {
				return nil, err
			}
		}
		t.outgoing = append(t.outgoing, out)
		k := i % len(t.senders)
		t.senders[k] = append(t.senders[k], out)
		if stream.To < 0 {
			continue
		}
		r := t.receivers[stream.To]
		r.from = out
		if r.opener, err = newOpener(run, uint32(i), l.Codec, l.Endpoints[stream.To].Keys); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// encrypt makes all packets of a stream.
func (o *outgoing) encrypt(gap time.Duration) error {
	o.ahead, o.times = make([][]byte, o.count), make([]atomic.Int64, o.count)
	for i := range o.ahead {
		packet, err := o.source.next(0, o.timestamp(uint64(i), gap))
		if err != nil {
			return err
		}
		o.ahead[i] = append([]byte(nil), packet...)
	}
	return nil
}

// timestamp is the RTP time of packet n.
func (o *outgoing) timestamp(n uint64, gap time.Duration) uint32 {
	return o.base + uint32(n*uint64(gap)/1000*uint64(o.source.codec.Clock)/1e6)
}

func (t *traffic) run(ctx context.Context, r *Result) error {
	receiving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var receivers, senders sync.WaitGroup
	for _, rc := range t.receivers {
		receivers.Go(func() { t.receive(receiving, rc) })
	}
	done := make(chan struct{})
	begin := time.Now()
	for _, list := range t.senders {
		senders.Go(func() { t.send(ctx, begin, list) })
	}
	var seconds float64
	go func() {
		senders.Wait()
		seconds = time.Since(begin).Seconds()
		t.settle(ctx)
		close(done)
	}()
	series, _ := watch(t.options, func() (state, error) { return t.look(), nil }, done)
	<-done
	stop()
	for _, rc := range t.receivers {
		_ = rc.conn.SetReadDeadline(time.Now())
	}
	receivers.Wait()
	for _, rc := range t.receivers {
		_ = rc.conn.SetReadDeadline(time.Time{})
	}
	t.report(r, seconds, series)
	return nil
}

// send paces the streams of one sender. Between two looks at the clock a stream
// sends what is due, but at most at twice its rate; when it is late by more than
// that can make good, its schedule is moved.
func (t *traffic) send(ctx context.Context, begin time.Time, list []*outgoing) {
	const tick = time.Millisecond
	patience := max(t.gap, 5*tick)
	batch := make([]ipv4.Message, 0, 256)
	most := min(max(int(2*tick/t.gap), 1), cap(batch))
	memory := make([][]byte, most)
	left := len(list)
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for left > 0 && ctx.Err() == nil {
		now := time.Since(begin)
		for _, o := range list {
			n := o.sent.Load() + o.errs.Load()
			if n >= o.count || o.due > now {
				continue
			}
			if late := now - o.due; late > patience {
				o.moved += late
				o.due = now
			}
			batch = batch[:0]
			for o.due <= now && n < o.count && len(batch) < most {
				batch = append(batch, t.message(o, n, &memory[len(batch)]))
				o.due += t.gap
				n++
			}
			o.write(batch)
			if n >= o.count {
				left--
			}
		}
		if left > 0 {
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
}

// message is packet n, in memory that is its own until it is sent.
func (t *traffic) message(o *outgoing, n uint64, memory *[]byte) ipv4.Message {
	var packet []byte
	if o.ahead != nil {
		packet = o.ahead[n]
		o.times[n].Store(monotonic())
	} else {
		var err error
		if packet, err = o.source.next(uint64(monotonic()), o.timestamp(n, t.gap)); err != nil {
			packet = nil // an SRTP index that is used up: an empty datagram is none of the stream's
		}
		*memory = append((*memory)[:0], packet...)
		packet = *memory
	}
	return ipv4.Message{Buffers: [][]byte{packet}, Addr: net.UDPAddrFromAddrPort(o.remote)}
}

func (o *outgoing) write(batch []ipv4.Message) {
	if len(batch) == 1 {
		if _, err := o.conn.WriteToUDPAddrPort(batch[0].Buffers[0], o.remote); err != nil {
			o.errs.Add(1)
		} else {
			o.sent.Add(1)
		}
		return
	}
	// sendmmsg is the same for both families.
	conn := ipv4.NewPacketConn(o.conn)
	for len(batch) > 0 {
		n, err := conn.WriteBatch(batch, 0)
		if n <= 0 || err != nil {
			o.errs.Add(1)
			n = 1
		} else {
			o.sent.Add(uint64(n))
		}
		batch = batch[n:]
	}
}

// receive reads an endpoint until ctx ends and its deadline passes.
func (t *traffic) receive(ctx context.Context, r *receiver) {
	batch := make([]ipv4.Message, 16)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	conn := ipv4.NewPacketConn(r.conn)
	for ctx.Err() == nil {
		n, err := conn.ReadBatch(batch, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of one packet, or the end
		}
		now := monotonic()
		for _, m := range batch[:n] {
			t.take(r, m.Buffers[0][:m.N], m.Addr, now)
		}
	}
}

// take counts one datagram.
func (t *traffic) take(r *receiver, b []byte, from net.Addr, now int64) {
	switch {
	case len(b) >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223):
	case r.ice != nil && stun.IsMessage(b):
		r.respond(b, from)
		return
	default:
		return // DTLS, RTCP
	}
	if r.opener == nil {
		t.foreign.Add(1)
		return
	}
	got, err := r.opener.open(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verified++
	switch {
	case errors.Is(err, errAuth):
		r.auth++
		return
	case errors.Is(err, errForeign):
		t.foreign.Add(1)
		return
	case err != nil || got.number >= r.from.count:
		r.corrupt++
		return
	}
	if !r.tally.take(got.number) {
		return
	}
	sent := int64(got.sent)
	if r.from.times != nil {
		sent = r.from.times[got.number].Load()
	}
	transit := now - sent
	r.latency.Add(time.Duration(transit))
	if r.any {
		r.jitter.Add(time.Duration(max(transit-r.transit, r.transit-transit)))
	}
	r.transit, r.any = transit, true
}

// respond answers a check of a target that is a full ICE agent.
func (r *receiver) respond(b []byte, from net.Addr) {
	m := &stun.Message{Raw: append([]byte(nil), b...)}
	address, is := from.(*net.UDPAddr)
	if m.Decode() != nil || m.Type != stun.BindingRequest || !is || stun.NewShortTermIntegrity(r.ice.LocalPassword).Check(m) != nil {
		return
	}
	answer, err := stun.Build(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: address.IP, Port: address.Port},
		stun.NewShortTermIntegrity(r.ice.LocalPassword), stun.Fingerprint)
	if err == nil {
		_, _ = r.conn.WriteToUDP(answer.Raw, address)
	}
}

// look is the state so far.
func (t *traffic) look() state {
	s := state{latency: new(histogram.Histogram), jitter: new(histogram.Histogram)}
	for _, o := range t.outgoing {
		s.counters.Sent += o.sent.Load()
	}
	for _, r := range t.receivers {
		r.mu.Lock()
		s.counters.add(r.counters())
		s.latency.Merge(&r.latency)
		s.jitter.Merge(&r.jitter)
		if r.from != nil {
			sent := r.from.sent.Load()
			s.counters.Lost += sent - min(sent, r.tally.received)
		}
		r.mu.Unlock()
	}
	s.counters.Foreign = t.foreign.Load()
	return s
}

// counters of what arrived; without what was sent.
func (r *receiver) counters() Counters {
	return Counters{
		Received: r.tally.received, Duplicates: r.tally.duplicates, Reordered: r.tally.reordered,
		AuthFailures: r.auth, Corrupt: r.corrupt,
	}
}

// settle waits for packets under way.
func (t *traffic) settle(ctx context.Context) {
	deadline := time.NewTimer(drain)
	defer deadline.Stop()
	const step = 5 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	var last Counters
	for quiet := 0; ; quiet++ {
		now := t.look().counters
		if now != last {
			quiet = 0
		}
		last = now
		if now.Lost == 0 && quiet >= int(calm/step) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

func (t *traffic) report(r *Result, seconds float64, series []Sample) {
	end := t.look()
	r.Total, r.Series, r.Seconds = end.counters, series, seconds
	r.Latency, r.Jitter, r.Bars = percentiles(end.latency), percentiles(end.jitter), bars(end.latency)
	if seconds > 0 {
		r.Rate = float64(r.Total.Sent) / seconds
	}
	for i, o := range t.outgoing {
		s := t.sockets.load.Streams[i]
		c := Counters{}
		if s.To >= 0 {
			rc := t.receivers[s.To]
			c = rc.counters()
			r.Verified += rc.verified
			c.Lost = o.sent.Load() - min(o.sent.Load(), c.Received)
		}
		c.Sent = o.sent.Load()
		r.Moved = max(r.Moved, o.moved.Seconds())
		r.PerStream = append(r.PerStream, StreamResult{s.Name, c})
	}
}
