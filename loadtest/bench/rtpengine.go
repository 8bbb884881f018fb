//go:build linux

package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// rtpengineConfig is what rtpengine runs with: in user space (table -1), its
// threads on one CPU like every other system's. Everything else is its default.
const rtpengineConfig = `[rtpengine]
table = -1
interface = %s
listen-ng = 127.0.0.1:2223
port-min = 20000
port-max = 64999
timeout = 3600
silent-timeout = 3600
num-threads = 1
log-level = 3
log-stderr = true
foreground = true
`

// rtpengine is Debian's, driven over its ng protocol
// (https://rtpengine.readthedocs.io/en/latest/ng_control_protocol.html).
type rtpengine struct {
	cable   *cable
	process *process
	calls   int
	run     string
	conns   chan *ngConn
}

// controls is how many commands are under way at a time.
const controls = 4

func (r *rtpengine) name() string { return "rtpengine" }

func (r *rtpengine) config() string { return fmt.Sprintf(rtpengineConfig, r.cable.farAddr) }

func (r *rtpengine) start(ctx context.Context, l *lab, c *cable) (err error) {
	r.cable = c
	path := filepath.Join(l.dir, "rtpengine.conf")
	if err := os.WriteFile(path, []byte(r.config()), 0o600); err != nil {
		return err
	}
	if r.process, err = l.start(c.namespace, "rtpengine", "--config-file="+path, "--pidfile="+filepath.Join(l.dir, "rtpengine.pid")); err != nil {
		return fmt.Errorf("%w (Debian: rtpengine-daemon)", err)
	}
	r.conns = make(chan *ngConn, controls)
	for range controls {
		var conn net.Conn
		if err := netns.Do(c.namespace, func() (err error) {
			conn, err = net.Dial("udp", "127.0.0.1:2223")
			return err
		}); err != nil {
			return err
		}
		r.conns <- &ngConn{conn: conn}
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := r.command(ctx, map[string]any{"command": "ping"})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return r.process.failed(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rtpengine) call(ctx context.Context, calls int, s Suite) (*media.Load, error) {
	r.calls, r.run = calls, strconv.FormatInt(time.Now().UnixNano(), 36)
	load := &media.Load{Codec: codec, Endpoints: make([]media.Endpoint, 2*calls), Streams: make([]media.Stream, 2*calls)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(controls)
	for i := range calls {
		g.Go(func() error { return r.program(gctx, i, s, load) })
	}
	if err := g.Wait(); err != nil {
		return nil, r.process.failed(err)
	}
	return load, nil
}

func (r *rtpengine) program(ctx context.Context, i int, s Suite, load *media.Load) error {
	browser := media.Endpoint{Name: fmt.Sprintf("call-%d-browser", i), Local: netip.AddrPortFrom(r.cable.nearAddr, firstPort+uint16(i))}
	core := media.Endpoint{Name: fmt.Sprintf("call-%d-core", i), Local: netip.AddrPortFrom(r.cable.coreAddr, firstPort+uint16(i))}
	protocol, crypto := "RTP/AVP", ""
	if s.Secure {
		n := media.MasterLength(s.Profile)
		browser.Keys = &media.Keys{Profile: s.Profile, Send: make([]byte, n)}
		_, _ = rand.Read(browser.Keys.Send)
		protocol = "RTP/SAVP"
		crypto = fmt.Sprintf("a=crypto:1 %s inline:%s\r\n", media.ProfileName(s.Profile), base64.StdEncoding.EncodeToString(browser.Keys.Send))
	}
	id, from, to := fmt.Sprintf("%s-%d", r.run, i), "browser", "core"
	offer, err := r.command(ctx, map[string]any{
		"command": "offer", "call-id": id, "from-tag": from, "sdp": sdp(browser.Local, protocol, crypto),
		"transport-protocol": "RTP/AVP", "ICE": "remove", "replace": []any{"origin"}, "rtcp-mux": []any{"demux"},
	})
	if err != nil {
		return err
	}
	if core.Remote, err = mediaAddress(offer); err != nil {
		return err
	}
	answer, err := r.command(ctx, map[string]any{
		"command": "answer", "call-id": id, "from-tag": from, "to-tag": to, "sdp": sdp(core.Local, "RTP/AVP", ""),
		"ICE": "remove", "replace": []any{"origin"},
	})
	if err != nil {
		return err
	}
	if browser.Remote, err = mediaAddress(answer); err != nil {
		return err
	}
	if s.Secure {
		if browser.Keys.Receive, err = cryptoKey(answer, media.ProfileName(s.Profile)); err != nil {
			return err
		}
	}
	load.Endpoints[2*i], load.Endpoints[2*i+1] = browser, core
	load.Streams[2*i] = media.Stream{Name: fmt.Sprintf("call-%d-up", i), From: 2 * i, To: 2*i + 1, SSRC: uint32(2*i + 1), Sequence: 1000}
	load.Streams[2*i+1] = media.Stream{Name: fmt.Sprintf("call-%d-down", i), From: 2*i + 1, To: 2 * i, SSRC: uint32(2*i + 2), Sequence: 1000}
	return nil
}

func sdp(at netip.AddrPort, protocol, attributes string) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d %[3]s 0\r\na=rtpmap:0 PCMU/8000\r\n%[4]sa=sendrecv\r\n",
		at.Addr(), at.Port(), protocol, attributes)
}

// mediaAddress is where an SDP of rtpengine receives.
func mediaAddress(sdp string) (netip.AddrPort, error) {
	var ip netip.Addr
	var port uint64
	for _, line := range strings.Split(sdp, "\r\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "c=IN IP") && len(f) == 3:
			ip, _ = netip.ParseAddr(f[2])
		case strings.HasPrefix(line, "m=audio") && len(f) > 1:
			port, _ = strconv.ParseUint(f[1], 10, 16)
		}
	}
	if !ip.IsValid() || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("no media address in the SDP of rtpengine:\n%s", sdp)
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}

// cryptoKey is the key of an SDP for a suite. rtpengine writes no padding where
// RFC 4648 wants some.
func cryptoKey(sdp, suite string) ([]byte, error) {
	for _, line := range strings.Split(sdp, "\r\n") {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "a=crypto:") || f[1] != suite {
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
		return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	return nil, fmt.Errorf("rtpengine does not answer with %s:\n%s", suite, sdp)
}

func (r *rtpengine) hangUp(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(controls)
	for i := range r.calls {
		g.Go(func() error {
			_, err := r.command(ctx, map[string]any{"command": "delete", "call-id": fmt.Sprintf("%s-%d", r.run, i), "delete-delay": 0})
			return err
		})
	}
	r.calls = 0
	return g.Wait()
}

func (r *rtpengine) pid() int { return r.process.cmd.Process.Pid }

func (r *rtpengine) stop() {
	if r.process != nil {
		r.process.stop()
	}
	if r.conns != nil {
		for range controls {
			_ = (<-r.conns).conn.Close()
		}
	}
}

// command runs one command and answers the SDP, if there is one.
func (r *rtpengine) command(ctx context.Context, message map[string]any) (string, error) {
	conn := <-r.conns
	defer func() { r.conns <- conn }()
	answer, err := conn.exchange(ctx, message)
	if err != nil {
		return "", fmt.Errorf("ng %s: %w", message["command"], err)
	}
	if result := answer["result"]; result != "ok" && result != "pong" {
		return "", fmt.Errorf("ng %s: %v: %v", message["command"], result, answer["error-reason"])
	}
	text, _ := answer["sdp"].(string)
	return text, nil
}

// ngConn is a socket to the ng port, for one command at a time.
type ngConn struct {
	conn net.Conn
	next int
}

// exchange sends until the answer comes; rtpengine knows a cookie again.
func (c *ngConn) exchange(ctx context.Context, message map[string]any) (map[string]any, error) {
	c.next++
	cookie := fmt.Sprintf("%p%d ", c, c.next)
	request := append([]byte(cookie), encode(message)...)
	b := make([]byte, 1<<16)
	for range 5 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := c.conn.Write(request); err != nil {
			return nil, err
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.conn.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if text, mine := strings.CutPrefix(string(b[:n]), cookie); mine {
				value, _, err := decode(text)
				answer, ok := value.(map[string]any)
				if err == nil && !ok {
					err = errors.New("the answer is no dictionary")
				}
				return answer, err
			}
		}
	}
	return nil, errors.New("no answer")
}
