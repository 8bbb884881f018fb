package telco

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The SIPp scenarios in testdata drive the network the way a trunk does; SIPp
// is an implementation of SIP that shares no code with this package.
func TestSIPp(t *testing.T) {
	sipp, err := exec.LookPath("sipp")
	if err != nil {
		t.Skip("sipp is not installed (Debian package sip-tester)")
	}
	for _, c := range []struct {
		scenario, number, transport string
		calls                       int
	}{
		{"echo.xml", "+15550100", "u1", 5},
		{"echo.xml", "+1-555-(0100)", "t1", 5},
		{"busy.xml", "5550102", "u1", 3},
		{"cancel.xml", "+15550105", "u1", 2},
		{"prack.xml", "+15550106", "u1", 2},
		{"register.xml", bob, "u1", 1},
	} {
		t.Run(c.scenario+" "+c.transport, func(t *testing.T) {
			t.Parallel()
			network, trace := start(t, func(cfg *Config) {
				cfg.Subscribers = []Subscriber{{Number: bob, Password: "secret-b"}}
				cfg.Registrar.Algorithms = []string{"MD5"} // all that SIPp knows
			})
			ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
			defer cancel()
			scenario, err := filepath.Abs(filepath.Join("testdata", c.scenario))
			if err != nil {
				t.Fatal(err)
			}
			var output bytes.Buffer
			cmd := exec.CommandContext(ctx, sipp, network.Addr().String(),
				"-sf", scenario, "-s", c.number, "-t", c.transport, "-i", "127.0.0.1", "-p", strconv.Itoa(freePort(t)),
				"-m", strconv.Itoa(c.calls), "-r", "5", "-nostdin", "-recv_timeout", "8000", "-timeout", "30s",
				"-au", bob, "-ap", "secret-b", "-mp", strconv.Itoa(freePort(t)), "-trace_err", "-error_file", "errors.log")
			cmd.Dir = t.TempDir()
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Run(); err != nil {
				found, _ := os.ReadFile(filepath.Join(cmd.Dir, "errors.log"))
				t.Fatalf("sipp: %v\n%s\n%s", err, found, tail(output.Bytes()))
			}
			if trace.count("received") == 0 {
				t.Fatal("sipp succeeded without a message")
			}
			eventually(t, "end of all legs", func() bool { return legs(network) == 0 })
		})
	}
}

func tail(b []byte) string {
	return string(b[max(0, len(b)-3000):])
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
