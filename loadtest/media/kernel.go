//go:build linux

package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/isthmus-gateway/isthmus/loadtest/liveframe"
)

// ErrNoKernel says why the kernel cannot send a load.
var ErrNoKernel = errors.New("the kernel cannot send this load")

// RunKernel sends by the kernel what was connected by sockets; these keep consent
// and take what is not RTP. It answers ErrNoKernel, before anything is sent, when
// that does not work here.
func (s *Sockets) RunKernel(ctx context.Context, o Options) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	path, err := s.path()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	rate := s.load.rate(o) * float64(len(s.load.Streams))
	if o.Ahead {
		path.RingFrames = int(rate*o.Duration.Seconds()) + len(s.load.Streams)
	}
	live, err := OpenLive(s.load, path)
	if errors.Is(err, liveframe.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	if err != nil {
		return nil, err
	}
	defer live.Close()
	r := s.load.describe(o)
	r.Driver = "kernel"
	if err := live.Open(ctx); err != nil {
		return nil, err
	}
	p, err := live.Prepare(ctx, rate, o.Duration)
	if err != nil {
		return nil, err
	}
	before, err := live.wire.Total()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	series := make(chan []Sample, 1)
	go func() {
		all, _ := watch(o, func() (state, error) { return live.look(before) }, done)
		series <- all
	}()
	m, err := p.Run(ctx, uint32(rate/5000)|1, rate < 200000)
	close(done)
	r.Series = <-series
	if err != nil {
		return nil, err
	}
	r.Total, r.Seconds, r.Rate, r.Moved = m.Counters, m.Took.Seconds(), m.Rate, m.Moved.Seconds()
	r.Latency, r.Jitter, r.Bars, r.Verified = percentiles(m.Latency), percentiles(m.Jitter), bars(m.Latency), m.Verified.Packets
	return r, live.perStream(r)
}

// look is the state of a run so far.
func (l *Live) look(before liveframe.Received) (state, error) {
	now, err := l.wire.Total()
	if err != nil {
		return state{}, err
	}
	s := state{counters: Counters{
		Sent: l.wire.Sent(), Received: now.Packets - before.Packets,
		Duplicates: now.Duplicates - before.Duplicates, Reordered: now.Reordered - before.Reordered,
	}}
	s.counters.Lost = s.counters.Sent - min(s.counters.Sent, s.counters.Received)
	s.latency, s.jitter, err = l.wire.Histograms()
	return s, err
}

// perStream counts packets since the streams were opened, opening included.
func (l *Live) perStream(r *Result) error {
	for i, s := range l.load.Streams {
		r.PerStream = append(r.PerStream, StreamResult{Name: s.Name, Counters: Counters{Sent: l.wire.Number(i)}})
	}
	for i, rc := range l.receivers {
		got, err := l.wire.Received(i)
		if err != nil {
			return err
		}
		c := &r.PerStream[rc.stream].Counters
		c.Received, c.Duplicates, c.Reordered = got.Packets+got.Unlearned, got.Duplicates, got.Reordered
		c.Lost = c.Sent - min(c.Sent, c.Received+got.Stale)
	}
	return nil
}

// path finds the one interface that leads to the target, and the Ethernet
// addresses on it.
func (s *Sockets) path() (Path, error) {
	var device netlink.Link
	hops := map[netip.Addr]net.HardwareAddr{}
	for i, e := range s.load.Endpoints {
		to := e.Remote.Addr()
		if hops[to] != nil {
			continue
		}
		routes, err := netlink.RouteGet(to.AsSlice())
		if err != nil || len(routes) == 0 {
			return Path{}, fmt.Errorf("no route to %s: %w", to, err)
		}
		if device == nil {
			if device, err = netlink.LinkByIndex(routes[0].LinkIndex); err != nil {
				return Path{}, err
			}
		}
		if device.Attrs().Flags&net.FlagLoopback != 0 {
			return Path{}, errors.New("the target is on this machine, and the loopback interface has no XDP transmit")
		}
		if routes[0].LinkIndex != device.Attrs().Index {
			return Path{}, errors.New("the targets are reached by several interfaces")
		}
		next := net.IP(to.AsSlice())
		if routes[0].Gw != nil {
			next = routes[0].Gw
		}
		if hops[to], err = s.neighbour(device, next, i); err != nil {
			return Path{}, err
		}
	}
	near := device.Attrs().HardwareAddr
	return Path{
		Interface: device.Attrs().Name, CPU: -1,
		Link: func(to netip.Addr) (liveframe.Link, error) {
			return liveframe.Link{From: near, To: hops[to]}, nil
		},
	}, nil
}

// neighbour resolves the next hop of an endpoint: the kernel does it for the
// datagram that is sent.
func (s *Sockets) neighbour(device netlink.Link, next net.IP, endpoint int) (net.HardwareAddr, error) {
	family := netlink.FAMILY_V4
	if next.To4() == nil {
		family = netlink.FAMILY_V6
	}
	for range 40 {
		// One byte is neither RTP nor anything else that shares its port.
		_, _ = s.conns[endpoint].WriteToUDPAddrPort([]byte{0xff}, s.load.Endpoints[endpoint].Remote)
		all, err := netlink.NeighList(device.Attrs().Index, family)
		if err != nil {
			return nil, err
		}
		for _, n := range all {
			if n.IP.Equal(next) && len(n.HardwareAddr) == 6 && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
				return n.HardwareAddr, nil
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s does not answer on %s", next, device.Attrs().Name)
}
