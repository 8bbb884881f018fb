// Package sipp runs SIPp as a telephone of the far end: its scenarios call or are
// called, change the session and hang up when the test says so. SIPp does the
// signaling only; an audio.Endpoint beside it plays and hears.
package sipp

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

//go:embed scenario/*.xml
var files embed.FS

var scenarios = template.Must(template.ParseFS(files, "scenario/*.xml"))

// Config of a telephone.
type Config struct {
	// Media is the RTP port that its descriptions name.
	Media int
	// ALaw offers and answers PCMA in place of PCMU.
	ALaw bool
	// TCP in place of UDP.
	TCP bool
	// Port to be called at; 0 takes a free one.
	Port int

	// Early answers with 183 and media before it answers for good.
	Early bool
	// Cancelled expects a CANCEL in place of answering.
	Cancelled bool

	// Refused is the final response a caller expects in place of an answer.
	Refused int
	// GiveUp cancels the call on the command cancel, in place of an answer.
	GiveUp bool
	// Anonymous withholds the caller's number.
	Anonymous bool
	// From and Name of a caller.
	From, Name string
	// To is the number that a caller calls, at the address Via.
	To, Via string
}

// Telephone is a running SIPp.
type Telephone struct {
	*process.Process
	t        testing.TB
	address  string
	messages string
	tcp      bool
}

// Listen starts a telephone that takes one call.
func Listen(t testing.TB, c Config) *Telephone {
	t.Helper()
	return start(t, "callee.xml", c, "127.0.0.1:9")
}

// Call starts a telephone that makes one call.
func Call(t testing.TB, c Config) *Telephone {
	t.Helper()
	return start(t, "caller.xml", c, c.Via, "-s", c.To)
}

func start(t testing.TB, scenario string, c Config, remote string, args ...string) *Telephone {
	t.Helper()
	var text strings.Builder
	values := struct {
		Config
		Payload int
		Codec   string
	}{c, 0, "PCMU"}
	if c.ALaw {
		values.Payload, values.Codec = 8, "PCMA"
	}
	if err := scenarios.ExecuteTemplate(&text, scenario, values); err != nil {
		t.Fatal(err)
	}
	return Play(t, Scenario{
		Name: scenario,
		// SIPp has no key of its own for a port beside its own media.
		XML: strings.ReplaceAll(text.String(), "[rtp_port]", strconv.Itoa(c.Media)),
		IP:  "127.0.0.1", Port: c.Port, TCP: c.TCP, Remote: remote,
		Listens: scenario == "callee.xml",
		Args:    append(args, "-aa"),
	})
}

// Scenario for one call, in SIPp's own language.
type Scenario struct {
	Name, XML string
	// IP and Port of SIPp; port 0 takes a free one.
	IP   string
	Port int
	// TCP in place of UDP.
	TCP bool
	// Remote is where it calls, host:port; of no use to one that is called.
	Remote string
	// Listens: it is called, and Play waits until it can be.
	Listens bool
	// Args are further ones.
	Args []string
}

// Play starts SIPp for one call.
func Play(t testing.TB, s Scenario) *Telephone {
	t.Helper()
	path := process.Find(t, "sipp", "sip-tester")
	if s.Port == 0 {
		s.Port = port.Free(t)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "scenario.xml")
	if err := os.WriteFile(file, []byte(s.XML), 0o600); err != nil {
		t.Fatal(err)
	}
	transport := "u1"
	if s.TCP {
		transport = "t1"
	}
	p := &Telephone{t: t, address: net.JoinHostPort(s.IP, strconv.Itoa(s.Port)), messages: filepath.Join(dir, "messages"), tcp: s.TCP}
	args := append(s.Args, s.Remote, "-sf", file, "-t", transport, "-i", s.IP, "-p", strconv.Itoa(s.Port),
		"-m", "1", "-nostdin", "-timeout", "120s", "-timeout_error",
		"-trace_msg", "-message_file", p.messages, "-trace_err", "-error_file", filepath.Join(dir, "errors"),
		"-mp", strconv.Itoa(port.Range(t, 4)))
	p.Process = process.Start(t, process.Config{Name: "sipp " + s.Name, Path: path, Dir: dir, Quick: true, Args: args})
	t.Cleanup(func() {
		if t.Failed() {
			found, _ := os.ReadFile(filepath.Join(dir, "errors")) // there may be none
			t.Logf("sipp %s:\n%s\n%s", s.Name, found, p.Messages())
		}
	})
	if s.Listens {
		condition.Await(t, 30*time.Second, "sipp to listen", p.listening)
	}
	return p
}

// listening reports whether a telephone can be reached. A port of TCP that is
// only taken is not enough: until SIPp listens, whoever calls it is refused.
func (p *Telephone) listening() error {
	if p.tcp {
		return listens(p.address)
	}
	conn, err := net.ListenPacket("udp", p.address)
	if err == nil {
		conn.Close()
		return fmt.Errorf("nobody listens on %s", p.address)
	}
	return nil
}

// listens looks for a listening socket among those of the machine (proc(5)): a
// connection that tries it would be a call to SIPp.
func listens(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	const listen = "0A"
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st
			f := strings.Fields(line)
			if len(f) > 3 && f[3] == listen && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				return nil
			}
		}
	}
	return fmt.Errorf("nobody listens on %s", address)
}

// Address of the telephone, host:port.
func (p *Telephone) Address() string { return p.address }

// Messages that were sent and received.
func (p *Telephone) Messages() string {
	text, err := os.ReadFile(p.messages)
	if err != nil {
		return ""
	}
	return string(text)
}

// AwaitMessage waits until something in the messages matches.
func (p *Telephone) AwaitMessage(within time.Duration, pattern string) []string {
	p.t.Helper()
	expression := regexp.MustCompile(pattern)
	var found []string
	condition.Await(p.t, within, "sipp to see "+pattern, func() error {
		if found = expression.FindStringSubmatch(p.Messages()); found == nil {
			return fmt.Errorf("it has not (running: %v)", p.Running())
		}
		return nil
	})
	return found
}

// AwaitAnswered waits until the call is answered and acknowledged.
func (p *Telephone) AwaitAnswered(within time.Duration) {
	p.t.Helper()
	p.AwaitMessage(within, `\nACK sip:`)
}

// Do gives the telephone a command in its answered call: hold, resume or bye.
func (p *Telephone) Do(command string) {
	p.t.Helper()
	p.AwaitAnswered(10 * time.Second)
	p.Tell(command)
}

// Cancel gives up a call that rings.
func (p *Telephone) Cancel() {
	p.t.Helper()
	p.AwaitMessage(10*time.Second, `\nSIP/2.0 180`)
	p.Tell("cancel")
}

// Tell sends a command to the scenario: a MESSAGE in its call, with the command as
// the subject.
func (p *Telephone) Tell(command string) {
	p.t.Helper()
	callID := p.AwaitMessage(10*time.Second, `(?i)\nCall-ID:\s*([^\r\n]+)`)[1]
	network := "udp"
	if p.tcp {
		network = "tcp"
	}
	conn, err := net.Dial(network, p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(strings.Join([]string{
		"MESSAGE sip:sipp@" + p.address + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/%s %s;branch=z9hG4bK%d", strings.ToUpper(network), conn.LocalAddr(), time.Now().UnixNano()),
		"Max-Forwards: 70",
		"From: <sip:test@test.invalid>;tag=test",
		"To: <sip:sipp@" + p.address + ">",
		"Call-ID: " + callID,
		"CSeq: 1 MESSAGE",
		"Subject: " + command,
		"Content-Length: 0", "", "",
	}, "\r\n")))
	if err != nil {
		p.t.Fatal(err)
	}
}

// AwaitSuccess waits until the scenario has been played to its end.
func (p *Telephone) AwaitSuccess(within time.Duration) {
	p.t.Helper()
	if code := p.Await(within); code != 0 {
		p.t.Fatalf("sipp ends with code %d: the call did not go by the scenario", code)
	}
}
