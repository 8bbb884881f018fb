package trunk

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestYAML(t *testing.T) {
	var c struct{ Trunks []Config }
	text := "trunks:\n- name: a\n  targets: ['sbc.example.com:5060']\n- name: b\n  mode: register\n  registrar: '192.0.2.1:5060'\n  domain: ims.example.com\n  trusted: false\n  session_expires: 0s\n" +
		"  credentials:\n    '+15550100': {username: u, password: p}\n"
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for i, tr := range c.Trunks {
		if err := tr.Complete().Validate("t"); err != nil {
			t.Errorf("trunk %d: %v", i, err)
		}
	}
	a, b := c.Trunks[0].Complete(), c.Trunks[1].Complete()
	if !a.Trusted || a.SessionExpires != 30*time.Minute || a.Identity != "asserted" || a.Domain != "sbc.example.com" || a.DeclineCode != 603 {
		t.Errorf("defaults: %+v", a)
	}
	if b.Trusted || b.SessionExpires != 0 || b.Identity != "preferred" || b.Targets[0] != "192.0.2.1:5060" || b.Credentials["+15550100"].Password != "p" {
		t.Errorf("given: %+v", b)
	}
	err := yaml.UnmarshalWithOptions([]byte("trunks:\n- name: a\n  colour: red\n"), &c, yaml.Strict())
	if err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestRefusedKeys(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"location":          func(c *Config) { c.Location = "sometimes" },
		"transport":         func(c *Config) { c.Transport = "sctp" },
		"targets[0]":        func(c *Config) { c.Targets = []string{"sip:x"} },
		"sips":              func(c *Config) { c.SIPS = true },
		"tls":               func(c *Config) { c.TLS.Certificate = "x" },
		"allowed_names[0]":  func(c *Config) { c.AllowedNames = []string{"sip:x"} },
		"limits":            func(c *Config) { c.Limits.Calls = -1 },
		"keep_alive":        func(c *Config) { c.KeepAlive = time.Millisecond },
		"rewrite":           func(c *Config) { c.Rewrite.CalledIn = []Rule{{Match: "("}} },
		"resource_priority": func(c *Config) { c.ResourcePriority = "esnet.0\r\nX: y" },
	} {
		err := config("a", change).Validate("sip.trunks[0]")
		if err == nil || !strings.HasPrefix(err.Error(), "sip.trunks[0]."+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := config("a", func(c *Config) { c.Location, c.ResourcePriority = "always", "esnet.0" }).Validate("t"); err != nil {
		t.Error(err)
	}
}

func TestMediaConfig(t *testing.T) {
	base := Default()
	base.Name, base.Targets, base.Domain = "t", []string{"[2001:db8::1]:5060"}, "example.org"
	for key, change := range map[string]func(*MediaConfig){
		"media.codecs":         func(m *MediaConfig) { m.Codecs = []string{"PCMA", "speex"} },
		"media.ptime":          func(m *MediaConfig) { m.Ptime = 25 },
		"media.srtp":           func(m *MediaConfig) { m.SRTP = "sometimes" },
		"media.srtp_suites[1]": func(m *MediaConfig) { m.Suites = []string{"AEAD_AES_128_GCM", "AEAD_AES_128_GCM"} },
		"media.rtcp":           func(m *MediaConfig) { m.RTCP = "on" },
		"media.address_family": func(m *MediaConfig) { m.AddressFamily = "ipv5" },
	} {
		c := base
		change(&c.Media)
		if err := c.Complete().Validate("trunk"); err == nil || !strings.HasPrefix(err.Error(), "trunk."+key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
	c := base.Complete()
	if err := c.Validate("trunk"); err != nil {
		t.Fatal(err)
	}
	trunks := func(change func(*Config)) []*Trunk {
		other := c
		change(&other)
		return []*Trunk{{Config: c}, {Config: other}}
	}
	if p := (&Trunk{Config: c}).MediaPolicy(); !p.IPv6 || p.SRTP != "off" || p.RTCP != "separate" {
		t.Errorf("the policy is %+v", p)
	}
	if got := Alike(trunks(func(c *Config) { c.Name = "other" })); len(got) != 2 {
		t.Errorf("%d of two alike trunks", len(got))
	}
	if got := Alike(trunks(func(c *Config) { c.Media.SRTP = "required" })); len(got) != 1 {
		t.Errorf("%d trunks can take an offer in the clear", len(got))
	}
}

// A section that names some keys leaves the others at their defaults.
func TestMediaDefaults(t *testing.T) {
	var c struct{ Trunks []Config }
	text := "trunks:\n- name: a\n  targets: ['192.0.2.1:5060']\n  media: {srtp: optional}\n- name: b\n  targets: ['192.0.2.1:5060']\n  media: {comfort_noise: false, ringback_tone: 425/1000}\n- name: c\n  targets: ['192.0.2.1:5060']\n"
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for i, silence := range []bool{true, false, true} {
		p := (&Trunk{Config: c.Trunks[i].Complete()}).MediaPolicy()
		if p.NoSilence == silence || p.RTCP != "separate" || len(p.RingbackTone) == 0 {
			t.Errorf("trunk %d: %+v", i, p)
		}
	}
}
