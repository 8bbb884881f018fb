// Command controlplane is one control-plane process: the CAMARA APIs, token
// validation, SIP and notifications. Media nodes announce themselves to it.
package main

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane"
	"github.com/isthmus-gateway/isthmus/deploy/boot"
)

type config struct {
	Log                 boot.Log `yaml:"log"`
	controlplane.Config `yaml:",inline"`
}

func main() {
	c := &config{Log: boot.DefaultLog(), Config: controlplane.Default()}
	boot.Main(boot.Program{
		Name:        "controlplane",
		Description: "The control plane of Isthmus: CAMARA WebRTC APIs on one side, SIP on the other.",
		Prefix:      "ISTHMUS",
		Config:      c,
		Run: func(p boot.Process) error {
			log, err := c.Log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			registry := prometheus.NewRegistry()
			registry.MustRegister(p.Collectors...)
			plane, err := controlplane.New(p.Context, c.Config, controlplane.Deps{Logger: log, Registry: registry})
			if err != nil {
				return err
			}
			boot.Reloads(p.Context, log, func() error {
				fresh, err := p.Again()
				if err != nil {
					return err
				}
				return plane.Reload(fresh.(*config).Config)
			})
			return plane.Run(p.Context)
		},
	})
}
