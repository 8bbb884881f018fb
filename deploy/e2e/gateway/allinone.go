package gateway

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

// AllInOne starts the all-in-one with some settings of the test's own.
func AllInOne(t testing.TB, more Settings) *Gateway {
	t.Helper()
	g := PrepareAllInOne(t, more)
	g.run()
	pem, err := os.ReadFile(filepath.Join(g.config.Dir, "data", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	g.Roots = x509.NewCertPool()
	if !g.Roots.AppendCertsFromPEM(pem) {
		t.Fatalf("the local certificate authority is no PEM: %s", pem)
	}
	return g
}

// PrepareAllInOne chooses the ports of an all-in-one that Restart will start, for
// peers which must know them before.
func PrepareAllInOne(t testing.TB, more Settings) *Gateway {
	t.Helper()
	dir := t.TempDir()
	g := &Gateway{t: t, SIP: port.Address(t)}
	admin, public := port.Address(t), port.Free(t)
	g.URL, g.Admin = fmt.Sprintf("http://localhost:%d", public), "http://"+admin
	g.Secure = fmt.Sprintf("https://localhost:%d", port.Free(t))
	settings := Settings{
		"log.level":                          "debug",
		"data_dir":                           filepath.Join(dir, "data"),
		"public_url":                         g.URL,
		"secure_url":                         g.Secure,
		"control_plane.admin":                admin,
		"control_plane.nodes.listen.address": port.Address(t),
		"control_plane.nodes.shared_secret":  secret,
		"control_plane.sip.listeners":        listeners(g.SIP),
		"demo_network.listen":                port.Address(t),
	}.with(media(t, "media-1").below("media_plane")).with(more)
	file := settings.write(t, dir)
	g.config = process.Config{Name: "isthmus", Path: program.Path(t, program.Isthmus), Args: []string{"run", "--config", file}, Dir: dir}
	g.token = func(number string) string { return g.Command("token", "--phone", number) }
	return g
}

// Start starts a prepared gateway.
func (g *Gateway) Start() { g.t.Helper(); g.run() }

// Command runs a command of the program with the gateway's configuration and
// answers what it prints.
func (g *Gateway) Command(args ...string) string { g.t.Helper(); return g.CommandWith("", args...) }

// CommandWith is Command with something to read from standard input.
func (g *Gateway) CommandWith(input string, args ...string) string {
	g.t.Helper()
	cmd := exec.Command(g.config.Path, append(args, "--config", g.config.Args[len(g.config.Args)-1])...)
	cmd.Dir = g.config.Dir
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("isthmus %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// CommandLine is Command as one would type it.
func (g *Gateway) CommandLine(command string) string {
	return fmt.Sprintf("'%s' %s --config '%s'", g.config.Path, command, g.config.Args[len(g.config.Args)-1])
}

// Run starts a prepared gateway that is expected to end by itself.
func (g *Gateway) Run() (output string, code int) {
	g.t.Helper()
	p := process.Start(g.t, g.config)
	code = p.Await(starting)
	return p.Output(), code
}
