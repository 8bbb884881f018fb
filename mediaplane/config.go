package mediaplane

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"
)

// Config of a media node. Keys are named in errors as they are in the file.
type Config struct {
	NodeID        string       `yaml:"node_id" help:"Stable name of the node, unique in the network. Empty: the host name."`
	RPC           RPCConfig    `yaml:"rpc" help:"The service that control planes program the node through."`
	ControlPlanes []string     `yaml:"control_planes" help:"Base URLs of the control planes to announce the node to. http:// only to loopback addresses."`
	WebRTC        WebRTCConfig `yaml:"webrtc" help:"The UDP port that all browsers share."`
	RTP           RTPConfig    `yaml:"rtp" help:"The UDP ports toward the operator's network."`
	Engine        string       `yaml:"engine" help:"What forwards packets: xdp (in the kernel), user (in user space, works everywhere) or auto (xdp where it works)."`
	XDP           XDPConfig    `yaml:"xdp" help:"The engine in the kernel."`
	Limits        LimitsConfig `yaml:"limits" help:"Bounds of the node."`
	Timers        TimersConfig `yaml:"timers" help:"Intervals and timeouts."`
}

// RPCConfig is the listener of the MediaNode service.
type RPCConfig struct {
	Listen       string `yaml:"listen" help:"Host and port to listen on (TCP). Port 0 lets the system choose."`
	URL          string `yaml:"url" help:"Base URL that is announced. Empty: made of the address listened on."`
	SharedSecret string `yaml:"shared_secret" secret:"true" help:"Secret that both planes know, at least 16 characters. Required unless client_ca is set."`
	Certificate  string `yaml:"certificate" help:"File with the node's certificate chain (PEM). Required off loopback; also shown to control planes."`
	Key          string `yaml:"key" help:"File with the private key of certificate (PEM)."`
	ClientCA     string `yaml:"client_ca" help:"File with the certificate authorities (PEM) that callers' certificates must come from. Empty: callers need none."`
	ServerCA     string `yaml:"server_ca" help:"File with the certificate authorities (PEM) of the control planes. Empty: those of the system."`
}

// WebRTCConfig is the shared port of browsers.
type WebRTCConfig struct {
	Bind      []string `yaml:"bind" help:"IP addresses to bind. 0.0.0.0 or :: stand for every address of the host of that family."`
	Port      uint16   `yaml:"port" help:"UDP port, the same on every address. 0 lets the system choose."`
	Advertise []string `yaml:"advertise" help:"Addresses told to browsers, ip or ip:port, when they differ from those bound (1:1 NAT). Empty: those bound."`
}

// RTPConfig is the port range of telco legs.
type RTPConfig struct {
	Bind      []string `yaml:"bind" help:"IP addresses to bind, one for each family at most useful. 0.0.0.0 or :: stand for the host's first address of that family that is not loopback."`
	Advertise []string `yaml:"advertise" help:"IP addresses written in SDP in place of those of bind, in the same order. Empty: those bound."`
	PortMin   uint16   `yaml:"port_min" help:"First UDP port of the range; a leg takes an even port and the one after it."`
	PortMax   uint16   `yaml:"port_max" help:"Last UDP port of the range."`
}

// LimitsConfig bounds what a node takes on.
type LimitsConfig struct {
	Sessions     int `yaml:"sessions" help:"Sessions that the node may have."`
	WatchBuffer  int `yaml:"watch_buffer" help:"Events held for a watcher before it is disconnected as too slow."`
	Loops        int `yaml:"loops" help:"Threads that read packets in user space. 0: one for each processor."`
	SocketBuffer int `yaml:"socket_buffer" help:"Kernel buffer of the shared sockets in bytes; telco sockets get an eighth. The kernel's own limit applies."`
}

// TimersConfig holds intervals.
type TimersConfig struct {
	OrphanAfter time.Duration `yaml:"orphan_after" help:"End a session when no control plane has watched it or applied a spec to it for this long, unless its spec says otherwise."`
	Heartbeat   time.Duration `yaml:"heartbeat" help:"Heartbeat on a watch when nothing else was sent."`
	Handshake   time.Duration `yaml:"handshake" help:"Longest time for a DTLS handshake."`
	Quality     time.Duration `yaml:"quality" help:"Interval of quality samples."`
	Checkpoint  time.Duration `yaml:"checkpoint" help:"Interval of checkpoints; at most 5s."`
	Tick        time.Duration `yaml:"tick" help:"How often timeouts are looked for."`
}

// Default is a node for one machine: it needs a shared secret, and rpc.url and
// certificates when control planes are elsewhere.
func Default() Config {
	return Config{
		RPC:    RPCConfig{Listen: "127.0.0.1:7070"},
		WebRTC: WebRTCConfig{Bind: []string{"0.0.0.0"}, Port: 7882},
		RTP:    RTPConfig{Bind: []string{"0.0.0.0"}, PortMin: 20000, PortMax: 29999},
		Engine: "auto",
		XDP:    XDPConfig{Attachment: "auto", Directory: "/sys/fs/bpf/isthmus", MaxFlows: 8192},
		Limits: LimitsConfig{Sessions: 2000, WatchBuffer: 16384, SocketBuffer: 4 << 20},
		Timers: TimersConfig{
			OrphanAfter: 2 * time.Minute, Heartbeat: 2 * time.Second, Handshake: 30 * time.Second,
			Quality: 5 * time.Second, Checkpoint: 4 * time.Second, Tick: 500 * time.Millisecond,
		},
	}
}

// Validate checks every key; its error names the first that is wrong.
func (c Config) Validate() error {
	if len(c.NodeID) > 128 {
		return fmt.Errorf("node_id: %d characters, at most 128", len(c.NodeID))
	}
	if err := c.RPC.validate(); err != nil {
		return err
	}
	for i, raw := range c.ControlPlanes {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
			return fmt.Errorf("control_planes[%d]: %q is no http or https URL", i, raw)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			return fmt.Errorf("control_planes[%d]: %q would carry secrets in plain text off loopback; use https", i, raw)
		}
	}
	if err := c.WebRTC.validate(); err != nil {
		return err
	}
	if err := c.RTP.validate(); err != nil {
		return err
	}
	if c.Engine != "auto" && c.Engine != "user" && c.Engine != "xdp" {
		return fmt.Errorf("engine: %q, must be auto, xdp or user", c.Engine)
	}
	if err := c.XDP.validate(); err != nil {
		return err
	}
	switch {
	case c.Limits.Sessions < 1 || c.Limits.Sessions > 1_000_000:
		return fmt.Errorf("limits.sessions: %d, must be 1 to 1000000", c.Limits.Sessions)
	case c.Limits.WatchBuffer < 16 || c.Limits.WatchBuffer > 1<<20:
		return fmt.Errorf("limits.watch_buffer: %d, must be 16 to %d", c.Limits.WatchBuffer, 1<<20)
	case c.Limits.Loops < 0 || c.Limits.Loops > 1024:
		return fmt.Errorf("limits.loops: %d, must be 0 to 1024", c.Limits.Loops)
	case c.Limits.SocketBuffer < 0 || c.Limits.SocketBuffer > 1<<30:
		return fmt.Errorf("limits.socket_buffer: %d, must be 0 to %d", c.Limits.SocketBuffer, 1<<30)
	}
	return c.Timers.validate()
}

func (c RPCConfig) validate() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("rpc.listen: %q is not host:port: %w", c.Listen, err)
	}
	tls := c.Certificate != ""
	switch {
	case (c.Certificate == "") != (c.Key == ""):
		return fmt.Errorf("rpc.certificate and rpc.key: set both or none")
	case !tls && !loopback(host):
		return fmt.Errorf("rpc.listen: %q is not on loopback, and keys must not travel in plain text; set rpc.certificate and rpc.key", c.Listen)
	case c.ClientCA != "" && !tls:
		return fmt.Errorf("rpc.client_ca: needs rpc.certificate and rpc.key")
	case c.SharedSecret == "" && c.ClientCA == "":
		return fmt.Errorf("rpc.shared_secret: missing; set it, or rpc.client_ca for mutual TLS")
	case c.SharedSecret != "" && len(c.SharedSecret) < 16:
		return fmt.Errorf("rpc.shared_secret: %d characters, at least 16", len(c.SharedSecret))
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("rpc.url: %q is no http or https URL", c.URL)
		}
		if (u.Scheme == "https") != tls {
			return fmt.Errorf("rpc.url: %q does not fit rpc.certificate: https needs one, http must have none", c.URL)
		}
	}
	for _, f := range []struct{ key, path string }{
		{"rpc.certificate", c.Certificate}, {"rpc.key", c.Key}, {"rpc.client_ca", c.ClientCA}, {"rpc.server_ca", c.ServerCA},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return nil
}

func (c WebRTCConfig) validate() error {
	if len(c.Bind) == 0 {
		return fmt.Errorf("webrtc.bind: missing")
	}
	for i, a := range c.Bind {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("webrtc.bind[%d]: %q is no IP address", i, a)
		}
	}
	for i, a := range c.Advertise {
		if _, err := advertised(a); err != nil {
			return fmt.Errorf("webrtc.advertise[%d]: %w", i, err)
		}
	}
	return nil
}

func (c RTPConfig) validate() error {
	if len(c.Bind) == 0 {
		return fmt.Errorf("rtp.bind: missing")
	}
	for i, a := range c.Bind {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("rtp.bind[%d]: %q is no IP address", i, a)
		}
	}
	if len(c.Advertise) != 0 && len(c.Advertise) != len(c.Bind) {
		return fmt.Errorf("rtp.advertise: %d addresses for %d of rtp.bind; give one for each, or none", len(c.Advertise), len(c.Bind))
	}
	for i, a := range c.Advertise {
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.IsUnspecified() {
			return fmt.Errorf("rtp.advertise[%d]: %q is no IP address that the far end can send to", i, a)
		}
	}
	if c.PortMin < 1024 || c.PortMax <= c.PortMin {
		return fmt.Errorf("rtp.port_min and rtp.port_max: %d-%d is no range of ports from 1024 up", c.PortMin, c.PortMax)
	}
	return nil
}

func (c TimersConfig) validate() error {
	for _, t := range []struct {
		key      string
		value    time.Duration
		min, max time.Duration
	}{
		{"timers.orphan_after", c.OrphanAfter, time.Second, 24 * time.Hour},
		{"timers.heartbeat", c.Heartbeat, 10 * time.Millisecond, time.Minute},
		{"timers.handshake", c.Handshake, time.Second, 5 * time.Minute},
		{"timers.quality", c.Quality, 100 * time.Millisecond, time.Hour},
		{"timers.checkpoint", c.Checkpoint, 100 * time.Millisecond, 5 * time.Second},
		{"timers.tick", c.Tick, 10 * time.Millisecond, 2 * time.Second},
	} {
		if t.value < t.min || t.value > t.max {
			return fmt.Errorf("%s: %s, must be %s to %s", t.key, t.value, t.min, t.max)
		}
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// advertised reads ip or ip:port.
func advertised(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("%q is no address that a browser can send to", s)
		}
		return netip.AddrPortFrom(ip.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("%q is neither ip nor ip:port", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
