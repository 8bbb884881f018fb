//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
	"github.com/isthmus-gateway/isthmus/loadtest/node"
	"github.com/isthmus-gateway/isthmus/loadtest/report"
)

type mediaCommand struct {
	Plan string `group:"Target" type:"existingfile" xor:"target" required:"" placeholder:"FILE" help:"Addresses and keys of any target, in YAML or JSON."`
	Node string `group:"Target" xor:"target" required:"" placeholder:"URL" help:"RPC service of an Isthmus media node, which is programmed with calls."`

	Secret    string `group:"Calls of a node" env:"ISTHMUS_RPC_SHARED_SECRET" help:"Secret that the node shares with control planes."`
	CA        string `group:"Calls of a node" type:"existingfile" placeholder:"FILE" help:"Authorities (PEM) of the node's certificate."`
	Cert      string `group:"Calls of a node" type:"existingfile" placeholder:"FILE" help:"Own certificate (PEM), for mutual TLS."`
	Key       string `group:"Calls of a node" type:"existingfile" placeholder:"FILE" help:"Private key (PEM) of --cert."`
	Calls     int    `group:"Calls of a node" default:"10" help:"Number of calls; each is two streams, one each way."`
	Keying    string `group:"Calls of a node" enum:"dtls,sdes,none" default:"dtls" help:"Of the browser's leg: dtls (ICE and a DTLS-SRTP handshake), sdes (keys given to the node) or none (plain RTP on both legs)."`
	Profile   string `group:"Calls of a node" default:"AEAD_AES_128_GCM" help:"SRTP profile: AES_CM_128_HMAC_SHA1_80, AEAD_AES_128_GCM or AEAD_AES_256_GCM."`
	Codec     string `group:"Calls of a node" enum:"pcmu,pcma,opus" default:"pcmu" help:"Sizes and clock of packets: pcmu, pcma or opus."`
	Local     string `group:"Calls of a node" placeholder:"IP" help:"Own address of all legs. Default: the one that leads to the node."`
	FirstPort uint16 `group:"Calls of a node" default:"40000" help:"First of two own ports for each call, counting up."`

	Duration time.Duration `group:"Load" short:"d" default:"10s" help:"How long to send."`
	Rate     float64       `group:"Load" help:"Packets a second of each stream. Default: the codec's."`
	Ahead    bool          `group:"Load" help:"Encrypt everything before the first packet is sent, instead of on the fly."`
	Driver   string        `group:"Load" enum:"auto,kernel,sockets" default:"auto" help:"Who sends and counts: the kernel (XDP; root, Linux 5.18, not over loopback), sockets, or the kernel where it can."`

	JSON    string        `group:"Report" name:"json" placeholder:"FILE" help:"Write the result as JSON; - for standard output."`
	HTML    string        `group:"Report" name:"html" type:"path" placeholder:"FILE" help:"Write the result as a page with plots."`
	Title   string        `group:"Report" default:"Media load test" help:"Title of the report."`
	Every   time.Duration `group:"Report" default:"1s" help:"Interval of progress and plots."`
	Silent  bool          `group:"Report" help:"No progress on the terminal."`
	MaxLoss float64       `group:"Report" default:"-1" placeholder:"PERCENT" help:"Fail when more is lost, or when a packet arrives wrong."`
}

// Help is what the usage says below the flags.
func (mediaCommand) Help() string {
	return `Examples:

  100 calls with ICE and DTLS-SRTP through a node on this machine, with a report:
    loadtest media --node http://127.0.0.1:7070 --secret "$SECRET" --calls 100 --html report.html

  The same with keys in the place of handshakes, Opus, for a minute:
    loadtest media --node http://127.0.0.1:7070 --secret "$SECRET" --calls 100 --keying sdes --codec opus -d 1m

  Any other target:
    cat >plan.yaml <<EOF
    codec: pcmu
    endpoints:
      - name: caller
        local: 192.0.2.10:4000
        remote: 192.0.2.20:30000
        srtp: {profile: AES_CM_128_HMAC_SHA1_80, send: <40 characters of base64>, receive: <the target's>}
      - {name: callee, local: 192.0.2.10:4002, remote: 192.0.2.20:30002}
    streams:
      - {from: caller, to: callee}
      - {from: callee, to: caller}
    EOF
    loadtest media --plan plan.yaml --rate 500 --json -

loadtest/README.md describes plans and what is counted.`
}

// Run is called by kong.
func (m *mediaCommand) Run(ctx context.Context) error {
	// A socket for every end of a call.
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	load, hangUp, err := m.load(ctx)
	if err != nil {
		return err
	}
	result, err := m.send(ctx, load)
	// Calls end however the run did, ^C included.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := errors.Join(err, hangUp(ending)); err != nil {
		return err
	}
	result.Title = m.Title
	if err := m.report(result); err != nil {
		return err
	}
	wrong := result.Total.AuthFailures + result.Total.Corrupt
	if loss := 100 * result.LossRatio(); m.MaxLoss >= 0 && (loss > m.MaxLoss || wrong > 0) {
		return fmt.Errorf("%.4f %% lost (at most %g), %d wrong", loss, m.MaxLoss, wrong)
	}
	return nil
}

// load is what the plan says, or calls that a node has been programmed with.
func (m *mediaCommand) load(ctx context.Context) (*media.Load, func(context.Context) error, error) {
	if m.Plan != "" {
		load, err := media.ReadPlan(m.Plan)
		return load, func(context.Context) error { return nil }, err
	}
	codec, err := media.CodecNamed(m.Codec)
	if err != nil {
		return nil, nil, err
	}
	profile, err := media.ProfileNamed(m.Profile)
	if err != nil {
		return nil, nil, err
	}
	if m.Calls < 1 || int(m.FirstPort)+2*m.Calls > 65536 || m.FirstPort < 1024 {
		return nil, nil, fmt.Errorf("--calls %d: their ports from --first-port %d on must be 1024 to 65535", m.Calls, m.FirstPort)
	}
	client, err := node.Dial(node.Access{URL: m.Node, Secret: m.Secret, CA: m.CA, Certificate: m.Cert, Key: m.Key})
	if err != nil {
		return nil, nil, err
	}
	local, err := m.own(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	calls, err := client.Call(ctx, node.Plan{
		Calls: m.Calls, Keying: node.Keying(m.Keying), Profile: profile, Codec: codec,
		Browser: netip.AddrPortFrom(local, m.FirstPort), Core: netip.AddrPortFrom(local, m.FirstPort+uint16(m.Calls)),
		Prefix: fmt.Sprintf("loadtest-%d-%d", os.Getpid(), time.Now().Unix()),
	})
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return calls.Load, func(ctx context.Context) error {
		defer client.Close()
		return calls.Remove(ctx)
	}, nil
}

// own is the address that packets to the node come from.
func (m *mediaCommand) own(ctx context.Context, client *node.Client) (netip.Addr, error) {
	if m.Local != "" {
		ip, err := netip.ParseAddr(m.Local)
		if err != nil {
			return ip, fmt.Errorf("--local: %q is no IP address", m.Local)
		}
		return ip.Unmap(), nil
	}
	n, err := client.Node(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range n.GetWebrtcAddresses() {
		conn, err := net.Dial("udp", net.JoinHostPort(a.GetIp(), fmt.Sprint(a.GetPort())))
		if err != nil {
			continue
		}
		defer func() { _ = conn.Close() }()
		return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
	}
	return netip.Addr{}, errors.New("no address of the node can be reached; give --local")
}

// send connects and runs the load.
func (m *mediaCommand) send(ctx context.Context, load *media.Load) (*media.Result, error) {
	sockets, err := media.Connect(ctx, load, "")
	if err != nil {
		return nil, err
	}
	defer sockets.Close()
	keep, cancel := context.WithCancel(ctx)
	defer cancel()
	go sockets.Keep(keep)
	o := media.Options{Duration: m.Duration, Rate: m.Rate, Ahead: m.Ahead, Every: m.Every}
	if !m.Silent {
		o.Progress = func(s media.Sample) { report.Progress(os.Stderr, s) }
	}
	if m.Driver == "sockets" {
		return sockets.Run(ctx, o)
	}
	result, err := sockets.RunKernel(ctx, o)
	if m.Driver == "kernel" || !errors.Is(err, media.ErrNoKernel) {
		return result, err
	}
	reason := strings.TrimPrefix(err.Error(), media.ErrNoKernel.Error()+": ")
	if result, err = sockets.Run(ctx, o); err != nil {
		return nil, err
	}
	result.DriverReason = reason
	return result, nil
}

func (m *mediaCommand) report(r *media.Result) error {
	text := io.Writer(os.Stdout)
	if m.JSON == "-" {
		text = os.Stderr
	}
	if err := report.Text(text, r); err != nil {
		return err
	}
	for _, out := range []struct {
		path  string
		write func(io.Writer, *media.Result) error
	}{{m.JSON, report.JSON}, {m.HTML, report.HTML}} {
		if err := save(out.path, func(w io.Writer) error { return out.write(w, r) }); err != nil {
			return err
		}
	}
	return nil
}

// save writes a file; "" is none and "-" standard output.
func save(path string, write func(io.Writer) error) error {
	switch path {
	case "":
		return nil
	case "-":
		return write(os.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
