package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-gateway/isthmus/controlplane"
	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/deploy/softphone"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
	"github.com/isthmus-gateway/isthmus/mediaplane"
)

type runCmd struct{}

func (runCmd) Run(c *cli) error {
	config, err := c.load()
	if err != nil {
		return err
	}
	log, err := config.Log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	if err := config.prepare(); err != nil {
		return err
	}
	ctx, stop := boot.Signals()
	defer stop()
	return run(ctx, config, log, os.Stdout, func() (*Config, error) {
		fresh, err := c.load()
		if err == nil {
			fresh.wire()
		}
		return fresh, err
	})
}

// run starts every part and serves until ctx is done. The control plane ends
// first: its last words go through the other parts. again reads the configuration
// once more, at SIGHUP.
func run(ctx context.Context, config *Config, log *slog.Logger, out io.Writer, again func() (*Config, error)) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(boot.Collectors()...)

	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	parts, life := errgroup.WithContext(life)

	web := http.NewServeMux()
	var demo *telco.Network
	if config.Parts.Network {
		var err error
		if demo, err = demoNetwork(config, log); err != nil {
			return err
		}
		web.Handle("/network/", http.StripPrefix("/network", demo.Handler()))
	}
	if config.Parts.OAuth {
		server, err := devoauth.New(config.OAuth)
		if err != nil {
			return within("demo_oauth", err)
		}
		for _, pattern := range server.Patterns() {
			web.Handle(pattern, server.Handler())
		}
	}
	if config.Parts.Softphone {
		page, err := softphone.Handler(config.softphone())
		if err != nil {
			return fmt.Errorf("softphone: %w", err)
		}
		web.Handle("/", page)
	}
	control, err := controlplane.New(ctx, config.Control, controlplane.Deps{Logger: log, Registry: metrics, Fallback: web})
	if err != nil {
		return errors.Join(config.explain(within("control_plane", err)), closeNetwork(demo))
	}
	var node *mediaplane.Plane
	if config.Parts.MediaNode {
		node, err = mediaplane.New(config.Media, mediaplane.Deps{Logger: log.With("plane", "media"), Registerer: metrics, Version: boot.Version()})
		if err != nil {
			control.Close()
			return errors.Join(within("media_plane", err), closeNetwork(demo))
		}
	}
	if node != nil {
		parts.Go(func() error { return node.Run(life) })
	}
	if demo != nil {
		parts.Go(func() error { return demo.Run(life) })
	}
	boot.Reloads(ctx, log, func() error {
		fresh, err := again()
		if err != nil {
			return err
		}
		if err := control.Reload(fresh.Control); err != nil {
			return within("control_plane", err)
		}
		return nil
	})
	parts.Go(func() error {
		defer end()
		return control.Run(ctx)
	})
	greet(out, config, control, node, demo)
	return parts.Wait()
}

func demoNetwork(config *Config, log *slog.Logger) (*telco.Network, error) {
	c := config.Network
	c.Logger = log.With("part", "demo_network")
	network, err := telco.New(c)
	if err != nil {
		return nil, within("demo_network", err)
	}
	return network, nil
}

// explain names the key that a listener was derived from.
func (c *Config) explain(err error) error {
	for listener, key := range map[string]string{"control_plane.http[0].": "public_url", "control_plane.http[1].": "secure_url"} {
		if c.fromURLs && strings.Contains(err.Error(), listener) {
			return fmt.Errorf("%w; it is the address of %s", err, key)
		}
	}
	return err
}

// within puts a part's name before each of its errors, most of which begin with
// a configuration key.
func within(part string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s.%w", part, err)
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, within(part, e))
	}
	return errors.Join(all...)
}

func closeNetwork(n *telco.Network) error {
	if n == nil {
		return nil
	}
	return n.Close()
}

// softphone is what the page needs to know; URLs are relative to it, so that it
// works under every address of this machine.
func (c *Config) softphone() softphone.Settings {
	s := softphone.Settings{
		ClientID:        phoneClient,
		Scopes:          softphone.DefaultScopes(),
		RegistrationURL: "/webrtc-registration/v0.4",
		CallHandlingURL: "/webrtc-call-handling/v0.4",
		EventsURL:       "/webrtc-events-subscriptions/v0.3",
		RelayURL:        "/relay/channels",
	}
	if c.Parts.OAuth {
		s.Issuer = c.OAuth.Issuer
		s.DiscoveryURL = strings.TrimPrefix(c.OAuth.Issuer, c.PublicURL) + "/.well-known/openid-configuration"
	} else if len(c.Control.Auth.Issuers) > 0 {
		s.Issuer = c.Control.Auth.Issuers[0].Issuer
	}
	if c.Control.Ladder.Enabled {
		s.LadderURL = "/ladder/stream"
	}
	if c.Parts.Network {
		s.NetworkURL = "/network"
	}
	return s
}

// greet says what is there and where to go.
func greet(out io.Writer, config *Config, control *controlplane.Plane, node *mediaplane.Plane, demo *telco.Network) {
	public, nodes, admin := control.Addresses()
	say := func(what, format string, args ...any) {
		fmt.Fprintf(out, "  %-22s %s\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(out, "Isthmus", boot.Version(), "is running:")
	say("control plane", "HTTP on %s, media nodes announce to %s", strings.Join(public, " and "), nodes)
	if admin != "" {
		say("health and metrics", "http://%s/readyz, /metrics", admin)
	}
	if node != nil {
		say("media node", "%s; browsers on UDP %v", node.URL(), node.WebRTCAddresses())
	}
	if config.Parts.OAuth {
		say("demo OAuth server", "%s", config.OAuth.Issuer)
	}
	if demo != nil {
		say("simulated network", "SIP on %s, echo number %s", demo.Addr(), demo.Numbers()[0].Number)
	}
	if config.Parts.Softphone {
		origins := config.secureOrigins()
		say("from a phone", "%s/, certificate authority %s", origins[len(origins)-1], config.file(caFile))
		fmt.Fprintf(out, "\nOpen %s/ in a browser.\n\n", config.PublicURL)
	}
}
