package telco

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

// startPhone runs a phone for the time of the test.
func startPhone(t *testing.T, change func(*PhoneConfig)) *Phone {
	t.Helper()
	cfg := DefaultPhone()
	cfg.Number, cfg.Password, cfg.RingTime = alice, "secret-a", 20*time.Millisecond
	change(&cfg)
	p, err := NewPhone(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("phone: %v", err)
		}
	})
	return p
}

func subscribed(c *Config) {
	c.Subscribers = []Subscriber{{Number: alice, Password: "secret-a"}, {Number: bob, Password: "secret-b"}}
	c.RequireRegistration = true
}

func TestRegistrationCarriesCallsBothWays(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		for _, algorithm := range []string{"MD5", "SHA-256"} {
			t.Run(transport+" "+algorithm, func(t *testing.T) {
				t.Parallel()
				network, _ := start(t, func(c *Config) {
					subscribed(c)
					c.Registrar.Algorithms = []string{algorithm}
				})
				phone := startPhone(t, func(c *PhoneConfig) {
					c.Proxy, c.Transport, c.Tone = network.Addr().String(), transport, 900
				})
				if _, err := network.Call(timeout(t), CallRequest{From: "+15550100", To: alice}); err == nil {
					t.Error("a subscriber without a registration was called")
				}
				granted, err := phone.Register(timeout(t))
				if err != nil || granted < 9*time.Minute {
					t.Fatalf("registered for %v, %v", granted, err)
				}
				if b := network.Registered(alice); len(b) != 1 || !strings.Contains(b[0].Contact, phone.Addr().String()) {
					t.Fatalf("contacts are %v", b)
				}
				in, err := network.Call(timeout(t), CallRequest{From: "+15550100", To: alice, Scenario: ScenarioTone})
				if err != nil {
					t.Fatal(err)
				}
				taken := <-phone.Calls()
				hear(t, taken, ToneFrequency)
				hear(t, in, 900)
				taken.HangUp(timeout(t))
				await(t, "end", in.Ended())

				out, err := phone.Dial(timeout(t), "+15550100")
				if err != nil {
					t.Fatal(err)
				}
				await(t, "answer", out.Answered())
				hear(t, out, 900)
				out.HangUp(timeout(t))

				if err := phone.Unregister(timeout(t)); err != nil {
					t.Fatal(err)
				}
				if b := network.Registered(alice); len(b) != 0 {
					t.Errorf("contacts after de-registration: %v", b)
				}
				refused, err := phone.Dial(timeout(t), "+15550100")
				if err != nil {
					t.Fatal(err)
				}
				await(t, "refusal", refused.Ended())
				if why := refused.Cause(); why.Code != 403 {
					t.Errorf("an unregistered caller got %v", why)
				}
			})
		}
	}
}

func TestRegistrationRefused(t *testing.T) {
	t.Parallel()
	network, _ := start(t, subscribed)
	for _, c := range []struct {
		name   string
		change func(*PhoneConfig)
		code   int
	}{
		{"wrong password", func(c *PhoneConfig) { c.Password = "guess" }, 401},
		{"another subscriber's number", func(c *PhoneConfig) { c.Number, c.Password = "+15559999999", "secret-a" }, 404},
		{"too brief", func(c *PhoneConfig) { c.Expires = 5 * time.Second }, 423},
	} {
		t.Run(c.name, func(t *testing.T) {
			phone := startPhone(t, func(p *PhoneConfig) { p.Proxy = network.Addr().String(); c.change(p) })
			_, err := phone.Register(timeout(t))
			if why := (Cause{}); !errors.As(err, &why) || why.Code != c.code {
				t.Errorf("got %v, want %d", err, c.code)
			}
		})
	}
}

// raw is a bare UDP socket that speaks SIP by hand.
type raw struct {
	t    *testing.T
	conn net.Conn
	n    int
}

func dialRaw(t *testing.T, n *Network) *raw {
	t.Helper()
	conn, err := net.Dial("udp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn}
}

// ask sends a request and returns the final response. Lines beginning with a
// name in it replace the usual headers.
func (r *raw) ask(method, uri, headers, body string) *sip.Response {
	r.t.Helper()
	r.n++
	local := r.conn.LocalAddr().String()
	message := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=%s;rport\r\n", method, uri, local, sip.GenerateBranch())
	usual := []string{
		"Max-Forwards: 70", "From: <sip:" + alice + "@telco.example>;tag=r", "To: <sip:" + alice + "@telco.example>",
		fmt.Sprintf("Call-ID: raw-%p", r), fmt.Sprintf("CSeq: %d %s", r.n, method), "Contact: <sip:raw@" + local + ">",
	}
	for _, h := range usual {
		name, _, _ := strings.Cut(h, ":")
		if !strings.Contains("\n"+headers, "\n"+name+":") {
			message += h + "\r\n"
		}
	}
	for line := range strings.Lines(headers) {
		if line = strings.TrimSpace(line); !strings.HasSuffix(line, ":") {
			message += line + "\r\n"
		}
	}
	message += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := r.conn.Write([]byte(message)); err != nil {
		r.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for {
		r.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := r.conn.Read(buffer)
		if err != nil {
			r.t.Fatalf("no answer to\n%s\n%v", message, err)
		}
		parsed, err := sip.ParseMessage(buffer[:n])
		if err != nil {
			r.t.Fatal(err)
		}
		if res, ok := parsed.(*sip.Response); ok && res.StatusCode >= 200 && res.CSeq().SeqNo == uint32(r.n) {
			return res
		}
	}
}

func (r *raw) credentials(res *sip.Response, algorithm, nonce string, nc int) string {
	newHash := digestHashes[algorithm]
	count := fmt.Sprintf("%08x", nc)
	answer := digestResponse(newHash, alice, "telco.example", "secret-a", "REGISTER", "sip:telco.example", nonce, count, "c")
	return fmt.Sprintf("Authorization: Digest username=%q, realm=\"telco.example\", nonce=%q, uri=\"sip:telco.example\", response=%q, algorithm=%s, cnonce=\"c\", qop=auth, nc=%s",
		alice, nonce, answer, algorithm, count)
}

func TestDigestNonces(t *testing.T) {
	t.Parallel()
	network, _ := start(t, subscribed)
	r := dialRaw(t, network)
	res := r.ask("REGISTER", "sip:telco.example", "", "")
	challenges := res.GetHeaders("WWW-Authenticate")
	if res.StatusCode != 401 || len(challenges) != 2 {
		t.Fatalf("got %d with %d challenges", res.StatusCode, len(challenges))
	}
	best, _ := digestParams(challenges[0].Value())
	if best["algorithm"] != "SHA-256" || best["qop"] != "auth" || best["stale"] != "" {
		t.Fatalf("first challenge is %v", best)
	}
	nonce := best["nonce"]
	expect := func(what string, want int, stale bool, headers string) {
		t.Helper()
		res := r.ask("REGISTER", "sip:telco.example", headers, "")
		if res.StatusCode != want || isStale(res) != stale {
			t.Errorf("%s: %d, stale %v; want %d, stale %v", what, res.StatusCode, isStale(res), want, stale)
		}
	}
	expect("first use", 200, false, r.credentials(res, "SHA-256", nonce, 1))
	expect("replay", 401, true, r.credentials(res, "SHA-256", nonce, 1))
	expect("next count", 200, false, r.credentials(res, "MD5", nonce, 2))
	expect("nonce never issued", 401, true, r.credentials(res, "MD5", "invented", 1))
	expect("tampered", 401, false, strings.Replace(r.credentials(res, "MD5", nonce, 3), `response="`, `response="0`, 1))
	nonces := network.registrar.auth.nonces
	nonces.mu.Lock()
	nonces.now = func() time.Time { return time.Now().Add(time.Hour) }
	nonces.mu.Unlock()
	expect("old nonce", 401, true, r.credentials(res, "MD5", nonce, 4))
}

func TestContactsOfARegistration(t *testing.T) {
	t.Parallel()
	network, _ := start(t, func(c *Config) {
		c.Subscribers = []Subscriber{{Number: alice}}
		c.Registrar.ServiceRoute = true
	})
	r := dialRaw(t, network)
	ask := func(headers string) *sip.Response {
		t.Helper()
		return r.ask("REGISTER", "sip:telco.example", headers, "")
	}
	res := ask("Contact: <sip:a@192.0.2.1>;expires=120, <sip:b@192.0.2.2>\nExpires: 300\nPath: <sip:edge.example;lr>\nSupported: path")
	if res.StatusCode != 200 || len(res.GetHeaders("Contact")) != 2 {
		t.Fatalf("%d with %v", res.StatusCode, res.GetHeaders("Contact"))
	}
	for name, want := range map[string]string{
		"P-Associated-URI": "<sip:" + alice + "@telco.example;user=phone>, <tel:" + alice + ">",
		"Service-Route":    fmt.Sprintf("<sip:%s;lr>", network.Addr()),
		"Path":             "<sip:edge.example;lr>",
	} {
		if got := headerValue(res, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	b := network.Registered(alice)
	if len(b) != 2 || len(b[0].Path) != 1 || time.Until(b[0].Expires) > 2*time.Minute || time.Until(b[1].Expires) < 4*time.Minute {
		t.Fatalf("contacts are %+v", b)
	}
	for _, c := range []struct {
		name, headers  string
		code, contacts int
	}{
		{"query", "Contact:", 200, 2},
		{"star with a lifetime", "Contact: *\nExpires: 60", 400, 2},
		{"bad expires", "Expires: soon", 400, 2},
		{"too brief for one", "Contact: <sip:c@192.0.2.3>;expires=3", 423, 2},
		{"older request", "Contact: <sip:a@192.0.2.1>\nCSeq: 1 REGISTER", 500, 2},
		{"one removed", "Contact: <sip:a@192.0.2.1>;expires=0", 200, 1},
		{"longer than granted", "Contact: <sip:b@192.0.2.2>;expires=999999", 200, 1},
		{"all removed", "Contact: *\nExpires: 0", 200, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.headers, "CSeq: 1 ") {
				saved := r.n
				r.n = 0
				defer func() { r.n = saved }()
			}
			res := r.ask("REGISTER", "sip:telco.example", c.headers, "")
			if res.StatusCode != c.code || len(network.Registered(alice)) != c.contacts {
				t.Errorf("got %d and %d contacts, want %d and %d", res.StatusCode, len(network.Registered(alice)), c.code, c.contacts)
			}
		})
	}
}

func TestCallsAreChallenged(t *testing.T) {
	t.Parallel()
	network, trace := start(t, func(c *Config) {
		subscribed(c)
		c.RequireRegistration = false
		c.AuthenticateCalls = true
	})
	phone := startPhone(t, func(c *PhoneConfig) { c.Proxy, c.Tone = network.Addr().String(), 800 })
	c, err := phone.Dial(timeout(t), "+15550100")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "answer", c.Answered())
	hear(t, c, 800)
	c.HangUp(timeout(t))
	if trace.count("sent", "SIP/2.0 407", "SHA-256") != 1 || trace.count("received", "Proxy-Authorization: Digest") != 1 {
		t.Error("the call was not challenged once")
	}
	intruder := startPhone(t, func(c *PhoneConfig) { c.Proxy, c.Password = network.Addr().String(), "guess" })
	if c, err = intruder.Dial(timeout(t), "+15550100"); err != nil {
		t.Fatal(err)
	}
	await(t, "refusal", c.Ended())
	if why := c.Cause(); why.Code != 407 {
		t.Errorf("a wrong password gives %v", why)
	}
}
