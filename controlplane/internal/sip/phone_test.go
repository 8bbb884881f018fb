package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// phone is a raw SIP peer of the tests: it sees and sends messages as they are.
type phone struct {
	t       *testing.T
	network string
	udp     *net.UDPConn
	lis     net.Listener
	mu      sync.Mutex
	conns   map[string]net.Conn
	// tls is the client's side of network tls.
	tls *tls.Config
	in  chan received
	wg  sync.WaitGroup
}

type received struct {
	sip.Message
	from net.Addr
}

func (r received) req() *sip.Request  { q, _ := r.Message.(*sip.Request); return q }
func (r received) res() *sip.Response { q, _ := r.Message.(*sip.Response); return q }

// Headers lets package header read it.
func (r received) Headers() []sip.Header {
	return r.Message.(interface{ Headers() []sip.Header }).Headers()
}

func newPhone(t *testing.T, network string) *phone {
	t.Helper()
	p := &phone{t: t, network: network, in: make(chan received, 1000), conns: map[string]net.Conn{}}
	var err error
	if network == "udp" {
		if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		p.wg.Go(p.readUDP)
	} else {
		if p.lis, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		p.serve()
	}
	t.Cleanup(p.close)
	return p
}

// newTLSPhone is a phone with the certificates of a store.
func newTLSPhone(t *testing.T, s *certificate.Store) *phone {
	t.Helper()
	p := &phone{t: t, network: "tls", in: make(chan received, 1000), conns: map[string]net.Conn{}, tls: s.Client("", []string{"gateway.example"})}
	server, err := s.Server()
	if err != nil {
		t.Fatal(err)
	}
	if p.lis, err = tls.Listen("tcp", "127.0.0.1:0", server); err != nil {
		t.Fatal(err)
	}
	p.serve()
	t.Cleanup(p.close)
	return p
}

func (p *phone) serve() {
	p.wg.Go(func() {
		for {
			c, err := p.lis.Accept()
			if err != nil {
				return
			}
			p.follow(c)
		}
	})
}

func (p *phone) close() {
	if p.udp != nil {
		p.udp.Close()
	}
	if p.lis != nil {
		p.lis.Close()
	}
	p.hangUp()
	p.wg.Wait()
}

// hangUp closes all connections of the phone.
func (p *phone) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, c := range p.conns {
		c.Close()
		delete(p.conns, a)
	}
}

func (p *phone) addr() string {
	if p.udp != nil {
		return p.udp.LocalAddr().String()
	}
	return p.lis.Addr().String()
}

func (p *phone) readUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := p.udp.ReadFromUDP(buf)
		if err != nil {
			return
		}
		m, err := sip.ParseMessage(append([]byte(nil), buf[:n]...))
		if err != nil {
			p.t.Errorf("the network sent what cannot be parsed: %v\n%s", err, buf[:n])
			continue
		}
		p.in <- received{m, from}
	}
}

func (p *phone) follow(c net.Conn) {
	p.mu.Lock()
	p.conns[c.RemoteAddr().String()] = c
	p.mu.Unlock()
	p.wg.Go(func() {
		stream := sip.NewParser().NewSIPStream()
		buf := make([]byte, 65536)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			_ = stream.ParseSIPStream(buf[:n], func(m sip.Message) { p.in <- received{m, c.RemoteAddr()} })
		}
	})
}

// send writes text to a destination, by TCP over a connection to it when there is
// one.
func (p *phone) send(to string, text string) {
	p.t.Helper()
	text = crlf(text)
	if p.udp != nil {
		a, err := net.ResolveUDPAddr("udp", to)
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := p.udp.WriteToUDP([]byte(text), a); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	p.mu.Lock()
	c := p.conns[to]
	p.mu.Unlock()
	if c == nil {
		var err error
		if p.tls != nil {
			c, err = tls.Dial("tcp", to, p.tls)
		} else {
			c, err = net.Dial("tcp", to)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		p.follow(c)
	}
	if _, err := c.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// next message that is not filtered out by want.
func (p *phone) next(what string, want func(received) bool) received {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-p.in:
			if want(m) {
				return m
			}
		case <-deadline:
			p.t.Fatalf("no %s came", what)
		}
	}
}

func (p *phone) request(method string) received {
	p.t.Helper()
	return p.next(method, func(r received) bool { return r.req() != nil && string(r.req().Method) == method })
}

func (p *phone) response(code int) received {
	p.t.Helper()
	return p.next(fmt.Sprint(code), func(r received) bool { return r.res() != nil && r.res().StatusCode == code })
}

// answer is the final response to a method.
func (p *phone) answer(method string) received {
	p.t.Helper()
	return p.next("answer to "+method, func(r received) bool {
		return r.res() != nil && r.res().StatusCode >= 200 && string(r.CSeq().MethodName) == method
	})
}

// silent fails when a message comes that want accepts within d.
func (p *phone) silent(d time.Duration, want func(received) bool) {
	p.t.Helper()
	deadline := time.After(d)
	for {
		select {
		case m := <-p.in:
			if want(m) {
				p.t.Fatalf("unexpected message:\n%s", m.String())
			}
		case <-deadline:
			return
		}
	}
}

// reply answers a request, with fields and, last, a body.
func (p *phone) reply(r received, code int, tag string, fields ...string) {
	p.t.Helper()
	body := ""
	if len(fields) > 0 && strings.HasPrefix(fields[len(fields)-1], "v=0") {
		body = fields[len(fields)-1]
		fields = append(fields[:len(fields)-1:len(fields)-1], "Content-Type: application/sdp")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\n", code, statusText(code))
	for _, v := range r.GetHeaders("Via") {
		fmt.Fprintf(&b, "Via: %s\n", v.Value())
	}
	to := r.To().Value()
	if header.Tag(r.To().Params) == "" && tag != "" {
		to += ";tag=" + tag
	}
	fmt.Fprintf(&b, "From: %s\nTo: %s\nCall-ID: %s\nCSeq: %s\n", r.From().Value(), to, r.CallID().Value(), r.CSeq().Value())
	if m := r.req().Method; (m == "INVITE" || m == "UPDATE") && code > 100 && code < 300 {
		fmt.Fprintf(&b, "Contact: <sip:peer@%s;transport=%s>\n", p.addr(), p.network)
	}
	for _, f := range fields {
		b.WriteString(f + "\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\n\n%s", len(crlf(body)), body)
	p.send(r.from.String(), b.String())
}

const offerSDP = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 40000 RTP/AVP 0\n"
const answerSDP = "v=0\no=- 2 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 41000 RTP/AVP 0\n"

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// invite makes the network call the phone.
func (b *bundle) invite(t *testing.T, id string) received {
	t.Helper()
	if _, err := b.n.Invite(context.Background(), outgoing(id)); err != nil {
		t.Fatal(err)
	}
	return b.p.request("INVITE")
}

func outgoing(id string) gateway.Invite {
	return gateway.Invite{CallID: id, Tenant: call.DefaultTenant, Number: "+15550100",
		Receiver: call.Number("+15550199").Address(), SDP: crlf(offerSDP)}
}

// inviteText is an INVITE of the phone.
func (b *bundle) inviteText(callID, number string, body string, fields ...string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "INVITE sip:%s@%s SIP/2.0\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s;rport\nMax-Forwards: 70\n"+
		"From: \"Ann\" <sip:+15550123@ims.example.com;user=phone>;tag=ft\nTo: <sip:%s@ims.example.com>\nCall-ID: %s\nCSeq: 7 INVITE\n"+
		"Contact: <sip:ann@%s;transport=%s>\n", number, b.addr, strings.ToUpper(b.p.network), b.p.addr(), callID, number, callID, b.p.addr(), b.p.network)
	for _, f := range fields {
		s.WriteString(f + "\n")
	}
	if body != "" {
		s.WriteString("Content-Type: application/sdp\n")
	}
	fmt.Fprintf(&s, "Content-Length: %d\n\n%s", len(crlf(body)), body)
	return s.String()
}

// inDialog is a request of the phone in the dialog of a response that it got; the
// last extra may be a body.
func (b *bundle) inDialog(method string, seq int, res received, branch string, extra ...string) string {
	return b.within(method, seq, res.res().Contact().Address.String(), res.From().Value(), res.To().Value(), res.CallID().Value(), branch, extra...)
}

// asCallee is a request of the phone in the dialog that it accepted.
func (b *bundle) asCallee(method string, seq int, invite received, tag, branch string, extra ...string) string {
	return b.within(method, seq, invite.req().Contact().Address.String(), invite.To().Value()+";tag="+tag, invite.From().Value(), invite.CallID().Value(), branch, extra...)
}

func (b *bundle) within(method string, seq int, uri, from, to, callID, branch string, extra ...string) string {
	body := ""
	if len(extra) > 0 && strings.HasPrefix(extra[len(extra)-1], "v=0") {
		body = extra[len(extra)-1]
		extra = append(extra[:len(extra)-1:len(extra)-1], "Content-Type: application/sdp")
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s SIP/2.0\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s;rport\nMax-Forwards: 70\nFrom: %s\nTo: %s\nCall-ID: %s\nCSeq: %d %s\n",
		method, uri, strings.ToUpper(b.p.network), b.p.addr(), branch, from, to, callID, seq, method)
	if method == "INVITE" || method == "UPDATE" {
		fmt.Fprintf(&s, "Contact: <sip:ann@%s;transport=%s>\n", b.p.addr(), b.p.network)
	}
	for _, f := range extra {
		s.WriteString(f + "\n")
	}
	fmt.Fprintf(&s, "Content-Length: %d\n\n%s", len(crlf(body)), body)
	return s.String()
}
