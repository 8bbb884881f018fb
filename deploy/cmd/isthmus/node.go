package main

import (
	"errors"
	"os"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/mediaplane"
)

type nodeCmd struct {
	Streams streamsCmd `cmd:"" help:"Print the streams of the media node: what forwards each and why, addresses, packets, loss and jitter."`
}

type streamsCmd struct{}

func (streamsCmd) Run(c *cli) error {
	config, err := c.load()
	if err != nil {
		return err
	}
	if !config.Parts.MediaNode {
		return errors.New("parts.media_node is off: ask the media node itself, with mediaplane --streams")
	}
	if err := config.prepare(); err != nil {
		return err
	}
	ctx, stop := boot.Signals()
	defer stop()
	return mediaplane.PrintStreams(ctx, config.Media, os.Stdout)
}
