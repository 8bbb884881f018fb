package camara

import (
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Names of the API generations.
const (
	R31      = "r3.1"
	R22      = "r2.2"
	Main2606 = "main-2026-06"
)

// Config of the API Exposure Function.
type Config struct {
	// Generations served; the others answer 404. Their subscriptions go on.
	Generations []string `yaml:"generations" help:"CAMARA generations to serve: r3.1, r2.2, main-2026-06."`
	// Examples accepts the misspelt paths of published call-flow examples.
	Examples bool `yaml:"examples" help:"Accept the paths /webrtc-events-suscription/… and POST /webrtc-registration/…/subscriptions too."`
	// MaxBody in bytes; a longer request is answered 413.
	MaxBody int64 `yaml:"max_body" help:"Longest request body, in bytes."`
	// Timeout of one use case; after it the answer is 504.
	Timeout time.Duration `yaml:"timeout" help:"How long a request may take before it is answered with TIMEOUT."`
	// Rate limits each application.
	Rate Rate `yaml:"rate"`
	// Origins of web pages that may call the APIs.
	Origins []string `yaml:"cors_origins" help:"Origins of web pages that may use the APIs; * for all."`
	// EventSource is the CloudEvents attribute source of every event.
	EventSource string `yaml:"event_source" help:"URI reference that names this gateway as the source of events."`
	// OpenIDConfiguration is told in the documents and used by their page.
	OpenIDConfiguration string `yaml:"openid_configuration" help:"URL of the authorization server's metadata, for the OpenAPI documents."`
	// DocsClientID lets the documents' page obtain tokens; empty: tokens are pasted.
	DocsClientID string `yaml:"docs_client_id" help:"OAuth client of the OpenAPI pages (public, PKCE, redirect URI /openapi/callback); empty to paste access tokens instead."`
	// R22 has what is particular to that generation.
	R22 R22Config `yaml:"r22"`
}

// Rate limits how fast one application may send requests.
type Rate struct {
	PerSecond float64 `yaml:"per_second" help:"Requests per second and application; 0 for no limit."`
	Burst     int     `yaml:"burst" help:"Requests that may come at once."`
}

// R22Config has what is particular to generation r2.2.
type R22Config struct {
	// HomeDomain is the host of sip: addresses that stand for addresses which
	// the narrow address pattern of r2.2 cannot express.
	HomeDomain string `yaml:"home_domain" help:"Domain for addresses that generations before r3.1 cannot express otherwise."`
	// EnvelopeAttributes copies mediaSessionId and status of session-status
	// events to the envelope, where the published schema requires them although
	// CloudEvents does not allow such names.
	EnvelopeAttributes bool `yaml:"envelope_attributes" help:"Copy mediaSessionId and status of session-status events to the CloudEvents envelope."`
}

// Default is a configuration that serves every generation to every page.
func Default() Config {
	return Config{
		Generations: []string{R31, R22, Main2606},
		Examples:    true,
		MaxBody:     256 << 10,
		Timeout:     30 * time.Second,
		Rate:        Rate{PerSecond: 0, Burst: 50},
		Origins:     []string{"*"},
		EventSource: "urn:isthmus:gateway",
		R22:         R22Config{HomeDomain: "ims.example.net"},
	}
}

// Validate reports the first setting that cannot be used.
func (c Config) Validate() error {
	for _, g := range c.Generations {
		if !slices.Contains([]string{R31, R22, Main2606}, g) {
			return fmt.Errorf("generations: %q is unknown; known are %s, %s and %s", g, R31, R22, Main2606)
		}
	}
	switch {
	case len(c.Generations) == 0:
		return fmt.Errorf("generations: name at least one of %s, %s and %s", R31, R22, Main2606)
	case c.MaxBody < 1024:
		return fmt.Errorf("max_body: %d is too small for any request; give at least 1024", c.MaxBody)
	case c.Timeout <= 0:
		return fmt.Errorf("timeout: %s must be positive", c.Timeout)
	case c.Rate.PerSecond < 0:
		return fmt.Errorf("rate.per_second: %g must not be negative", c.Rate.PerSecond)
	case c.Rate.PerSecond > 0 && c.Rate.Burst < 1:
		return fmt.Errorf("rate.burst: %d must be at least 1", c.Rate.Burst)
	case c.EventSource == "" || len(c.EventSource) > 2048:
		return fmt.Errorf("event_source: must have 1 to 2048 characters")
	case !isHomeDomain(c.R22.HomeDomain):
		return fmt.Errorf("r22.home_domain: %q is not a domain name of at least two labels, the last one of letters", c.R22.HomeDomain)
	}
	if _, err := url.Parse(c.EventSource); err != nil {
		return fmt.Errorf("event_source: %w", err)
	}
	for _, o := range c.Origins {
		if o == "*" {
			continue
		}
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || u.Path != "" {
			return fmt.Errorf("cors_origins: %q is neither * nor an origin such as https://app.example.com", o)
		}
	}
	if c.OpenIDConfiguration != "" {
		if u, err := url.Parse(c.OpenIDConfiguration); err != nil || u.Host == "" {
			return fmt.Errorf("openid_configuration: %q is not a URL", c.OpenIDConfiguration)
		}
	}
	return nil
}
