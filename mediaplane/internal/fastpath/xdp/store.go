//go:build linux && (amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// quarantine is how long a place stays empty after it was given back: by then no
// packet is in work that found it before. Packets take microseconds.
const quarantine = 20 * time.Millisecond

// Errors of a full store.
var (
	errFull = errors.New("all places for flows are in use")
	errKeys = errors.New("all places for SRTP keys are in use")
)

// store is what the programs work with: plans in the maps, and which of their
// places are free. Of the flows and the node it sees the programs' own memory.
//
// Whatever order a process dies in, a plan exists as soon as and as long as its
// key is in flows4 or flows6; the rest is put right by adopt.
type store struct {
	maps   *bpf.Maps
	memory [][]byte
	flows  []bpf.Flow
	node   *bpf.Node

	mu    sync.RWMutex
	plans map[fastpath.Key]*entry
	slots *pool
	keys  *pool
	held  map[fastpath.Fingerprint]*held
	// worn are the places of keys that nobody uses any more but are there yet.
	worn  []place
	ports map[bpf.Port]int
}

// entry is a plan in the maps.
type entry struct {
	slot    uint32
	in, out fastpath.Fingerprint
	// adopted: an earlier process made it.
	adopted bool
}

// held is a key in the maps, and by how many plans it is used.
type held struct {
	slot  uint32
	users int
}

// openStore maps the programs' memory and takes over what is in it.
func openStore(m *bpf.Maps) (*store, error) {
	s := &store{
		maps: m, plans: map[fastpath.Key]*entry{}, held: map[fastpath.Fingerprint]*held{}, ports: map[bpf.Port]int{},
		slots: newPool(m.Flows.MaxEntries()), keys: newPool(m.Keys.MaxEntries()),
	}
	flows, err := s.mmap(m.Flows)
	if err != nil {
		return nil, err
	}
	s.flows = unsafe.Slice((*bpf.Flow)(unsafe.Pointer(&flows[0])), m.Flows.MaxEntries())
	node, err := s.mmap(m.Nodes)
	if err != nil {
		s.unmap()
		return nil, err
	}
	s.node = (*bpf.Node)(unsafe.Pointer(&node[0]))
	if err := s.adopt(); err != nil {
		s.unmap()
		return nil, fmt.Errorf("take over running flows: %w", err)
	}
	return s, nil
}

func (s *store) mmap(m *ebpf.Map) ([]byte, error) {
	size := (int(m.ValueSize())+7)&^7*int(m.MaxEntries()) + unix.Getpagesize() - 1
	size -= size % unix.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory of %s: %w", m, err)
	}
	s.memory = append(s.memory, b)
	return b, nil
}

// unmap lets go of the programs' memory. Nothing may be asked after it.
func (s *store) unmap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.memory {
		_ = unix.Munmap(b)
	}
	s.memory, s.flows, s.node, s.plans = nil, nil, nil, map[fastpath.Key]*entry{}
}

// adopt reads the plans that are in the maps, and gives back what belongs to
// none.
func (s *store) adopt() error {
	used := map[uint32]bool{}
	add := func(key fastpath.Key, slot uint32) error {
		if int(slot) >= len(s.flows) {
			return fmt.Errorf("place %d is beyond the last", slot)
		}
		var label bpf.Label
		if err := s.maps.Labels.Lookup(slot, &label); err != nil {
			return fmt.Errorf("label of place %d: %w", slot, err)
		}
		f := &s.flows[slot]
		e := &entry{slot: slot, in: label.In, out: label.Out, adopted: true}
		s.plans[key] = e
		used[slot] = true
		s.slots.reserve(slot)
		s.hold(e.in, f.KeyIn)
		s.hold(e.out, f.KeyOut)
		for _, p := range localPorts(key.Local) {
			s.ports[p]++
		}
		return nil
	}
	var slot uint32
	var k4 bpf.Key4
	for i := s.maps.Flows4.Iterate(); i.Next(&k4, &slot); {
		if err := add(fromKey4(k4), slot); err != nil {
			return err
		}
	}
	var k6 bpf.Key6
	for i := s.maps.Flows6.Iterate(); i.Next(&k6, &slot); {
		if err := add(fromKey6(k6), slot); err != nil {
			return err
		}
	}

	var lost []uint32
	var label bpf.Label
	for i := s.maps.Labels.Iterate(); i.Next(&slot, &label); {
		if !used[slot] {
			lost = append(lost, slot)
		}
	}
	for _, slot := range lost {
		_ = s.maps.Labels.Delete(slot)
	}
	var closed []bpf.Port
	var p bpf.Port
	var n uint32
	for i := s.maps.Ports.Iterate(); i.Next(&p, &n); {
		if s.ports[p] == 0 {
			closed = append(closed, p)
		}
	}
	for _, p := range closed {
		_ = s.maps.Ports.Delete(p)
	}
	s.slots.settle()
	s.keys.settle()
	return nil
}

func (s *store) hold(f fastpath.Fingerprint, slot uint32) {
	if f == (fastpath.Fingerprint{}) {
		return
	}
	if h := s.held[f]; h != nil {
		h.users++
		return
	}
	s.held[f] = &held{slot: slot, users: 1}
	s.keys.reserve(slot)
}

// localPorts are those on which packets come that belong to a plan: its own, and
// for RTCP the next one (RFC 3550 section 11).
func localPorts(local netip.AddrPort) []bpf.Port {
	list := []bpf.Port{port(local)}
	if local.Port()%2 == 0 {
		list = append(list, port(netip.AddrPortFrom(local.Addr(), local.Port()+1)))
	}
	return list
}

// has says whether there is a plan for a key.
func (s *store) has(key fastpath.Key) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.plans[key] != nil
}

// insert puts a sound plan into the maps.
func (s *store) insert(p *fastpath.Plan) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	slot, ok := s.slots.take(now)
	if !ok {
		return errFull
	}
	e := &entry{slot: slot, in: p.In.Fingerprint(), out: p.Out.Fingerprint()}
	f := newFlow(p)
	if f.KeyIn, err = s.key(p.In, e.in, now); err != nil {
		s.slots.give(slot, now)
		return err
	}
	if f.KeyOut, err = s.key(p.Out, e.out, now); err != nil {
		s.drop(e.in, now)
		s.slots.give(slot, now)
		return err
	}
	s.flows[slot] = *f
	if err = s.publish(p, e); err != nil {
		s.retract(p.Key, e, now)
		if errors.Is(err, unix.E2BIG) {
			return errFull
		}
		return err
	}
	s.plans[p.Key] = e
	return nil
}

// publish makes the programs find a flow.
func (s *store) publish(p *fastpath.Plan, e *entry) error {
	label := bpf.Label{In: e.in, Out: e.out, ClockRate: p.ClockRate}
	copy(label.Session[:], p.Session)
	copy(label.Input[:], p.Input)
	copy(label.Output[:], p.Output)
	if err := s.maps.Labels.Put(e.slot, &label); err != nil {
		return err
	}
	for _, local := range localPorts(p.Key.Local) {
		if s.ports[local]++; s.ports[local] == 1 {
			if err := s.maps.Ports.Put(&local, uint32(1)); err != nil {
				return err
			}
		}
	}
	if p.Key.Local.Addr().Is4() {
		k := key4(p.Key)
		return s.maps.Flows4.Put(&k, e.slot)
	}
	k := key6(p.Key)
	return s.maps.Flows6.Put(&k, e.slot)
}

// retract undoes publish, and gives back what the flow had.
func (s *store) retract(key fastpath.Key, e *entry, now time.Time) {
	if key.Local.Addr().Is4() {
		k := key4(key)
		_ = s.maps.Flows4.Delete(&k)
	} else {
		k := key6(key)
		_ = s.maps.Flows6.Delete(&k)
	}
	for _, local := range localPorts(key.Local) {
		switch s.ports[local]--; {
		case s.ports[local] <= 0:
			delete(s.ports, local)
			_ = s.maps.Ports.Delete(&local)
		}
	}
	_ = s.maps.Labels.Delete(e.slot)
	s.drop(e.in, now)
	s.drop(e.out, now)
	s.slots.give(e.slot, now)
}

// key is the place of a key in the maps; it is there once for all plans.
func (s *store) key(c *fastpath.Crypto, f fastpath.Fingerprint, now time.Time) (uint32, error) {
	if c == nil {
		return 0, nil
	}
	if h := s.held[f]; h != nil {
		h.users++
		return h.slot, nil
	}
	expanded, err := expand(c)
	if err != nil {
		return 0, err
	}
	slot, ok := s.keys.take(now)
	if !ok {
		return 0, errKeys
	}
	if err := s.maps.Keys.Put(slot, expanded); err != nil {
		s.keys.give(slot, now)
		return 0, fmt.Errorf("store keys: %w", err)
	}
	s.held[f] = &held{slot: slot, users: 1}
	return slot, nil
}

// drop lets go of a key. It is wiped once no packet can be in work with it.
func (s *store) drop(f fastpath.Fingerprint, now time.Time) {
	h := s.held[f]
	if h == nil {
		return
	}
	if h.users--; h.users > 0 {
		return
	}
	delete(s.held, f)
	s.worn = append(s.worn, place{h.slot, now})
}

// wipe overwrites keys that were dropped a while ago.
func (s *store) wipe(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.worn) > 0 && now.Sub(s.worn[0].since) >= quarantine {
		_ = s.maps.Keys.Put(s.worn[0].n, &bpf.Crypto{})
		s.keys.give(s.worn[0].n, s.worn[0].since)
		s.worn = s.worn[1:]
	}
}

// remove takes a plan out of the maps.
func (s *store) remove(key fastpath.Key) (fastpath.Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.plans[key]
	if e == nil {
		return fastpath.Position{}, false
	}
	delete(s.plans, key)
	p := position(&s.flows[e.slot], true)
	s.retract(key, e, time.Now())
	return p, true
}

// at answers where a plan is.
func (s *store) at(key fastpath.Key) (fastpath.Position, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.plans[key]
	if e == nil {
		return fastpath.Position{}, false
	}
	return position(&s.flows[e.slot], false), true
}

// each calls yield for every plan until it answers false. Plans may be removed
// meanwhile.
func (s *store) each(yield func(fastpath.Key, fastpath.Position) bool) {
	s.mu.RLock()
	list := maps.Clone(s.plans)
	s.mu.RUnlock()
	for key := range list {
		if p, ok := s.at(key); ok && !yield(key, p) {
			return
		}
	}
}

// adopted lists the plans of an earlier process, and where they stand.
func (s *store) adopted() []fastpath.Adopted {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]fastpath.Adopted, 0, len(s.plans))
	for key, e := range s.plans {
		var label bpf.Label
		if !e.adopted || s.maps.Labels.Lookup(e.slot, &label) != nil {
			continue
		}
		a := fastpath.Adopted{Plan: plan(key, &s.flows[e.slot]), In: e.in, Out: e.out}
		a.Session, a.Input, a.Output = text(label.Session[:]), text(label.Input[:]), text(label.Output[:])
		a.ClockRate = label.ClockRate
		a.Start = position(&s.flows[e.slot], false)
		list = append(list, a)
	}
	return list
}

func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// size is how many plans there are.
func (s *store) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.plans)
}

// beat tells the programs that user space is there.
func (s *store) beat() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.node != nil {
		atomic.StoreUint64(&s.node.Heartbeat, uint64(monotonic()))
	}
}

// reroute makes the programs ask for every next hop again.
func (s *store) reroute() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.node != nil {
		atomic.AddUint32(&s.node.Generation, 1)
	}
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the programs' clock.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// pool hands out numbered places, those longest unused first.
type pool struct {
	taken []bool
	free  []place
}

type place struct {
	n     uint32
	since time.Time
}

func newPool(n uint32) *pool {
	p := &pool{taken: make([]bool, n), free: make([]place, 0, n)}
	for i := range n {
		p.free = append(p.free, place{n: i})
	}
	return p
}

// reserve takes a certain place of a new pool; settle must follow.
func (p *pool) reserve(n uint32) {
	if int(n) < len(p.taken) {
		p.taken[n] = true
	}
}

func (p *pool) settle() {
	p.free = slices.DeleteFunc(p.free, func(f place) bool { return p.taken[f.n] })
}

func (p *pool) take(now time.Time) (uint32, bool) {
	if len(p.free) == 0 || now.Sub(p.free[0].since) < quarantine {
		return 0, false
	}
	n := p.free[0].n
	p.free = p.free[1:]
	p.taken[n] = true
	return n, true
}

func (p *pool) give(n uint32, now time.Time) {
	p.taken[n] = false
	p.free = append(p.free, place{n, now})
}

// causes adds up the programs' counters over all CPUs.
func (s *store) causes(yield func(cause string, packets uint64) bool) {
	var cpus []uint64
	for i, name := range bpf.Causes {
		if s.maps.Causes.Lookup(uint32(i), &cpus) != nil {
			return
		}
		var n uint64
		for _, c := range cpus {
			n += c
		}
		if !yield(name, n) {
			return
		}
	}
}
