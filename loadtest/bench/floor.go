//go:build linux

package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf/link"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// floor sends every packet back from XDP as it came: no forwarder on this
// interface can cost less.
type floor struct {
	cable *cable
	link  link.Link
}

func (f *floor) name() string   { return Floor }
func (f *floor) config() string { return "" }
func (f *floor) pid() int       { return 0 }

func (f *floor) start(_ context.Context, _ *lab, c *cable) error {
	f.cable = c
	return nil
}

func (f *floor) call(_ context.Context, calls int, _ Suite) (*media.Load, error) {
	load := &media.Load{Codec: codec}
	for i := range 2 * calls {
		load.Endpoints = append(load.Endpoints, media.Endpoint{
			Name: fmt.Sprintf("flow-%d", i), Local: netip.AddrPortFrom(f.cable.nearAddr, firstPort+uint16(i)),
			Remote: netip.AddrPortFrom(f.cable.farAddr, firstPort+uint16(i)),
		})
		load.Streams = append(load.Streams, media.Stream{Name: fmt.Sprintf("flow-%d", i), From: i, To: i, SSRC: uint32(i + 1), Sequence: 1000})
	}
	return load, nil
}

// attach puts the program of a generator onto the interface.
func (f *floor) attach(l *media.Live) error {
	return netns.Do(f.cable.namespace, func() error {
		device, err := net.InterfaceByName(f.cable.far)
		if err != nil {
			return err
		}
		f.link, err = link.AttachXDP(link.XDPOptions{Program: l.Wire().Bounce(), Interface: device.Index, Flags: link.XDPDriverMode})
		return err
	})
}

func (f *floor) hangUp(context.Context) error {
	if f.link == nil {
		return nil
	}
	err := f.link.Close()
	f.link = nil
	return err
}

func (f *floor) stop() { _ = f.hangUp(context.Background()) }
