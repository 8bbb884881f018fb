package sip_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The README is written by its own test.
//go:generate go test -count=1 -run TestReadme . -args -write

var write = flag.Bool("write", false, "write the README in place of comparing it")

// item of the catalogue.
type item struct{ name, rfcs, what, elsewhere string }

func items(t *testing.T) []item {
	t.Helper()
	f, err := os.Open("items.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []item
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		parts := strings.Split(lines.Text(), " | ")
		if len(parts) != 3 {
			t.Fatalf("items.txt: %s", lines.Text())
		}
		what, elsewhere, _ := strings.Cut(parts[2], "; ")
		out = append(out, item{parts[0], parts[1], what, elsewhere})
	}
	return out
}

const head = `# Scenarios of SIP

What an interconnect meets, as small ladders of calls between an application and the
SIP network: [scenario](scenario) has them as text, SIPp plays the network's part, the
programs that are shipped are the gateway, and a device with a PeerConnection is the
application. %d scenarios are played in %d runs, many at a time against one gateway.

    go test ./deploy/e2e/sip                                  # all of them
    go test ./deploy/e2e/sip -run 'TestScenarios/forked'      # some

Beside what a scenario says itself, these hold in each: the application is told exactly
the statuses that the scenario names, in their order; every message of the gateway has
the fields that RFC 3261 wants, with one value where there may be one, line ends of CR LF
and the right Content-Length; CANCEL and ACK match their INVITE; sequence numbers grow;
no branch serves two requests; and nothing of the browser's description is shown to the
network.

## What is shown where

| item | RFC | scenarios |
| --- | --- | --- |
`

// TestReadme holds the README equal to the catalogue and the scenarios.
func TestReadme(t *testing.T) {
	all := scenarios(t)
	runs := 0
	by := map[string][]string{}
	names := map[string]bool{}
	for _, s := range all {
		if names[s.Name] {
			t.Errorf("%s:%d: there are two scenarios %s", s.File, s.Line, s.Name)
		}
		names[s.Name] = true
		runs += len(s.On)
		for _, name := range s.Items {
			by[name] = append(by[name], s.Name)
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, head, len(all), runs)
	known := []string{}
	for _, i := range items(t) {
		known = append(known, i.name)
		shown := strings.Join(by[i.name], ", ")
		if i.elsewhere != "" {
			shown = strings.TrimPrefix(shown+"; also "+i.elsewhere, "; also ")
		}
		if shown == "" {
			t.Errorf("items.txt: nothing shows %s", i.name)
		}
		fmt.Fprintf(&out, "| **%s** %s | %s | %s |\n", i.name, i.what, i.rfcs, shown)
	}
	fmt.Fprint(&out, "\n## The scenarios\n\n| scenario | on | what it shows |\n| --- | --- | --- |\n")
	for _, s := range all {
		fmt.Fprintf(&out, "| %s | %s | %s |\n", s.Name, strings.Join(s.On, " "), s.About)
		for _, name := range s.Items {
			if !slices.Contains(known, name) {
				t.Errorf("%s:%d: items.txt has no item %s", s.File, s.Line, name)
			}
		}
	}
	if *write {
		if err := os.WriteFile("README.md", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("README.md is not what the scenarios are; write it with go generate ./deploy/e2e/sip")
	}
}
