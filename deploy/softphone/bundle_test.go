package softphone_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBundleIsBuiltFromSource runs the command of embed.go's go:generate line
// into another directory and compares what comes out with what is committed.
func TestBundleIsBuiltFromSource(t *testing.T) {
	source, err := os.ReadFile("embed.go")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^//go:generate (.+) --outdir=dist$`).FindSubmatch(source)
	if line == nil {
		t.Fatal("embed.go has no go:generate line that ends in --outdir=dist")
	}
	command := strings.Fields(string(line[1]))
	if out, err := exec.Command(command[0], append(command[1:4:4], "--version")...).CombinedOutput(); err != nil {
		t.Skipf("esbuild cannot be built here: %v\n%s", err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command(command[0], append(command[1:], "--outdir="+dir)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line[1], err, out)
	}
	built, committed := names(t, dir), names(t, "dist")
	if strings.Join(built, " ") != strings.Join(committed, " ") {
		t.Fatalf("the source makes %s, dist has %s: run go generate ./deploy/softphone", built, committed)
	}
	for _, name := range built {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("dist", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("dist/%s is not what the source makes: run go generate ./deploy/softphone", name)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
