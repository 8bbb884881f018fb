// Package example runs what the documentation shows to newcomers and integrators,
// word for word but for the ports: the commands of the README and of
// deploy/integrators.md and the programs of deploy/example, against the program
// that make run starts.
package example

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

// within bounds one script, which may have to build its programs.
const within = 4 * time.Minute

// The two kinds of applications, as headings name them.
const (
	deviceApp = "device app"
	appServer = "application server"
)

// What the documentation takes for granted about make run.
const (
	apiURL   = "http://localhost:8080"
	hookHost = "localhost:8444"
	dataDir  = ".isthmus"
)

// newcomer is somebody in the directory of the project, who has typed make run.
type newcomer struct {
	t       *testing.T
	gateway *gateway.Gateway
	dir     string
	ports   *strings.Replacer
}

func start(t *testing.T) *newcomer {
	t.Helper()
	dir := t.TempDir()
	link := func(to string, name ...string) {
		name = append([]string{dir}, name...)
		if err := os.Symlink(to, filepath.Join(name...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "deploy"} {
		link(filepath.Join(root(t), name), name)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	link(program.Path(t, program.Isthmus), "bin", "isthmus")
	secure, hook := fmt.Sprintf("https://localhost:%d", port.Free(t)), fmt.Sprintf("localhost:%d", port.Free(t))
	g := gateway.PrepareAllInOne(t, gateway.Settings{
		"data_dir":                           filepath.Join(dir, dataDir),
		"secure_url":                         secure,
		"control_plane.notify.allow_origins": []string{secure, "https://" + hook},
		"demo_network.ring_time":             "200ms",
	})
	g.Start()
	return &newcomer{t: t, gateway: g, dir: dir, ports: strings.NewReplacer(apiURL, g.URL, hookHost, hook)}
}

// paste runs commands in bash, as a newcomer would, until one fails, and answers
// what they print.
func (n *newcomer) paste(t *testing.T, commands ...string) string {
	t.Helper()
	if len(commands) == 0 {
		t.Fatal("there is nothing to paste")
	}
	script := n.ports.Replace(strings.Join(commands, "\n"))
	p := process.Start(t, process.Config{
		Name: "bash", Path: "/bin/bash", Args: []string{"-eux", "-o", "pipefail", "-c", script}, Dir: n.dir, Quick: true,
		// The program that prints tokens is told only which gateway it is.
		Env: []string{"ISTHMUS_PUBLIC_URL=" + n.gateway.URL},
	})
	if code := p.Await(within); code != 0 {
		t.Fatalf("the commands end with %d", code)
	}
	return p.Output()
}

// gone are commands that fail unless the registration, subscription and session
// of the commands before are gone.
const gone = `
for left in webrtc-registration/v0.4/sessions/$registration webrtc-events-subscriptions/v0.3/subscriptions/$subscription \
  webrtc-call-handling/v0.4/sessions/$session; do
  test $(curl -s -o /dev/null -w '%{http_code}' -H "$auth" $api/$left) = 404
done`

// connected are commands that wait for the call of the commands before.
const connected = `
until curl -s -H "$auth" $api/webrtc-call-handling/v0.4/sessions/$session | jq -e '.status == "Connected"'; do sleep 0.2; done`

func TestDocumentation(t *testing.T) {
	t.Parallel()
	n := start(t)
	readme, page := read(t, "README.md"), read(t, "deploy", "integrators.md")
	t.Run("README", func(t *testing.T) {
		blocks := readme.under("## The same call with curl").fenced("sh")
		if len(blocks) != 2 {
			t.Fatalf("there are %d blocks of commands and not 2", len(blocks))
		}
		has(t, n.paste(t, blocks[0], connected, blocks[1], gone), `"status":"Initial"`, `"status":"Ringing"`, `"status":"Connected"`)
	})
	for kind, other := range map[string]string{deviceApp: appServer, appServer: deviceApp} {
		t.Run("curl, "+kind, func(t *testing.T) {
			commands := page.under("## With curl").without(other).fenced("sh")
			out := n.paste(t, append(commands, gone)...)
			has(t, out, "\nHold\n", "\nResume\n", "\nConnected\n", "\nRinging\n", `"status":"Terminated"`)
		})
		t.Run("Go, "+kind, func(t *testing.T) {
			out := n.paste(t, page.under("## In Go").without(other).fenced("sh")...)
			has(t, out, "registered as", "connected", "refreshed", "answered", "session-status Terminated", "done")
		})
	}
}

// The addresses that the documentation names are those of make run.
func TestDocumentedAddresses(t *testing.T) {
	t.Parallel()
	p := process.Start(t, process.Config{
		Name: "isthmus config print", Path: program.Path(t, program.Isthmus), Args: []string{"config", "print"}, Quick: true,
	})
	if code := p.Await(within); code != 0 {
		t.Fatalf("it ends with %d", code)
	}
	has(t, p.Output(), apiURL, "https://"+hookHost, "data_dir: "+dataDir)
}

func has(t *testing.T, out string, all ...string) {
	t.Helper()
	for _, text := range all {
		if !strings.Contains(out, text) {
			t.Errorf("%q is not printed", text)
		}
	}
}
