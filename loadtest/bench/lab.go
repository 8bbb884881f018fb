//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/liveframe"
	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// prefix of everything that the lab makes.
const prefix = "isthmus-bench"

// CPUs: the generator and its sink share one, what is measured has the other.
const (
	generatorCPU = 0
	systemCPU    = 1
)

// urgent is the nice value of generator and systems alike, so that whatever else
// the machine does disturbs them little.
const urgent = -20

// lab is a set of network namespaces: one with the generator, and one for each
// system, joined by a pair of virtual interfaces.
//
//	isthmus-bench-load            isthmus-bench-rtpengine
//	ibl0 198.18.10.2/24 ───────── ibs0 198.18.10.1/24
//	ibl1 198.18.11.2/24 ───────── …
type lab struct {
	namespaces []string
	dir        string
	log        func(string, ...any)
	autogroup  string // nice value of the session before
	locked     *os.File
	spinner    *exec.Cmd
}

// autogroup of the process.
const autogroup = "/proc/self/autogroup"

func autogroupNice() string {
	text, _ := os.ReadFile(autogroup)
	if i := bytes.LastIndexByte(text, ' '); i >= 0 {
		return string(bytes.TrimSpace(text[i:]))
	}
	return "0"
}

// generatorNamespace is where packets come from.
const generatorNamespace = prefix + "-load"

// cable joins the generator with a system.
type cable struct {
	namespace        string
	near, far        string // interfaces: the generator's, the system's
	nearAddr         netip.Addr
	coreAddr         netip.Addr // second address of the generator, for core legs
	farAddr          netip.Addr
	nearMAC, farMAC  net.HardwareAddr
	nearNAPI, farPID int // threads that receive
}

func newLab(ctx context.Context, log func(string, ...any)) (*lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the benchmark makes network namespaces and loads BPF programs: run it as root")
	}
	if runtime.NumCPU() < 2 {
		return nil, errors.New("the benchmark needs two CPUs: one to generate, one to measure")
	}
	for _, tool := range []string{"ip", "ethtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing (Debian: iproute2, ethtool)", tool)
		}
	}
	l := &lab{log: log, autogroup: autogroupNice()}
	if err := l.lock(); err != nil {
		return nil, err
	}
	l.sweep()
	// Nice values count within a session only, where sessions are scheduled as
	// groups (sched(7)). Without that there is nothing to write.
	_ = os.WriteFile(autogroup, []byte(strconv.Itoa(urgent)), 0)
	var err error
	if l.dir, err = os.MkdirTemp("", prefix+"-"); err != nil {
		return nil, err
	}
	if err := errors.Join(l.bpffs(), l.namespace(ctx, generatorNamespace), l.spin()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// bpffs is where the node under test pins its flows.
func (l *lab) bpffs() error {
	dir := filepath.Join(l.dir, "bpf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount a BPF file system: %w", err)
	}
	return nil
}

// lock keeps a second benchmark from taking the first one's namespaces away.
func (l *lab) lock() (err error) {
	if l.locked, err = os.OpenFile(filepath.Join(os.TempDir(), prefix+".lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(l.locked.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = l.locked.Close()
		return errors.New("another benchmark runs on this machine")
	}
	return nil
}

// spin keeps the systems' CPU from going to sleep by a loop of the least priority
// there is. On a virtual machine a CPU that sleeps is woken by the host, which may
// take milliseconds and costs those that wake it; both would be measured as the
// system's.
func (l *lab) spin() error {
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errors.Join(affine(0, systemCPU), schedule(0, unix.SCHED_IDLE, 0))
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start a loop on CPU %d: %w", systemCPU, err)
	}
	l.spinner = cmd
	return nil
}

// sweep removes what a run left that was killed.
func (l *lab) sweep() {
	left, _ := filepath.Glob("/run/netns/" + prefix + "-*")
	for _, path := range left {
		_ = exec.Command("ip", "netns", "delete", filepath.Base(path)).Run()
	}
	left, _ = filepath.Glob(filepath.Join(os.TempDir(), prefix+"-*"))
	for _, dir := range left {
		_ = unix.Unmount(filepath.Join(dir, "bpf"), 0)
		_ = os.RemoveAll(dir)
	}
}

func (l *lab) close() {
	for i := len(l.namespaces) - 1; i >= 0; i-- {
		// Its interfaces go with it.
		_ = exec.Command("ip", "netns", "delete", l.namespaces[i]).Run()
	}
	l.namespaces = nil
	if l.spinner != nil {
		_ = l.spinner.Process.Kill()
	}
	_ = unix.Unmount(filepath.Join(l.dir, "bpf"), unix.MNT_DETACH)
	_ = os.RemoveAll(l.dir)
	_ = os.WriteFile(autogroup, []byte(l.autogroup), 0)
	_ = l.locked.Close()
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	// ^C of the terminal is for the benchmark, which cleans up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (l *lab) namespace(ctx context.Context, name string) error {
	if err := run(ctx, "ip", "netns", "add", name); err != nil {
		return err
	}
	l.namespaces = append(l.namespaces, name)
	return run(ctx, "ip", "-n", name, "link", "set", "lo", "up")
}

// cable makes the k-th system's namespace and joins it.
func (l *lab) cable(ctx context.Context, k int, system string) (*cable, error) {
	c := &cable{
		namespace: prefix + "-" + system, near: fmt.Sprintf("ibl%d", k), far: fmt.Sprintf("ibs%d", k),
		farAddr:  netip.AddrFrom4([4]byte{198, 18, byte(10 + k), 1}),
		nearAddr: netip.AddrFrom4([4]byte{198, 18, byte(10 + k), 2}),
		coreAddr: netip.AddrFrom4([4]byte{198, 18, byte(10 + k), 3}),
	}
	if err := l.namespace(ctx, c.namespace); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"ip", "link", "add", c.near, "netns", generatorNamespace, "type", "veth", "peer", "name", c.far, "netns", c.namespace},
		{"ip", "-n", generatorNamespace, "address", "add", c.nearAddr.String() + "/24", "dev", c.near},
		{"ip", "-n", generatorNamespace, "address", "add", c.coreAddr.String() + "/24", "dev", c.near},
		{"ip", "-n", c.namespace, "address", "add", c.farAddr.String() + "/24", "dev", c.far},
		// A virtual interface takes redirected frames only with NAPI, and
		// receives on its own account only with NAPI in a thread.
		{"ip", "netns", "exec", generatorNamespace, "ethtool", "-K", c.near, "gro", "on"},
		{"ip", "netns", "exec", c.namespace, "ethtool", "-K", c.far, "gro", "on"},
		{"ip", "-n", generatorNamespace, "link", "set", c.near, "up"},
		{"ip", "-n", c.namespace, "link", "set", c.far, "up"},
		{"ip", "netns", "exec", generatorNamespace, "sh", "-c", "echo 1 > /sys/class/net/" + c.near + "/threaded"},
		{"ip", "netns", "exec", c.namespace, "sh", "-c", "echo 1 > /sys/class/net/" + c.far + "/threaded"},
	} {
		if err := run(ctx, args[0], args[1:]...); err != nil {
			return nil, err
		}
	}
	var err error
	if c.nearMAC, err = hardware(generatorNamespace, c.near); err != nil {
		return nil, err
	}
	if c.farMAC, err = hardware(c.namespace, c.far); err != nil {
		return nil, err
	}
	for _, a := range []netip.Addr{c.nearAddr, c.coreAddr} {
		if err := run(ctx, "ip", "-n", c.namespace, "neighbour", "replace", a.String(), "lladdr", c.nearMAC.String(), "dev", c.far, "nud", "permanent"); err != nil {
			return nil, err
		}
	}
	return c, c.pin()
}

// moderation is how long an interface gathers packets before it wakes its thread
// again, as network cards moderate their interrupts by default.
const moderation = 50 * time.Microsecond

// glance is the sink's where it tells the latency. Without any, each packet would
// wake it, at the expense of the system that sends.
const glance = 10 * time.Microsecond

// moderate sets the moderation of both ends: the same for all systems.
func (c *cable) moderate(ctx context.Context, prompt bool) error {
	near := moderation
	if prompt {
		near = glance
	}
	return errors.Join(gather(ctx, generatorNamespace, c.near, near), gather(ctx, c.namespace, c.far, moderation))
}

func gather(ctx context.Context, namespace, device string, d time.Duration) error {
	return run(ctx, "ip", "netns", "exec", namespace, "sh", "-c", fmt.Sprintf(
		"cd /sys/class/net/%s && echo 2 > napi_defer_hard_irqs && echo %d > gro_flush_timeout", device, d.Nanoseconds()))
}

// pin puts the receiving threads of both ends where they belong. They go before
// everything else on their CPUs, as the soft interrupts do whose work they have:
// so the sink tells when packets arrive rather than when it was scheduled.
func (c *cable) pin() error {
	var err error
	if c.nearNAPI, err = kthread("napi/" + c.near + "-"); err != nil {
		return err
	}
	if c.farPID, err = kthread("napi/" + c.far + "-"); err != nil {
		return err
	}
	if err := affine(c.nearNAPI, generatorCPU); err != nil {
		return err
	}
	if err := affine(c.farPID, systemCPU); err != nil {
		return err
	}
	return errors.Join(schedule(c.nearNAPI, unix.SCHED_FIFO, 50), schedule(c.farPID, unix.SCHED_FIFO, 50))
}

// schedule sets the policy of a thread.
func schedule(pid int, policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	if err := unix.SchedSetAttr(pid, &attr, 0); err != nil {
		return fmt.Errorf("scheduling policy of process %d: %w", pid, err)
	}
	return nil
}

func affine(pid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		return fmt.Errorf("pin process %d to CPU %d: %w", pid, cpu, err)
	}
	return nil
}

func hardware(namespace, name string) (mac net.HardwareAddr, err error) {
	err = netns.Do(namespace, func() error {
		device, err := net.InterfaceByName(name)
		if err == nil {
			mac = device.HardwareAddr
		}
		return err
	})
	return mac, err
}

// link of frames to the system.
func (c *cable) link(netip.Addr) (liveframe.Link, error) {
	return liveframe.Link{From: c.nearMAC, To: c.farMAC}, nil
}

// process is a program that is measured.
type process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	name string
}

// start runs a program in a namespace, on the CPU of systems.
func (l *lab) start(namespace, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), out: &tail{}, done: make(chan struct{}), name: filepath.Base(name)}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The kernel ends the program with the thread that started it, so that
		// thread waits for it.
		_ = netns.Do(namespace, func() error {
			err := errors.Join(affine(0, systemCPU), unix.Setpriority(unix.PRIO_PROCESS, 0, urgent))
			if err == nil {
				err = p.cmd.Start()
			}
			started <- err
			if err == nil {
				_ = p.cmd.Wait()
				close(p.done)
			}
			return err
		})
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop ends the program, at once when it takes more than 10 s.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// failed says why a program that should run does not, or that err is its fault.
func (p *process) failed(err error) error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%s):\n%s", p.name, p.cmd.ProcessState, p.out)
	default:
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.out)
	}
}
