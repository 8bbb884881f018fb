package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Config of the use cases.
type Config struct {
	Registrations LifetimeConfig `yaml:"registrations" help:"How long a registration lives."`
	Subscriptions LifetimeConfig `yaml:"subscriptions" help:"How long an event subscription lives."`
	Limits        Limits         `yaml:"limits" help:"How many resources one subscriber may hold."`

	RingTimeout    time.Duration `yaml:"ring_timeout" help:"How long an incoming call rings before it ends unanswered."`
	LateOfferWait  time.Duration `yaml:"late_offer_wait" help:"How long a session without an offer waits for one before it fails."`
	EndedRetention time.Duration `yaml:"ended_retention" help:"How long an ended session can still be read."`
	HoldWait       time.Duration `yaml:"hold_wait" help:"How long a hold or resume request waits for the far end before it is answered anyway."`
	MediaTimeout   time.Duration `yaml:"media_timeout" help:"How long a side may be silent before the call counts as lost and is ended; 0 never ends calls for silence."`
	MediaGrace     time.Duration `yaml:"media_grace" help:"How long an answered call outlives a lost browser connection, for instance while its page is loaded again."`
	OrphanAfter    time.Duration `yaml:"orphan_after" help:"How long media nodes keep sessions that no control plane claims."`
	CallsOutlive   bool          `yaml:"calls_outlive_registration" help:"Whether running calls go on when their registration expires."`
	DeclineBusy    bool          `yaml:"decline_busy" help:"Decline incoming calls with 486 instead of 603."`
	Emergency      bool          `yaml:"emergency" help:"Whether emergency calls are taken; needs a trunk for them."`
	Codecs         []string      `yaml:"codecs" help:"Codecs that may pass between browsers and the operator's network, in order of preference: opus, G722, PCMU, PCMA."`
	Numbers        []string      `yaml:"numbers" help:"Prefixes of the numbers that this gateway serves, in E.164 form; calls to others get 404. Empty serves every number."`
	AddressMissing []string      `yaml:"emergency_address_missing" help:"Prefixes of the numbers that may not register yet, because no emergency address is provisioned for them (EMERGENCY_ADDRESS_MISSING)."`
	Applications   []Application `yaml:"applications" help:"Numbers that applications may register with a token of their own (client credentials)."`
	KeepCalls      bool          `yaml:"keep_calls" help:"Leave calls running at shutdown for another process to take over, instead of ending them."`
}

// LifetimeConfig is the configured form of call.Lifetimes.
type LifetimeConfig struct {
	Min     time.Duration `yaml:"min" help:"Shortest life that may be asked for."`
	Default time.Duration `yaml:"default" help:"Life when none is asked for."`
	Max     time.Duration `yaml:"max" help:"Longest life; longer wishes are cut to it."`
}

func (l LifetimeConfig) lifetimes() call.Lifetimes { return call.Lifetimes(l) }

// Limits per subscriber; each at least 1.
type Limits struct {
	RegistrationsPerNumber int `yaml:"registrations_per_number" help:"Registrations of one number at a time, 1 to 10."`
	RegistrationsPerUser   int `yaml:"registrations_per_user" help:"Registrations of one number made by one application at a time, 1 to 10."`
	DevicesPerUser         int `yaml:"devices_per_user" help:"Distinct devices of one subscriber at a time."`
	Subscriptions          int `yaml:"subscriptions" help:"Event subscriptions of one application for one subscriber, 1 to 100."`
}

// Application is one that may act for numbers without a subscriber's token.
type Application struct {
	ClientID string   `yaml:"client_id" help:"The application's OAuth client id."`
	Numbers  []string `yaml:"numbers" help:"Prefixes of the numbers that it may register, in E.164 form."`
}

// Default answers the defaults.
func Default() Config {
	return Config{
		Registrations:  LifetimeConfig{Min: time.Minute, Default: time.Hour, Max: 24 * time.Hour},
		Subscriptions:  LifetimeConfig{Min: time.Minute, Default: 24 * time.Hour, Max: 30 * 24 * time.Hour},
		Limits:         Limits{RegistrationsPerNumber: 10, RegistrationsPerUser: 10, DevicesPerUser: 10, Subscriptions: 100},
		RingTimeout:    time.Minute,
		LateOfferWait:  time.Minute,
		EndedRetention: time.Minute,
		HoldWait:       5 * time.Second,
		MediaTimeout:   time.Minute,
		MediaGrace:     20 * time.Second,
		OrphanAfter:    5 * time.Minute,
		CallsOutlive:   true,
		Codecs:         sdp.DefaultPolicy().Encodings,
	}
}

// Validate names the keys that cannot be used.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	for _, l := range []struct {
		key string
		LifetimeConfig
	}{{"registrations", c.Registrations}, {"subscriptions", c.Subscriptions}} {
		if l.Min < time.Second || l.Default < l.Min || l.Max < l.Default {
			bad(l.key, "want 1s <= min <= default <= max, have %s, %s and %s", l.Min, l.Default, l.Max)
		}
	}
	for _, l := range []struct {
		key         string
		value, most int
	}{
		{"limits.registrations_per_number", c.Limits.RegistrationsPerNumber, 10},
		{"limits.registrations_per_user", c.Limits.RegistrationsPerUser, 10},
		{"limits.devices_per_user", c.Limits.DevicesPerUser, 1000},
		{"limits.subscriptions", c.Limits.Subscriptions, 100},
	} {
		if l.value < 1 || l.value > l.most {
			bad(l.key, "must be 1 to %d, is %d", l.most, l.value)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
		least time.Duration
	}{
		{"ring_timeout", c.RingTimeout, time.Second},
		{"late_offer_wait", c.LateOfferWait, time.Second},
		{"ended_retention", c.EndedRetention, 0},
		{"hold_wait", c.HoldWait, 100 * time.Millisecond},
		{"media_timeout", c.MediaTimeout, 0},
		{"media_grace", c.MediaGrace, 0},
		{"orphan_after", c.OrphanAfter, time.Second},
	} {
		if d.value < d.least {
			bad(d.key, "must be at least %s, is %s", d.least, d.value)
		}
	}
	if err := c.policy().Validate(); err != nil {
		bad("codecs", "%v", err)
	}
	for key, prefixes := range map[string][]string{"numbers": c.Numbers, "emergency_address_missing": c.AddressMissing} {
		for i, p := range prefixes {
			if !isPrefix(p) {
				bad(fmt.Sprintf("%s[%d]", key, i), "%q is not a prefix of E.164 numbers such as +1555", p)
			}
		}
	}
	for i, a := range c.Applications {
		if a.ClientID == "" {
			bad(fmt.Sprintf("applications[%d].client_id", i), "must not be empty")
		}
		for k, p := range a.Numbers {
			if !isPrefix(p) {
				bad(fmt.Sprintf("applications[%d].numbers[%d]", i, k), "%q is not a prefix of E.164 numbers such as +1555", p)
			}
		}
	}
	return errors.Join(errs...)
}

func (c Config) policy() sdp.Policy { return sdp.Policy{Encodings: c.Codecs} }

func isPrefix(s string) bool {
	digits, plus := strings.CutPrefix(s, "+")
	return plus && len(digits) <= 15 && strings.Trim(digits, "0123456789") == ""
}

// serves reports whether calls to the number are this gateway's.
func (c Config) serves(n call.Number) bool {
	return len(c.Numbers) == 0 || hasPrefix(n, c.Numbers)
}

// mayRegister reports whether an application may register the number without its
// subscriber's token.
func (c Config) mayRegister(clientID string, n call.Number) bool {
	for _, a := range c.Applications {
		if a.ClientID == clientID && hasPrefix(n, a.Numbers) {
			return true
		}
	}
	return false
}

func hasPrefix(n call.Number, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(string(n), p) {
			return true
		}
	}
	return false
}
