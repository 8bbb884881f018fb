// Command mediaplane is one media node: it carries calls between browsers and
// the operator's network as control planes program it.
package main

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/mediaplane"
)

type config struct {
	Log               boot.Log `yaml:"log" help:"Logging."`
	Admin             string   `yaml:"admin" help:"Host and port for health and metrics over HTTP. Empty: none."`
	mediaplane.Config `yaml:",inline"`
}

// flags beside those that every program has.
type flags struct {
	Streams bool `help:"Print the streams of the running node, with what forwards each and why, and exit."`
	Release bool `help:"Take away the flows and programs that the node has left in the kernel, and exit. The node must not run."`
}

func main() {
	c := &config{Log: boot.DefaultLog(), Config: mediaplane.Default()}
	f := &flags{}
	boot.Main(boot.Program{
		Name:        "mediaplane",
		Description: "A media node of Isthmus: WebRTC on one side, RTP on the other.",
		Prefix:      "ISTHMUS",
		Config:      c,
		Flags:       f,
		Run: func(p boot.Process) error {
			switch {
			case f.Streams:
				return mediaplane.PrintStreams(p.Context, c.Config, os.Stdout)
			case f.Release:
				return mediaplane.Release(c.Config)
			}
			return run(p, c)
		},
	})
}

func run(p boot.Process, c *config) error {
	log, err := c.Log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(p.Collectors...)
	plane, err := mediaplane.New(c.Config, mediaplane.Deps{Logger: log, Registerer: metrics, Version: p.Version})
	if err != nil {
		return err
	}
	if c.Admin != "" {
		stop, err := boot.ServeAdmin(c.Admin, metrics)
		if err != nil {
			plane.Close()
			return err
		}
		defer stop()
	}
	return plane.Run(p.Context)
}
