package sip

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// registered makes the number of account "r1" registered at the phone, whose answer
// has the fields.
func (b *bundle) registered(t *testing.T, fields ...string) received {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- b.n.Register(t.Context(), account("r1", "+15550100")) }()
	r := b.p.request("REGISTER")
	b.p.reply(r, 200, "x", append([]string{"Contact: " + r.req().Contact().Value() + ";expires=3600"}, fields...)...)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return r
}

func longLived(addr string) func(*Config) {
	return func(c *Config) {
		registerMode(addr, "udp")(c)
		c.Trunks[0].Expires = time.Hour
	}
}

// What REGISTER says of this gateway, and what calls make of what the registrar says.
func TestRegisterProfile(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, func(c *Config) {
		longLived(p.addr())(c)
		c.Trunks[0].AccessNetwork, c.Trunks[0].VisitedNetwork = "IEEE-802.11", "web"
	})
	r := b.registered(t,
		"Require: outbound", "Path: <sip:edge.example.com;lr>",
		"Service-Route: <sip:orig@"+p.addr()+";lr>, <sip:scscf.example.com;lr>",
		"P-Associated-URI: <sip:+15550177@ims.example.com>, \"Ann\" <sip:+15550100@home.example.com;user=phone>, <tel:+15550100>")
	contact := r.req().Contact().Value()
	if !strings.Contains(contact, `+sip.instance="<urn:uuid:`) || !strings.Contains(contact, ";reg-id=1") {
		t.Errorf("Contact: %s", contact)
	}
	for name, want := range map[string]string{
		"Supported": "path, outbound", "P-Access-Network-Info": "IEEE-802.11", "P-Visited-Network-ID": `"web"`, "Expires": "3600",
	} {
		if got := header.First(r, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	invite := b.invite(t, "c1")
	var route []string
	for _, h := range invite.GetHeaders("Route") {
		route = append(route, h.Value())
	}
	if got := strings.Join(route, " "); got != "<sip:orig@"+p.addr()+";lr> <sip:scscf.example.com;lr>" {
		t.Errorf("Route: %s", got)
	}
	if got := header.First(invite, "P-Preferred-Identity"); got != "<sip:+15550100@home.example.com;user=phone>" {
		t.Errorf("P-Preferred-Identity: %s", got)
	}
	if got := invite.req().Contact().Value(); !strings.HasSuffix(got, ";ob>") {
		t.Errorf("Contact of a call over the flow: %s", got)
	}
	// The same instance after a restart.
	p.reply(invite, 486, "a")
	b.l.want("ended")
	b.stop()
	b2 := &bundle{l: newListener(t), p: p, ladder: &ladder{}, cfg: b.cfg}
	b2.start(t)
	again := b2.registered(t)
	_, _, before, _ := header.NameAddr(contact)
	_, _, after, _ := header.NameAddr(again.req().Contact().Value())
	if before["+sip.instance"] != after["+sip.instance"] {
		t.Errorf("instance %s became %s", before["+sip.instance"], after["+sip.instance"])
	}
	if invite := b2.invite(t, "c2"); strings.Contains(invite.req().Contact().Value(), ";ob") {
		t.Error("a registrar that keeps no flows gets ;ob")
	}
}

const reginfoText = `<?xml version="1.0"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="%d" state="full">
<registration aor="sip:+15550100@ims.example.com" id="a" state="active">
<contact id="b" state="%s" event="%s"><uri>sip:+15550100@%s</uri></contact>
</registration></reginfo>`

// A registrar that offers its reg event is subscribed to; what it tells is heeded.
func TestRegEvent(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, longLived(p.addr()))
	b.registered(t, "Allow-Events: presence, reg", "Service-Route: <sip:orig@"+p.addr()+";lr>")
	subscribe := p.request("SUBSCRIBE")
	p.reply(subscribe, 407, "s", `Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"`)
	subscribe = p.request("SUBSCRIBE")
	for name, want := range map[string]string{
		"Event": "reg", "Accept": "application/reginfo+xml", "Expires": "3600", "Route": "<sip:orig@" + p.addr() + ";lr>",
	} {
		if got := header.First(subscribe, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	seq := 0
	notify := func(want int, state, body string, fields ...string) {
		t.Helper()
		seq++
		fields = append(fields, "Event: reg", "Subscription-State: "+state, fmt.Sprintf("Contact: <sip:reg@%s>", p.addr()))
		text := b.within("NOTIFY", seq, subscribe.req().Contact().Address.String(), subscribe.To().Value()+";tag=s",
			subscribe.From().Value(), subscribe.CallID().Value(), fmt.Sprint("n", seq), fields...)
		if body != "" {
			text = strings.Replace(text, "Content-Length: 0\n\n", fmt.Sprintf("Content-Type: application/reginfo+xml\nContent-Length: %d\n\n%s", len(crlf(body)), body), 1)
		}
		p.send(b.addr, text)
		if r := p.answer("NOTIFY"); r.res().StatusCode != want {
			t.Errorf("NOTIFY %d got %d, want %d", seq, r.res().StatusCode, want)
		}
	}
	// The first NOTIFY is faster than the response.
	notify(200, "active;expires=3600", fmt.Sprintf(reginfoText, 0, "active", "registered", b.addr))
	p.reply(subscribe, 200, "s", "Expires: 3600", "Contact: <sip:reg@"+p.addr()+">")
	notify(200, "active", "no document")
	notify(200, "active", fmt.Sprintf(reginfoText, 0, "terminated", "rejected", b.addr)) // an old version
	notify(200, "active", fmt.Sprintf(reginfoText, 1, "terminated", "rejected", "192.0.2.1:5060"))
	// Deactivated: the number registers again at once.
	notify(200, "active", fmt.Sprintf(reginfoText, 2, "terminated", "deactivated", b.addr))
	r := p.request("REGISTER")
	p.reply(r, 200, "x", "Contact: "+r.req().Contact().Value()+";expires=3600", "Allow-Events: reg")
	b.waitFor(t, "binding", func() bool { return b.n.registrar.Count() == 1 })
	// A subscription that ends begins again.
	notify(200, "terminated;reason=deactivated", "")
	subscribe = p.request("SUBSCRIBE")
	if header.Tag(subscribe.To().Params) != "" {
		t.Error("a new subscription in the old dialog")
	}
	p.reply(subscribe, 200, "s", "Expires: 3600", "Contact: <sip:reg@"+p.addr()+">")
	notify(200, "active", fmt.Sprintf(reginfoText, 0, "terminated", "rejected", b.addr))
	if e := b.l.want("lost"); !strings.HasPrefix(e.text, "r1: ") || !strings.Contains(e.text, "rejected") {
		t.Errorf("lost: %s", e.text)
	}
	last := p.request("SUBSCRIBE")
	if header.First(last, "Expires") != "0" || header.Tag(last.To().Params) != "s" {
		t.Errorf("the last SUBSCRIBE:\n%s", last.String())
	}
	p.reply(last, 200, "s", "Expires: 0")
	b.waitFor(t, "end of the subscription", func() bool { return !b.n.watched(last.CallID().Value()) })
	notify(481, "active", "")
}

// The registrations of an earlier process are refreshed again, spread, and calls to
// them come through in the meantime.
func TestKeptRegistrations(t *testing.T) {
	p := newPhone(t, "udp")
	b := setupWith(t, p, func(c *Config) {
		longLived(p.addr())(c)
		c.RegisterRate = 4
	})
	b.n.Keep([]gateway.Account{account("r1", "+15550100"), account("r2", "+15550199"), account("r3", "+15550199"),
		{RegistrationID: "r4", Tenant: call.DefaultTenant, Number: "+15550777"}}) // has no account any more
	in := b.ringing(t, "in1", offerSDP)
	if in.Callee.Canonical() != "tel:+15550100" {
		t.Errorf("called %s", in.Callee)
	}
	seen := map[string]bool{}
	for range 2 {
		r := p.request("REGISTER")
		p.reply(r, 200, "x", "Contact: "+r.req().Contact().Value()+";expires=3600")
		seen[r.To().Address.User] = true
	}
	if !seen["+15550100"] || !seen["+15550199"] {
		t.Errorf("registered %v", seen)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.n.Deregister(ctx, "r2"); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.n.Deregister(ctx, "r3") }()
	r := p.request("REGISTER")
	if header.First(r, "Expires") != "0" {
		t.Errorf("the last device left with\n%s", r.String())
	}
	p.reply(r, 200, "x")
	if err := <-done; err != nil {
		t.Error(err)
	}
}
