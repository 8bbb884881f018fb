//go:build linux && (amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
)

// pins are the objects of a node and where they are pinned.
type pins struct {
	dir     string
	maps    bpf.Maps
	program *ebpf.Program
	links   map[int]link.Link // by interface index
	native  bool
	names   []string
	// fresh: the maps were made by this process.
	fresh bool
}

// objects are what a collection is assigned to.
type objects struct {
	bpf.Maps
	Fastpath *ebpf.Program `ebpf:"fastpath"`
}

// escape makes a name of one path element without dots, which a BPF file system
// does not have.
func escape(node string) string {
	var b strings.Builder
	for _, c := range []byte(node) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// directory is where a node's objects are pinned.
func directory(parent, node string) string { return filepath.Join(parent, escape(node)) }

// checkFS says whether a directory, or what of it there is, lies in a BPF file
// system.
func checkFS(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		switch {
		case errors.Is(err, unix.ENOENT) && at != filepath.Dir(at):
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", at, err)
		case st.Type != unix.BPF_FS_MAGIC:
			return fmt.Errorf("%s is in no BPF file system (xdp.directory): mount -t bpf bpf %s", dir, filepath.Dir(filepath.Clean(dir)))
		}
		return nil
	}
}

// openPins makes or takes over everything that is pinned.
func openPins(cfg Config, interfaces []net.Interface) (_ *pins, err error) {
	p := &pins{dir: directory(cfg.Directory, cfg.Node), links: map[int]link.Link{}}
	for _, i := range interfaces {
		p.names = append(p.names, i.Name)
	}
	if err := checkFS(cfg.Directory); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(p.dir, "maps"), filepath.Join(p.dir, "links")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("xdp.directory: %w", err)
		}
	}
	defer func() {
		if err != nil {
			p.abandon()
		}
	}()
	s, err := spec(cfg.MaxFlows)
	if err != nil {
		return nil, err
	}
	replacements, err := p.takeMaps(s)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, m := range replacements {
			_ = m.Close()
		}
	}()
	var o objects
	if err := s.LoadAndAssign(&o, &ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return nil, err
	}
	p.maps, p.program, p.fresh = o.Maps, o.Fastpath, replacements == nil
	if err := p.maps.Nodes.Update(uint32(0), &bpf.Node{Layout: bpf.Layout, Heartbeat: uint64(monotonic())}, ebpf.UpdateAny); err != nil {
		return nil, err
	}
	if err := p.pin(); err != nil {
		return nil, err
	}
	return p, p.attach(interfaces, cfg.Attachment)
}

// takeMaps opens the pinned maps, when they are of the layout that the program
// has: nil when there are none to take over.
func (p *pins) takeMaps(s *ebpf.CollectionSpec) (_ map[string]*ebpf.Map, err error) {
	found := map[string]*ebpf.Map{}
	defer func() {
		if err != nil || len(found) == 0 {
			for _, m := range found {
				_ = m.Close()
			}
		}
	}()
	dir := filepath.Join(p.dir, "maps")
	for name, want := range s.Maps {
		if strings.HasPrefix(name, ".") {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = m
		want.MaxEntries = m.MaxEntries()
	}
	if len(found) == 0 {
		return nil, nil
	}
	if p.understands(s, found) {
		return found, nil
	}
	// Of another version: its flows cannot be read. Their streams go on through
	// user space as soon as the program is replaced.
	for _, m := range found {
		_ = m.Close()
	}
	found = nil
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return nil, os.Mkdir(dir, 0o700)
}

// understands says whether maps are of the layout that the program has.
func (p *pins) understands(s *ebpf.CollectionSpec, found map[string]*ebpf.Map) bool {
	var node bpf.Node
	nodes := found["nodes"]
	if nodes == nil || nodes.Lookup(uint32(0), &node) != nil || node.Layout != bpf.Layout {
		return false
	}
	for name, want := range s.Maps {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if m := found[name]; m == nil || want.Compatible(m) != nil {
			return false
		}
	}
	return true
}

func (p *pins) all() map[string]*ebpf.Map {
	m := &p.maps
	return map[string]*ebpf.Map{
		"causes": m.Causes, "egresses": m.Egresses, "flows": m.Flows, "flows4": m.Flows4, "flows6": m.Flows6,
		"keys": m.Keys, "labels": m.Labels, "nodes": m.Nodes, "ports": m.Ports, "scratches": m.Scratches,
	}
}

func (p *pins) pin() error {
	for name, m := range p.all() {
		path := filepath.Join(p.dir, "maps", name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := m.Pin(path); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	path := filepath.Join(p.dir, "program")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.program.Pin(path); err != nil {
		return fmt.Errorf("pin the program: %w", err)
	}
	return nil
}

// attach makes the program run on the interfaces and nowhere else. Links of an
// earlier process get the new program without a packet passing between.
func (p *pins) attach(interfaces []net.Interface, how Attachment) error {
	wanted := map[int]net.Interface{}
	for _, i := range interfaces {
		wanted[i.Index] = i
	}
	entries, err := os.ReadDir(filepath.Join(p.dir, "links"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(p.dir, "links", entry.Name())
		l, index, err := takeLink(path)
		if _, want := wanted[index]; err == nil && want {
			if err = l.Update(p.program); err == nil {
				p.links[index] = l
				continue
			}
		}
		if l != nil {
			_ = l.Close()
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	p.native = nativeLink(slices.Collect(maps.Keys(p.links)))
	modes := []link.XDPAttachFlags{link.XDPDriverMode, link.XDPGenericMode}
	switch {
	case len(p.links) > 0 && p.native, how == Native:
		modes = modes[:1]
	case len(p.links) > 0, how == Generic, how == Auto && slices.ContainsFunc(interfaces, virtual):
		modes = modes[1:]
	}
	var reasons []error
	for _, mode := range modes {
		err := p.attachAll(interfaces, mode)
		if err == nil {
			p.native = mode == link.XDPDriverMode
			return nil
		}
		reasons = append(reasons, err)
	}
	return errors.Join(reasons...)
}

// takeLink opens a pinned link and tells which interface it is of.
func takeLink(path string) (link.Link, int, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil, 0, err
	}
	info, err := l.Info()
	if err != nil {
		return l, 0, err
	}
	x := info.XDP()
	if x == nil {
		return l, 0, errors.New("not a link of an interface")
	}
	return l, int(x.Ifindex), nil
}

// attachAll attaches to all interfaces in one mode, or to none: packets go from
// one to the other, which between modes not every driver can.
func (p *pins) attachAll(interfaces []net.Interface, mode link.XDPAttachFlags) (err error) {
	var added []int
	defer func() {
		if err == nil {
			return
		}
		for _, index := range added {
			_ = p.links[index].Unpin()
			_ = p.links[index].Close()
			delete(p.links, index)
		}
	}()
	for _, i := range interfaces {
		if p.links[i.Index] != nil {
			continue
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: p.program, Interface: i.Index, Flags: mode})
		if err != nil {
			name := Generic
			if mode == link.XDPDriverMode {
				name = Native
			}
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("%s has another XDP program", i.Name)
			}
			return fmt.Errorf("attach to %s, %s: %w", i.Name, name, err)
		}
		p.links[i.Index] = l
		added = append(added, i.Index)
		if err := l.Pin(filepath.Join(p.dir, "links", strconv.Itoa(i.Index))); err != nil {
			return fmt.Errorf("pin the link of %s: %w", i.Name, err)
		}
	}
	return nil
}

// attachment tells how and where the program runs.
func (p *pins) attachment() string {
	mode := Generic
	if p.native {
		mode = Native
	}
	return fmt.Sprintf("%s XDP on %s", mode, strings.Join(p.names, ", "))
}

// close lets go of everything and leaves it working.
func (p *pins) close() {
	for _, l := range p.links {
		_ = l.Close()
	}
	if p.program != nil {
		_ = p.program.Close()
	}
	_ = p.maps.Close()
}

// abandon undoes openPins, but leaves alone what was there before.
func (p *pins) abandon() {
	if p.fresh || p.program == nil {
		_ = p.remove()
		return
	}
	p.close()
}

// remove detaches the program and takes every pin away.
func (p *pins) remove() error {
	for _, l := range p.links {
		_ = l.Unpin()
	}
	p.close()
	return release(p.dir)
}

// Release takes away everything that a node has pinned, whatever is in it: its
// program leaves the interfaces, and calls go on through user space if there is
// a process for them.
func Release(dir, node string) error {
	if err := checkFS(dir); err != nil {
		return err
	}
	return release(directory(dir, node))
}

func release(dir string) error {
	// Links go first: no packet may meet a program whose maps are gone.
	for _, path := range []string{filepath.Join(dir, "links"), dir} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	return nil
}
