package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resident memory of a process, in bytes.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	for line := range strings.Lines(proc(b, pid, "status")) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return number(b, strings.TrimSuffix(strings.TrimSpace(value), " kB")) * 1024
		}
	}
	b.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// busy is the time of a CPU that a process has used. Unlike all other figures it
// hardly depends on what else this machine does.
func busy(b *testing.B, pid int) time.Duration {
	b.Helper()
	text := proc(b, pid, "stat")
	// The second field is a name in brackets; utime and stime are the 14th and
	// 15th, in hundredths of a second (proc_pid_stat(5)).
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	return time.Duration((number(b, fields[11]) + number(b, fields[12])) * float64(time.Second) / 100)
}

func proc(b *testing.B, pid int, name string) string {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

func number(b *testing.B, text string) float64 {
	b.Helper()
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}
