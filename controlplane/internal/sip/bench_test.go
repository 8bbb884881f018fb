package sip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// acceptor is a registrar that grants everything with as little work as possible.
type acceptor struct {
	conn *net.UDPConn
}

func newAcceptor(b *testing.B) *acceptor {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	_ = conn.SetReadBuffer(8 << 20)
	a := &acceptor{conn: conn}
	done := make(chan struct{})
	go func() { defer close(done); a.serve() }()
	b.Cleanup(func() { conn.Close(); <-done })
	return a
}

func (a *acceptor) serve() {
	in, out := make([]byte, 65536), make([]byte, 0, 4096)
	for {
		n, from, err := a.conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		out = append(out[:0], "SIP/2.0 200 OK\r\n"...)
		for line := range bytes.Lines(in[:n]) {
			for _, name := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"} {
				if bytes.HasPrefix(line, []byte(name)) {
					if line = bytes.TrimRight(line, "\r\n"); name == "To:" {
						line = append(line[:len(line):len(line)], ";tag=r"...)
					}
					out = append(append(out, line...), "\r\n"...)
				}
			}
		}
		out = append(out, "Content-Length: 0\r\n\r\n"...)
		_, _ = a.conn.WriteToUDPAddrPort(out, from)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdleRegistrations keeps 50,000 numbers registered, each with an account
// of its own, and refreshes them once: what that costs in CPU and memory, with the
// registrar's answering in the same process counted in.
func BenchmarkIdleRegistrations(b *testing.B) {
	const count = 50_000
	for range b.N {
		a := newAcceptor(b)
		cfg := testConfig()
		tr := trunk.Default()
		tr.Name, tr.Mode, tr.Domain, tr.Targets = "ims", trunk.ModeRegister, "ims.example.com", []string{a.conn.LocalAddr().String()}
		tr.Credentials = map[string]trunk.Credentials{"*": {Username: "u", Password: "p"}}
		cfg.Trunks, cfg.RegisterRate = []trunk.Config{tr}, 2500
		cfg.Timers = Default().Timers
		cfg.Timers.T4 = 50 * time.Millisecond // of idle numbers nothing is under way
		accounts := make([]gateway.Account, count)
		for i := range accounts {
			accounts[i] = gateway.Account{RegistrationID: fmt.Sprintf("registration-%d", i), Tenant: call.DefaultTenant, Number: call.Number(fmt.Sprintf("+1555%07d", i))}
		}
		before := heap()
		n, err := New(cfg, Deps{Events: ignorant{}})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		start := cpuTime()
		n.Keep(accounts)
		deadline, tick := time.After(5*time.Minute), time.NewTicker(50*time.Millisecond)
		for n.registrar.Granted() < count {
			select {
			case <-tick.C:
			case <-deadline:
				b.Fatalf("only %d of %d numbers are registered", n.registrar.Granted(), count)
			}
		}
		tick.Stop()
		spent := cpuTime() - start
		each := spent / count
		b.ReportMetric(float64(each.Nanoseconds())/1e3, "cpu-µs/refresh")
		// A refresh falls due at seven tenths of the lifetime on average.
		b.ReportMetric(100*spent.Seconds()/(0.7*tr.Expires.Seconds()), "%core/50k-idle")
		b.ReportMetric(float64(heap()-before)/count, "B/registration")
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// ignorant is a gateway that does not care.
type ignorant struct{ gateway.NetworkEvents }

func (ignorant) BindingLost(context.Context, gateway.Account, string) {}
