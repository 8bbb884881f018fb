package example

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// document is the lines of a text in Markdown.
type document []string

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func text(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{root(t)}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, path ...string) document {
	t.Helper()
	return strings.Split(text(t, path...), "\n")
}

// under is what stands under a heading, up to the next of its level.
func (d document) under(heading string) document {
	level := heading[:strings.IndexByte(heading, ' ')+1]
	var out document
	inside := false
	for _, line := range d.outside() {
		if line.heading && strings.HasPrefix(line.text, level) {
			inside = line.text == heading
		}
		if inside {
			out = append(out, line.text)
		}
	}
	return out
}

// without leaves out the sections that are for one kind of application.
func (d document) without(kind string) document {
	var out document
	outside := false
	for _, line := range d.outside() {
		if line.heading {
			outside = strings.HasSuffix(line.text, ": "+kind)
		}
		if !outside {
			out = append(out, line.text)
		}
	}
	return out
}

type docLine struct {
	text    string
	heading bool
}

// outside tells headings from comments in code.
func (d document) outside() []docLine {
	var out []docLine
	code := false
	for _, line := range d {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		out = append(out, docLine{text: line, heading: !code && strings.HasPrefix(line, "#")})
	}
	return out
}

// fenced are the blocks of code in a language.
func (d document) fenced(language string) []string {
	var out, block []string
	inside := false
	for _, line := range d {
		switch {
		case line == "```"+language:
			inside, block = true, nil
		case line == "```" && inside:
			inside = false
			out = append(out, strings.Join(block, "\n"))
		case inside:
			block = append(block, line)
		}
	}
	return out
}

// What is quoted from the programs is what stands there.
func TestQuotations(t *testing.T) {
	var sources []string
	files, err := filepath.Glob(filepath.Join(root(t), "deploy", "example", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		sources = append(sources, text(t, strings.TrimPrefix(file, root(t))))
	}
	all := strings.Join(sources, "\n")
	quotes := read(t, "deploy", "integrators.md").fenced("go")
	if len(quotes) < 10 {
		t.Fatalf("the page quotes only %d times", len(quotes))
	}
	for _, quote := range quotes {
		if !strings.Contains(all, "\n"+quote+"\n") {
			t.Errorf("this is in none of the programs:\n%s", quote)
		}
	}
}

func TestProgramsHaveTheSameFiles(t *testing.T) {
	for _, name := range []string{"api.go", "call.go", "flow.go", "phone.go"} {
		if text(t, "deploy", "example", "deviceapp", name) != text(t, "deploy", "example", "appserver", name) {
			t.Errorf("%s is not the same in both programs", name)
		}
	}
}
