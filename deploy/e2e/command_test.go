package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

// command runs a program to its end in an empty directory.
func command(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	cmd := exec.CommandContext(ctx, program.Path(t, name), args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %v runs on:\n%s", name, args, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		says []string
		code int
	}{
		{"isthmus", []string{"--help"}, []string{"Usage: isthmus", "run", "token", "config print", "--config", "--set"}, 0},
		{"controlplane", []string{"--help"}, []string{"Usage: controlplane", "--config", "--set"}, 0},
		{"mediaplane", []string{"--help"}, []string{"Usage: mediaplane", "--config", "--set"}, 0},
		{"isthmus", []string{"version"}, []string{"isthmus "}, 0},
		{"isthmus", []string{"config", "print"}, []string{"control_plane:", "media_plane:", "demo_network:", "dsn:"}, 0},
		{"isthmus", []string{"config", "reference"}, []string{"control_plane.sip.trunks", "media_plane.webrtc.port", "control_plane.store.dsn"}, 0},
		{"controlplane", []string{"config", "print"}, []string{"sip:", "store:"}, 0},
		{"mediaplane", []string{"config", "print"}, []string{"webrtc:", "rtp:"}, 0},
		{"isthmus", []string{"--set", "control_plane.sip.trunk=1"}, []string{`"control_plane.sip.trunk"`}, 1},
		{"controlplane", []string{"--set", "sip.max_calls=many"}, []string{"sip.max_calls"}, 1},
		{"mediaplane", []string{"--set", "rpc.shared_secret=short"}, []string{"rpc.shared_secret"}, 1},
		{"controlplane", []string{"--set", "nodes.listen.address=0.0.0.0:0", "--set", "nodes.shared_secret=long enough for this"}, []string{"nodes.listen.certificate"}, 1},
	} {
		t.Run(strings.Join(append([]string{c.name}, c.args...), " "), func(t *testing.T) {
			t.Parallel()
			out, code := command(t, c.name, c.args...)
			if code != c.code {
				t.Errorf("ends with code %d, want %d:\n%s", code, c.code, out)
			}
			for _, text := range c.says {
				if !strings.Contains(out, text) {
					t.Errorf("does not say %q:\n%s", text, out)
				}
			}
		})
	}
}

// An unknown key is refused by name, wherever it comes from, and secrets are not
// printed.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "isthmus.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("control_plane:\n  sip:\n    listener: 5060\n")
	if out, code := command(t, "isthmus", "--config", file); code == 0 || !strings.Contains(out, "listener") {
		t.Errorf("a file with an unknown key gives code %d:\n%s", code, out)
	}
	write("control_plane:\n  nodes:\n    shared_secret: nobody may read this\n  sip:\n    trunks:\n" +
		"      - name: a\n        targets: [\"127.0.0.1:5060\"]\n        credentials:\n          \"+15550001\": {username: u, password: nor this one}\n")
	out, code := command(t, "isthmus", "config", "print", "--config", file)
	if code != 0 || strings.Contains(out, "nobody may read this") || strings.Contains(out, "nor this one") || !strings.Contains(out, "127.0.0.1:5060") {
		t.Errorf("config print gives code %d:\n%s", code, out)
	}
}

// A port that is taken is found at the start, and the message says which key to
// change.
func TestBusyPort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key   string
		value func(address string) any
		says  string
		udp   bool
	}{
		{key: "control_plane.admin", says: "control_plane.admin"},
		{key: "control_plane.nodes.listen.address", says: "control_plane.nodes.listen.address"},
		{key: "control_plane.sip.listeners", udp: true, says: "control_plane.sip.listeners[0].address",
			value: func(a string) any { return []map[string]any{{"network": "udp", "address": a}} }},
		{key: "media_plane.rpc.listen", says: "media_plane.rpc.listen"},
		{key: "media_plane.webrtc.port", udp: true, says: "media_plane.webrtc.port", value: func(a string) any {
			_, p, _ := net.SplitHostPort(a)
			return jsonNumber(p)
		}},
		{key: "demo_network.listen", udp: true, says: "demo_network.listen"},
		{key: "public_url", says: "public_url", value: func(a string) any { return "http://" + a }},
	} {
		t.Run(c.key, func(t *testing.T) {
			t.Parallel()
			taken := address(port.Free(t))
			if c.udp {
				conn, err := net.ListenPacket("udp", taken)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			} else {
				l, err := net.Listen("tcp", taken)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			var value any = taken
			if c.value != nil {
				value = c.value(taken)
			}
			g := gateway.PrepareAllInOne(t, gateway.Settings{c.key: value})
			out, code := g.Run()
			if code == 0 || !strings.Contains(out, c.says) || !strings.Contains(out, "in use") {
				t.Errorf("ends with code %d without naming %s:\n%s", code, c.says, out)
			}
		})
	}
}

type jsonNumber string

// MarshalJSON writes the number as it stands.
func (n jsonNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// The README makes a call with curl. Its own words are run here.
func TestCurl(t *testing.T) {
	t.Parallel()
	process.Find(t, "curl", "curl")
	process.Find(t, "jq", "jq")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The same call with curl")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("the README has %d blocks of commands below \"The same call with curl\", want 2", len(blocks))
	}
	// Whoever types this waits for the call to be answered in between.
	script := blocks[0][1] + "\nread -r _\n" + blocks[1][1]
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.AllInOne(t, gateway.Settings{"demo_network.ring_time": "100ms"})
	for old, mine := range map[string]string{
		"api=http://localhost:8080":   "api=" + g.URL,
		"bin/isthmus token":           g.CommandLine("token"),
		"go run ./deploy/example/sdp": "go -C '" + root + "' run ./deploy/example/sdp",
	} {
		if !strings.Contains(script, old) {
			t.Fatalf("the README's commands do not contain %q", old)
		}
		script = strings.ReplaceAll(script, old, mine)
	}

	input, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer typed.Close()
	p := process.Start(t, process.Config{
		Name: "README", Path: "/bin/sh", Args: []string{"-e", "-c", script}, Input: input, Quick: true,
	})
	input.Close()
	p.AwaitOutput(patient, `"status":"Connected"`)
	if _, err := typed.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if code := p.Await(patient); code != 0 {
		t.Errorf("the README's commands end with code %d", code)
	}
	out := p.Output()
	for _, want := range []string{`"status":"Initial"`, `"status":"Ringing"`, `"mediaSessionId"`} {
		if !strings.Contains(strings.ReplaceAll(out, `": "`, `":"`), want) {
			t.Errorf("the output does not contain %s", want)
		}
	}
	if failures := regexp.MustCompile(`"code": ?"[A-Z_]+"`).FindAllString(out, -1); len(failures) > 0 {
		t.Errorf("requests were refused: %v", failures)
	}
}
