// Package boot is what the programs have in common: configuration from a file,
// the environment and flags, logging, and the end by signal. Only main packages
// import it.
//
// A configuration is a struct whose fields carry the YAML key (yaml:"key"), a
// description (help:"…") and, where the value must not be shown, secret:"true".
// Each source overrides the one before: defaults, file, environment, flags. A key
// that does not exist is an error that names it, wherever it comes from.
package boot

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level" help:"Least level that is logged: debug, info, warn or error. debug shows every SIP message."`
	Format string `yaml:"format" help:"text or json."`
}

// DefaultLog logs from info on, as text.
func DefaultLog() Log { return Log{Level: "info", Format: "text"} }

// Logger writes to w as configured.
func (l Log) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", l.Level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("log.format: %q is neither text nor json", l.Format)
}

// Signals is done at SIGINT or SIGTERM. A second signal ends the process at once.
func Signals() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Reloads calls reload at every SIGHUP until ctx is done. Where reload fails, what
// was in force stays so, and the log says why.
func Reloads(ctx context.Context, log *slog.Logger, reload func() error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hup)
		for {
			select {
			case <-hup:
			case <-ctx.Done():
				return
			}
			if err := reload(); err != nil {
				log.Error("the configuration was not reloaded, the old one stays in force", "error", err)
			}
		}
	}()
}
