package sip

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// withSOS gives the phone's trunk no emergency calls, and them a trunk of their own
// to the same phone.
func withSOS(c *Config) {
	sos := c.Trunks[0]
	sos.Name, sos.Emergency, sos.Prefixes = "sos", true, []string{"none"}
	sos.Identity, sos.ResourcePriority, sos.Domain = "none", "esnet.0", "sos.example.com"
	c.Trunks = append(c.Trunks, sos)
}

func TestEmergencyCall(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network, withSOS, func(c *Config) { c.MaxCalls = 1 })
		b.answered(t, "ordinary")
		if _, err := b.n.Invite(t.Context(), outgoing("second")); !errors.Is(err, gateway.ErrNetworkDown) {
			t.Fatalf("a second call: %v", err)
		}
		in := emergency("sos1")
		in.Receiver, _ = call.ParseAddress("urn:service:sos.fire")
		if _, err := b.n.Invite(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		invite := b.p.request("INVITE")
		if uri, to := invite.req().Recipient.String(), header.First(invite, "To"); uri != "urn:service:sos.fire" || to != "<urn:service:sos.fire>" {
			t.Errorf("Request-URI %s, To %s", uri, to)
		}
		for name, want := range map[string]string{
			"Privacy": "", "P-Asserted-Identity": `"Ann" <sip:+15550100@sos.example.com;user=phone>`,
			"Resource-Priority": "esnet.0", "Geolocation-Routing": "yes",
		} {
			if got := header.First(invite, name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if from := header.First(invite, "From"); !strings.HasPrefix(from, `"Ann" <sip:+15550100@sos.example.com;user=phone>`) {
			t.Errorf("From %s", from)
		}
		c, d := invite.location(t)
		if c.sdp != crlf(offerSDP) || !reflect.DeepEqual(d.Location, *in.Location) || !d.Retransmit || d.Entity != "pres:+15550100@sos.example.com" {
			t.Errorf("%+v beside %q", d, c.sdp)
		}
		if until := time.Until(d.Expires); until < retention-time.Minute || until > retention {
			t.Errorf("to be kept for %v", until)
		}
		// The rest of the call is one like any other.
		b.p.reply(invite, 200, "a", answerSDP)
		ack := b.p.request("ACK")
		if len(ack.Body()) != 0 || ack.req().Recipient.String() != "sip:peer@"+b.p.addr()+";transport="+network {
			t.Errorf("ACK:\n%s", ack.String())
		}
		if e := b.l.want("answered"); e.callID != "sos1" {
			t.Errorf("%+v", e)
		}
		_ = b.n.End(t.Context(), "sos1", call.CauseNormal)
		bye := b.p.request("BYE")
		if header.First(bye, "Geolocation") != "" || !strings.HasPrefix(header.First(bye, "To"), "<urn:service:sos.fire>;tag=a") {
			t.Errorf("BYE:\n%s", bye.String())
		}
		b.p.reply(bye, 200, "")
		b.l.want("ended")
	})
}

// An emergency call to a number is one to the emergency service, and a refused
// attempt takes its location along to the next.
func TestEmergencyCallToANumber(t *testing.T) {
	b := setup(t, "udp", withSOS, func(c *Config) {
		c.Trunks[1].Credentials = map[string]trunk.Credentials{"*": {Username: "u", Password: "p"}}
	})
	if _, err := b.n.Invite(t.Context(), emergency("c1")); err != nil {
		t.Fatal(err)
	}
	first := b.p.request("INVITE")
	if uri := first.req().Recipient.String(); uri != "urn:service:sos" {
		t.Errorf("Request-URI %s", uri)
	}
	b.p.reply(first, 407, "a", `Proxy-Authenticate: Digest realm="r",nonce="n",qop="auth"`)
	b.p.request("ACK")
	again := b.p.request("INVITE")
	if header.First(again, "Proxy-Authorization") == "" || string(again.Body()) != string(first.Body()) ||
		header.First(again, "Geolocation") != header.First(first, "Geolocation") {
		t.Errorf("the second INVITE:\n%s", again.String())
	}
	again.location(t)
	_ = b.n.End(t.Context(), "c1", call.CauseNormal)
	b.p.reply(again, 180, "a")
	b.p.reply(b.p.request("CANCEL"), 200, "a")
	b.p.reply(again, 487, "a")
	b.p.request("ACK")
	b.l.want("ended")
}

func TestNoEmergencyTrunk(t *testing.T) {
	b := setup(t, "udp")
	var rejected *gateway.RejectedError
	if _, err := b.n.Invite(t.Context(), emergency("c1")); !errors.As(err, &rejected) || rejected.Code != 404 {
		t.Errorf("%v", err)
	}
	b.p.silent(50*time.Millisecond, func(r received) bool { return r.req() != nil })
}

// Who learns where a caller is: by the trunk's policy, and never instead of the call.
func TestLocationPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		policy                    string
		emergency, anonymous, odd bool
		routing, entity           string
	}{
		"never, emergency":     {policy: "never", emergency: true},
		"emergency, ordinary":  {policy: "emergency"},
		"always, ordinary":     {policy: "always", routing: "no", entity: "pres:+15550100@ims.example.com"},
		"always, anonymous":    {policy: "always", anonymous: true, routing: "no", entity: "pres:anonymous@anonymous.invalid"},
		"emergency, no coords": {policy: "emergency", emergency: true, odd: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "udp", func(cfg *Config) { cfg.Trunks[0].Emergency, cfg.Trunks[0].Location = true, c.policy })
			in := emergency("c1")
			in.Emergency, in.Anonymous = c.emergency, c.anonymous
			if c.odd {
				in.Location = &call.Location{Method: "GPS"}
			}
			if _, err := b.n.Invite(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			invite := b.p.request("INVITE")
			if got := header.First(invite, "Geolocation-Routing"); got != c.routing {
				t.Errorf("Geolocation-Routing %q", got)
			}
			if c.routing == "" {
				if header.First(invite, "Geolocation") != "" || string(invite.Body()) != crlf(offerSDP) {
					t.Errorf("a location slipped out:\n%s", invite.String())
				}
			} else if _, d := invite.location(t); d.Entity != c.entity || d.Retransmit {
				t.Errorf("%+v", d)
			}
			b.p.reply(invite, 486, "a")
			b.l.want("ended")
		})
	}
}

// enclosing gives a message without body one.
func enclosing(text, kind, body string) string {
	return strings.Replace(text, "Content-Length: 0\n\n", fmt.Sprintf("Content-Type: %s\nContent-Length: %d\n\n%s", kind, len(crlf(body)), body), 1)
}

func TestIncomingLocation(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		b := setup(t, network, withSOS)
		// What the network sends is what it receives from itself.
		if _, err := b.n.Invite(t.Context(), emergency("out")); err != nil {
			t.Fatal(err)
		}
		invite := b.p.request("INVITE")
		kind, body := header.First(invite, "Content-Type"), string(invite.Body())
		b.p.reply(invite, 486, "a")
		b.l.want("ended")
		b.p.send(b.addr, enclosing(b.inviteText("in1", "+15550100", "", "Geolocation: "+header.First(invite, "Geolocation")), kind, body))
		in := b.l.want("incoming").incoming
		if in.SDP != crlf(offerSDP) || !reflect.DeepEqual(in.Location, emergency("").Location) {
			t.Errorf("%q, %+v", in.SDP, in.Location)
		}
		// In the dialog, a description is found wherever it is.
		if err := b.n.Accept(t.Context(), in.CallID, crlf(answerSDP)); err != nil {
			t.Fatal(err)
		}
		ok := b.p.response(200)
		b.p.send(b.addr, b.inDialog("ACK", 7, ok, "ack"))
		b.l.want("confirmed")
		b.l.mu.Lock()
		b.l.answer = func(string, string) (string, error) { return crlf(answerSDP), nil }
		b.l.mu.Unlock()
		b.p.send(b.addr, enclosing(b.inDialog("INVITE", 8, ok, "re"), kind, body))
		if e := b.l.want("offered"); e.sdp != crlf(offerSDP) {
			t.Errorf("offered %q", e.sdp)
		}
		again := b.p.next("200", func(r received) bool {
			return r.res() != nil && r.res().StatusCode == 200 && r.CSeq().SeqNo == 8
		})
		b.p.send(b.addr, b.inDialog("ACK", 8, again, "ack2"))
		b.p.send(b.addr, enclosing(b.inDialog("UPDATE", 9, ok, "up"), "multipart/mixed;boundary=x",
			parts(isup+"required\r\n\r\nx")))
		if r := b.p.answer("UPDATE"); r.res().StatusCode != 415 || !header.Has(r, "Accept", "application/pidf+xml") {
			t.Errorf("UPDATE with what must be understood:\n%s", r.String())
		}
	})
}

func TestIncomingMultipart(t *testing.T) {
	b := setup(t, "udp")
	pidf := "Content-Type: application/pidf+xml\r\nContent-ID: <l@x>\r\n\r\n<presence/>"
	for i, c := range []struct {
		name, kind, body string
		refused          bool
	}{
		{"an unreadable location does not hinder", mixed, parts(pidf, "Content-Type: application/sdp\r\n\r\n"+crlf(offerSDP)), false},
		{"optional ISUP", mixed, parts(isup+"optional\r\n\r\nx", "Content-Type: application/sdp\r\n\r\n"+crlf(offerSDP)), false},
		{"required ISUP", mixed, parts(isup+"required\r\n\r\nx", "Content-Type: application/sdp\r\n\r\n"+crlf(offerSDP)), true},
		{"broken", "multipart/mixed;boundary=z", parts(sdpPart), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := fmt.Sprint("in", i)
			b.p.send(b.addr, enclosing(b.inviteText(id, "+15550100", "", "Geolocation: <cid:l@x>"), c.kind, c.body))
			if c.refused {
				if r := b.p.answer("INVITE"); r.res().StatusCode != 415 || !header.Has(r, "Accept", "multipart/mixed") {
					t.Errorf("%s", r.String())
				}
				return
			}
			if in := b.l.want("incoming").incoming; strings.TrimSpace(in.SDP) != strings.TrimSpace(crlf(offerSDP)) || in.Location != nil {
				t.Errorf("%+v", in)
			}
		})
	}
}

// The emergency service may call back when the gateway is full.
func TestEmergencyCallback(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		t.Run(fmt.Sprint(trusted), func(t *testing.T) {
			b := setup(t, "udp", func(c *Config) { c.MaxCalls, c.Trunks[0].Emergency = 1, trusted })
			b.answered(t, "ordinary")
			b.p.send(b.addr, b.inviteText("full", "+15550100", offerSDP))
			b.p.response(503)
			b.p.send(b.addr, b.inviteText("back", "+15550100", offerSDP, "Priority: psap-callback"))
			if !trusted {
				b.p.response(503)
				return
			}
			b.l.want("incoming")
		})
	}
}
