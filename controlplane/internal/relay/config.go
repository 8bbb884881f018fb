package relay

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config says where the relay is reached and what it keeps.
type Config struct {
	SinkURL   string `yaml:"sink_url" help:"public https URL of the relay as notifiers reach it, without a slash at the end; empty: that of the request that opens a channel"`
	DeviceURL string `yaml:"device_url" help:"public URL of the relay as devices reach it, without a slash at the end; empty: that of the request that opens a channel"`

	ChannelsPerOwner  int           `yaml:"channels_per_owner" help:"most open channels of one subscriber in one application, 1 to 1000"`
	StreamsPerChannel int           `yaml:"streams_per_channel" help:"most streams at once on one channel and process; a newer one ends the oldest, 1 to 100"`
	Buffer            int           `yaml:"buffer" help:"most events that a channel holds; when none of them was read yet, further ones are refused with 429, 1 to 100000"`
	MaxAge            time.Duration `yaml:"max_age" help:"how long an event is kept for streams to resume, 1m to 720h"`
	MaxEvent          int           `yaml:"max_event" help:"largest event in bytes, 1024 to 4194304"`
	IdleClose         time.Duration `yaml:"idle_close" help:"a channel without a stream for this long is closed for good, 1m to 8760h"`
	Remember          time.Duration `yaml:"remember" help:"how long a closed channel still answers 410 to its notifiers, 1m to 8760h"`

	CredentialLife    time.Duration `yaml:"credential_life" help:"life of a sink credential, 1m to 8760h"`
	CredentialOverlap time.Duration `yaml:"credential_overlap" help:"how long the previous credential is still accepted after a rotation, 0s to 24h"`
	TicketLife        time.Duration `yaml:"ticket_life" help:"life of a ticket for a stream, 1s to 60s"`
	Heartbeat         time.Duration `yaml:"heartbeat" help:"a stream without events shows life this often, 1s to 5m"`

	ICEServers []ICEServer `yaml:"ice_servers" help:"STUN and TURN servers that devices are told of"`
}

// ICEServer as browsers take it (W3C WebRTC RTCIceServer).
type ICEServer struct {
	URLs       []string `yaml:"urls" json:"urls" help:"stun: and turn: URLs"`
	Username   string   `yaml:"username" json:"username,omitempty" help:"user name for turn:"`
	Credential string   `yaml:"credential" json:"credential,omitempty" secret:"true" help:"password for turn:"`
}

// Default keeps events for a day.
func Default() Config {
	return Config{
		ChannelsPerOwner:  20,
		StreamsPerChannel: 4,
		Buffer:            1000,
		MaxAge:            24 * time.Hour,
		MaxEvent:          256 << 10,
		IdleClose:         24 * time.Hour,
		Remember:          7 * 24 * time.Hour,
		CredentialLife:    24 * time.Hour,
		CredentialOverlap: 10 * time.Minute,
		TicketLife:        time.Minute,
		Heartbeat:         15 * time.Second,
	}
}

// Validate reports everything that is wrong, by key.
func (c Config) Validate() error {
	const year = 8760 * time.Hour
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	base := func(key, s string, schemes ...string) {
		if s == "" {
			return
		}
		u, err := url.Parse(s)
		known := false
		for _, scheme := range schemes {
			known = known || err == nil && u.Scheme == scheme
		}
		if !known || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(s, "/") {
			bad("%s: %q is not an absolute %s URL without query and without a slash at the end", key, s, strings.Join(schemes, " or "))
		}
	}
	base("sink_url", c.SinkURL, "https")
	base("device_url", c.DeviceURL, "https", "http")
	count := func(key string, n, low, high int) {
		if n < low || n > high {
			bad("%s: %d is outside %d to %d", key, n, low, high)
		}
	}
	count("channels_per_owner", c.ChannelsPerOwner, 1, 1000)
	count("streams_per_channel", c.StreamsPerChannel, 1, 100)
	count("buffer", c.Buffer, 1, 100_000)
	count("max_event", c.MaxEvent, 1024, 4<<20)
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			bad("%s: %s is outside %s to %s", key, d, low, high)
		}
	}
	within("max_age", c.MaxAge, time.Minute, 720*time.Hour)
	within("idle_close", c.IdleClose, time.Minute, year)
	within("remember", c.Remember, time.Minute, year)
	within("credential_life", c.CredentialLife, time.Minute, year)
	within("credential_overlap", c.CredentialOverlap, 0, 24*time.Hour)
	within("ticket_life", c.TicketLife, time.Second, time.Minute)
	within("heartbeat", c.Heartbeat, time.Second, 5*time.Minute)
	for i, s := range c.ICEServers {
		if len(s.URLs) == 0 {
			bad("ice_servers[%d].urls: must name at least one", i)
		}
		for _, u := range s.URLs {
			if scheme, rest, ok := strings.Cut(u, ":"); !ok || rest == "" || scheme != "stun" && scheme != "stuns" && scheme != "turn" && scheme != "turns" {
				bad("ice_servers[%d].urls: %q is neither a stun: nor a turn: URL", i, u)
			}
		}
	}
	return errors.Join(errs...)
}
