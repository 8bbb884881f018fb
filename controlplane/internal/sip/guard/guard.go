// Package guard protects the SIP listeners from floods: of each source it counts
// new INVITE, REGISTER, OPTIONS and other requests outside of dialogs, and garbage,
// against limits, and blocks a source that goes on above them. Peers of trunks have
// limits of their own, higher ones, and are never blocked. It is pure: time comes
// from outside.
//
//	           within the limit           above it: refused
//	source ─────────────────────► served ◄──────────────► refused
//	                                           │ BlockAfter refusals in a minute
//	                                           ▼
//	                              blocked: nothing is read, for Block
//
// A source is an IPv4 address or an IPv6 network of 64 bits, as whoever has one
// address of these has all. The memory is bounded: the sources that were silent
// longest are forgotten first.
package guard

import (
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Kind of what a source sends.
type Kind int

// Kinds, in the order of Limits.
const (
	Invite Kind = iota
	Register
	Options
	Other
	Garbage
	kinds
)

func (k Kind) String() string {
	return [...]string{"invite", "register", "options", "other", "garbage"}[k]
}

// Limits per second of one source; 0 for none. Ten seconds' worth may come at once.
type Limits struct {
	Invite   float64 `yaml:"invite" help:"INVITE per second; 0 for any number"`
	Register float64 `yaml:"register" help:"REGISTER per second; 0 for any number"`
	Options  float64 `yaml:"options" help:"OPTIONS per second; 0 for any number"`
	Other    float64 `yaml:"other" help:"other requests outside of dialogs per second; 0 for any number"`
	Garbage  float64 `yaml:"garbage" help:"messages that are not accepted per second, failed TLS handshakes among them; 0 for any number"`
}

func (l Limits) of(k Kind) float64 {
	return [...]float64{l.Invite, l.Register, l.Options, l.Other, l.Garbage}[k]
}

// Config of a Guard.
type Config struct {
	// Enabled is false to let everything pass.
	Enabled bool   `yaml:"enabled" help:"limit what one source may send"`
	Unknown Limits `yaml:"unknown" help:"limits of an address that belongs to no trunk"`
	Peers   Limits `yaml:"peers" help:"limits of an address that belongs to a trunk; it is refused above them, but never blocked"`
	// Silent is about requests; what belongs to a dialog is answered to everybody.
	Silent bool     `yaml:"silent" help:"do not answer requests of an address that belongs to no trunk"`
	Allow  []string `yaml:"allow" help:"addresses or prefixes without limits"`
	Deny   []string `yaml:"deny" help:"addresses or prefixes of which nothing is read"`
	// BlockAfter refusals within a minute.
	BlockAfter int           `yaml:"block_after" help:"refusals within a minute after which an address is blocked; 0 for never"`
	Block      time.Duration `yaml:"block" help:"how long nothing of a blocked address is read"`
	Sources    int           `yaml:"sources" help:"addresses that are remembered at a time"`
}

// Default suits trunks on a private network or the Internet alike.
func Default() Config {
	return Config{
		Enabled:    true,
		Unknown:    Limits{Invite: 1, Register: 1, Options: 2, Other: 2, Garbage: 5},
		Peers:      Limits{Invite: 500, Register: 100, Options: 100, Other: 500, Garbage: 50},
		BlockAfter: 60, Block: 5 * time.Minute, Sources: 20000,
	}
}

// Validate checks the configuration; key is its place.
func (c Config) Validate(key string) error {
	for name, l := range map[string]Limits{"unknown": c.Unknown, "peers": c.Peers} {
		for k := range kinds {
			if l.of(k) < 0 {
				return fmt.Errorf("%s.%s.%s: must not be negative", key, name, k)
			}
		}
	}
	for name, list := range map[string][]string{"allow": c.Allow, "deny": c.Deny} {
		for i, s := range list {
			if _, err := prefix(s); err != nil {
				return fmt.Errorf("%s.%s[%d]: %q is neither an address nor a prefix", key, name, i, s)
			}
		}
	}
	if c.BlockAfter < 0 || c.BlockAfter > 0 && c.Block <= 0 {
		return fmt.Errorf("%s.block: must be above 0, and block_after not negative", key)
	}
	if c.Sources < 1 {
		return fmt.Errorf("%s.sources: must be at least 1", key)
	}
	return nil
}

func prefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}

// Verdict on one message.
type Verdict int

// Verdicts. Blocked is the refusal that put the source under the block.
const (
	Pass Verdict = iota
	Refuse
	Blocked
)

// burst is how many seconds' worth may come at once.
const burst = 10

// window is the time over which refusals count towards a block.
const window = time.Minute

// Guard remembers sources. It is safe for concurrent use.
type Guard struct {
	cfg         Config
	allow, deny []netip.Prefix

	mu      sync.Mutex
	sources map[netip.Prefix]*list.Element
	recent  *list.List // of *source, the one heard last in front
}

type source struct {
	key     netip.Prefix
	buckets [kinds]bucket
	// refusals since began, for the block.
	refusals int
	began    time.Time
	blocked  time.Time
	noticed  time.Time
}

type bucket struct {
	tokens float64
	filled time.Time
}

// New makes a Guard of a validated configuration.
func New(cfg Config) *Guard {
	g := &Guard{cfg: cfg, sources: map[netip.Prefix]*list.Element{}, recent: list.New()}
	for _, s := range cfg.Allow {
		if p, err := prefix(s); err == nil {
			g.allow = append(g.allow, p)
		}
	}
	for _, s := range cfg.Deny {
		if p, err := prefix(s); err == nil {
			g.deny = append(g.deny, p)
		}
	}
	return g
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// network is the source that an address belongs to.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	p, _ := a.WithZone("").Prefix(64)
	return p
}

// Admit reports whether anything of an address is to be read at all.
func (g *Guard) Admit(a netip.Addr, now time.Time) bool {
	a = a.Unmap()
	if within(g.deny, a) {
		return false
	}
	if !g.cfg.Enabled {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.sources[network(a)]
	return e == nil || !now.Before(e.Value.(*source).blocked)
}

// Check counts one message of an address. peer tells that it belongs to a trunk.
func (g *Guard) Check(a netip.Addr, k Kind, peer bool, now time.Time) Verdict {
	a = a.Unmap()
	limits := g.cfg.Unknown
	if peer {
		limits = g.cfg.Peers
	}
	rate := limits.of(k)
	if !g.cfg.Enabled || rate == 0 || within(g.allow, a) {
		return Pass
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.source(network(a))
	if s.buckets[k].take(rate, now) {
		return Pass
	}
	if peer || g.cfg.BlockAfter == 0 {
		return Refuse
	}
	if now.Sub(s.began) > window {
		s.began, s.refusals = now, 0
	}
	if s.refusals++; s.refusals < g.cfg.BlockAfter {
		return Refuse
	}
	s.refusals = 0
	s.blocked = now.Add(g.cfg.Block)
	return Blocked
}

// Notice reports whether a refusal of the address is worth a line in the log: once
// a minute for each source.
func (g *Guard) Notice(a netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.source(network(a))
	if now.Sub(s.noticed) < window {
		return false
	}
	s.noticed = now
	return true
}

// Blocked is the number of sources under a block.
func (g *Guard) Blocked(now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for e := g.recent.Front(); e != nil; e = e.Next() {
		if now.Before(e.Value.(*source).blocked) {
			n++
		}
	}
	return n
}

// source finds or makes what is known of a source. The caller holds the lock.
func (g *Guard) source(key netip.Prefix) *source {
	if e := g.sources[key]; e != nil {
		g.recent.MoveToFront(e)
		return e.Value.(*source)
	}
	if len(g.sources) >= g.cfg.Sources {
		oldest := g.recent.Back()
		delete(g.sources, oldest.Value.(*source).key)
		g.recent.Remove(oldest)
	}
	s := &source{key: key}
	g.sources[key] = g.recent.PushFront(s)
	return s
}

func (b *bucket) take(rate float64, now time.Time) bool {
	size := max(1, rate*burst)
	if b.filled.IsZero() {
		b.tokens = size
	} else if d := now.Sub(b.filled); d > 0 {
		b.tokens = min(size, b.tokens+d.Seconds()*rate)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
