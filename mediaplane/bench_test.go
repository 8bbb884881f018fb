package mediaplane_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// benchNode is set in the environment of a node that a benchmark runs in a
// process of its own, so that its CPU time is the node's alone.
const benchNode = "ISTHMUS_BENCH_NODE"

// runBenchNode is main of such a process: it prints its URL and serves until it
// is interrupted.
func runBenchNode() int {
	cfg := mediaplane.Default()
	cfg.NodeID, cfg.Engine = "bench", "user"
	cfg.RPC.Listen, cfg.RPC.SharedSecret = "127.0.0.1:0", secret
	cfg.WebRTC.Bind, cfg.WebRTC.Port = []string{"127.0.0.1"}, 0
	cfg.RTP.Bind = []string{"127.0.0.1"}
	cfg.RTP.PortMin, cfg.RTP.PortMax = 36000, 59999
	if ports := strings.Split(os.Getenv(benchNode), "-"); len(ports) == 2 {
		low, _ := strconv.Atoi(ports[0])
		high, _ := strconv.Atoi(ports[1])
		cfg.RTP.PortMin, cfg.RTP.PortMax = uint16(low), uint16(high)
	}
	cfg.Limits.Sessions = 100_000
	cfg.Timers.OrphanAfter = 10 * time.Minute
	plane, err := mediaplane.New(cfg, mediaplane.Deps{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println(plane.URL())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := plane.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// remote is a node in a process of its own.
type remote struct {
	b      *testing.B
	cmd    *exec.Cmd
	client mediav1connect.MediaNodeClient
}

func startRemote(b *testing.B, ports string) *remote {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	r := &remote{b: b, cmd: exec.Command(exe)}
	if _, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		r.cmd = exec.Command("taskset", "-c", "1", exe)
		pin(b, 0)
	}
	r.cmd.Env = append(os.Environ(), benchNode+"="+ports)
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var url string
	if _, err := fmt.Fscanln(out, &url); err != nil || url == "error" {
		b.Fatalf("the node does not start: %v", err)
	}
	transport := h2c()
	r.client = client(url, secret, transport)
	b.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = r.cmd.Process.Signal(os.Interrupt)
		_ = r.cmd.Wait()
	})
	return r
}

// cpu is the time that the node's process has used.
func (r *remote) cpu() time.Duration {
	// schedstat of a process is that of its first thread: sum up the tasks.
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.cmd.Process.Pid))
	if err != nil {
		r.b.Fatal(err)
	}
	var total time.Duration
	for _, task := range tasks {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", r.cmd.Process.Pid, task.Name())); err == nil {
			ns, _ := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

// memory is the resident memory of the node's process in bytes.
func (r *remote) memory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.cmd.Process.Pid))
	if err != nil {
		r.b.Fatal(err)
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(status))[1], 64)
	return pages * float64(os.Getpagesize())
}

type benchSuite struct {
	name    string
	profile mediav1.SRTPProfile
	pion    srtp.ProtectionProfile
	key     int
	salt    int
}

var benchSuites = []benchSuite{
	{"GCM", mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM, srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	{"CM", mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80, srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
}

// benchSpec is a G.711 call between a browser that is connected already and a
// far end.
func benchSpec(i int, s benchSuite, identity *mediav1.DTLSIdentity, browser, far *mediav1.SocketAddress) *mediav1.SessionSpec {
	pcmu := []*mediav1.Format{{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000}}
	w := &mediav1.WebRTCTransport{
		LocalIce:  &mediav1.ICECredentials{Ufrag: fmt.Sprintf("bench%d", i), Password: "thepasswordofthisside1"},
		LocalDtls: identity, DtlsRole: mediav1.DTLSRole_DTLS_ROLE_SERVER, Remote: browser,
		Srtp: &mediav1.SRTPState{Profile: s.profile, LocalMaster: bytes.Repeat([]byte{1}, s.key+s.salt), RemoteMaster: bytes.Repeat([]byte{2}, s.key+s.salt)},
	}
	return &mediav1.SessionSpec{
		Id: fmt.Sprintf("bench-%d", i), OwnerEpoch: 1, Generation: 1,
		Legs: []*mediav1.Leg{
			{Id: "browser", Transport: &mediav1.Leg_Webrtc{Webrtc: w}},
			{Id: "core", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{Remote: far, RtcpMux: true}}},
		},
		Streams: []*mediav1.Stream{
			{Id: "w", Leg: "browser", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: pcmu},
			{Id: "c", Leg: "core", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: pcmu},
		},
		Rules: []*mediav1.Rule{
			{Input: "w", Outputs: []*mediav1.Output{{Stream: "c"}}},
			{Input: "c", Outputs: []*mediav1.Output{{Stream: "w"}}},
		},
	}
}

// pin keeps this process to one processor, away from the node's.
func pin(b *testing.B, cpu int) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		b.Fatal(err)
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, t := range tasks {
		id, _ := strconv.Atoi(t.Name())
		_ = unix.SchedSetaffinity(id, &set)
	}
}

// sink is a bound socket that throws away what arrives, at no cost to speak of.
func sink(b *testing.B) *net.UDPConn {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	if err = errors.Join(err, failed); err != nil {
		b.Fatal(err)
	}
	return c
}

// benchCall is one call of the generator.
type benchCall struct {
	browser *net.UDPConn
	core    netip.AddrPort
	context *srtp.Context
	seq     uint16
	plain   []byte
	cipher  []byte
}

// BenchmarkForward is the CPU time of the node for a packet that engine "user"
// forwards on one processor: calls of G.711 both ways over loopback, as fast as
// the node can, and at half of that.
func BenchmarkForward(b *testing.B) {
	for _, s := range benchSuites {
		b.Run(s.name, func(b *testing.B) { benchForward(b, s, 500) })
	}
}

func benchForward(b *testing.B, s benchSuite, calls int) {
	node := startRemote(b, "36000-59999")
	info, err := node.client.GetNode(context.Background(), connect.NewRequest(&mediav1.GetNodeRequest{}))
	if err != nil {
		b.Fatal(err)
	}
	webrtc := addrPort(b, info.Msg.GetNode().GetWebrtcAddresses()[0])
	identity := newIdentity(b).proto
	far := sink(b)
	list := make([]*benchCall, calls)
	for i := range list {
		browser := sink(b)
		state, err := node.client.ApplySession(context.Background(), connect.NewRequest(&mediav1.ApplySessionRequest{
			Spec: benchSpec(i, s, identity, socketOf(browser), socketOf(far)),
		}))
		if err != nil {
			b.Fatal(err)
		}
		master := bytes.Repeat([]byte{2}, s.key+s.salt)
		ctx, err := srtp.CreateContext(master[:s.key], master[s.key:], s.pion)
		if err != nil {
			b.Fatal(err)
		}
		p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: uint32(i + 1)}, Payload: make([]byte, 160)}
		plain, err := p.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		list[i] = &benchCall{browser: browser, context: ctx, core: addrPort(b, state.Msg.GetState().GetLegs()[1].GetLocal()[0]), plain: plain}
	}

	frame := func(c *benchCall) {
		binary.BigEndian.PutUint16(c.plain[2:], c.seq)
		binary.BigEndian.PutUint32(c.plain[4:], uint32(c.seq)*160)
		c.seq++
		var err error
		if c.cipher, err = c.context.EncryptRTP(c.cipher[:0], c.plain, nil); err != nil {
			b.Error(err)
		}
		_, _ = c.browser.WriteToUDPAddrPort(c.cipher, webrtc)
		_, _ = far.WriteToUDPAddrPort(c.plain, c.core)
	}
	// run sends so many packets a second, 0 for as many as it can, and answers
	// what the node spent on each that it forwarded.
	run := func(rate int, d time.Duration) (cost, perSecond, lost float64) {
		cpu, before := node.cpu(), node.sent()
		begin := time.Now()
		n := 0
		for ; time.Since(begin) < d; n++ {
			if rate > 0 {
				if early := time.Duration(n)*2*time.Second/time.Duration(rate) - time.Since(begin); early > 500*time.Microsecond {
					<-time.After(early)
				}
			}
			frame(list[n%calls])
		}
		took := time.Since(begin)
		<-time.After(50 * time.Millisecond) // the last packets
		used, got := node.cpu()-cpu, node.sent()-before
		return float64(used.Nanoseconds()) / float64(got), float64(got) / took.Seconds(), 100 * (1 - float64(got)/float64(2*n))
	}
	run(20_000, time.Second)
	b.ResetTimer()
	span := time.Duration(max(b.N, 3)) * time.Second
	cost, highest, _ := run(0, span)
	half, _, lost := run(int(highest/2), span)
	b.ReportMetric(cost, "cpu-ns/packet")
	b.ReportMetric(highest, "packets/s")
	b.ReportMetric(half, "cpu-ns/packet-at-half")
	b.ReportMetric(lost, "%lost-at-half")
	b.ReportMetric(0, "ns/op")
}

// sent is how many RTP packets the node has sent.
func (r *remote) sent() (packets uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := r.client.Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		r.b.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if !stream.Receive() {
		r.b.Fatal(stream.Err())
	}
	for _, session := range stream.Msg().GetSnapshot().GetSessions() {
		for _, s := range session.GetStreams() {
			packets += s.GetCounters().GetSentPackets()
		}
	}
	return packets
}

// BenchmarkSessions programs 20,000 sessions into one node: how long ApplySession
// takes, at first and when the node is nearly full, and what a session costs.
func BenchmarkSessions(b *testing.B) {
	const count, part = 20_000, 2_000
	// A telco leg takes two descriptors. Where the limit has no room for all,
	// the rest of the sessions join two browsers.
	limit := unix.Rlimit{Cur: 2*count + 1024, Max: 2*count + 1024}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			b.Fatal(err)
		}
	}
	telco := min(count, int(limit.Cur-1024)/2)
	for range b.N {
		node := startRemote(b, "16384-65533")
		identity := newIdentity(b).proto
		browser, far := &mediav1.SocketAddress{Ip: "127.0.0.1"}, &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 9}
		before := node.memory()
		took := make([]time.Duration, 0, count)
		for i := range count {
			browser.Port = uint32(1024 + i)
			spec := benchSpec(i, benchSuites[0], identity, browser, far)
			if i%count*telco/count == (i+1)%count*telco/count && telco < count {
				spec.Legs[1] = benchSpec(count+i, benchSuites[0], identity, far, far).Legs[0]
				spec.Legs[1].Id = "core"
			}
			begin := time.Now()
			if _, err := node.client.ApplySession(context.Background(), connect.NewRequest(&mediav1.ApplySessionRequest{Spec: spec})); err != nil {
				b.Fatalf("session %d: %v", i, err)
			}
			took = append(took, time.Since(begin))
		}
		p99 := func(list []time.Duration) float64 {
			list = slices.Sorted(slices.Values(list))
			return float64(list[len(list)*99/100].Microseconds()) / 1000
		}
		b.ReportMetric(float64(telco), "telco-sessions")
		b.ReportMetric(p99(took[:part]), "apply-p99_ms-first-2000")
		b.ReportMetric(p99(took[count-part:]), "apply-p99_ms-last-2000")
		b.ReportMetric((node.memory()-before)/count/1024, "KiB/session")
		cpu := node.cpu()
		<-time.After(2 * time.Second)
		b.ReportMetric(100*(node.cpu()-cpu).Seconds()/2, "%cpu-idle")
		b.ReportMetric(0, "ns/op")
	}
}

func socketOf(c *net.UDPConn) *mediav1.SocketAddress {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return &mediav1.SocketAddress{Ip: a.Addr().Unmap().String(), Port: uint32(a.Port())}
}

func init() {
	// 500 sockets on either side.
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}
