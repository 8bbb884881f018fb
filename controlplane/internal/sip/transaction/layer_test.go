package transaction

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

var timers = Timers{T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second}

// wire notes what is sent and when.
type wire struct {
	mu    sync.Mutex
	start time.Time
	sent  []string
	fail  error
}

func (w *wire) Send(m sip.Message, _ tap.Route, failed func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := ""
	switch m := m.(type) {
	case *sip.Request:
		line = string(m.Method)
	case *sip.Response:
		line = fmt.Sprint(m.StatusCode)
	}
	w.sent = append(w.sent, fmt.Sprintf("%v %s", time.Since(w.start), line))
	if w.fail != nil && failed != nil {
		err := w.fail
		go failed(err)
	}
}

func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.sent, ", ")
	w.sent = nil
	return s
}

// user notes what the layer hands up.
type user struct {
	mu      sync.Mutex
	got     []string
	server  *Server
	invites []*Server
}

func (u *user) note(s string) {
	u.mu.Lock()
	u.got = append(u.got, s)
	u.mu.Unlock()
}
func (u *user) take() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := strings.Join(u.got, ", ")
	u.got = nil
	return s
}
func (u *user) Request(_ tap.Inbound, req *sip.Request, tx *Server) {
	u.note(string(req.Method))
	if tx != nil {
		u.server = tx
	}
}
func (u *user) Cancel(_ tap.Inbound, _ *sip.Request, _, invite *Server) {
	u.note("CANCEL")
	u.invites = append(u.invites, invite)
}
func (u *user) Stray(_ tap.Inbound, res *sip.Response) { u.note(fmt.Sprint("stray ", res.StatusCode)) }

func message(t *testing.T, first, method, branch, extra string) sip.Message {
	t.Helper()
	m, err := sip.ParseMessage([]byte(first + "\r\nVia: SIP/2.0/UDP h:5060;branch=z9hG4bK" + branch + "\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>" + extra +
		"\r\nCall-ID: x\r\nCSeq: 1 " + method + "\r\nContent-Length: 0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func request(t *testing.T, method string) *sip.Request {
	return message(t, method+" sip:c@d SIP/2.0", method, "b", "").(*sip.Request)
}

func response(t *testing.T, code int, method string) tap.Inbound {
	return in("udp", message(t, fmt.Sprintf("SIP/2.0 %d X", code), method, "b", ";tag=2"))
}

func in(network string, m sip.Message) tap.Inbound {
	return tap.Inbound{Message: m, Network: network, Remote: netip.MustParseAddrPort("192.0.2.1:5060")}
}

type bundle struct {
	l       *Layer
	w       *wire
	u       *user
	results *user
}

func setup() *bundle {
	b := &bundle{w: &wire{start: time.Now()}, u: &user{}, results: &user{}}
	b.l = New(timers, b.w, b.u)
	return b
}

func (b *bundle) result(r Result) {
	if r.Err != nil {
		kind := "other"
		if errors.Is(r.Err, ErrTimeout) {
			kind = "timeout"
		} else if errors.Is(r.Err, ErrTransport) {
			kind = "transport"
		}
		b.results.note(kind)
		return
	}
	b.results.note(fmt.Sprint(r.Response.StatusCode))
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestInviteClientTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Request(request(t, "INVITE"), tap.Route{Network: "udp"}, b.result)
		time.Sleep(time.Minute)
		equal(t, "sent", b.w.take(), "0s INVITE, 500ms INVITE, 1.5s INVITE, 3.5s INVITE, 7.5s INVITE, 15.5s INVITE, 31.5s INVITE")
		equal(t, "results", b.results.take(), "timeout")
		if c, s := b.l.Count(); c+s != 0 {
			t.Error("a transaction is left")
		}
	})
}

func TestOtherClientTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Request(request(t, "BYE"), tap.Route{Network: "udp"}, b.result)
		time.Sleep(600 * time.Millisecond)
		b.l.Receive(response(t, 100, "BYE"))
		time.Sleep(time.Minute)
		equal(t, "sent", b.w.take(), "0s BYE, 500ms BYE, 1.5s BYE, 5.5s BYE, 9.5s BYE, 13.5s BYE, 17.5s BYE, 21.5s BYE, 25.5s BYE, 29.5s BYE")
		equal(t, "results", b.results.take(), "100, timeout")
	})
}

func TestReliableTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Request(request(t, "INVITE"), tap.Route{Network: "tcp"}, b.result)
		time.Sleep(time.Minute)
		equal(t, "sent", b.w.take(), "0s INVITE")
		equal(t, "results", b.results.take(), "timeout")
		b.w.fail = errors.New("refused")
		b.l.Request(request(t, "INVITE"), tap.Route{Network: "tcp"}, b.result)
		synctest.Wait()
		equal(t, "results", b.results.take(), "transport")
	})
}

func TestInviteClientResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Request(request(t, "INVITE"), tap.Route{Network: "udp"}, b.result)
		b.l.Receive(response(t, 180, "INVITE"))
		time.Sleep(time.Hour) // it may ring for ever, that is the user's matter
		for range 3 {
			b.l.Receive(response(t, 486, "INVITE"))
		}
		equal(t, "sent", b.w.take(), "0s INVITE, 1h0m0s ACK, 1h0m0s ACK, 1h0m0s ACK")
		equal(t, "results", b.results.take(), "180, 486")
		time.Sleep(time.Minute)
		b.l.Receive(response(t, 486, "INVITE"))
		equal(t, "user", b.u.take(), "stray 486")

		b.l.Request(request(t, "INVITE"), tap.Route{Network: "udp"}, b.result)
		b.w.take()
		for range 3 {
			b.l.Receive(response(t, 200, "INVITE"))
		}
		b.l.Receive(response(t, 180, "INVITE"))
		equal(t, "results of 2xx", b.results.take(), "200, 200, 200")
		equal(t, "sent after 2xx", b.w.take(), "")
		time.Sleep(time.Minute)
	})
}

func TestInviteServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		invite := in("udp", request(t, "INVITE"))
		b.l.Receive(invite)
		b.l.Receive(invite) // nothing to repeat yet
		tx := b.u.server
		tx.Respond(sip.NewResponseFromRequest(tx.Request, 180, "Ringing", nil))
		b.l.Receive(invite)
		equal(t, "user", b.u.take(), "INVITE")
		equal(t, "sent", b.w.take(), "0s 180, 0s 180")
		tx.Respond(sip.NewResponseFromRequest(tx.Request, 486, "Busy", nil))
		tx.Respond(sip.NewResponseFromRequest(tx.Request, 200, "OK", nil)) // too late
		time.Sleep(5 * time.Second)
		equal(t, "sent", b.w.take(), "0s 486, 500ms 486, 1.5s 486, 3.5s 486")
		b.l.Receive(in("udp", request(t, "ACK")))
		time.Sleep(time.Minute)
		equal(t, "sent after the ACK", b.w.take(), "")
		equal(t, "user", b.u.take(), "")
		if c, s := b.l.Count(); c+s != 0 {
			t.Error("a transaction is left")
		}
	})
}

func TestInviteServerAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Receive(in("udp", request(t, "INVITE")))
		tx := b.u.server
		for range 2 {
			tx.Respond(sip.NewResponseFromRequest(tx.Request, 200, "OK", nil))
		}
		b.l.Receive(in("udp", request(t, "INVITE")))
		equal(t, "sent", b.w.take(), "0s 200, 0s 200")
		b.l.Receive(in("udp", request(t, "ACK")))
		equal(t, "user", b.u.take(), "INVITE, ACK")
		time.Sleep(time.Minute)
	})
}

func TestOtherServer(t *testing.T) {
	for network, life := range map[string]bool{"udp": true, "tcp": false} {
		synctest.Test(t, func(t *testing.T) {
			b := setup()
			options := in(network, request(t, "OPTIONS"))
			b.l.Receive(options)
			b.u.server.Respond(sip.NewResponseFromRequest(b.u.server.Request, 200, "OK", nil))
			synctest.Wait()
			time.Sleep(time.Second)
			if _, s := b.l.Count(); (s == 1) != life {
				t.Errorf("%s: %d server transactions", network, s)
			}
			if life {
				b.l.Receive(options)
				equal(t, "sent", b.w.take(), "0s 200, 1s 200")
				equal(t, "user", b.u.take(), "OPTIONS")
			}
			time.Sleep(time.Minute)
		})
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.l.Receive(in("udp", request(t, "CANCEL")))
		equal(t, "without INVITE", b.u.take(), "CANCEL")
		if len(b.u.invites) != 0 {
			t.Error("matched nothing")
		}
		b.u.server.Respond(sip.NewResponseFromRequest(b.u.server.Request, 481, "No", nil))
		time.Sleep(time.Minute)
		b.l.Receive(in("udp", request(t, "INVITE")))
		invite := b.u.server
		b.l.Receive(in("udp", request(t, "CANCEL")))
		if len(b.u.invites) != 1 || b.u.invites[0] != invite {
			t.Error("the CANCEL did not find its INVITE")
		}
		b.l.Close()

		b = setup()
		c := b.l.Request(request(t, "INVITE"), tap.Route{Network: "udp"}, b.result)
		cancel, _ := c.Cancel(sip.NewHeader("Reason", "SIP;cause=200"))
		if cancel.Via().Value() != c.Origin().Via().Value() || cancel.CSeq().Value() != "1 CANCEL" || cancel.GetHeader("Reason") == nil {
			t.Errorf("CANCEL:\n%s", cancel.String())
		}
		b.l.Close()
		time.Sleep(time.Minute)
		equal(t, "results after Close", b.results.take(), "")
	})
}
