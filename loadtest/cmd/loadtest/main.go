// Command loadtest loads media targets and measures what comes back.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
)

type cli struct {
	Media mediaCommand `cmd:"" help:"Send RTP or SRTP streams through a target and measure what comes back."`
	Bench benchCommand `cmd:"" help:"Measure rtpengine and the engines of a media node beside each other on this machine."`
}

func main() {
	ctx, stop := boot.Signals()
	defer stop()
	c := kong.Parse(&cli{}, kong.Name("loadtest"), kong.BindTo(ctx, (*context.Context)(nil)))
	c.FatalIfErrorf(c.Run())
}
