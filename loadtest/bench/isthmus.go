//go:build linux

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
	"github.com/isthmus-gateway/isthmus/loadtest/node"
)

// isthmusConfig is that of the media node.
const isthmusConfig = `node_id: %[1]s
engine: %[2]s
rpc: {listen: "127.0.0.1:7070", shared_secret: %[3]q}
webrtc: {bind: [%[4]s], port: 7882}
rtp: {bind: [%[4]s], port_min: 20000, port_max: 64999}
limits: {sessions: 20000}
%[5]slog: {level: warn}
`

const secret = "secret of the benchmark"

// isthmus is a media node with one of its engines.
type isthmus struct {
	engine  string
	program string
	cable   *cable
	dir     string
	process *process
	client  *node.Client
	calls   *node.Calls
	round   int
}

func (s *isthmus) name() string { return s.engine }

func (s *isthmus) config() string {
	xdp := ""
	if s.engine == XDP {
		// On a virtual interface the node asks: the lab makes sure that the other
		// end receives.
		xdp = "xdp: {attachment: native, max_flows: 50000, directory: " + filepath.Join(s.dir, "bpf", "isthmus") + "}\n"
	}
	return fmt.Sprintf(isthmusConfig, prefix+"-"+s.engine, s.engine, secret, s.cable.farAddr, xdp)
}

func (s *isthmus) start(ctx context.Context, l *lab, c *cable) (err error) {
	s.cable, s.dir = c, l.dir
	path := filepath.Join(l.dir, s.engine+".yaml")
	if err := os.WriteFile(path, []byte(s.config()), 0o600); err != nil {
		return err
	}
	if s.process, err = l.start(c.namespace, s.program, "--config", path); err != nil {
		return err
	}
	if s.client, err = node.Dial(node.Access{URL: "http://127.0.0.1:7070", Secret: secret, Namespace: c.namespace}); err != nil {
		return err
	}
	deadline := time.Now().Add(15 * time.Second)
	for {
		n, err := s.client.Node(ctx)
		if err == nil {
			if n.GetEngine() != s.engine {
				return fmt.Errorf("the node runs engine %s (%s), not %s", n.GetEngine(), n.GetEngineReason(), s.engine)
			}
			return nil
		}
		select {
		case <-s.process.done:
			return s.process.failed(err)
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return s.process.failed(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *isthmus) call(ctx context.Context, calls int, suite Suite) (*media.Load, error) {
	s.round++
	plan := node.Plan{
		Calls: calls, Keying: node.Plain, Profile: suite.Profile, Codec: codec, Prefix: fmt.Sprintf("bench-%d", s.round),
		Browser: netip.AddrPortFrom(s.cable.nearAddr, firstPort), Core: netip.AddrPortFrom(s.cable.coreAddr, firstPort),
	}
	if suite.Secure {
		plan.Keying = node.SDES
	}
	var err error
	if s.calls, err = s.client.Call(ctx, plan); err != nil {
		return nil, s.process.failed(err)
	}
	return s.calls.Load, nil
}

func (s *isthmus) hangUp(ctx context.Context) error {
	if s.calls == nil {
		return nil
	}
	err := s.calls.Remove(ctx)
	s.calls = nil
	return err
}

func (s *isthmus) pid() int { return s.process.cmd.Process.Pid }

func (s *isthmus) stop() {
	if s.client != nil {
		s.client.Close()
	}
	if s.process != nil {
		s.process.stop()
	}
}
