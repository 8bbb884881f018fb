// Package process runs the programs of end-to-end tests. A program is known by
// its process id alone, runs in a group of its own and does not outlive the test
// that started it, nor the test process, however that ends. What it prints is
// shown when the test fails.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
)

// grace is how long a program may take to end when it is asked to.
const grace = 20 * time.Second

// shown is how much of the output is printed when a test fails, in bytes.
const shown = 60000

// Config of a program.
type Config struct {
	// Name in messages of the test.
	Name string
	Path string
	Args []string
	// Env is added to the environment of the test, without what that says to the
	// test itself (ISTHMUS_…), which would be configuration to the process.
	Env []string
	// Dir to run in; empty: a directory of the test's own.
	Dir string
	// Input of the program; nil for none.
	Input *os.File
	// Quick ends the program by SIGKILL when the test is over.
	Quick bool
}

// Process is a started program.
type Process struct {
	t      testing.TB
	config Config
	cmd    *exec.Cmd
	done   chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

// Start runs a program until the test ends.
func Start(t testing.TB, c Config) *Process {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	p := &Process{t: t, config: c, done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Dir = c.Dir
	mine := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ISTHMUS_") })
	p.cmd.Env = append(mine, c.Env...)
	if c.Input != nil {
		p.cmd.Stdin = c.Input
	}
	p.cmd.Stdout, p.cmd.Stderr = (*sink)(p), (*sink)(p)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Its children may hold the output open after it.
	p.cmd.WaitDelay = 2 * time.Second
	started := make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the
		// program (https://go.dev/issue/27505), so that thread waits here.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ExitCode tells
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", c.Name, err)
	}
	t.Cleanup(p.cleanup)
	return p
}

type sink Process

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(b)
}

func (p *Process) cleanup() {
	if p.config.Quick {
		p.Kill()
	} else if p.Running() {
		p.Stop()
	}
	// What it left in its group.
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	if p.t.Failed() {
		out := p.Output()
		p.t.Logf("%s (pid %d, exit %d) printed:\n%s", p.config.Name, p.PID(), p.ExitCode(), out[max(0, len(out)-shown):])
	}
}

// PID of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is everything that the program has printed.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the program has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode of an ended program, -1 when a signal ended it or it runs.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the program.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("send %s to %s: %v", s, p.config.Name, err)
	}
}

// Kill ends the program and its children without notice, and waits for that.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
	<-p.done
}

// Stop asks the program to end and waits for it. One that does not is killed and
// fails the test.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.t.Errorf("%s runs on %s after SIGTERM", p.config.Name, grace)
		p.Signal(syscall.SIGQUIT) // Go programs show their goroutines
		select {
		case <-p.done:
		case <-time.After(2 * time.Second):
			p.Kill()
		}
	}
}

// Await waits until the program has ended by itself and answers its exit code.
func (p *Process) Await(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("%s has not ended in %s", p.config.Name, within)
	}
	return p.ExitCode()
}

// AwaitOutput waits until the program has printed the text.
func (p *Process) AwaitOutput(within time.Duration, text string) {
	p.t.Helper()
	p.await(within, fmt.Sprintf("%s to print %q", p.config.Name, text), func() error {
		if strings.Contains(p.Output(), text) {
			return nil
		}
		return errors.New("it has not")
	})
}

// AwaitReady waits until the URL answers 200.
func (p *Process) AwaitReady(within time.Duration, url string) {
	p.t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	p.await(within, p.config.Name+" to be ready at "+url, func() error {
		r, err := client.Get(url)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
}

func (p *Process) await(within time.Duration, what string, check func() error) {
	p.t.Helper()
	var died bool
	condition.Await(p.t, within, what, func() error {
		running := p.Running()
		err := check()
		if err != nil && !running {
			died = true
			return nil
		}
		return err
	})
	if died {
		p.t.Fatalf("%s ended with exit code %d while the test waited for %s", p.config.Name, p.ExitCode(), what)
	}
}

// Find answers the path of an installed program. Without it the test is skipped.
func Find(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (Debian package %s)", program, debianPackage)
	}
	return path
}
