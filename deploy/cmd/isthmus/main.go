// Command isthmus is the gateway in one process: control plane and media node
// and, unless switched off, a demo OAuth server, a simulated telco network and a
// softphone to try it with. The planes talk to each other as if they were apart.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
)

type cli struct {
	boot.Sourced

	Run     runCmd     `cmd:"" default:"withargs" help:"Start the gateway (the default)."`
	Token   tokenCmd   `cmd:"" help:"Print an access token of the demo OAuth server."`
	Account accountCmd `cmd:"" help:"Provision the SIP accounts of numbers that register with one each."`
	Node    nodeCmd    `cmd:"" help:"Look into the media node of the running gateway."`
	Config  configCmd  `cmd:"" help:"Show the configuration."`
	SIP     sipCmd     `cmd:"" name:"sip" help:"Look at the SIP side."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// load reads the configuration from everywhere it can come from.
func (c cli) load() (*Config, error) {
	config := defaults()
	return config, boot.Load(config, c.Sources("ISTHMUS"))
}

type configCmd struct {
	Print     printCmd     `cmd:"" help:"Print the effective configuration, secrets hidden."`
	Reference referenceCmd `cmd:"" help:"Print every key with its default and meaning, as a Markdown table."`
}

type printCmd struct{}

func (printCmd) Run(c *cli) error {
	config, err := c.load()
	if err != nil {
		return err
	}
	config.wire()
	return boot.Print(os.Stdout, config)
}

// The reference that is read without a build.
//go:generate sh -c "go run . config reference > ../../configuration.md"

type referenceCmd struct{}

func (referenceCmd) Run() error { return boot.Reference(os.Stdout, defaults()) }

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("isthmus", boot.Version())
	return nil
}

func main() {
	var c cli
	k := kong.Parse(&c,
		kong.Name("isthmus"),
		kong.Description("A WebRTC gateway: calls with a subscriber's own number through the CAMARA WebRTC APIs, carried into the operator's SIP network."),
		kong.UsageOnError())
	if err := k.Run(&c); err != nil {
		fmt.Fprintln(os.Stderr, "isthmus:", err)
		os.Exit(1)
	}
}
