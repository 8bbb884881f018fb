package media

import (
	"errors"
	"fmt"
	"time"
)

// Config of the control plane's dealings with media nodes.
type Config struct {
	SharedSecret     string        `yaml:"shared_secret" help:"Secret that control plane and media nodes show each other; at least 16 characters. Needed unless mutual TLS is used." secret:"true"`
	AnnounceInterval time.Duration `yaml:"announce_interval" help:"How often media nodes announce themselves. A node that is silent for three intervals counts as lost."`
	RequestTimeout   time.Duration `yaml:"request_timeout" help:"How long a media node may take to answer a request."`
	AdoptWait        time.Duration `yaml:"adopt_wait" help:"How long after a restart the calls of a media node that has not announced itself yet are kept."`
	CA               string        `yaml:"ca" help:"File with the certificates (PEM) that media nodes' certificates are checked against; empty uses the system's."`
	Certificate      string        `yaml:"certificate" help:"File with this side's client certificate (PEM) for mutual TLS with media nodes."`
	Key              string        `yaml:"key" help:"File with the key of certificate (PEM)."`
}

// Default answers the defaults.
func Default() Config {
	return Config{AnnounceInterval: 2 * time.Second, RequestTimeout: 2 * time.Second, AdoptWait: 30 * time.Second}
}

// Validate names the keys that cannot be used.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"announce_interval", c.AnnounceInterval}, {"request_timeout", c.RequestTimeout}, {"adopt_wait", c.AdoptWait}} {
		if d.value < 10*time.Millisecond {
			errs = append(errs, fmt.Errorf("%s: must be at least 10ms, is %s", d.key, d.value))
		}
	}
	if c.SharedSecret == "" && c.Certificate == "" {
		errs = append(errs, errors.New("shared_secret: give it, or certificate and key for mutual TLS"))
	}
	if c.SharedSecret != "" && len(c.SharedSecret) < 16 {
		errs = append(errs, errors.New("shared_secret: must have at least 16 characters"))
	}
	if (c.Certificate == "") != (c.Key == "") {
		errs = append(errs, errors.New("certificate, key: give both or neither"))
	}
	return errors.Join(errs...)
}
