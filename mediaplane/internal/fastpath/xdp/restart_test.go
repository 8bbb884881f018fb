//go:build linux && (amd64 || arm64)

package xdp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/goleak"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdptest"
)

// holder marks a process that only holds an engine, to be killed.
const holder = "ISTHMUS_XDP_HOLDER"

// call is a plan over the site, and what is at its ends.
type call struct {
	plan *fastpath.Plan
	far  *net.UDPConn // sends
	app  *net.UDPConn // receives
	seq  uint64
	r    *rand.Rand
}

// relayed is plan number i of a site.
func relayed(i int) *fastpath.Plan {
	p := audio(fastpath.Relay, nil, nil)
	p.Key.Local, p.Key.Remote = netip.AddrPortFrom(local4.Addr(), uint16(20000+2*i)), netip.AddrPortFrom(remote4.Addr(), uint16(30000+2*i))
	p.From, p.To = netip.AddrPortFrom(from4.Addr(), 7882), netip.AddrPortFrom(to4.Addr(), uint16(40000+2*i))
	p.Session, p.IndexOffset = fmt.Sprintf("session-%d", i), 77
	return p
}

func newCall(t *testing.T, s *xdptest.Site, p *fastpath.Plan) *call {
	return &call{
		plan: p, r: rand.New(rand.NewPCG(9, 9)),
		far: s.Far.Listen(t, p.Key.Remote.String()), app: s.App.Listen(t, p.To.String()),
	}
}

// talk sends n packets, each after the one before has come.
func (c *call) talk(t *testing.T, n int) {
	t.Helper()
	for range n {
		c.seq++
		b := packet(c.r, c.seq, uint32(c.seq), 400)
		if _, err := c.far.WriteToUDPAddrPort(b, c.plan.Key.Local); err != nil {
			t.Fatal(err)
		}
		if got, _ := receive(t, c.app); !bytes.Equal(got, mapped(c.plan, b, c.seq)) {
			t.Fatalf("packet %d came as % x", c.seq, got)
		}
	}
}

// TestKill kills the process that has the engine. Its plans go on without losing
// a packet, nobody is told that a port is closed, and the next process finds all
// as it was.
func TestKill(t *testing.T) {
	if os.Getenv(holder) != "" {
		hold(t)
		return
	}
	if !xdptest.Namespaced(t) {
		return
	}
	s := xdptest.New(t)
	s.Meet(t)
	process, input := startHolder(t)
	defer input.Close()
	c := newCall(t, s, relayed(0))
	c.talk(t, 50)
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.talk(t, 50)
	_ = process.Wait()
	c.talk(t, 50)

	if err := s.Far.Probe(t, "198.18.0.1", 25000); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("a port without plans answers %v: the test would not notice", err)
	}
	for _, port := range []int{20000, 20001} {
		if err := s.Far.Probe(t, "198.18.0.1", port); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("port %d of a plan answers %v while nobody is there", port, err)
		}
	}

	e := openEngine(t, Native)
	defer e.Close()
	adopted := e.Adopted()
	if len(adopted) != 3 {
		t.Fatalf("%d plans adopted, want 3", len(adopted))
	}
	for _, a := range adopted {
		var i int
		if _, err := fmt.Sscanf(a.Session, "session-%d", &i); err != nil {
			t.Fatal(err)
		}
		want := *relayed(i)
		if i == 0 && (a.Start.Index != 150 || a.Start.Packets != 150) {
			t.Errorf("the plan stands at %+v", a.Start)
		}
		a.Start = want.Start
		if a.Plan != want {
			t.Errorf("adopted\n%+v, want\n%+v", a.Plan, want)
		}
	}
	c.talk(t, 50)
	if at, ok := e.Position(c.plan.Key); !ok || at.Packets != 200 || at.Index != 200 {
		t.Errorf("counters did not go on: %+v", at)
	}
	for i := range 3 {
		if _, ok := e.Remove(relayed(i).Key); !ok {
			t.Errorf("plan %d cannot be removed", i)
		}
	}
}

// hold is the process that is killed.
func hold(t *testing.T) {
	e := openEngine(t, Native)
	for i := range 3 {
		if why, ok := e.Upsert(*relayed(i)); !ok {
			t.Fatal(why)
		}
	}
	fmt.Println("holding")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	t.Fatal("was not killed")
}

func startHolder(t *testing.T) (*exec.Cmd, interface{ Close() error }) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "30s")
	cmd.Env = append(os.Environ(), holder+"=1")
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if lines.Text() == "holding" {
			return cmd, input
		}
		t.Log(lines.Text())
	}
	t.Fatal("the process did not open its engine")
	return nil, nil
}

// TestNothingLeaks counts what is left after plans and engine are gone.
func TestNothingLeaks(t *testing.T) {
	if !xdptest.Namespaced(t) {
		return
	}
	defer goleak.VerifyNone(t)
	xdptest.New(t)
	files := descriptors(t)
	for round := range 2 {
		e := openEngine(t, Native)
		for i := range 100 {
			if why, ok := e.Upsert(*relayed(i)); !ok {
				t.Fatal(why)
			}
		}
		if why, ok := e.Upsert(*relayed(5)); ok || why == "" {
			t.Error("a key was taken twice")
		}
		for i := range 100 {
			if _, ok := e.Remove(relayed(i).Key); !ok {
				t.Fatalf("plan %d is not there", i)
			}
			if _, ok := e.Remove(relayed(i).Key); ok {
				t.Fatalf("plan %d was removed twice", i)
			}
		}
		for name, m := range e.pins.all() {
			if name != "flows4" && name != "ports" && name != "labels" {
				continue
			}
			var k, v []byte
			if m.Iterate().Next(&k, &v) {
				t.Errorf("map %s is not empty", name)
			}
		}
		maps, program := ids(t, e)
		if round == 1 {
			// As a process would that dies.
			e.stop()
			e.done.Wait()
			e.store.unmap()
			e.pins.close()
			if err := Release(e.config.Directory, e.config.Node); err != nil {
				t.Fatal(err)
			}
		} else if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		gone(t, maps, program)
	}
	if entries, err := os.ReadDir(filepath.Join(xdptest.BPFFS, "isthmus")); err != nil || len(entries) != 0 {
		t.Errorf("left in the BPF file system: %v (%v)", entries, err)
	}
	if out := xdptest.IP(t, "link show"); strings.Contains(out, "prog/xdp") {
		t.Errorf("a program is still attached:\n%s", out)
	}
	if now := descriptors(t); now > files {
		t.Errorf("%d file descriptors, %d before", now, files)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// ids of the engine's objects in the kernel.
func ids(t *testing.T, e *Engine) (maps []ebpf.MapID, program ebpf.ProgramID) {
	t.Helper()
	for _, m := range e.pins.all() {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		maps = append(maps, id)
	}
	info, err := e.pins.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	program, _ = info.ID()
	return maps, program
}

// gone waits until the kernel has let go of objects: it does so a little later.
func gone(t *testing.T, maps []ebpf.MapID, program ebpf.ProgramID) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		left := 0
		for _, id := range maps {
			if m, err := ebpf.NewMapFromID(id); err == nil {
				_ = m.Close()
				left++
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if p, err := ebpf.NewProgramFromID(program); err == nil {
			_ = p.Close()
			left++
		}
		if left == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d objects are still in the kernel", left)
		}
	}
}
