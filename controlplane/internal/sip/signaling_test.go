package sip

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

func passport(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"ES256"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature")) +
		";info=<https://cert.example.org/passport.cer>;alg=ES256;ppt=shaken"
}

// What the network tells of a call is carried to the call's data; what only a
// trusted network may say is believed of no other.
func TestIncomingSignaling(t *testing.T) {
	number := func(s string) call.Address { return call.Number(s).Address() }
	identity := passport(`{"attest":"A","orig":{"tn":"15550123"}}`)
	for name, c := range map[string]struct {
		fields    []string
		untrusted bool
		want      call.Signaling
		reason    string
	}{
		"nothing": {},
		"STIR": {
			fields: []string{"P-Asserted-Identity: <tel:+15550123;verstat=TN-Validation-Passed>", "Identity: " + identity},
			want:   call.Signaling{Verstat: "TN-Validation-Passed", Attestation: "A", Identity: []string{identity}},
			reason: "caller TN-Validation-Passed, attestation A",
		},
		"verstat in a user part": {
			fields: []string{"P-Asserted-Identity: <sip:+15550123;verstat=TN-Validation-Failed@ims.example.com;user=phone>"},
			want:   call.Signaling{Verstat: "TN-Validation-Failed"},
			reason: "caller TN-Validation-Failed",
		},
		"the compact form of Identity, not a PASSporT": {
			fields: []string{"y: not-a-token"},
			want:   call.Signaling{Identity: []string{"not-a-token"}},
		},
		"History-Info": {
			fields: []string{
				"History-Info: <sip:+15550111@ims.example.com;user=phone?Reason=SIP%3Bcause%3D486>;index=1",
				"History-Info: <sip:+15550112@ims.example.com;user=phone;cause=486>;index=1.1;mp=1, <sip:+15550113@ims.example.com>;index=1.1.1;rc=1.1",
				"History-Info: <sip:+15550100@ims.example.com;user=phone;cause=408>;index=1.1.1.1",
				"Diversion: <sip:+15550999@ims.example.com>;reason=unconditional",
			},
			want: call.Signaling{Redirections: []call.Redirection{
				{By: number("+15550111"), Cause: 486}, {By: number("+15550113"), Cause: 408},
			}},
			reason: "diverted by tel:+15550113 (SIP cause 408)",
		},
		"private history": {
			fields: []string{
				"History-Info: <sip:+15550111@ims.example.com?Privacy=history>;index=1",
				"History-Info: <sip:+15550100@ims.example.com;cause=302>;index=1.1",
			},
			want:   call.Signaling{Redirections: []call.Redirection{{Cause: 302}}},
			reason: "diverted (SIP cause 302)",
		},
		"Diversion": {
			fields: []string{
				`Diversion: "B" <sip:+15550112@ims.example.com>;reason=no-answer;counter=1;privacy=off, <tel:+15550111>;reason=user-busy;privacy=full`,
			},
			want:   call.Signaling{Redirections: []call.Redirection{{Cause: 486}, {By: number("+15550112"), Cause: 408}}},
			reason: "diverted by tel:+15550112 (SIP cause 408)",
		},
		"at the boundary": {
			fields: []string{
				`P-Charging-Vector: icid-value="AyretyU0dm+6O2IrT5tAFrbHLso=023551024";orig-ioi=home1.net`,
				"P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=234151D0FCE11", `P-Visited-Network-ID: "Visited network 1"`,
				"Alert-Info: <urn:alert:service:call-waiting>;x=1, <http://x.example/ring.wav>", "Resource-Priority: esnet.1, wps.3",
			},
			want: call.Signaling{
				ChargingID:    "AyretyU0dm+6O2IrT5tAFrbHLso=023551024",
				AccessNetwork: "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=234151D0FCE11", VisitedNetwork: "Visited network 1",
				AlertInfo: []string{"urn:alert:service:call-waiting", "http://x.example/ring.wav"}, Priorities: []string{"esnet.1", "wps.3"},
			},
		},
		"nothing of that from those who are not trusted": {
			untrusted: true,
			fields: []string{
				"P-Asserted-Identity: <tel:+15550123;verstat=TN-Validation-Passed>", "P-Charging-Vector: icid-value=x",
				"Diversion: <tel:+15550111>;reason=user-busy", "Resource-Priority: esnet.1", "Alert-Info: <urn:alert:tone:internal>",
			},
			want: call.Signaling{AlertInfo: []string{"urn:alert:tone:internal"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "udp", func(cfg *Config) { cfg.Trunks[0].Trusted = !c.untrusted })
			in := b.ringing(t, "in1", offerSDP, c.fields...)
			if !reflect.DeepEqual(in.Signaling, c.want) {
				t.Errorf("\n got %+v\nwant %+v", in.Signaling, c.want)
			}
			if got := in.Signaling.Reason(); got != c.reason {
				t.Errorf("told as %q, want %q", got, c.reason)
			}
		})
	}
}

// What the gateway says at the edge of the trusted network.
func TestBoundary(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].AccessNetwork, c.Trunks[0].VisitedNetwork = "IEEE-802.11", "web"
	})
	first := b.invite(t, "c1")
	vector := header.First(first, "P-Charging-Vector")
	if !strings.HasPrefix(vector, `icid-value="`) || !strings.HasSuffix(vector, ";icid-generated-at=127.0.0.1") {
		t.Errorf("P-Charging-Vector: %q", vector)
	}
	for name, want := range map[string]string{
		"P-Access-Network-Info": "IEEE-802.11", "P-Visited-Network-ID": `"web"`, "P-Early-Media": "supported",
	} {
		if got := header.First(first, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if second := b.invite(t, "c2"); header.First(second, "P-Charging-Vector") == vector {
		t.Error("two calls share a charging identity")
	}
	outside := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Trusted, c.Trunks[0].AccessNetwork, c.Trunks[0].VisitedNetwork = false, "IEEE-802.11", "web"
	})
	invite := outside.invite(t, "c1")
	for _, name := range []string{"P-Charging-Vector", "P-Access-Network-Info", "P-Visited-Network-ID", "P-Early-Media"} {
		if header.First(invite, name) != "" {
			t.Errorf("%s beyond the trusted network", name)
		}
	}
}

func TestEarlyMediaAuthorization(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*trunk.Config)
		fields []string
		want   gateway.EarlyMedia
	}{
		"not a word":                 {want: ""},
		"allowed":                    {fields: []string{"P-Early-Media: sendrecv"}, want: gateway.EarlyMediaSendRecv},
		"forbidden":                  {fields: []string{"P-Early-Media: inactive, sendrecv"}, want: gateway.EarlyMediaInactive},
		"one way, gated":             {fields: []string{"P-Early-Media: gated, SendOnly"}, want: gateway.EarlyMediaSendOnly},
		"of one who is not trusted":  {change: func(c *trunk.Config) { c.Trusted = false }, fields: []string{"P-Early-Media: inactive"}, want: ""},
		"only what is authorized":    {change: func(c *trunk.Config) { c.EarlyMedia = trunk.EarlyMediaAuthorized }, want: gateway.EarlyMediaInactive},
		"only what is, and it is so": {change: func(c *trunk.Config) { c.EarlyMedia = trunk.EarlyMediaAuthorized }, fields: []string{"P-Early-Media: sendrecv"}, want: gateway.EarlyMediaSendRecv},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "udp", func(cfg *Config) {
				if c.change != nil {
					c.change(&cfg.Trunks[0])
				}
			})
			invite := b.invite(t, "c1")
			b.p.reply(invite, 183, "a", append(c.fields, answerSDP)...)
			if e := b.l.want("provisional"); e.answer.EarlyMedia != c.want {
				t.Errorf("told %q, want %q", e.answer.EarlyMedia, c.want)
			}
			// What was said once holds.
			b.p.reply(invite, 180, "a")
			if e := b.l.want("provisional"); c.want == gateway.EarlyMediaSendRecv && e.answer.EarlyMedia != "" {
				t.Errorf("the 180 makes it %q", e.answer.EarlyMedia)
			}
		})
	}
}

// Every request in a dialog answers a challenge, and a nonce that is good serves the
// next request without asking.
func TestDigestWithinCalls(t *testing.T) {
	b := setup(t, "udp", func(c *Config) {
		c.Trunks[0].Credentials = map[string]trunk.Credentials{"*": {Username: "u", Password: "p"}}
	})
	nonce := 0
	challenge := func(r received) received {
		t.Helper()
		nonce++
		n := string(rune('a' + nonce))
		b.p.reply(r, 407, "a", `Proxy-Authenticate: Digest realm="r", nonce="`+n+`", algorithm=SHA-256, qop="auth", stale=true`)
		if r.req().Method == "INVITE" {
			b.p.request("ACK")
		}
		again := b.p.request(string(r.req().Method))
		if a := header.First(again, "Proxy-Authorization"); !strings.Contains(a, `nonce="`+n+`"`) {
			t.Fatalf("%s came again with %q", r.req().Method, a)
		}
		if again.CSeq().SeqNo != r.CSeq().SeqNo+1 {
			t.Errorf("%s again has CSeq %d after %d", r.req().Method, again.CSeq().SeqNo, r.CSeq().SeqNo)
		}
		return again
	}
	invite := challenge(b.invite(t, "c1"))
	b.p.reply(invite, 183, "a", "Require: 100rel", "RSeq: 5", "Allow: UPDATE", answerSDP)
	b.p.reply(challenge(b.p.request("PRACK")), 200, "")
	b.l.want("provisional")
	change := func(method string) {
		t.Helper()
		done := make(chan error, 1)
		go func() { _, err := b.n.Reoffer(t.Context(), "c1", crlf(offerSDP)); done <- err }()
		b.p.reply(challenge(b.p.request(method)), 200, "a", answerSDP)
		if method == "INVITE" {
			b.p.request("ACK")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	change("UPDATE")
	b.p.reply(invite, 200, "a", answerSDP)
	b.p.request("ACK")
	b.l.want("answered")
	change("INVITE")
	digit := make(chan error, 1)
	go func() { digit <- b.n.SendDTMF(t.Context(), "c1", "5", 100) }()
	b.p.reply(challenge(b.p.request("INFO")), 200, "")
	if err := <-digit; err != nil {
		t.Error(err)
	}
	// Another process goes on with the nonce that is good.
	b.l.want("changed")
	b.l.mu.Lock()
	d := b.l.dialogs["c1"]
	b.l.mu.Unlock()
	b.stop()
	b2 := &bundle{l: newListener(t), p: b.p, ladder: &ladder{}, cfg: b.cfg}
	b2.start(t)
	if err := b2.n.Restore(t.Context(), "c1", d); err != nil {
		t.Fatal(err)
	}
	_ = b2.n.End(t.Context(), "c1", call.CauseNormal)
	bye := b.p.request("BYE")
	if a := header.First(bye, "Proxy-Authorization"); !strings.Contains(a, `nonce="`+string(rune('a'+nonce-1))+`"`) {
		t.Errorf("BYE of the next process with %q", a)
	}
	b.p.reply(challenge(bye), 200, "")
	b2.l.want("ended")
}

// What a provisional response says about ringing.
func TestAlerting(t *testing.T) {
	b := setup(t, "udp")
	in := b.ringing(t, "in1", offerSDP, "P-Early-Media: supported, gated")
	_ = b.n.Progress(t.Context(), in.CallID, 183, crlf(answerSDP))
	if r := b.p.response(183); header.First(r, "P-Early-Media") != "inactive" || header.First(r, "Alert-Info") != "" {
		t.Errorf("183:\n%s", r.String())
	}
	if err := b.n.CallWaiting(t.Context(), in.CallID); err != nil {
		t.Error(err)
	}
	_ = b.n.Progress(t.Context(), in.CallID, 180, "")
	if r := b.p.response(180); header.First(r, "Alert-Info") != "<urn:alert:service:call-waiting>" || header.First(r, "P-Early-Media") != "" {
		t.Errorf("180:\n%s", r.String())
	}
	other := b.ringing(t, "in2", offerSDP)
	_ = b.n.Progress(t.Context(), other.CallID, 183, crlf(answerSDP))
	if r := b.p.response(183); header.First(r, "P-Early-Media") != "" {
		t.Errorf("to a caller that does not ask:\n%s", r.String())
	}
	if err := b.n.CallWaiting(t.Context(), "none"); err == nil {
		t.Error("a call that is none waits")
	}
}
