package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/deploy/ladder"
)

type sipCmd struct {
	Trace traceCmd `cmd:"" help:"Draw the messages of calls as they happen, until ^C."`
}

// traceCmd draws the ladder of a control plane, this one's or another.
type traceCmd struct {
	Admin  string         `placeholder:"URL" help:"Admin port of the control plane, as in http://127.0.0.1:9090; without it the one of the configuration."`
	Call   string         `placeholder:"ID" help:"One call: its id, a mediaSessionId of it, or a SIP Call-ID."`
	Number string         `placeholder:"+NUMBER" help:"Calls of one subscriber."`
	Since  *time.Duration `placeholder:"TIME" help:"Leave out what is older, 5m for instance; 0s shows only what is new. Without it everything that the control plane still has is shown."`
	Follow bool           `default:"true" negatable:"" help:"Go on with what happens from now on."`
	Color  string         `default:"auto" enum:"auto,always,never" help:"Colours: auto, always or never."`
	Width  int            `placeholder:"COLUMNS" help:"Cut lines to this; without it to the terminal's width."`
}

func (t traceCmd) Run(c *cli) error {
	admin := t.Admin
	if admin == "" {
		config, err := c.load()
		if err != nil {
			return err
		}
		if admin = config.Control.Admin; admin == "" {
			return fmt.Errorf("control_plane.admin is empty, so the ladder is served nowhere; say with --admin where another control plane serves it")
		}
	}
	ctx, stop := boot.Signals()
	defer stop()
	filter := ladder.Filter{Call: t.Call, Number: t.Number}
	if t.Since != nil {
		filter.Since = time.Now().Add(-*t.Since)
	}
	selection := ladder.Select(filter)
	drawing := ladder.Draw(os.Stdout, t.look())
	source := ladder.Source{URL: admin, Number: t.Number, Follow: t.Follow, Lost: func(err error) {
		fmt.Fprintf(os.Stderr, "isthmus: %v; trying again\n", err)
	}}
	var failed error
	err := source.Read(ctx, func(e ladder.Entry) {
		for _, e := range selection.Take(e) {
			if failed = drawing.Add(e); failed != nil {
				stop() // nobody reads any more
			}
		}
	})
	if failed != nil {
		return fmt.Errorf("draw the ladder: %w", failed)
	}
	return err
}

// look fits the drawing to where it goes.
func (t traceCmd) look() ladder.Look {
	l := ladder.Look{Color: t.Color == "always", Width: t.Width}
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return l // no terminal
	}
	if t.Color == "auto" {
		l.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if l.Width == 0 {
		l.Width = int(size.Col)
		if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil {
			l.Width = columns
		}
	}
	return l
}
