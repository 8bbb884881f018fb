// Package archtest holds the project's architecture against its code: which
// package may import which, what stands at the top level, and that every package
// says what it is for.
package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/isthmus-gateway/isthmus/"

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	Imports      []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root(t)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// rule says what packages below a path may import of the project. A path that
// ends in a slash stands for all below it, any other for itself and all below.
type rule struct {
	from string
	may  []string
}

// rules, the most special first: the first that fits a package holds.
var rules = []rule{
	{"proto/gen", []string{"proto/gen"}},
	{"sql", nil},
	{"bpf", []string{"bpf"}},

	{"controlplane/cmd", []string{"controlplane", "deploy/boot"}},
	{"controlplane/internal/call", nil},
	{"controlplane/internal/sdp", nil},
	{"controlplane/internal/gateway", []string{"controlplane/internal/call", "controlplane/internal/sdp"}},
	{"controlplane/internal/store", []string{"controlplane/internal/store", "controlplane/internal/gateway", "controlplane/internal/call", "controlplane/internal/sdp", "sql"}},
	{"controlplane/internal/media", []string{"controlplane/internal/media", "controlplane/internal/gateway", "controlplane/internal/call", "controlplane/internal/sdp", "proto/gen"}},
	{"controlplane/internal/camara", adapter("camara")},
	{"controlplane/internal/auth", adapter("auth")},
	{"controlplane/internal/sip", adapter("sip")},
	{"controlplane/internal/notify", adapter("notify")},
	{"controlplane/internal/relay", adapter("relay")},
	{"controlplane/internal/ladder", adapter("ladder")},
	{"controlplane", []string{"controlplane/internal", "proto/gen"}},

	{"mediaplane/cmd", []string{"mediaplane", "deploy/boot"}},
	{"mediaplane/internal/udp", []string{"mediaplane/internal/udp"}},
	{"mediaplane/internal/icelite", []string{"mediaplane/internal/icelite", "mediaplane/internal/udp"}},
	{"mediaplane/internal/srtp", []string{"mediaplane/internal/srtp"}},
	{"mediaplane/internal/dtlssrtp", []string{"mediaplane/internal/dtlssrtp", "mediaplane/internal/srtp", "mediaplane/internal/udp"}},
	{"mediaplane/internal/forward", []string{"mediaplane/internal/forward"}},
	{"mediaplane/internal/fastpath", []string{"mediaplane/internal/fastpath", "mediaplane/internal/forward", "mediaplane/internal/srtp", "mediaplane/internal/udp", "bpf/fastpath"}},
	{"mediaplane/internal/session", []string{"mediaplane/internal/session", "mediaplane/internal/icelite", "mediaplane/internal/dtlssrtp", "mediaplane/internal/srtp", "mediaplane/internal/forward", "mediaplane/internal/fastpath", "mediaplane/internal/udp", "proto/gen"}},
	{"mediaplane/internal/rpc", []string{"mediaplane/internal/rpc", "mediaplane/internal/session", "proto/gen"}},
	{"mediaplane", []string{"mediaplane/internal", "proto/gen"}},

	{"loadtest/cmd", []string{"loadtest", "deploy/boot"}},
	{"loadtest/telco", []string{"loadtest/telco", "loadtest/tone"}},
	{"loadtest", []string{"loadtest", "proto/gen"}},
	{"deploy/cmd/isthmus", []string{"controlplane", "mediaplane", "loadtest/telco", "deploy/boot", "deploy/devoauth", "deploy/softphone", "deploy/allinone", "deploy/ladder"}},
	{"deploy/allinone", []string{"controlplane", "mediaplane", "loadtest/telco", "deploy/boot", "deploy/devoauth", "deploy/softphone", "deploy/allinone"}},
	{"deploy/boot", nil},
	{"deploy/devoauth", []string{"deploy/devoauth"}},
	{"deploy/softphone", nil},
	{"deploy/ladder", nil},
	{"deploy/archtest", nil},
	// Whoever copies an example takes nothing of the project along.
	{"deploy/example", nil},
	{"deploy/e2e", []string{"deploy", "loadtest", "proto/gen"}},
}

// adapter is what an adapter of the control plane may import: the heart and
// itself, never another adapter.
func adapter(name string) []string {
	return []string{"controlplane/internal/" + name, "controlplane/internal/gateway", "controlplane/internal/call", "controlplane/internal/sdp"}
}

func below(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		i := slices.IndexFunc(rules, func(r rule) bool { return below(p.path(), r.from) })
		if i < 0 {
			t.Errorf("no rule says what %s may import", p.path())
			continue
		}
		for _, imported := range p.Imports {
			path, own := strings.CutPrefix(imported, module)
			if own && !slices.ContainsFunc(rules[i].may, func(m string) bool { return below(path, m) }) {
				t.Errorf("%s imports %s, which is against the arrows", p.path(), path)
			}
		}
	}
}

func TestBootIsForMains(t *testing.T) {
	for _, p := range packages(t) {
		if strings.Contains(p.path(), "/cmd/") || below(p.path(), "deploy/boot") || below(p.path(), "deploy/allinone") {
			continue
		}
		if slices.Contains(p.Imports, module+"deploy/boot") {
			t.Errorf("%s imports deploy/boot, which is for programs only", p.path())
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" && !below(p.path(), "proto/gen") && !below(p.path(), "controlplane/internal/store/queries") {
			t.Errorf("%s has no package comment", p.path())
		}
		name := filepath.Base(p.path())
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc", "base", "types"}, name) {
			t.Errorf("%s: a package is named for what it is", p.path())
		}
	}
}

func TestTopLevel(t *testing.T) {
	fixed := []string{
		"controlplane", "mediaplane", "proto", "sql", "bpf", "loadtest", "deploy",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "bin",
	}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(fixed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

func TestNoSleepsInTests(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			file := filepath.Join(p.Dir, name)
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// In a synctest bubble sleeping costs no time and hides no race.
			bubble := slices.ContainsFunc(parsed.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
			if strings.Contains(string(text), "time."+"Sleep(") && !bubble {
				t.Errorf("%s sleeps: wait for what the test needs instead", file)
			}
		}
	}
}
