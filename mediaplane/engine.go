package mediaplane

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// XDPConfig is about the engine in the kernel.
type XDPConfig struct {
	Interfaces []string `yaml:"interfaces" help:"Network interfaces that media come in and leave by. Empty: those that carry the addresses of webrtc.bind and rtp.bind."`
	Attachment string   `yaml:"attachment" help:"How the program is attached: native (in the driver), generic (in the stack, on any interface) or auto (native where the driver can, except veth, whose other end may drop what is sent)."`
	Directory  string   `yaml:"directory" help:"Directory in a BPF file system. Flows are pinned there under the node's name, so that they outlive the process."`
	MaxFlows   int      `yaml:"max_flows" help:"Flows in the kernel at most, one for each direction of a stream; each takes about 4 KB."`
}

func (c XDPConfig) validate() error {
	switch {
	case !slices.Contains([]string{"auto", "native", "generic"}, c.Attachment):
		return fmt.Errorf("xdp.attachment: %q, must be auto, native or generic", c.Attachment)
	case c.MaxFlows < 1 || c.MaxFlows > 1<<20:
		return fmt.Errorf("xdp.max_flows: %d, must be 1 to %d", c.MaxFlows, 1<<20)
	case c.Directory == "":
		return fmt.Errorf("xdp.directory: missing")
	}
	return nil
}

// openEngine makes the engine that the configuration asks for.
func openEngine(cfg Config, log *slog.Logger) (fastpath.Engine, error) {
	if cfg.Engine == "user" {
		return fastpath.NewUser("chosen by configuration"), nil
	}
	addresses, err := boundAddresses(cfg)
	if err != nil {
		return nil, err
	}
	engine, err := openXDP(cfg, addresses, log)
	switch {
	case err == nil:
		return engine, nil
	case cfg.Engine == "xdp":
		return nil, err
	}
	return fastpath.NewUser(err.Error()), nil
}

// boundAddresses are those that media are sent from.
func boundAddresses(cfg Config) ([]netip.Addr, error) {
	webrtc, _, err := webrtcAddresses(cfg.WebRTC)
	if err != nil {
		return nil, err
	}
	list, _, err := rtpAddresses(cfg.RTP)
	if err != nil {
		return nil, err
	}
	for _, a := range webrtc {
		if !slices.Contains(list, a.Addr()) {
			list = append(list, a.Addr())
		}
	}
	return list, nil
}

// engineCollector exports what an engine tells of its packets.
type engineCollector struct {
	engine  fastpath.Engine
	packets *prometheus.Desc
	info    *prometheus.Desc
}

func newEngineCollector(engine fastpath.Engine) *engineCollector {
	return &engineCollector{
		engine: engine,
		packets: prometheus.NewDesc("isthmus_media_engine_packets_total",
			"Packets of offloaded streams by what the kernel did with them: forwarded, passed_… to user space, dropped_….", []string{"cause"}, nil),
		info: prometheus.NewDesc("isthmus_media_engine_info",
			"1 for the engine that forwards, with how it runs or why it is not a faster one.", []string{"engine", "reason"}, nil),
	}
}

func (c *engineCollector) Describe(d chan<- *prometheus.Desc) {
	d <- c.packets
	d <- c.info
}

func (c *engineCollector) Collect(m chan<- prometheus.Metric) {
	m <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, c.engine.Name(), c.engine.Reason())
	c.engine.Causes(func(cause string, packets uint64) bool {
		m <- prometheus.MustNewConstMetric(c.packets, prometheus.CounterValue, float64(packets), cause)
		return true
	})
}
