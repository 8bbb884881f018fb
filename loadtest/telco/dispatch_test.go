package telco

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

const someOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"

// Every request here is answered by what RFC 3261 asks for, by hand-made
// messages on a bare socket.
func TestAnswersToOddRequests(t *testing.T) {
	t.Parallel()
	network, _ := start(t, nil)
	const echo = "sip:+15550100@telco.example"
	for _, c := range []struct {
		name, method, uri, headers, body string
		status                           int
		header, value                    string // of the response
	}{
		{name: "OPTIONS", method: "OPTIONS", uri: "sip:telco.example", status: 200, header: "Accept", value: "application/sdp"},
		{name: "no hops left", method: "OPTIONS", uri: "sip:telco.example", headers: "Max-Forwards: 0", status: 483},
		{name: "unknown dialog BYE", method: "BYE", uri: echo, headers: "To: <" + echo + ">;tag=x", status: 481},
		{name: "unknown dialog INVITE", method: "INVITE", uri: echo, headers: "To: <" + echo + ">;tag=x", status: 481},
		{name: "unknown dialog UPDATE", method: "UPDATE", uri: echo, headers: "To: <" + echo + ">;tag=x", status: 481},
		{name: "BYE outside a dialog", method: "BYE", uri: echo, status: 481},
		{name: "CANCEL of nothing", method: "CANCEL", uri: echo, status: 481},
		{name: "PRACK of nothing", method: "PRACK", uri: echo, headers: "RAck: 1 1 INVITE", status: 481},
		{name: "unknown method", method: "DANCE", uri: echo, status: 405, header: "Allow", value: "INVITE"},
		{name: "MESSAGE", method: "MESSAGE", uri: echo, status: 405},
		{name: "SUBSCRIBE", method: "SUBSCRIBE", uri: echo, headers: "Event: reg", status: 489},
		{name: "unknown extension", method: "INVITE", uri: echo, headers: "Require: teleport, 100rel", status: 420, header: "Unsupported", value: "teleport"},
		{name: "method and CSeq differ", method: "OPTIONS", uri: echo, headers: "CSeq: 12 INVITE", status: 400},
		{name: "no From tag", method: "OPTIONS", uri: echo, headers: "From: <sip:x@y>", status: 400},
		{name: "no Contact", method: "INVITE", uri: echo, headers: "Contact:", status: 400},
		{name: "foreign scheme", method: "INVITE", uri: "urn:service:sos", status: 416},
		{name: "body of another type", method: "INVITE", uri: echo, headers: "Content-Type: text/plain", body: "hello", status: 415, header: "Accept", value: "application/sdp"},
		{name: "session interval too small", method: "INVITE", uri: echo, headers: "Supported: timer\nSession-Expires: 30\nContent-Type: application/sdp", body: someOffer, status: 422, header: "Min-SE", value: "90"},
		{name: "offer without a common codec", method: "INVITE", uri: "sip:+15550101@telco.example", headers: "Content-Type: application/sdp", body: strings.Replace(someOffer, "AVP 0", "AVP 97", 1) + "a=rtpmap:97 AMR/8000\r\n", status: 488, header: "Warning", value: "304"},
		{name: "offer of SRTP only", method: "INVITE", uri: echo, headers: "Content-Type: application/sdp", body: strings.Replace(someOffer, "RTP/AVP", "RTP/SAVP", 1), status: 488},
		{name: "offer that is garbage", method: "INVITE", uri: echo, headers: "Content-Type: application/sdp", body: "v=0\r\nx", status: 488},
		{name: "number not in service", method: "INVITE", uri: "sip:+4930999@telco.example", headers: "Content-Type: application/sdp", body: someOffer, status: 404, header: "Reason", value: "cause=1"},
		{name: "no number at all", method: "INVITE", uri: "sip:somebody@telco.example", headers: "Content-Type: application/sdp", body: someOffer, status: 404},
		{name: "tel URI of the busy number", method: "INVITE", uri: "tel:555-0102;phone-context=+1", headers: "Content-Type: application/sdp", body: someOffer, status: 486},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := dialRaw(t, network)
			if strings.Contains(c.headers, "CSeq: 12") {
				r.n = 11
			}
			res := r.ask(c.method, c.uri, c.headers, c.body)
			if res.StatusCode != c.status || !strings.Contains(headerValue(res, c.header), c.value) {
				t.Errorf("got %d with %s %q, want %d with %q", res.StatusCode, c.header, headerValue(res, c.header), c.status, c.value)
			}
		})
	}
	eventually(t, "end of all legs", func() bool { return legs(network) == 0 })
}

// A peer that never sends the ACK gets the 200 again and in the end a BYE.
func TestAnswerIsRepeatedUntilGivenUp(t *testing.T) {
	t.Parallel()
	network, trace := start(t, nil, func(n *Network) { n.t1, n.t2 = 20*time.Millisecond, 40*time.Millisecond })
	r := dialRaw(t, network)
	res := r.ask("INVITE", "sip:+15550100@telco.example", "Content-Type: application/sdp", someOffer)
	if res.StatusCode != 200 {
		t.Fatalf("got %d", res.StatusCode)
	}
	eventually(t, "BYE for the missing ACK", func() bool { return trace.count("sent", "\nBYE sip:raw@", "ACK was not received") > 0 })
	if n := trace.count("sent", "SIP/2.0 200 OK", "INVITE"); n < 10 {
		t.Errorf("the 200 was sent %d times", n)
	}
}

// scripted is a far end under the test's control: it answers what the network
// sends.
type scripted struct {
	t    *testing.T
	conn net.PacketConn
}

func (s *scripted) receive(method string) (*sip.Request, net.Addr) {
	s.t.Helper()
	buffer := make([]byte, 4096)
	for {
		s.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			s.t.Fatalf("no %s came: %v", method, err)
		}
		m, err := sip.ParseMessage(slices.Clone(buffer[:n]))
		if err != nil {
			s.t.Fatal(err)
		}
		if req, ok := m.(*sip.Request); ok && string(req.Method) == method {
			return req, from
		}
	}
}

func (s *scripted) respond(req *sip.Request, to net.Addr, code int, tag, headers, body string) {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n%s\r\n%s\r\n", code, statusText(code), req.Via(), req.From())
	fmt.Fprintf(&b, "%s;tag=%s\r\n%s\r\n%s\r\n", req.To(), tag, req.CallID(), req.CSeq())
	fmt.Fprintf(&b, "Contact: <sip:far@%s>\r\n%sContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", s.conn.LocalAddr(), headers, len(body), body)
	if _, err := s.conn.WriteTo([]byte(b.String()), to); err != nil {
		s.t.Fatal(err)
	}
}

func startScripted(t *testing.T) (*Network, *scripted) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	network, _ := start(t, func(c *Config) { c.Gateway = conn.LocalAddr().String() })
	return network, &scripted{t, conn}
}

func ringAlice(t *testing.T, network *Network) *Call {
	t.Helper()
	c, err := network.Call(timeout(t), CallRequest{From: "+15550100", To: alice})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForkedAnswersAndRepeatedAnswers(t *testing.T) {
	t.Parallel()
	network, far := startScripted(t)
	c := ringAlice(t, network)
	invite, from := far.receive("INVITE")
	far.respond(invite, from, 180, "one", "", "")
	far.respond(invite, from, 180, "two", "", "")
	for range 2 {
		far.respond(invite, from, 200, "two", "", someOffer)
		if ack, _ := far.receive("ACK"); ack.To().Params.GetOr("tag", "") != "two" {
			t.Fatalf("ACK goes to %v", ack.To())
		}
	}
	far.respond(invite, from, 200, "one", "", someOffer)
	bye, _ := far.receive("BYE")
	if bye.To().Params.GetOr("tag", "") != "one" {
		t.Fatalf("BYE goes to %v", bye.To())
	}
	far.respond(bye, from, 200, "one", "", "")
	await(t, "answer", c.Answered())
	if c.leg.currentState() != confirmed {
		t.Error("the first answer's call did not live on")
	}
	go c.HangUp(context.Background())
	bye, _ = far.receive("BYE")
	far.respond(bye, from, 200, "two", "", "")
	await(t, "end", c.Ended())
}

func TestAnswerCrossesCancel(t *testing.T) {
	t.Parallel()
	network, far := startScripted(t)
	c := ringAlice(t, network)
	invite, from := far.receive("INVITE")
	hungUp := make(chan struct{})
	go func() { defer close(hungUp); c.HangUp(timeout(t)) }()
	// No CANCEL before a provisional response (RFC 3261 section 9.1).
	far.respond(invite, from, 180, "a", "", "")
	cancel, _ := far.receive("CANCEL")
	if cancel.Via().Params.GetOr("branch", "") != invite.Via().Params.GetOr("branch", "?") {
		t.Error("CANCEL has another branch than the INVITE")
	}
	far.respond(invite, from, 200, "a", "", someOffer)
	far.receive("ACK")
	bye, _ := far.receive("BYE")
	far.respond(bye, from, 200, "a", "", "")
	far.respond(cancel, from, 200, "a", "", "")
	await(t, "hang-up", hungUp)
	await(t, "end", c.Ended())
}

func TestRecordRouteAndReliableResponse(t *testing.T) {
	t.Parallel()
	network, far := startScripted(t)
	c := ringAlice(t, network)
	invite, from := far.receive("INVITE")
	proxy := far.conn.LocalAddr()
	routes := fmt.Sprintf("Record-Route: <sip:%s;lr;n=2>\r\nRecord-Route: <sip:%s;lr;n=1>\r\n", proxy, proxy)
	far.respond(invite, from, 183, "a", routes+"Require: 100rel\r\nRSeq: 7\r\n", someOffer)
	prack, _ := far.receive("PRACK")
	if got := headerValue(prack, "RAck"); got != "7 1 INVITE" {
		t.Errorf("RAck is %q", got)
	}
	far.respond(prack, from, 200, "a", "", "")
	far.respond(invite, from, 200, "a", routes, someOffer)
	ack, _ := far.receive("ACK")
	var order []string
	for _, h := range ack.GetHeaders("Route") {
		order = append(order, h.Value())
	}
	if want := []string{fmt.Sprintf("<sip:%s;lr;n=1>", proxy), fmt.Sprintf("<sip:%s;lr;n=2>", proxy)}; !slices.Equal(order, want) {
		t.Errorf("route set is %v, want %v", order, want)
	}
	if ack.Recipient.User != "far" {
		t.Errorf("ACK has the Request-URI %v", ack.Recipient)
	}
	go c.HangUp(context.Background())
	bye, _ := far.receive("BYE")
	if bye.CSeq().SeqNo != 3 {
		t.Errorf("BYE has CSeq %d, want 3", bye.CSeq().SeqNo)
	}
	far.respond(bye, from, 200, "a", "", "")
	await(t, "end", c.Ended())
}

func TestRingingEndsWithCancel(t *testing.T) {
	t.Parallel()
	network, far := startScripted(t)
	c, err := network.Call(timeout(t), CallRequest{From: "+15550100", To: alice, Ring: 100 * time.Millisecond, Anonymous: true, DisplayName: "Eve \"\r\nX: y"})
	if err != nil {
		t.Fatal(err)
	}
	invite, from := far.receive("INVITE")
	if invite.From().Address.Host != "anonymous.invalid" || headerValue(invite, "Privacy") != "id" ||
		!strings.Contains(headerValue(invite, "P-Asserted-Identity"), "+15550100") || headerValue(invite, "X") != "" {
		t.Errorf("anonymous call is\n%s", invite)
	}
	far.respond(invite, from, 180, "a", "", "")
	cancel, _ := far.receive("CANCEL")
	far.respond(cancel, from, 200, "a", "", "")
	far.respond(invite, from, 487, "a", "", "")
	far.receive("ACK")
	await(t, "end", c.Ended())
	if why := c.Cause(); why.Code != 480 || why.Q850 != 19 {
		t.Errorf("ended with %v", why)
	}
}
