package notify

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var table = names{
	"public.example":  {"93.184.216.34", "2606:2800:220:1::1"},
	"mixed.example":   {"93.184.216.34", "10.0.0.1"},
	"inside.example":  {"192.168.1.1"},
	"local.test":      {"127.0.0.1"},
	"a.internal.test": {"10.1.1.1"},
}

func TestCheck(t *testing.T) {
	c := Default()
	c.AllowNetworks = []string{"10.9.0.0/16", "fd00:1::/32"}
	c.AllowHosts = []string{"*.internal.test"}
	c.AllowOrigins = []string{"https://127.0.0.1:8443", "https://local.test"}
	g, err := newGuard(c, table)
	if err != nil {
		t.Fatal(err)
	}
	for sink, want := range map[string]string{
		"https://public.example/x":          "",
		"https://public.example:8443/x?a=b": "",
		"https://unknown.example/":          "",
		"https://93.184.216.34/":            "",
		"https://[2606:2800:220:1::1]/":     "",
		"https://10.9.1.1/":                 "",
		"https://[fd00:1::5]/":              "",
		"https://127.0.0.1:8443/sink":       "",
		"https://LOCAL.test:443/":           "",
		"https://local.test./":              "",
		"https://a.internal.test/":          "",
		"https://internal.test.example/":    "",
		"http://public.example/":            "https",
		"ftp://public.example/":             "https",
		"public.example":                    "https",
		"":                                  "https",
		"https:///x":                        "host",
		"https:public.example":              "host",
		"https://user:pw@public.example/":   "user name",
		"https://public.example/#x":         "fragment",
		"https://public.example:0/":         "port",
		"https://public.example:99999/":     "port",
		"https://%zz/":                      "not a URL",
		"https://127.0.0.1/":                "not public",
		"https://127.0.0.1:8444/":           "not public",
		"https://local.test:8443/":          "not public",
		"https://mixed.example/":            "not public",
		"https://inside.example/":           "not public",
		"https://169.254.169.254/latest":    "not public",
		"https://100.64.0.1/":               "not public",
		"https://172.31.255.255/":           "not public",
		"https://0.0.0.0/":                  "not public",
		"https://255.255.255.255/":          "not public",
		"https://[::1]/":                    "not public",
		"https://[::]/":                     "not public",
		"https://[::ffff:127.0.0.1]/":       "not public",
		"https://[::ffff:10.9.1.1]/":        "",
		"https://[64:ff9b::7f00:1]/":        "not public",
		"https://[64:ff9b::5db8:d822]/":     "",
		"https://[fe80::1]/":                "not public",
		"https://[fe80::1%25eth0]/":         "zone",
		"https://[fd00:2::1]/":              "not public",
		"https://[2002:7f00:1::]/":          "not public",
		"https://[2001:db8::1]/":            "not public",
		"https://[ff02::1]/":                "not public",
	} {
		err := g.Check(t.Context(), sink)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", sink, err, want)
		}
	}
}

// Nothing that the standard library knows to be private or local is public, in
// whatever form it is written.
func TestPrivateIsNeverPublic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a netip.Addr
		if rapid.Bool().Draw(t, "v4") {
			a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		} else {
			a = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")))
		}
		local := a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
		if local && public(a) {
			t.Fatalf("%v is taken for public", a)
		}
		if mapped := netip.AddrFrom16(a.As16()); a.Is4() && public(mapped.Unmap()) != public(a) {
			t.Fatalf("%v is judged unlike %v", mapped, a)
		}
	})
}

// A name that leads to a private address at the time of delivery is not
// connected to, although it was accepted before (DNS rebinding).
func TestDialJudgesAgain(t *testing.T) {
	s := newSink(t, nil)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	c := Default()
	c.CAFiles = []string{s.caFile(t)}
	resolver := names{"example.com": {"93.184.216.34"}}
	g, err := newGuard(c, resolver)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Check(t.Context(), "https://example.com"+port); err != nil {
		t.Fatal(err)
	}
	resolver["example.com"] = []string{"127.0.0.1"}
	d := dialer{guard: g, attempt: c.Timeout}
	if conn, err := d.dial(t.Context(), "tcp", "example.com"+port); !errors.Is(err, ErrForbidden) {
		conn.Close()
		t.Fatalf("got %v, want forbidden", err)
	}
	// The same name is reached when its origin is allowed, under its own
	// certificate.
	c.AllowOrigins = []string{"https://example.com" + port}
	o := newOutbox()
	n := run(t, c, o, func(d *Deps) { d.Resolver = resolver })
	o.add(sub("s", "https://example.com"+port+"/"), "1")
	flush(t, n)
	if len(s.got()) != 1 {
		t.Errorf("got %v", s.got())
	}
}

func TestDialTriesEveryAddress(t *testing.T) {
	s := newSink(t, nil)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	c := local(t, s)
	// Nothing listens on 127.0.0.9, and 10.0.0.1 must not be tried.
	g, err := newGuard(c, names{"example.com": {"10.0.0.1", "127.0.0.9", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialer{guard: g, attempt: c.Timeout}.dial(t.Context(), "tcp", "example.com"+port)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.RemoteAddr().String(); got != "127.0.0.1"+port {
		t.Errorf("connected to %s", got)
	}
	conn.Close()
}

func TestUntrustedCertificate(t *testing.T) {
	s := newSink(t, nil)
	o := newOutbox()
	c := local(t, s)
	c.CAFiles = nil
	c.RetryFor = 0
	n := run(t, c, o, nil)
	o.add(sub("s", s.URL), "1")
	flush(t, n)
	if len(s.got()) != 0 || o.left() != 0 {
		t.Errorf("got %v, %d left, want nothing sent and the event given up", s.got(), o.left())
	}
}

func TestConfigValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.RetryFor = -1 }, "retry_for"},
		{func(c *Config) { c.BackoffMin = 0 }, "backoff_min"},
		{func(c *Config) { c.BackoffMax = 2 * 60e9 }, "backoff_max"},
		{func(c *Config) { c.Timeout = 1 }, "timeout"},
		{func(c *Config) { c.Concurrency = 0 }, "concurrency"},
		{func(c *Config) { c.PerHost = 0 }, "per_host"},
		{func(c *Config) { c.AllowNetworks = []string{"10.0.0.1"} }, "allow_networks[0]"},
		{func(c *Config) { c.AllowHosts = []string{"https://x"} }, "allow_hosts[0]"},
		{func(c *Config) { c.AllowOrigins = []string{"https://x", "http://x"} }, "allow_origins[1]"},
		{func(c *Config) { c.AllowOrigins = []string{"https://x/path"} }, "allow_origins[0]"},
	} {
		cfg := Default()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error about %s", err, c.want)
		}
	}
	missing := Default()
	missing.CAFiles = []string{"/nonexistent"}
	if _, err := New(missing, Deps{Outbox: newOutbox(), Render: render, End: newOutbox()}); err == nil {
		t.Error("a missing CA file was accepted")
	}
}
