package trunk

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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
		{"default", "+15550000", "tel:+4940123456", "germany all"},
		{"default", "+15550000", "sip:+4930123456@x.example.com", "berlin germany all"},
		{"default", "+15550000", "tel:100;phone-context=+49", "all"},
		{"default", "+15550100", "tel:+4930123456", "accounts"},
		{"default", "+15550100", "urn:service:sos.fire", "sos"},
		{"b", "+15550100", "tel:+4930123456", "other tenant"},
		{"b", "+15550100", "tel:+15550199", ""},
		{"b", "+15550100", "urn:service:sos", ""},
	} {
		got := s.Route(c.tenant, c.from, address(t, c.to), false)
		if name := namesOf(got); name != c.want {
			t.Errorf("%s of %s to %s takes %q, want %q", c.tenant, c.from, c.to, name, c.want)
		}
	}
}

func namesOf(ts []*Trunk) string {
	var names []string
	for _, t := range ts {
		names = append(names, t.Name)
	}
	return strings.Join(names, " ")
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
		if got := nameOf(s.ByPeer(netip.MustParseAddr(addr), nil, nil)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// Routes come before prefixes; they name trunks or their labels.
func TestRoutesOfTheConfiguration(t *testing.T) {
	trunks := []Config{
		config("a", func(c *Config) { c.Label = "national" }),
		config("b", func(c *Config) { c.Label = "national" }),
		config("c", nil),
		config("sos", func(c *Config) { c.Emergency = true }),
	}
	routes := []Route{
		{Called: "+49", Calling: "+1555", Trunks: []string{"c", "national"}},
		{Called: "+49", Trunks: []string{"b"}},
		{Calling: "+1666", Trunks: []string{"national"}},
	}
	for i, r := range routes {
		if err := r.Validate("r", trunks); err != nil {
			t.Errorf("route %d: %v", i, err)
		}
	}
	if err := (Route{Trunks: []string{"x"}}).Validate("sip.routes[0]", trunks); err == nil || !strings.Contains(err.Error(), `sip.routes[0].trunks[0]: no trunk has the name or label "x"`) {
		t.Errorf("an unknown trunk: %v", err)
	}
	s := NewSet(trunks, routes...)
	for _, c := range []struct {
		from call.Number
		to   string
		want string
	}{
		{"+15550000", "tel:+4930123456", "c a b"},
		{"+17770000", "tel:+4930123456", "b"},
		{"+16660000", "sip:joe@x.example.com", "a b"},
		{"+17770000", "tel:+3312345678", "a b c"},
		{"+16660000", "urn:service:sos", "sos"},
	} {
		if got := namesOf(s.Route("default", c.from, address(t, c.to), false)); got != c.want {
			t.Errorf("%s to %s takes %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// A peer is known by its address, its certificate, or both.
func TestPeersByCertificate(t *testing.T) {
	s := set(
		config("name", func(c *Config) { c.AllowedNames = []string{"carrier.example"} }),
		config("both", func(c *Config) {
			c.AllowedNames, c.AllowedPeers = []string{"other.example"}, []string{"198.51.100.0/24"}
		}),
	)
	for _, c := range []struct{ addr, name, want string }{
		{"203.0.113.1", "carrier.example", "name"}, {"203.0.113.1", "", ""},
		{"198.51.100.1", "other.example", "both"}, {"203.0.113.1", "other.example", ""}, {"198.51.100.1", "", ""},
	} {
		if got := nameOf(s.ByPeer(netip.MustParseAddr(c.addr), []string{c.name}, nil)); got != c.want {
			t.Errorf("%s with %q: %q, want %q", c.addr, c.name, got, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	for s, want := range map[string]Target{
		"sbc.example:5070": {"sbc.example", 5070}, "carrier.example": {"carrier.example", 0}, "192.0.2.1": {"192.0.2.1", 0},
		"192.0.2.1:5060": {"192.0.2.1", 5060}, "2001:db8::1": {"2001:db8::1", 0}, "[2001:db8::1]": {"2001:db8::1", 0},
		"[2001:db8::1]:5061": {"2001:db8::1", 5061},
	} {
		if got, err := ParseTarget(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a b", "a:0", "a:70000", "a:x", "sip:a", "a..b", ":5060", "<a>"} {
		if got, err := ParseTarget(s); err == nil {
			t.Errorf("%q is %+v", s, got)
		}
	}
}

func TestRewrite(t *testing.T) {
	tr := set(config("t", func(c *Config) {
		c.Rewrite = Rewrite{
			CalledOut:  []Rule{{Match: `\+49(116\d{3})`, Replace: "$1"}, {Prefix: "+49", Replace: "0"}, {Prefix: "+", Replace: "00"}},
			CallingOut: []Rule{{Prefix: "+49", Replace: "49"}},
			CalledIn:   []Rule{{Prefix: "49", Replace: "+49"}},
			CallingIn:  []Rule{{Prefix: "00", Replace: "+"}, {Prefix: "0", Replace: "+49"}},
		}
	})).All()[0]
	if err := tr.Validate("t"); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"tel:+4930123456": "sip:030123456@ims.example.com;user=phone", "tel:+15550199": "sip:0015550199@ims.example.com;user=phone",
		"tel:+49116117": "sip:116117@ims.example.com;user=phone", "sip:joe@x.example.com": "sip:joe@x.example.com",
	} {
		a, err := call.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.RequestURI(a); got != want {
			t.Errorf("%s is called as %s", address, got)
		}
	}
	if got := tr.URI("+4930123456"); got != "sip:4930123456@ims.example.com;user=phone" {
		t.Errorf("calling: %s", got)
	}
	if got := tr.URI("+15550100"); got != "sip:+15550100@ims.example.com;user=phone" {
		t.Errorf("calling, no rule fits: %s", got)
	}
	if got := tr.Callee("sip:49-30-123456@gw;user=phone").Canonical(); got != "tel:+4930123456" {
		t.Errorf("called: %s", got)
	}
	for uri, want := range map[string]string{
		"sip:030123456@c": "tel:+4930123456", "tel:0015550199": "tel:+15550199", "sip:+15550199@c": "tel:+15550199",
	} {
		if got := tr.Address(uri).Canonical(); got != want {
			t.Errorf("caller %s is %s", uri, got)
		}
	}
}

func TestLimits(t *testing.T) {
	old := set(config("t", func(c *Config) { c.Limits = Limits{Calls: 2} }))
	tr := old.All()[0]
	now := time.Unix(1000, 0)
	take := func(want string, priority bool) {
		t.Helper()
		if got, ok := tr.Take(now, priority); got != want || ok != (want == "") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	take("", false)
	take("", false)
	take("calls", false)
	take("", true)
	tr.Release()
	tr.Release()
	take("", false)
	// The count outlives a change of the configuration.
	fresh := set(config("t", func(c *Config) { c.Limits = Limits{Rate: 2, Burst: 3} }))
	fresh.Inherit(old)
	tr.Release()
	if tr = fresh.All()[0]; tr.Calls() != 1 {
		t.Errorf("%d calls after the change", tr.Calls())
	}
	for range 3 {
		take("", false)
	}
	take("rate", false)
	take("", true)
	now = now.Add(500 * time.Millisecond)
	take("", false)
	take("rate", false)
}

func TestSIPS(t *testing.T) {
	tr := set(config("t", func(c *Config) { c.SIPS, c.Transport = true, "tls" })).All()[0]
	from, _ := tr.Caller("+15550100", "", false)
	if want := "<sips:+15550100@ims.example.com;user=phone>"; from != want {
		t.Errorf("From %s", from)
	}
	if got := tr.RequestURI(call.Number("+15550199").Address()); got != "sips:+15550199@ims.example.com;user=phone" {
		t.Errorf("Request-URI %s", got)
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
