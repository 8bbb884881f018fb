package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// program finds a peer that the tests talk to, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name, "/usr/bin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// freePort is one that UDP and TCP can have now.
func freePort(t *testing.T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// kamailio starts one with a digest algorithm and answers its address.
func kamailio(t *testing.T, algorithm string) string {
	t.Helper()
	path := program(t, "kamailio")
	dir, err := os.MkdirTemp("", "kam") // short, for its sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	cfg, err := os.ReadFile("testdata/kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("@PORT@", fmt.Sprint(port), "@DIR@", dir, "@ALGORITHM@", algorithm).Replace(string(cfg))
	file := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-f", file, "-DD", "-E", "-m", "32", "-M", "4", "-Y", dir, "-w", dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if t.Failed() {
			t.Logf("kamailio said:\n%s", out.String())
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	probe := "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKprobe\r\nMax-Forwards: 70\r\n" +
		"From: <sip:a@b.c>;tag=1\r\nTo: <sip:a@b.c>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 100)
			_, _ = c.Write([]byte(probe))
			n, _ := c.Read(buf)
			c.Close()
			if strings.HasPrefix(string(buf[:n]), "SIP/2.0 200") {
				return addr
			}
		}
	}
	t.Fatal("kamailio did not start")
	return ""
}

func registerMode(addr, transport string) func(*Config) {
	return func(c *Config) {
		tr := trunk.Default()
		tr.Name, tr.Mode, tr.Domain, tr.Targets, tr.Transport, tr.Identity = "ims", trunk.ModeRegister, "ims.example.com", []string{addr}, transport, ""
		tr.Expires = 3 * time.Second
		tr.Credentials = map[string]trunk.Credentials{
			"+15550100": {Username: "+15550100", Password: "secret"},
			"+15550199": {Username: "+15550199", Password: "secret"},
			"+15550666": {Username: "+15550666", Password: "wrong"},
		}
		c.Trunks = []trunk.Config{tr}
		c.Timers.T1, c.Timers.T2 = 100*time.Millisecond, 400*time.Millisecond
	}
}

func account(id string, n call.Number) gateway.Account {
	return gateway.Account{RegistrationID: id, Tenant: call.DefaultTenant, Number: n}
}

// Registration with digest, a call between two numbers of the same gateway, whose
// INVITE comes back with the Call-ID that it left with, refresh, de-registration.
func TestKamailio(t *testing.T) {
	for _, c := range []struct{ algorithm, transport string }{{"MD5", "udp"}, {"SHA-256", "tcp"}} {
		t.Run(c.algorithm+" "+c.transport, func(t *testing.T) {
			t.Parallel()
			addr := kamailio(t, c.algorithm)
			b := setup(t, c.transport, registerMode(addr, c.transport))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var rejected *gateway.RejectedError
			if err := b.n.Register(ctx, account("bad", "+15550666")); !errors.As(err, &rejected) || rejected.Code != 401 {
				t.Errorf("wrong password: %v", err)
			}
			for id, n := range map[string]call.Number{"r1": "+15550100", "r2": "+15550199", "r3": "+15550199"} {
				if err := b.n.Register(ctx, account(id, n)); err != nil {
					t.Fatalf("%s: %v", id, err)
				}
			}
			if got := b.n.registrar.Count(); got != 2 {
				t.Errorf("%d bindings", got)
			}
			if _, err := b.n.Invite(ctx, outgoing("c1")); err != nil {
				t.Fatal(err)
			}
			in := b.l.want("incoming").incoming
			if in.Caller.Canonical() != "tel:+15550100" || in.Callee.Canonical() != "tel:+15550199" {
				t.Errorf("incoming %+v", in)
			}
			_ = b.n.Progress(ctx, in.CallID, 180, "")
			if e := b.l.want("provisional"); e.callID != "c1" || e.answer.Code != 180 {
				t.Errorf("%+v", e)
			}
			if err := b.n.Accept(ctx, in.CallID, crlf(answerSDP)); err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for range 2 {
				select {
				case e := <-b.l.events:
					seen[e.kind+" "+e.callID] = true
				case <-ctx.Done():
					t.Fatalf("only %v", seen)
				}
			}
			if !seen["answered c1"] || !seen["confirmed "+in.CallID] {
				t.Fatalf("told %v", seen)
			}
			b.l.mu.Lock()
			b.l.answer = func(string, string) (string, error) { return crlf(answerSDP), nil }
			b.l.mu.Unlock()
			answer, err := b.n.Reoffer(ctx, in.CallID, crlf(offerSDP))
			if err != nil || answer != crlf(answerSDP) {
				t.Errorf("re-INVITE through the proxy: %q, %v", answer, err)
			}
			b.l.want("offered")
			if err := b.n.End(ctx, in.CallID, call.CauseNormal); err != nil {
				t.Fatal(err)
			}
			b.l.want("ended")
			b.l.want("ended")
			// Past the first life: only a refresh can have kept it.
			b.waitFor(t, "refresh", func() bool { return b.registers() >= 12 })
			for _, id := range []string{"r1", "r2", "r3"} {
				if err := b.n.Deregister(ctx, id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
			if got := b.n.registrar.Count(); got != 0 {
				t.Errorf("%d bindings after the last left", got)
			}
			if _, err := b.n.Invite(ctx, outgoing("c2")); err != nil {
				t.Fatal(err)
			}
			if e := b.l.want("ended"); e.ending.Code != 404 {
				t.Errorf("a call to a de-registered number: %+v", e.ending)
			}
		})
	}
}

// registers counts REGISTER requests and their answers on the ladder.
func (b *bundle) registers() int {
	b.ladder.mu.Lock()
	defer b.ladder.mu.Unlock()
	n := 0
	for _, e := range b.ladder.entries {
		if strings.Contains(e.Text, " REGISTER\r\n") && (e.Number == "+15550100" || e.Number == "+15550199") {
			n++
		}
	}
	return n
}

// waitFor polls a condition.
func (b *bundle) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s in time", what)
		}
	}
}

// A registrar that dies takes the binding with it, and the gateway hears of it
// once for each device.
func TestBindingLost(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, registerMode(p.addr(), "udp"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 2)
	for _, id := range []string{"r1", "r2"} {
		go func() { done <- b.n.Register(ctx, account(id, "+15550100")) }()
	}
	r := p.request("REGISTER")
	p.reply(r, 423, "x", "Min-Expires: 4")
	r = p.request("REGISTER")
	p.reply(r, 200, "x", "Contact: "+r.req().Contact().Value()+";expires=1", "Service-Route: <sip:orig@"+p.addr()+";lr>")
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	invite := b.invite(t, "c1")
	if h := invite.GetHeaders("Route"); len(h) != 1 || h[0].Value() != "<sip:orig@"+p.addr()+";lr>" {
		t.Errorf("Route of a call: %v", h)
	}
	p.reply(invite, 486, "a")
	b.l.want("ended")
	p.reply(p.request("REGISTER"), 403, "x")
	lost := map[string]bool{}
	for range 2 {
		lost[strings.SplitN(b.l.want("lost").text, ":", 2)[0]] = true
	}
	if !lost["r1"] || !lost["r2"] {
		t.Errorf("lost: %v", lost)
	}
	if err := b.n.Deregister(ctx, "r1"); err != nil {
		t.Error(err)
	}
}
