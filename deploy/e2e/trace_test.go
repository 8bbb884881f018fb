package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

// isthmus sip trace draws a call while it happens, whole and in order, and what
// there was of it when it is asked later.
func TestTrace(t *testing.T) {
	t.Parallel()
	g := gateway.AllInOne(t, gateway.Settings{"demo_network.ring_time": "100ms"})
	live := process.Start(t, process.Config{
		Name: "isthmus sip trace", Path: program.Path(t, program.Isthmus), Args: []string{"sip", "trace", "--admin", g.Admin, "--number", ada},
	})
	d := g.Device(ada)
	call := d.Call("tel:"+echo, browserHz)
	call.AwaitConnected(patient)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	live.AwaitOutput(patient, "BYE")
	live.AwaitOutput(patient, "event Terminated")
	live.Signal(syscall.SIGINT)
	if code := live.Await(patient); code != 0 {
		t.Errorf("the trace ends with code %d at ^C", code)
	}
	inOrder(t, live.Output(), "POST call", "INVITE "+echo, "100 Trying", "180 Ringing", "200 OK", "ACK", "BYE", "200 OK")
	later := g.Command("sip", "trace", "--call", call.ID, "--no-follow", "--color", "always")
	inOrder(t, later, "INVITE "+echo, "100 Trying", "180 Ringing", "200 OK", "ACK", "BYE", "200 OK")
	if !strings.Contains(later, "\x1b[") || strings.Contains(live.Output(), "\x1b[") {
		t.Error("colours are where they should not be, or not where they should be")
	}
	if none := g.Command("sip", "trace", "--no-follow", "--number", grace); strings.Contains(none, "INVITE") {
		t.Errorf("the calls of another number are shown:\n%s", none)
	}
	if fresh := g.Command("sip", "trace", "--no-follow", "--since", "0s"); strings.Contains(fresh, "INVITE") {
		t.Errorf("what is over is shown:\n%s", fresh)
	}
}

func TestTraceRefused(t *testing.T) {
	t.Parallel()
	g := gateway.NewSplit(t, "", 1, gateway.Settings{"ladder.enabled": false})
	for _, c := range []struct{ admin, says string }{
		{g.Admin, "ladder.enabled: true"}, {g.URL, "admin port"}, {"http://127.0.0.1:9", "no control plane answers"},
	} {
		out, code := command(t, "isthmus", "sip", "trace", "--admin", c.admin)
		if code == 0 || !strings.Contains(out, c.says) {
			t.Errorf("a trace of %s ends with code %d and says %q, want %q", c.admin, code, out, c.says)
		}
	}
}

// inOrder reports texts that do not follow each other.
func inOrder(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := text
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%q is missing, or in the wrong place, in\n%s", w, text)
			return
		}
		rest = after
	}
}
