package trunk

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

func config(name string, change func(*Config)) Config {
	c := Config{Name: name, Domain: "ims.example.com", Targets: []string{"192.0.2.1:5060"}}
	if change != nil {
		change(&c)
	}
	return c.Complete()
}

func set(configs ...Config) *Set { return NewSet(configs) }

func address(t *testing.T, s string) call.Address {
	t.Helper()
	a, err := call.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRoute(t *testing.T) {
	s := set(
		config("all", nil),
		config("germany", func(c *Config) { c.Prefixes = []string{"+49"} }),
		config("berlin", func(c *Config) { c.Prefixes = []string{"+4930", "+4931"} }),
		config("accounts", func(c *Config) {
			c.Mode = ModeRegister
			c.Credentials = map[string]Credentials{"+15550100": {Username: "u"}}
		}),
		config("sos", func(c *Config) { c.Emergency = true; c.Prefixes = []string{"none"} }),
		config("other tenant", func(c *Config) { c.Tenant = "b"; c.Prefixes = []string{"+49301"} }),
	)
	for _, c := range []struct {
		tenant string
		from   call.Number
		to     string
		want   string
	}{
		{"default", "+15550000", "tel:+15550199", "all"},
		{"default", "+15550000", "tel:+4940123456", "germany"},
		{"default", "+15550000", "sip:+4930123456@x.example.com", "berlin"},
		{"default", "+15550000", "tel:100;phone-context=+49", "all"},
		{"default", "+15550100", "tel:+4930123456", "accounts"},
		{"default", "+15550100", "urn:service:sos.fire", "sos"},
		{"b", "+15550100", "tel:+4930123456", "other tenant"},
		{"b", "+15550100", "tel:+15550199", ""},
		{"b", "+15550100", "urn:service:sos", ""},
	} {
		got := s.Route(c.tenant, c.from, address(t, c.to), false)
		if name := nameOf(got); name != c.want {
			t.Errorf("%s of %s to %s takes %q, want %q", c.tenant, c.from, c.to, name, c.want)
		}
	}
}

func nameOf(t *Trunk) string {
	if t == nil {
		return ""
	}
	return t.Name
}

func TestPeers(t *testing.T) {
	s := set(
		config("accounts", func(c *Config) { c.Mode = ModeRegister }),
		config("sbc", func(c *Config) { c.AllowedPeers = []string{"198.51.100.0/24", "2001:db8::1"} }),
		config("by name", func(c *Config) { c.Targets = []string{"sbc.example.com:5060"} }),
	)
	s.ByName("by name").Resolved([]netip.Addr{netip.MustParseAddr("203.0.113.5")})
	for addr, want := range map[string]string{
		"192.0.2.1": "accounts", "198.51.100.77": "sbc", "::ffff:198.51.100.77": "sbc", "2001:db8::1": "sbc",
		"203.0.113.5": "by name", "203.0.113.6": "", "2001:db8::2": "",
	} {
		if got := nameOf(s.ByPeer(netip.MustParseAddr(addr), nil)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	tr := set(config("t", func(c *Config) { c.Targets = []string{"a:1", "b:1", "c:1"}; c.PingMisses = 2 })).All()[0]
	tr.Alive(0, false)
	if got := tr.Order(); got[0] != "a:1" {
		t.Errorf("one miss: %v", got)
	}
	if changed, up := tr.Alive(0, false); !changed || up {
		t.Error("two misses do not take it down")
	}
	if got := tr.Order(); !slices.Equal(got, []string{"b:1", "c:1", "a:1"}) {
		t.Errorf("down: %v", got)
	}
	if changed, up := tr.Alive(0, true); !changed || !up {
		t.Error("an answer does not bring it back")
	}
}

func TestSpelling(t *testing.T) {
	plus := set(config("t", nil)).All()[0]
	digits := set(config("t", func(c *Config) { c.Numbers = "digits" })).All()[0]
	for in, want := range map[string]string{
		"tel:+15550199":                   "sip:+15550199@ims.example.com;user=phone",
		"sip:+15550199@other.example.com": "sip:+15550199@ims.example.com;user=phone",
		"tel:*21#;phone-context=+1555":    "sip:*21%23;phone-context=+1555@ims.example.com;user=phone",
		"sip:100;phone-context=example.com@pbx.example.com;user=phone": "sip:100;phone-context=example.com@pbx.example.com;user=phone",
		"sip:bob@other.example.com":                                    "sip:bob@other.example.com",
		"urn:service:sos.police":                                       "urn:service:sos.police",
	} {
		if got := plus.RequestURI(address(t, in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := digits.RequestURI(address(t, "tel:+15550199")); got != "sip:15550199@ims.example.com;user=phone" {
		t.Errorf("digits: %s", got)
	}
	for in, want := range map[string]string{
		"sip:+15550199@192.0.2.1:5070;user=phone":               "tel:+15550199",
		"sip:%2B15550199@[2001:db8::1]":                         "tel:+15550199",
		"tel:+1-(555).0199":                                     "tel:+15550199",
		"sip:+15550199;npdi;rn=+1555@gw.example.com;user=phone": "tel:+15550199",
		"sip:100;phone-context=+1555@gw.example.com":            "tel:100;phone-context=+1555",
		"tel:7042;phone-context=example.com":                    "tel:7042;phone-context=example.com",
		"sip:bob@example.com":                                   "sip:bob@example.com",
		"sip:bob@[2001:db8::1]":                                 "sip:bob@ims.example.com",
		"sips:bob:secret@example.com":                           "sip:bob@example.com",
		"sip:anonymous@anonymous.invalid":                       "sip:anonymous@anonymous.invalid",
		"sip:Anonymous@example.com":                             "sip:anonymous@anonymous.invalid",
		"urn:service:sos":                                       "urn:service:sos",
		"mailto:x@y.z":                                          "",
		"sip:example.com":                                       "",
	} {
		if got := plus.Address(in).Canonical(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := digits.Address("sip:15550199@x.example.com").Canonical(); got != "tel:+15550199" {
		t.Errorf("digits: %s", got)
	}
	if got := plus.Address("sip:15550199@x.example.com").Canonical(); got != "sip:15550199@x.example.com" {
		t.Errorf("plus: %s", got)
	}
}

func TestCaller(t *testing.T) {
	tr := set(config("t", func(c *Config) { c.IdentityTel = true })).All()[0]
	from, fields := tr.Caller("+15550100", "Ann", true)
	want := [][2]string{{"Privacy", "id"}, {"P-Asserted-Identity", `"Ann" <sip:+15550100@ims.example.com;user=phone>`}, {"P-Asserted-Identity", "<tel:+15550100>"}}
	if from != `"Anonymous" <sip:anonymous@anonymous.invalid>` || !slices.Equal(fields, want) {
		t.Errorf("anonymous: %s, %v", from, fields)
	}
	account := set(config("t", func(c *Config) { c.Mode = ModeRegister })).All()[0]
	if _, fields := account.Caller("+15550100", "", false); len(fields) != 1 || fields[0][0] != "P-Preferred-Identity" {
		t.Errorf("account: %v", fields)
	}
}

// No name, whatever is in it, breaks out of its field, and a plain one survives.
func TestNamesAreHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		value := NameAddr(name, "sip:a@b.example.com")
		for _, r := range value {
			if r < ' ' || r == 0x7f {
				t.Fatalf("control character in %q", value)
			}
		}
		shown, uri, params, ok := header.NameAddr(value + ";tag=x")
		if !ok || uri != "sip:a@b.example.com" || params["tag"] != "x" {
			t.Fatalf("%q was read as %q, %v", value, uri, params)
		}
		if again := NameAddr(shown, uri); again != value {
			t.Fatalf("%q became %q", value, again)
		}
	})
}

func TestEmergencyCaller(t *testing.T) {
	silent := set(config("t", func(c *Config) {
		c.Identity, c.IdentityTel, c.ResourcePriority = "none", true, "esnet.0"
	})).All()[0]
	from, fields := silent.EmergencyCaller("+15550100", "Ann")
	want := [][2]string{
		{"P-Asserted-Identity", `"Ann" <sip:+15550100@ims.example.com;user=phone>`},
		{"P-Asserted-Identity", "<tel:+15550100>"}, {"Resource-Priority", "esnet.0"},
	}
	if from != `"Ann" <sip:+15550100@ims.example.com;user=phone>` || !slices.Equal(fields, want) {
		t.Errorf("%s, %v", from, fields)
	}
	if _, fields := silent.Caller("+15550100", "Ann", false); len(fields) != 0 {
		t.Errorf("any other call: %v", fields)
	}
	account := set(config("t", func(c *Config) { c.Mode = ModeRegister })).All()[0]
	if _, fields := account.EmergencyCaller("+15550100", ""); len(fields) != 1 || fields[0][0] != "P-Preferred-Identity" {
		t.Errorf("account: %v", fields)
	}
	for in, want := range map[string]string{
		"urn:service:sos": "urn:service:sos", "urn:service:sos.Fire": "urn:service:sos.fire",
		"tel:+15550199": "urn:service:sos", "tel:112;phone-context=+49": "urn:service:sos",
	} {
		if got := EmergencyURI(address(t, in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestLocates(t *testing.T) {
	for policy, want := range map[string][2]bool{"": {false, true}, "never": {}, "emergency": {false, true}, "always": {true, true}} {
		tr := set(config("t", func(c *Config) { c.Location = policy })).All()[0]
		if got := [2]bool{tr.Locates(false), tr.Locates(true)}; got != want {
			t.Errorf("%q: %v, want %v", policy, got, want)
		}
	}
}
