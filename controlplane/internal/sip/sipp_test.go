package sip

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// sipp starts a scenario; the function that it answers waits for its success.
func sipp(t *testing.T, scenario, network string, port int, args ...string) func() {
	t.Helper()
	path := program(t, "sipp")
	file, err := filepath.Abs(filepath.Join("testdata", "sipp", scenario+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	mode := map[string]string{"udp": "u1", "tcp": "t1"}[network]
	cmd := exec.Command(path, append([]string{"-sf", file, "-i", "127.0.0.1", "-p", fmt.Sprint(port), "-t", mode,
		"-nostdin", "-timeout", "20", "-timeout_error", "-trace_err", "-error_file", "/dev/stderr"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(cmd.Environ(), "TERM=dumb")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	wait := sync.OnceFunc(func() {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("sipp %s: %v\n%s", scenario, err, out.String())
			}
		case <-time.After(25 * time.Second):
			_ = cmd.Process.Kill()
			<-done
			t.Errorf("sipp %s did not end\n%s", scenario, out.String())
		}
	})
	t.Cleanup(wait)
	return wait
}

// sippBundle is a network whose trunk is a SIPp at a port.
func sippBundle(t *testing.T, network string) (*bundle, int) {
	t.Helper()
	program(t, "sipp")
	port := freePort(t)
	cfg := testConfig()
	tr := trunk.Default()
	tr.Domain, tr.Transport, tr.Targets = "ims.example.com", network, []string{fmt.Sprintf("127.0.0.1:%d", port)}
	cfg.Trunks = []trunk.Config{tr}
	cfg.Timers.T1, cfg.Timers.T2 = 200*time.Millisecond, time.Second
	b := &bundle{l: newListener(t), ladder: &ladder{}, cfg: cfg}
	b.start(t)
	for _, bound := range b.n.Bound() {
		if bound.Network == network {
			b.addr = bound.HostPort()
		}
	}
	return b, port
}

func TestSIPpAnswers(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b, port := sippBundle(t, network)
		wait := sipp(t, "callee", network, port, "-m", "1")
		b.waitFor(t, "SIPp", func() bool { return listening(network, port) })
		if _, err := b.n.Invite(t.Context(), outgoing("c1")); err != nil {
			t.Fatal(err)
		}
		if e := b.l.want("provisional"); e.answer.Code != 183 || !strings.Contains(e.answer.SDP, "m=audio 42000") {
			t.Errorf("%+v", e.answer)
		}
		b.l.want("answered")
		answer, err := b.n.Reoffer(t.Context(), "c1", crlf(offerSDP+"a=sendonly\n"))
		if err != nil || !strings.Contains(answer, "a=recvonly") {
			t.Errorf("hold: %q, %v", answer, err)
		}
		if err := b.n.End(t.Context(), "c1", call.CauseNormal); err != nil {
			t.Fatal(err)
		}
		if e := b.l.want("ended"); e.ending.Kind != gateway.EndedBye {
			t.Errorf("%+v", e.ending)
		}
		wait()
	})
}

func TestSIPpCalls(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b, port := sippBundle(t, network)
		b.l.mu.Lock()
		b.l.answer = func(string, string) (string, error) { return crlf(answerSDP), nil }
		b.l.mu.Unlock()
		const calls = 5
		wait := sipp(t, "caller", network, port, "-m", fmt.Sprint(calls), "-r", "20", b.addr)
		kinds := map[string]int{}
		deadline := time.After(20 * time.Second)
		for kinds["ended"] < calls {
			select {
			case e := <-b.l.events:
				kinds[e.kind]++
				switch e.kind {
				case "incoming":
					if err := b.n.Progress(t.Context(), e.callID, 180, ""); err != nil {
						t.Error(err)
					}
					if err := b.n.Accept(t.Context(), e.callID, crlf(answerSDP)); err != nil {
						t.Error(err)
					}
				case "digit":
					if e.digit != "7" || e.ms != 120 {
						t.Errorf("%+v", e)
					}
				case "offered":
					if !strings.Contains(e.sdp, "a=sendonly") {
						t.Errorf("offer %q", e.sdp)
					}
				case "ended":
					if e.ending.Kind != gateway.EndedBye || e.ending.Q850 != 16 {
						t.Errorf("%+v", e.ending)
					}
				}
			case <-deadline:
				t.Fatalf("only %v", kinds)
			}
		}
		wait()
		for _, k := range []string{"incoming", "confirmed", "digit", "offered"} {
			if kinds[k] != calls {
				t.Errorf("%d times %s for %d calls", kinds[k], k, calls)
			}
		}
	})
}

// listening reports whether a process serves the port on loopback.
func listening(network string, port int) bool {
	if network == "tcp" {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return true
	}
	u.Close()
	return false
}
