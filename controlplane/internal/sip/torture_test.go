package sip

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/torture"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// The torture messages over TCP and UDP: each gets the answer that it should, after
// each the gateway answers OPTIONS, and at the end nothing is left of them.
func TestTorture(t *testing.T) {
	messages, err := torture.Messages()
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, network string) {
		b := setup(t, network)
		c := dialRaw(t, b)
		c.alive("before")
		before := runtime.NumGoroutine()
		whole := t
		for i, m := range messages {
			t.Run(m.Name, func(t *testing.T) {
				want := torture.Expected[m.Name].Answer
				if validate.Refusal(m.Raw, &validate.Problem{Code: want}, "x") == nil {
					want = 0 // what an answer needs is not there
				}
				raw := m.Raw
				if network == "udp" {
					// So that the answer comes here, not to the port of the Via, and a
					// message with the branch of another is no repetition of it.
					text := strings.Replace(string(raw), ";branch=", ";rport;branch=", 1)
					raw = []byte(branches.ReplaceAllString(text, fmt.Sprintf("branch=z9hG4bKn%d$1", i)))
				}
				c.t = t
				c.send(string(raw))
				if n, problem := validate.Frame(m.Raw); network == "tcp" && (n == 0 || n < len(m.Raw)) {
					// What follows on the stream is not the message's: its rest is
					// awaited, taken for the next message, or the stream is closed.
					if problem != nil && want != 0 {
						c.expect(raw, want)
					}
					c.close()
					c = dialRaw(whole, b)
					c.t = t
				} else if want != 0 {
					c.expect(raw, want)
				}
				c.alive(fmt.Sprint(network, i))
				b.endAll(t)
			})
		}
		c.t = t
		c.close()
		b.waitFor(t, "end of the calls", func() bool {
			b.endAll(t)
			clients, servers := b.n.tx.Count()
			return b.n.Calls() == 0 && clients+servers == 0
		})
		b.waitFor(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= before+10 })
	})
}

// The same again and again: memory stays flat.
func TestTortureLeavesNothing(t *testing.T) {
	messages, err := torture.Messages()
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, "udp", func(c *Config) {
		c.Timers.T1, c.Timers.T2, c.Timers.T4 = 2*time.Millisecond, 8*time.Millisecond, 8*time.Millisecond
		c.Guard.Enabled = false // it would not let them in
	})
	round := func(r int) uint64 {
		c := dialRaw(t, b) // an old socket is full of responses that nobody acknowledged
		defer c.close()
		for i, m := range messages {
			text := strings.Replace(string(m.Raw), ";branch=", ";rport;branch=", 1)
			c.send(branches.ReplaceAllString(text, fmt.Sprintf("branch=z9hG4bKr%dn%d$1", r, i)))
			c.alive(fmt.Sprint("r", r, "n", i))
			b.endAll(t)
		}
		b.waitFor(t, "end of the round", func() bool {
			b.endAll(t)
			clients, servers := b.n.tx.Count()
			return b.n.Calls() == 0 && clients+servers == 0
		})
		b.ladder.forget()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round(0) // what is made once is there after it
	before := round(1)
	after := before
	for r := 2; r < 12; r++ {
		after = round(r)
	}
	if after > before+256<<10 {
		t.Errorf("ten rounds left %d octets behind", after-before)
	}
}

var branches = regexp.MustCompile(`branch=z9hG4bK([0-9A-Za-z])`)

// rawPeer sends octets and reads answers.
type rawPeer struct {
	t    *testing.T
	b    *bundle
	conn net.Conn
	r    *bufio.Reader
}

func dialRaw(t *testing.T, b *bundle) *rawPeer {
	t.Helper()
	conn, err := net.Dial(b.p.network, b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawPeer{t: t, b: b, conn: conn, r: bufio.NewReaderSize(conn, 1<<16)}
}

func (p *rawPeer) close() { p.conn.Close() }

func (p *rawPeer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatal(err)
	}
}

// response reads the next one: its status and head. Bodies are skipped.
func (p *rawPeer) response() (int, string) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	var head strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("no answer: %v, after %q", err, head.String())
		}
		if line == "\r\n" {
			if head.Len() == 0 {
				continue
			}
			break
		}
		head.WriteString(line)
	}
	if _, length, ok := strings.Cut(head.String(), "Content-Length: "); ok {
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(length, "\r\n", 2)[0]))
		if _, err := p.r.Discard(n); err != nil {
			p.t.Fatal(err)
		}
	}
	status, _ := strconv.Atoi(head.String()[len("SIP/2.0 "):][:3])
	return status, head.String()
}

// expect a status as the first answer to a message; answers to others pass.
func (p *rawPeer) expect(raw []byte, status int) {
	p.t.Helper()
	for {
		got, head := p.response()
		if id := callID(head); id != callID(string(raw)) {
			continue
		}
		if got != status {
			p.t.Errorf("answered with %d, want %d\n%s", got, status, head)
		}
		return
	}
}

var callIDField = regexp.MustCompile(`(?im)^(?:call-id|i)[ \t]*:[ \t]*(.*?)\r?$`)

func callID(text string) string {
	if m := callIDField.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// alive asks with OPTIONS; responses to what came before pass.
func (p *rawPeer) alive(id string) {
	p.t.Helper()
	text := p.b.within("OPTIONS", 1, "sip:"+p.b.addr, "<sip:a@b.example.com>;tag=1", "<sip:c@d.example.com>", "alive-"+id, "alive"+id)
	p.send(crlf(text))
	for {
		status, head := p.response()
		if strings.Contains(head, "Call-ID: alive-"+id+"\r\n") {
			if status != 200 {
				p.t.Fatalf("OPTIONS answered with %d", status)
			}
			return
		}
	}
}
