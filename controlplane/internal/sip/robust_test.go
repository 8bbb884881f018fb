package sip

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

func (b *bundle) options(id string) string {
	return b.within("OPTIONS", 1, "sip:"+b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", id, id)
}

// A stream is cut and joined as TCP likes, with keep-alives between messages.
func TestStreamFraming(t *testing.T) {
	b := setup(t, "tcp")
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	text := crlf("\n\n" + b.options("s1") + "\n\n\n" + b.options("s2") + b.options("s3"))
	for len(text) > 0 {
		n := min(1+rand.IntN(60), len(text))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
	}
	got := ""
	buf := make([]byte, 4096)
	for strings.Count(got, "SIP/2.0 200 OK") < 3 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v after\n%s", err, got)
		}
		got += string(buf[:n])
	}
	if !strings.Contains(strings.ReplaceAll(got, "\r\n\r\n", "|"), "\r\n") || !(strings.HasPrefix(got, "\r\n") || strings.Contains(got, "\r\n\r\n\r\n")) {
		t.Errorf("the keep-alive was not answered:\n%q", got)
	}
	// A bad message is answered and the stream goes on.
	_, _ = io.WriteString(c, crlf(strings.Replace(b.options("s4"), "1 OPTIONS", "1 BYE", 1)+b.options("s5")))
	got = ""
	for strings.Count(got, "\r\n\r\n") < 2 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v after\n%s", err, got)
		}
		got += string(buf[:n])
	}
	if !strings.Contains(got, "SIP/2.0 400") || !strings.Contains(got, "SIP/2.0 200") {
		t.Errorf("after a bad message:\n%s", got)
	}
	// Without a length there is no next message.
	_, _ = io.WriteString(c, crlf(strings.Replace(b.options("s6"), "Content-Length: 0\n", "", 1)))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the stream was not closed: %v", err)
	}
}

// Garbage costs a counter each, and nothing else.
func TestGarbage(t *testing.T) {
	b := setup(t, "udp")
	good := crlf(b.inviteText("g", "+15550100", offerSDP, "Supported: 100rel", "Record-Route: <sip:x;lr>", "Session-Expires: 90"))
	r := rand.New(rand.NewPCG(1, 2))
	before := runtime.NumGoroutine()
	for i := range 3000 {
		raw := []byte(good)
		for range 1 + r.IntN(4) {
			switch p := r.IntN(len(raw)); r.IntN(4) {
			case 0:
				raw[p] = byte(r.IntN(256))
			case 1:
				raw = append(raw[:p:p], raw[min(p+r.IntN(40), len(raw)):]...)
			case 2:
				raw = append(raw[:p:p], append([]byte(strings.Repeat(string(raw[p:min(p+r.IntN(20), len(raw))]), 2)), raw[p:]...)...)
			case 3:
				raw = raw[:p+1]
			}
			if len(raw) == 0 {
				break
			}
		}
		if len(raw) > 0 {
			if a, err := net.ResolveUDPAddr("udp", b.addr); err == nil {
				_, _ = b.p.udp.WriteToUDP(raw, a)
			}
		}
		if i%100 == 0 {
			id := fmt.Sprint("alive", i)
			b.p.send(b.addr, b.options(id))
			b.p.next(id, func(m received) bool { return m.res() != nil && m.CallID().Value() == id })
			b.endAll(t)
		}
	}
	b.endAll(t)
	b.waitFor(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// endAll refuses every call that the gateway was told of.
func (b *bundle) endAll(t *testing.T) {
	t.Helper()
	for {
		select {
		case e := <-b.l.events:
			if e.kind == "incoming" {
				_ = b.n.Progress(t.Context(), e.callID, 183, crlf(answerSDP))
				_ = b.n.End(t.Context(), e.callID, call.CauseBusy)
			}
		default:
			return
		}
	}
}

func TestMetricsAndPing(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, func(c *Config) { c.Trunks[0].OptionsPing = 50 * time.Millisecond; c.Trunks[0].PingMisses = 1 })
	registry := prometheus.NewRegistry()
	b2 := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: b.cfg}
	b.stop()
	b2.metrics = registry
	b2.start(t)
	p.send(b2.addr, "GARBAGE\n\n")
	p.send(b2.addr, strings.Replace(b2.options("m1"), "1 OPTIONS", "1 BYE", 1))
	p.response(400)
	p.reply(p.request("OPTIONS"), 200, "x")
	b2.waitFor(t, "target up", func() bool { return testutil.ToFloat64(b2.n.metrics.targetUp.WithLabelValues("test", p.addr())) == 1 })
	if got := testutil.ToFloat64(b2.n.metrics.rejected.WithLabelValues("cseq")); got != 1 {
		t.Errorf("%v messages with a bad CSeq", got)
	}
	if got := testutil.ToFloat64(b2.n.metrics.rejected.WithLabelValues("start_line")); got != 1 {
		t.Errorf("%v messages without a start line", got)
	}
	if got := testutil.ToFloat64(b2.n.metrics.messages.WithLabelValues("in", "200")); got < 1 {
		t.Errorf("%v 200 received", got)
	}
	b2.waitFor(t, "target down", func() bool { return testutil.ToFloat64(b2.n.metrics.targetUp.WithLabelValues("test", p.addr())) == 0 })
	if n, err := testutil.GatherAndCount(registry, "isthmus_sip_dialogs", "isthmus_sip_registrations"); err != nil || n != 2 {
		t.Errorf("%d gauges, %v", n, err)
	}
}
