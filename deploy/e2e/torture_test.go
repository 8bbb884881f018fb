package e2e

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// The messages of RFC 4475 and RFC 5118, again and again over UDP and TCP, sent to
// the program as it is shipped: it answers OPTIONS after each, its memory is flat
// and no goroutine is left.
func TestTorture(t *testing.T) {
	t.Parallel()
	const rounds = 10
	g := gateway.NewSplit(t, "", 1, gateway.Settings{
		"sip.trunks":    trunk(port.Address(t), nil),
		"sip.timers.t1": "10ms", "sip.timers.t2": "40ms", "sip.timers.t4": "50ms",
		"log.level": "info",
	})
	messages := tortures(t)
	probe := options(t, g.SIP)
	settled := func(what string) (heap, goroutines float64) {
		t.Helper()
		await(t, what, func() error {
			if n := g.Metric("isthmus_sip_dialogs"); n != 0 {
				return fmt.Errorf("there are %v calls", n)
			}
			return nil
		})
		return g.Metric("go_memstats_heap_inuse_bytes"), g.Metric("go_goroutines")
	}
	var heap, goroutines float64
	for round := range rounds {
		if round == rounds/2 {
			heap, goroutines = settled("half of the rounds")
		}
		for name, raw := range messages {
			for _, network := range []string{"udp", "tcp"} {
				c, err := net.Dial(network, g.SIP)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(raw); err != nil {
					t.Fatal(err)
				}
				probe(name)
				c.Close()
			}
		}
	}
	await(t, "end of goroutines", func() error {
		if _, n := settled("the end"); n > goroutines+20 {
			return fmt.Errorf("there were %v goroutines, there are %v", goroutines, n)
		}
		return nil
	})
	if after, _ := settled("the end"); after > 2*heap+32<<20 {
		t.Errorf("the heap grew from %v to %v octets", heap, after)
	}
	if g.Metric("isthmus_sip_rejected_total", `reason="cseq"`) == 0 {
		t.Error("what is refused is not counted")
	}
}

// options answers a function that asks the gateway by UDP whether it lives.
func options(t *testing.T, gateway string) func(after string) {
	t.Helper()
	c, err := net.Dial("udp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r, n := bufio.NewReaderSize(c, 1<<16), 0
	return func(after string) {
		t.Helper()
		n++
		id := fmt.Sprintf("alive%d", n)
		fmt.Fprintf(c, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
			"From: <sip:probe@example.com>;tag=1\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
			gateway, c.LocalAddr(), id, gateway, id)
		_ = c.SetReadDeadline(time.Now().Add(patient))
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("no answer to OPTIONS after %s: %v", after, err)
			}
			if strings.TrimSpace(line) == "Call-ID: "+id {
				return
			}
		}
	}
}

var tortureEscape = regexp.MustCompile(`\{\{(hex|repeat (\d+)) ?([^}]*)\}\}`)

// tortures reads the messages by name; the package beside them says how they are
// written.
func tortures(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../controlplane/internal/sip/torture/messages/*.sip")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d messages, %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw := tortureEscape.ReplaceAllStringFunc(strings.ReplaceAll(string(text), "\n", "\r\n"), func(s string) string {
			m := tortureEscape.FindStringSubmatch(s)
			if n, err := strconv.Atoi(m[2]); err == nil {
				return strings.Repeat(m[3], n)
			}
			octets, err := hex.DecodeString(m[3])
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			return string(octets)
		})
		_, body, _ := strings.Cut(raw, "\r\n\r\n")
		out[filepath.Base(file)] = []byte(strings.Replace(raw, "{{length}}", strconv.Itoa(len(body)), 1))
	}
	return out
}
