package notify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says how events are delivered and where to.
type Config struct {
	RetryFor    time.Duration `yaml:"retry_for" help:"how long a failed delivery is repeated before the event is given up, 0s to 24h"`
	BackoffMin  time.Duration `yaml:"backoff_min" help:"delay before the first repetition, doubled for each further one, 10ms to 1m"`
	BackoffMax  time.Duration `yaml:"backoff_max" help:"longest delay between repetitions, backoff_min to 1m"`
	Timeout     time.Duration `yaml:"timeout" help:"how long one delivery may take, from the first byte to the answer, 100ms to 1m"`
	Concurrency int           `yaml:"concurrency" help:"most deliveries at once, 1 to 100000"`
	PerHost     int           `yaml:"per_host" help:"most deliveries at once to one origin, 1 to 10000"`

	AllowNetworks []string `yaml:"allow_networks" help:"networks in CIDR notation that sinks may be in although they are private, loopback or otherwise not public"`
	AllowHosts    []string `yaml:"allow_hosts" help:"host names whose addresses may be of any network; *.example.com stands for every name below example.com"`
	AllowOrigins  []string `yaml:"allow_origins" help:"origins, https://host:port, whose addresses may be of any network"`
	CAFiles       []string `yaml:"ca_files" help:"PEM files with certificate authorities that sinks are trusted by, beside those of the system"`
}

// Default delivers to public addresses only and repeats for ten minutes.
func Default() Config {
	return Config{
		RetryFor:    10 * time.Minute,
		BackoffMin:  500 * time.Millisecond,
		BackoffMax:  time.Minute,
		Timeout:     10 * time.Second,
		Concurrency: 4096,
		PerHost:     64,
	}
}

// Validate reports everything that is wrong, by key.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			bad("%s: %s is outside %s to %s", key, d, low, high)
		}
	}
	within("retry_for", c.RetryFor, 0, 24*time.Hour)
	within("backoff_min", c.BackoffMin, 10*time.Millisecond, time.Minute)
	within("backoff_max", c.BackoffMax, c.BackoffMin, time.Minute)
	within("timeout", c.Timeout, 100*time.Millisecond, time.Minute)
	if c.Concurrency < 1 || c.Concurrency > 100_000 {
		bad("concurrency: %d is outside 1 to 100000", c.Concurrency)
	}
	if c.PerHost < 1 || c.PerHost > 10_000 {
		bad("per_host: %d is outside 1 to 10000", c.PerHost)
	}
	if _, err := newGuard(c, nil); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func parseNetworks(list []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	var errs []error
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("allow_networks[%d]: %q is not a network in CIDR notation, 10.0.0.0/8 for instance", i, s))
			continue
		}
		networks = append(networks, p.Masked())
	}
	return networks, errors.Join(errs...)
}

func parseOrigins(list []string) (map[string]bool, error) {
	origins := map[string]bool{}
	var errs []error
	for i, s := range list {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Host == "" || "https://"+u.Host != s {
			errs = append(errs, fmt.Errorf("allow_origins[%d]: %q is not of the form https://host:port", i, s))
			continue
		}
		origins[originOf(u)] = true
	}
	return origins, errors.Join(errs...)
}

func checkHosts(list []string) error {
	var errs []error
	for i, s := range list {
		if name := strings.TrimPrefix(s, "*."); name == "" || strings.ContainsAny(name, "*:/@ ") {
			errs = append(errs, fmt.Errorf("allow_hosts[%d]: %q is neither a host name nor of the form *.example.com", i, s))
		}
	}
	return errors.Join(errs...)
}

// authorities are those of the system and those in the files.
func authorities(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for i, name := range files {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("ca_files[%d]: %w", i, err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_files[%d]: %s holds no certificate in PEM form", i, name)
		}
	}
	return pool, nil
}
