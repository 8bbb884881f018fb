// Command mediaplane is a media node: it terminates ICE and DTLS-SRTP of browsers
// and forwards their media, as control planes tell it to.
package main

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/mediaplane"
)

type config struct {
	Log               boot.Log `yaml:"log"`
	Admin             string   `yaml:"admin" help:"Host and port for health (/healthz) and metrics (/metrics); empty serves none."`
	mediaplane.Config `yaml:",inline"`
}

func main() {
	c := &config{Log: boot.DefaultLog(), Admin: "127.0.0.1:9091", Config: mediaplane.Default()}
	boot.Main(boot.Program{
		Name:        "mediaplane",
		Description: "A media node of Isthmus.",
		Prefix:      "ISTHMUS_MEDIAPLANE",
		Config:      c,
		Run: func(p boot.Process) error {
			log, err := c.Log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			registry := prometheus.NewRegistry()
			registry.MustRegister(p.Collectors...)
			plane, err := mediaplane.New(c.Config, mediaplane.Deps{Logger: log, Registerer: registry, Version: p.Version})
			if err != nil {
				return err
			}
			stop, err := boot.ServeAdmin(c.Admin, registry)
			if err != nil {
				plane.Close()
				return err
			}
			defer stop()
			return plane.Run(p.Context)
		},
	})
}
