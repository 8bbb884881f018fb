package ladder

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds what is kept. Start from Default.
type Config struct {
	Enabled        bool `yaml:"enabled" help:"keep recent messages of calls and serve them as a live message ladder"`
	EntriesPerCall int  `yaml:"entries_per_call" help:"most entries kept of one call, 10 to 10000; the oldest go"`
	Entries        int  `yaml:"entries" help:"most entries kept in total, at least entries_per_call; times text_bytes it bounds the memory"`
	TextBytes      int  `yaml:"text_bytes" help:"longest text of an entry, 256 to 1048576; the rest is cut off"`
	Streams        int  `yaml:"streams" help:"most readers at a time; further ones get 503"`

	KeepAlive time.Duration `yaml:"keep_alive" help:"how often a silent stream is sent a comment, 1s to 10m"`

	// Now is the clock; nil is time.Now. It stamps entries that have no time
	// and names the ring, so that places of an earlier process are recognised.
	Now func() time.Time `yaml:"-"`
}

// Default is an enabled ladder of 10,000 entries.
func Default() Config {
	return Config{
		Enabled:        true,
		EntriesPerCall: 400,
		Entries:        10_000,
		TextBytes:      16 << 10,
		Streams:        256,
		KeepAlive:      15 * time.Second,
	}
}

// Validate reports everything that is wrong, each under the name of its key.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.EntriesPerCall < 10 || c.EntriesPerCall > 10_000 {
		bad("entries_per_call: %d is not between 10 and 10000", c.EntriesPerCall)
	}
	if c.Entries < c.EntriesPerCall {
		bad("entries: %d is below entries_per_call (%d)", c.Entries, c.EntriesPerCall)
	}
	if c.TextBytes < 256 || c.TextBytes > 1<<20 {
		bad("text_bytes: %d is not between 256 and 1048576", c.TextBytes)
	}
	if c.Streams < 1 {
		bad("streams: %d is below 1", c.Streams)
	}
	if c.KeepAlive < time.Second || c.KeepAlive > 10*time.Minute {
		bad("keep_alive: %v is not between 1s and 10m", c.KeepAlive)
	}
	return errors.Join(errs...)
}
