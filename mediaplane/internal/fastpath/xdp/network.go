//go:build linux && (amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
)

// network is what the engine knows of interfaces and routes.
type network struct {
	interfaces []net.Interface

	mu       sync.Mutex
	egresses map[uint32]bpf.Egress
	// answers of the routing table, for a moment.
	routes map[[2]netip.Addr]answer
}

type answer struct {
	why   string
	until time.Time
}

// answerLife is how long an answer of the routing table is used again.
const answerLife = time.Second

// newNetwork finds the interfaces to attach to.
func newNetwork(names []string, addresses []netip.Addr) (*network, error) {
	n := &network{routes: map[[2]netip.Addr]answer{}}
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("xdp.interfaces: %s: %w", name, err)
		}
		n.interfaces = append(n.interfaces, *i)
	}
	if len(names) > 0 {
		return n, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		list, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 {
			continue
		}
		if slices.ContainsFunc(list, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && slices.Contains(addresses, prefix.Addr().Unmap())
		}) {
			n.interfaces = append(n.interfaces, parent(i))
		}
	}
	n.interfaces = slices.CompactFunc(n.interfaces, func(a, b net.Interface) bool { return a.Index == b.Index })
	if len(n.interfaces) == 0 {
		return nil, fmt.Errorf("no interface but loopback carries one of %v; set xdp.interfaces", addresses)
	}
	return n, nil
}

// parent of a VLAN interface: XDP sees its packets there, with their tags.
func parent(i net.Interface) net.Interface {
	l, err := netlink.LinkByIndex(i.Index)
	if err != nil || l.Type() != "vlan" {
		return i
	}
	p, err := net.InterfaceByIndex(l.Attrs().ParentIndex)
	if err != nil {
		return i
	}
	return *p
}

// virtual says whether an interface is one end of a veth pair. In native mode
// such a pair drops what the program sends, unless its other end polls.
func virtual(i net.Interface) bool {
	l, err := netlink.LinkByIndex(i.Index)
	return err == nil && l.Type() == "veth"
}

// nativeLink says whether interfaces run their program in the driver.
func nativeLink(indices []int) bool {
	return len(indices) > 0 && !slices.ContainsFunc(indices, func(i int) bool {
		l, err := netlink.LinkByIndex(i)
		return err != nil || l.Attrs().Xdp == nil || l.Attrs().Xdp.AttachMode != attachedDriver
	})
}

// attachedDriver is the attach mode of a program in the driver
// (linux/if_link.h).
const attachedDriver = 1

// families of addresses that plans can have.
func (n *network) families(addresses []netip.Addr) (v4, v6 bool) {
	for _, a := range addresses {
		if a.Is4() {
			v4 = true
		} else {
			v6 = true
		}
	}
	return v4, v6
}

// publish tells the programs over which interfaces packets may leave.
func (n *network) publish(m *ebpf.Map) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	attached := func(index int) bool {
		return slices.ContainsFunc(n.interfaces, func(i net.Interface) bool { return i.Index == index })
	}
	now := map[uint32]bpf.Egress{}
	for _, l := range links {
		a := l.Attrs()
		e := bpf.Egress{Ifindex: uint32(a.Index), Mtu: uint16(min(a.MTU, 0xffff))}
		vlan, tagged := l.(*netlink.Vlan)
		switch {
		case tagged && vlan.VlanProtocol == netlink.VLAN_PROTOCOL_8021Q && attached(a.ParentIndex):
			e.Ifindex, e.Vlan = uint32(a.ParentIndex), uint16(vlan.VlanId)
		case !attached(a.Index):
			continue
		}
		now[uint32(a.Index)] = e
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.routes)
	for index, e := range now {
		if err := m.Put(index, &e); err != nil {
			return fmt.Errorf("store interface %d: %w", index, err)
		}
	}
	var index uint32
	var e bpf.Egress
	var gone []uint32
	for i := m.Iterate(); i.Next(&index, &e); {
		if _, there := now[index]; !there {
			gone = append(gone, index)
		}
	}
	for _, index := range gone {
		_ = m.Delete(index)
	}
	n.egresses = now
	return nil
}

// reachable says why packets cannot be sent; it is empty when they can.
func (n *network) reachable(from, to netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	key, now := [2]netip.Addr{from, to}, time.Now()
	if a, ok := n.routes[key]; ok && now.Before(a.until) {
		return a.why
	}
	if len(n.routes) > 1<<16 {
		clear(n.routes)
	}
	why := n.route(from, to)
	n.routes[key] = answer{why, now.Add(answerLife)}
	return why
}

func (n *network) route(from, to netip.Addr) string {
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice()})
	switch {
	case err != nil:
		return fmt.Sprintf("there is no route from %s to %s: %v", from, to, err)
	case len(routes) == 0:
		return fmt.Sprintf("there is no route from %s to %s", from, to)
	case routes[0].Type == unix.RTN_LOCAL:
		return fmt.Sprintf("%s is an address of this host", to)
	case routes[0].Type != unix.RTN_UNICAST:
		return fmt.Sprintf("%s is no unicast address", to)
	}
	index := routes[0].LinkIndex
	if _, ok := n.egresses[uint32(index)]; ok {
		return ""
	}
	name := fmt.Sprint(index)
	if i, err := net.InterfaceByIndex(index); err == nil {
		name = i.Name
	}
	return fmt.Sprintf("packets to %s leave over %s, which is none of xdp.interfaces", to, name)
}

// watch signals changes of interfaces, addresses, routes and neighbours until
// done is closed.
func (n *network) watch(done <-chan struct{}) (<-chan struct{}, error) {
	changes := make(chan struct{}, 1)
	signal := func() {
		select {
		case changes <- struct{}{}:
		default:
		}
	}
	lost := func(error) { signal() }
	links := make(chan netlink.LinkUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 64)
	neighbours := make(chan netlink.NeighUpdate, 64)
	err := errors.Join(
		netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: lost}),
		netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: lost}),
		netlink.NeighSubscribeWithOptions(neighbours, done, netlink.NeighSubscribeOptions{ErrorCallback: lost}),
	)
	if err != nil {
		return nil, err
	}
	go forEach(links, signal)
	go forEach(routes, signal)
	go func() {
		known := map[string]string{}
		for u := range neighbours {
			// Neighbours change their state all the time; only a new
			// hardware address is news.
			key, mac := fmt.Sprint(u.LinkIndex, u.IP), u.HardwareAddr.String()
			if mac == "" || known[key] == mac {
				continue
			}
			if len(known) > 1<<16 {
				clear(known)
			}
			known[key] = mac
			signal()
		}
	}()
	return changes, nil
}

func forEach[T any](c <-chan T, f func()) {
	for range c {
		f()
	}
}
