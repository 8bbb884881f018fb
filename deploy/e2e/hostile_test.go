package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// A sink that is down is tried again and reported, and holds up nobody; when it
// is back it gets everything, in order.
func TestSinkDown(t *testing.T) {
	t.Parallel()
	n := network(t)
	calls := handle(t, n, landline, farHz)
	g := gateway.NewSplit(t, "", 1, gateway.Settings{
		"sip.trunks": trunk(n.Addr().String(), nil), "notify.backoff_min": "100ms", "notify.backoff_max": "300ms",
	})
	patientSink := newSink(t, g.Authority)
	d := device.New(t, device.Config{API: g.URL, Token: g.Token(ada), Number: ada, Roots: g.Roots, Sink: patientSink.url})
	other := g.Device(grace)

	patientSink.setDown(true)
	call := d.Call("tel:"+landline, browserHz)
	next(t, "call at the far end", calls)
	await(t, "repeated deliveries", func() error {
		if n := patientSink.refusals(); n < 3 {
			return fmt.Errorf("the sink was asked %d times", n)
		}
		return nil
	})
	g.AwaitMetric(patient, 3, "isthmus_notify_deliveries_total", "retr")

	// The other subscriber does not notice.
	begin := time.Now()
	b := connect(t, other, landline, calls)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a call of a subscriber with another sink took %s", took)
	}
	b.device.HangUp()
	b.device.AwaitStatus(patient, "Terminated")

	patientSink.setDown(false)
	patientSink.deliverTo(d)
	awaitTold(t, d, call.ID, "Connected")
	if s := call.Statuses(); s[0] != "Ringing" || s[len(s)-1] != "Connected" {
		t.Errorf("the events came as %v", s)
	}
	call.HangUp()
	awaitTold(t, d, call.ID, "Terminated")
}

// What comes to the SIP port and is no SIP is answered with 400 or dropped, and
// counted; calls go on as if nothing had happened.
func TestMalformedSIP(t *testing.T) {
	t.Parallel()
	n := network(t)
	calls := handle(t, n, landline, farHz)
	g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil)})
	d := g.Device(ada)
	b := connect(t, d, landline, calls)

	request := func(method string, lines ...string) string {
		return strings.Join(append([]string{
			method + " sip:" + ada + "@" + g.SIP + " SIP/2.0",
			"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKhostile" + fmt.Sprint(time.Now().UnixNano()) + ";rport",
			"Max-Forwards: 70", "From: <sip:x@127.0.0.1>;tag=x", "To: <sip:" + ada + "@" + g.SIP + ">",
			"Call-ID: hostile-" + fmt.Sprint(time.Now().UnixNano()),
		}, append(lines, "", "")...), "\r\n")
	}
	for name, c := range map[string]struct{ message, answer string }{
		"another method in CSeq": {request("OPTIONS", "CSeq: 1 INVITE", "Content-Length: 0"), "SIP/2.0 400"},
		"no CSeq":                {request("OPTIONS", "Content-Length: 0"), ""}, // no answer could be told apart
		"a longer body promised": {request("OPTIONS", "CSeq: 1 OPTIONS", "Content-Length: 9999"), "SIP/2.0 400"},
		"two Call-IDs":           {request("OPTIONS", "CSeq: 1 OPTIONS", "Call-ID: other", "Content-Length: 0"), "SIP/2.0 400"},
		"a wild method":          {request("BREW", "CSeq: 1 BREW", "Content-Length: 0"), "SIP/2.0 501"},
		"a dialog that is not":   {request("BYE", "CSeq: 1 BYE", "Content-Length: 0"), "SIP/2.0 4"},
		"noise":                  {"\x00\x01\x02 hello\r\n\r\n", ""},
		"half a message":         {"INVITE sip:x SIP/2.0\r\nVia", ""},
	} {
		if c.answer == "" {
			before := g.Metric("isthmus_sip_rejected_total")
			exchange(t, g.SIP, c.message, false)
			g.AwaitMetric(patient, before+1, "isthmus_sip_rejected_total")
			continue
		}
		if got := exchange(t, g.SIP, c.message, true); !strings.HasPrefix(got, c.answer) {
			t.Errorf("%s: answered %q, want %s", name, got, c.answer)
		}
	}
	if got := exchange(t, g.SIP, request("OPTIONS", "CSeq: 1 OPTIONS", "Content-Length: 0"), true); !strings.HasPrefix(got, "SIP/2.0 200") {
		t.Errorf("OPTIONS is answered %q", got)
	}
	b.device.AwaitTone(patient, farHz)
	b.device.HangUp()
	if c := ended(t, b.far); c.Code != 200 {
		t.Errorf("the call ended with %v", c)
	}
	again := connect(t, d, landline, calls)
	again.device.HangUp()
}

// exchange sends a datagram and answers what comes back.
func exchange(t *testing.T, to, message string, answered bool) string {
	t.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	if !answered {
		return ""
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(buffer[:n]), "\r\n")
	return line
}

// RTP from a stranger, and noise on the browsers' port, are dropped and counted;
// the call does not hear them.
func TestSpoofedMedia(t *testing.T) {
	t.Parallel()
	far := audio.Listen(t, farHz)
	phone := sipp.Listen(t, sipp.Config{Media: far.Port()})
	g := gateway.AllInOne(t, gateway.Settings{"parts.network": false, "control_plane.sip.trunks": trunk(phone.Address(), nil)})
	d := g.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)

	spoof := func(to string, message func() []byte) {
		t.Helper()
		conn, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 50 {
			if _, err := conn.Write(message()); err != nil {
				t.Fatal(err)
			}
		}
	}
	dropped := g.Metric("isthmus_media_dropped_packets_total")
	voice := audio.NewVoice(0xbad, 300)
	packet := func() []byte {
		b, err := voice.Next(tone.MuLaw).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	call.Forget()
	spoof(far.Remote().String(), packet)
	spoof(fmt.Sprintf("127.0.0.1:%d", call.MediaPort()), packet)
	spoof(fmt.Sprintf("127.0.0.1:%d", call.MediaPort()), func() []byte { return []byte("\x00\x01\x00\x00no STUN at all") })
	g.AwaitMetric(patient, dropped+150, "isthmus_media_dropped_packets_total")

	call.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)
	if s := call.Stats(); len(s.SSRCs) != 1 {
		t.Errorf("the device heard several sources: %+v", s)
	}
	call.HangUp()
	phone.AwaitSuccess(patient)
}

// No common codec ends a call before anybody is bothered, with the reason.
func TestNoCommonCodec(t *testing.T) {
	t.Parallel()
	n := network(t)
	g := gateway.NewSplit(t, "", 1, gateway.Settings{"sip.trunks": trunk(n.Addr().String(), nil), "calls.codecs": []string{"opus"}})
	d := g.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	if s := call.AwaitStatus(patient, "Failed"); !strings.Contains(s.Reason, "codec") {
		t.Errorf("the reason is %q", s.Reason)
	}
	if err := n.SetGateway(g.SIP); err != nil {
		t.Fatal(err)
	}
	in, err := n.Call(t.Context(), telco.CallRequest{From: landline, To: ada})
	if err != nil {
		t.Fatal(err)
	}
	if c := ended(t, in); c.Code != 488 {
		t.Errorf("an incoming call without a common codec ended with %v, want 488", c)
	}
}
