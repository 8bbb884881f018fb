package guard

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func config(change func(*Config)) Config {
	c := Default()
	c.Unknown = Limits{Invite: 1, Options: 2, Garbage: 1}
	c.Peers = Limits{Invite: 10}
	c.BlockAfter, c.Block, c.Sources = 5, time.Minute, 100
	if change != nil {
		change(&c)
	}
	return c
}

var (
	a   = netip.MustParseAddr("192.0.2.1")
	now = time.Unix(1000, 0)
)

func TestFlood(t *testing.T) {
	g := New(config(nil))
	at := now
	count := func(k Kind, addr netip.Addr, peer bool, n int) (pass, refuse, block int) {
		for range n {
			switch g.Check(addr, k, peer, at) {
			case Pass:
				pass++
			case Refuse:
				refuse++
			case Blocked:
				block++
			}
		}
		return
	}
	if p, r, b := count(Invite, a, false, 12); p != 10 || r != 2 || b != 0 {
		t.Errorf("12 at once: %d, %d, %d", p, r, b)
	}
	if p, _, _ := count(Options, a, false, 12); p != 12 {
		t.Errorf("another kind: %d", p)
	}
	if p, _, _ := count(Register, a, false, 1000); p != 1000 {
		t.Errorf("without a limit: %d", p)
	}
	if p, _, _ := count(Invite, netip.MustParseAddr("192.0.2.2"), false, 5); p != 5 {
		t.Errorf("another source: %d", p)
	}
	at = at.Add(3 * time.Second)
	if p, r, _ := count(Invite, a, false, 4); p != 3 || r != 1 {
		t.Errorf("after 3 s: %d, %d", p, r)
	}
	if !g.Admit(a, at) {
		t.Error("blocked too early")
	}
	if _, r, b := count(Invite, a, false, 2); r != 1 || b != 1 {
		t.Errorf("the fifth refusal: %d, %d", r, b)
	}
	if g.Admit(a, at) || g.Blocked(at) != 1 {
		t.Error("not blocked")
	}
	if at = at.Add(time.Minute); !g.Admit(a, at) || g.Blocked(at) != 0 {
		t.Error("blocked for ever")
	}
	// Refusals that are far apart do not add up.
	for range 20 {
		at = at.Add(2 * window)
		if _, _, b := count(Invite, a, false, 12); b != 0 {
			t.Fatal("blocked for two refusals in two minutes")
		}
	}
	// A peer is refused, never blocked.
	if p, r, b := count(Invite, netip.MustParseAddr("192.0.2.3"), true, 200); p != 100 || r != 100 || b != 0 {
		t.Errorf("a peer: %d, %d, %d", p, r, b)
	}
}

func TestLists(t *testing.T) {
	g := New(config(func(c *Config) { c.Allow, c.Deny = []string{"192.0.2.0/24"}, []string{"203.0.113.5", "2001:db8::/32"} }))
	for range 100 {
		if g.Check(a, Invite, false, now) != Pass {
			t.Fatal("a source without limits was refused")
		}
	}
	for addr, want := range map[string]bool{"192.0.2.1": true, "203.0.113.5": false, "::ffff:203.0.113.5": false, "2001:db8:1::1": false, "2001:db9::1": true} {
		if g.Admit(netip.MustParseAddr(addr), now) != want {
			t.Errorf("%s: admitted is not %v", addr, want)
		}
	}
	g = New(config(func(c *Config) { c.Enabled = false }))
	for range 100 {
		if g.Check(a, Invite, false, now) != Pass {
			t.Fatal("switched off, it refuses")
		}
	}
}

func TestNotice(t *testing.T) {
	g := New(config(nil))
	if !g.Notice(a, now) || g.Notice(a, now.Add(time.Second)) || !g.Notice(netip.MustParseAddr("192.0.2.2"), now) || !g.Notice(a, now.Add(window)) {
		t.Error("a line for each source and minute")
	}
}

// Whoever has an IPv6 network of 64 bits is one source.
func TestNetworks(t *testing.T) {
	g := New(config(nil))
	passed := 0
	addr := netip.MustParseAddr("2001:db8::1").As16()
	for i := range 100 {
		binary.BigEndian.PutUint64(addr[8:], uint64(i))
		if g.Check(netip.AddrFrom16(addr), Invite, false, now) == Pass {
			passed++
		}
	}
	if passed != 10 {
		t.Errorf("%d of 100 addresses of one network passed", passed)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	g := New(config(nil))
	var b [4]byte
	for i := range 10000 {
		binary.BigEndian.PutUint32(b[:], uint32(i))
		g.Check(netip.AddrFrom4(b), Garbage, false, now)
	}
	if len(g.sources) != 100 || g.recent.Len() != 100 {
		t.Errorf("%d sources, %d in the list", len(g.sources), g.recent.Len())
	}
}

// In any time no more pass than the rate allows.
func TestRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 50).Draw(t, "rate")
		g := New(config(func(c *Config) { c.Unknown.Invite, c.BlockAfter = rate, 0 }))
		at, passed := now, 0
		for range rapid.IntRange(1, 200).Draw(t, "messages") {
			at = at.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			if g.Check(a, Invite, false, at) == Pass {
				passed++
			}
		}
		if most := max(1, rate*burst) + at.Sub(now).Seconds()*rate + 1e-6; float64(passed) > most {
			t.Fatalf("%d passed in %s at %v per second", passed, at.Sub(now), rate)
		}
	})
}

func TestValidate(t *testing.T) {
	if err := Default().Validate("sip.guard"); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"sip.guard.unknown.invite": func(c *Config) { c.Unknown.Invite = -1 },
		"sip.guard.allow[0]":       func(c *Config) { c.Allow = []string{"x"} },
		"sip.guard.block":          func(c *Config) { c.Block = 0 },
		"sip.guard.sources":        func(c *Config) { c.Sources = 0 },
	} {
		if err := config(change).Validate("sip.guard"); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
