package sip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// farTelephone answers every call, hangs up none, and calls when it is told to. It
// does as little as it can, for its work is in the same process.
type farTelephone struct {
	conn *net.UDPConn
	// to is where its own calls go.
	to    net.Addr
	calls atomic.Int64
}

func newFarTelephone(b *testing.B) *farTelephone {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	_ = conn.SetReadBuffer(8 << 20)
	f := &farTelephone{conn: conn}
	done := make(chan struct{})
	go func() { defer close(done); f.serve() }()
	b.Cleanup(func() { conn.Close(); <-done })
	return f
}

const benchSDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"

func (f *farTelephone) serve() {
	in, out := make([]byte, 65536), make([]byte, 0, 4096)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		message := in[:n]
		switch {
		case bytes.HasPrefix(message, []byte("ACK ")), bytes.HasPrefix(message, []byte("SIP/2.0 1")):
			continue
		case bytes.HasPrefix(message, []byte("SIP/2.0 200")):
			out = f.acknowledge(out[:0], message)
		case bytes.HasPrefix(message, []byte("INVITE ")), bytes.HasPrefix(message, []byte("BYE ")):
			out = f.answer(out[:0], message)
		default:
			continue
		}
		if len(out) > 0 {
			_, _ = f.conn.WriteToUDPAddrPort(out, from)
		}
	}
}

// field is the value of a field as it stands in a message.
func benchField(message []byte, name string) []byte {
	i := bytes.Index(message, []byte("\r\n"+name+": "))
	if i < 0 {
		return nil
	}
	value, _, _ := bytes.Cut(message[i+len(name)+4:], []byte("\r\n"))
	return value
}

func (f *farTelephone) answer(out, request []byte) []byte {
	invite := request[0] == 'I'
	out = append(out, "SIP/2.0 200 OK\r\n"...)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		out = append(append(append(append(out, name...), ": "...), benchField(request, name)...), "\r\n"...)
		if name == "To" && invite {
			out = append(out[:len(out)-2], ";tag=far\r\n"...)
		}
	}
	if !invite {
		return append(out, "Content-Length: 0\r\n\r\n"...)
	}
	return fmt.Appendf(out, "Contact: <sip:far@%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", f.conn.LocalAddr(), len(benchSDP), benchSDP)
}

// acknowledge sends the ACK to a 200 that it got to an INVITE of its own.
func (f *farTelephone) acknowledge(out, response []byte) []byte {
	if !bytes.HasSuffix(benchField(response, "CSeq"), []byte("INVITE")) {
		return nil
	}
	contact := bytes.Trim(benchField(response, "Contact"), "<>")
	return fmt.Appendf(out, "ACK %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKa%d;rport\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
		contact, f.conn.LocalAddr(), f.calls.Load(), benchField(response, "From"), benchField(response, "To"), benchField(response, "Call-ID"))
}

// call begins a call to the gateway.
func (f *farTelephone) call() error {
	n := f.calls.Add(1)
	_, err := f.conn.WriteTo(fmt.Appendf(nil, "INVITE sip:+15550001@gateway.example SIP/2.0\r\nVia: SIP/2.0/UDP %[1]s;branch=z9hG4bK%[2]d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:+15559000@carrier.example>;tag=f%[2]d\r\nTo: <sip:+15550001@gateway.example>\r\nCall-ID: bench-%[2]d\r\nCSeq: 1 INVITE\r\nContact: <sip:far@%[1]s>\r\nContent-Type: application/sdp\r\nContent-Length: %[3]d\r\n\r\n%[4]s",
		f.conn.LocalAddr(), n, len(benchSDP), benchSDP), f.to)
	return err
}

// brisk is a gateway that answers at once and, when told to, hangs up at once.
type brisk struct {
	ignorant
	n       *Network
	hangsUp bool
	// up counts answered calls, over gets each that has ended.
	up   atomic.Int64
	over chan struct{}
}

func (g *brisk) Incoming(ctx context.Context, in gateway.IncomingCall) {
	_ = g.n.Accept(ctx, in.CallID, benchSDP) // the caller may be gone
}
func (g *brisk) Answered(ctx context.Context, id string, _ gateway.Answer)  { g.talk(ctx, id) }
func (g *brisk) Confirmed(ctx context.Context, id string, _ gateway.Answer) { g.talk(ctx, id) }
func (g *brisk) Ended(context.Context, string, gateway.Ending)              { g.over <- struct{}{} }

func (*brisk) Acknowledged(context.Context, string, string)          {}
func (*brisk) Provisional(context.Context, string, gateway.Answer)   {}
func (*brisk) Ready(context.Context, string)                         {}
func (*brisk) DialogChanged(context.Context, string, gateway.Dialog) {}

func (g *brisk) talk(ctx context.Context, id string) {
	g.up.Add(1)
	if g.hangsUp {
		_ = g.n.End(ctx, id, call.CauseNormal) // it may be over
	}
}

// callBench is a network between a brisk gateway and a far telephone.
func callBench(b *testing.B, hangsUp bool) (*brisk, *farTelephone) {
	b.Helper()
	f := newFarTelephone(b)
	cfg := testConfig()
	tr := trunk.Default()
	tr.Name, tr.Domain, tr.Targets = "carrier", "carrier.example", []string{f.conn.LocalAddr().String()}
	cfg.Trunks, cfg.Timers, cfg.MaxCalls = []trunk.Config{tr}, Default().Timers, 1_000_000
	// Calls that are over keep what repeats their messages for 64 * T1.
	cfg.Timers.T1 = 10 * time.Millisecond
	cfg.Guard.Enabled = false
	g := &brisk{hangsUp: hangsUp, over: make(chan struct{}, 100_000)}
	n, err := New(cfg, Deps{Events: g})
	if err != nil {
		b.Fatal(err)
	}
	g.n, f.to = n, net.UDPAddrFromAddrPort(n.tap.Bound()[0].Local)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return g, f
}

// begin begins a call, from this side or from the other.
func (g *brisk) begin(f *farTelephone, incoming bool, i int) error {
	if incoming {
		return f.call()
	}
	receiver, err := call.ParseNumber("+15559000")
	if err != nil {
		return err
	}
	_, err = g.n.Invite(context.Background(), gateway.Invite{
		CallID: fmt.Sprintf("call-%d", i), Tenant: call.DefaultTenant, Number: "+15550001", Receiver: receiver.Address(), SDP: benchSDP,
	})
	return err
}

// BenchmarkCalls sets up calls and hangs them up, INVITE, 200, ACK and BYE each, as
// fast as one core does, the far end's part counted in: what SIP alone costs, with
// a gateway that has neither media nor a store.
func BenchmarkCalls(b *testing.B) {
	for name, incoming := range map[string]bool{"out": false, "in": true} {
		b.Run(name, func(b *testing.B) {
			const calls, together = 20_000, 64
			for range b.N {
				g, f := callBench(b, true)
				start, began := cpuTime(), time.Now()
				for i := range calls {
					if i >= together {
						<-g.over
					}
					if err := g.begin(f, incoming, i); err != nil {
						b.Fatal(err)
					}
				}
				for range together {
					<-g.over
				}
				spent := cpuTime() - start
				b.ReportMetric(float64(spent.Microseconds())/calls, "cpu-µs/call")
				b.ReportMetric(calls/spent.Seconds(), "calls/s-core")
				b.ReportMetric(calls/time.Since(began).Seconds(), "calls/s")
			}
		})
	}
}

// BenchmarkDialogs keeps calls up, and tells what each costs of memory: on the heap
// and of the process.
func BenchmarkDialogs(b *testing.B) {
	for name, incoming := range map[string]bool{"out": false, "in": true} {
		b.Run(name, func(b *testing.B) {
			const calls = 20_000
			for range b.N {
				g, f := callBench(b, false)
				debug.FreeOSMemory()
				before, resident := heap(), residentMemory(b)
				for i := range calls {
					if err := g.begin(f, incoming, i); err != nil {
						b.Fatal(err)
					}
					if i%100 == 99 {
						await(b, func() bool { return g.up.Load() > int64(i-50) })
					}
				}
				await(b, func() bool { return g.up.Load() == calls })
				// The transactions of the set-up are over.
				await(b, func() bool {
					clients, servers := g.n.tx.Count()
					return clients+servers == 0
				})
				debug.FreeOSMemory()
				b.ReportMetric(float64(heap()-before)/calls, "heap-B/dialog")
				b.ReportMetric(float64(residentMemory(b)-resident)/calls, "rss-B/dialog")
			}
		})
	}
}

func await(b *testing.B, done func() bool) {
	b.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatal("the calls are not up after a minute")
		}
	}
}

// residentMemory of this process, in bytes.
func residentMemory(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n * 1024
}
