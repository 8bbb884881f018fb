package boot

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type sample struct {
	Log   Log `yaml:"log"`
	Inner `yaml:",inline"`
}

type Inner struct {
	Store struct {
		DSN  string        `yaml:"dsn" help:"Where." secret:"true"`
		Wait time.Duration `yaml:"wait" help:"How long."`
	} `yaml:"store"`
	Trunks []trunk `yaml:"trunks" help:"Ways out."`
}

type trunk struct {
	Name      string            `yaml:"name" help:"Its name."`
	Passwords map[string]string `yaml:"passwords" help:"By number." secret:"true"`
}

func defaults() *sample {
	s := &sample{Log: DefaultLog()}
	s.Store.Wait = 5 * time.Second
	return s
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSourcesOverrideEachOther(t *testing.T) {
	s := defaults()
	err := Load(s, Sources{
		File:    file(t, "store:\n  dsn: from-file\n  wait: 7s\nlog:\n  level: warn\n"),
		Prefix:  "X",
		Environ: []string{"X_STORE_DSN=from-env", "X_TRUNKS=[{name: a, passwords: {\"+1\": p}}]", "OTHER=1"},
		Set:     []string{"log.format=json", "store.wait=9s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Store.DSN != "from-env" || s.Store.Wait != 9*time.Second || s.Log.Level != "warn" || s.Log.Format != "json" {
		t.Fatalf("loaded %+v", s)
	}
	if len(s.Trunks) != 1 || s.Trunks[0].Passwords["+1"] != "p" {
		t.Fatalf("trunks %+v", s.Trunks)
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		sources Sources
		want    string
	}{
		"file":        {Sources{File: file(t, "store:\n  dns: x\n")}, "dns"},
		"top level":   {Sources{File: file(t, "stoer: {}\n")}, "stoer"},
		"list":        {Sources{File: file(t, "trunks: [{nmae: a}]\n")}, "nmae"},
		"environment": {Sources{Prefix: "X", Environ: []string{"X_STORE_DNS=1"}}, "X_STORE_DNS"},
		"flag":        {Sources{Set: []string{"store.dns=1"}}, "store.dns"},
		"no value":    {Sources{Set: []string{"store.dsn"}}, "key=value"},
		"bad value":   {Sources{Set: []string{"store.wait=long"}}, "store.wait"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Load(defaults(), c.sources)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v does not name %q", err, c.want)
			}
		})
	}
}

func TestPrintHidesSecretsAndLoadsAgain(t *testing.T) {
	s := defaults()
	s.Store.DSN = "hush"
	s.Trunks = []trunk{{Name: "a", Passwords: map[string]string{"+1": "hush"}}}
	var b strings.Builder
	if err := Print(&b, s); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hush") {
		t.Fatalf("a secret is shown:\n%s", b.String())
	}
	if s.Store.DSN != "hush" || s.Trunks[0].Passwords["+1"] != "hush" {
		t.Fatal("printing changed the configuration")
	}
	again := defaults()
	if err := Load(again, Sources{File: file(t, b.String())}); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if again.Store.Wait != 5*time.Second || again.Trunks[0].Name != "a" {
		t.Fatalf("printed and loaded: %+v", again)
	}
}

func TestReferenceListsEveryKey(t *testing.T) {
	var b strings.Builder
	if err := Reference(&b, defaults()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"`log.level` | `info`", "`store.wait` | `5s`", "`trunks[].passwords`", "How long."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// A program reads its configuration again, from its defaults on, and what fails is
// logged.
func TestReload(t *testing.T) {
	name := file(t, "store:\n  dsn: one\n  wait: 7s\n")
	lines, w := io.Pipe()
	log := slog.New(slog.NewTextHandler(w, nil))
	config := defaults()
	err := Program{Name: "p", Config: config, Run: func(p Process) error {
		ctx, cancel := context.WithCancel(p.Context)
		defer cancel()
		got := make(chan *sample)
		Reloads(ctx, log, func() error {
			fresh, err := p.Again()
			if err == nil {
				got <- fresh.(*sample)
			}
			return err
		})
		hup := func(text string) {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		hup("store:\n  dsn: two\n")
		if s := <-got; s.Store.DSN != "two" || s.Store.Wait != 5*time.Second {
			t.Errorf("read again: %+v", s.Store)
		}
		hup("store:\n  dns: three\n")
		line, err := bufio.NewReader(lines).ReadString('\n')
		if err != nil || !strings.Contains(line, "dns") || !strings.Contains(line, "stays in force") {
			t.Errorf("logged %q, %v", line, err)
		}
		return nil
	}}.execute("run", Sourced{File: name})
	if err != nil {
		t.Fatal(err)
	}
	if config.Store.DSN != "one" {
		t.Errorf("the first configuration changed: %+v", config.Store)
	}
}
