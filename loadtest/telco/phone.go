package telco

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"
)

// PhoneConfig describes a Phone. Start from DefaultPhone.
type PhoneConfig struct {
	// Listen is the SIP address, host:port; port 0 takes a free one.
	Listen string
	// Number is the phone's number, E.164 with a plus sign.
	Number string
	// Password answers digest challenges of the registrar.
	Password string
	// Domain is the SIP domain of the phone's network.
	Domain string
	// Proxy is the host:port of the network: registrar and way of all calls.
	Proxy string
	// Transport is udp or tcp.
	Transport string
	// RTPAddress is where RTP sockets bind; empty takes the host of Listen.
	RTPAddress string
	// Expires is the registration lifetime asked for.
	Expires time.Duration
	// RingTime is how long the phone rings before it answers a call.
	RingTime time.Duration
	// Tone is what the phone plays in a call, in hertz; 0 sends back what it
	// hears.
	Tone float64
	// Answer, when set, handles incoming calls in place of ringing, answering
	// and playing Tone.
	Answer func(ctx context.Context, c *Call)
	// Logger and Trace are as in Config.
	Logger *slog.Logger
	Trace  func(direction Direction, remote, message string)
}

// DefaultPhone returns a phone on a free loopback port that rings for half a
// second and echoes.
func DefaultPhone() PhoneConfig {
	return PhoneConfig{
		Listen: "127.0.0.1:0", Domain: "telco.example", Transport: "udp",
		Expires: 10 * time.Minute, RingTime: 500 * time.Millisecond,
	}
}

// Phone is a single SIP telephone with a far end that tests can program and
// listen with: it registers, takes calls, makes calls, plays a tone and tells
// what it hears.
type Phone struct {
	cfg   PhoneConfig
	net   *Network
	calls chan *Call

	mu     sync.Mutex
	callID string
	seq    uint32
	counts map[string]uint32 // uses of a nonce
}

// NewPhone binds the phone's sockets. Nothing is served before Run.
func NewPhone(cfg PhoneConfig) (*Phone, error) {
	network := Default()
	network.Listen, network.Domain, network.RTPAddress = cfg.Listen, cfg.Domain, cfg.RTPAddress
	network.Gateway, network.GatewayTransport = cfg.Proxy, cfg.Transport
	network.Logger, network.Trace = cfg.Logger, cfg.Trace
	if !isE164(cfg.Number) {
		return nil, fmt.Errorf("phone: number %q is not an E.164 number with a plus sign", cfg.Number)
	}
	n, err := New(network)
	if err != nil {
		return nil, fmt.Errorf("phone %s: %w", cfg.Number, err)
	}
	p := &Phone{cfg: cfg, net: n, calls: make(chan *Call, 64), callID: uuid.NewString(), counts: map[string]uint32{}}
	n.authorize = p.authorize
	if err := n.Handle(cfg.Number, p.answer); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return p, nil
}

// Run serves until ctx ends. Calls that are left are hung up; the registration
// is left to Unregister or to its expiry.
func (p *Phone) Run(ctx context.Context) error { return p.net.Run(ctx) }

// Addr is the phone's SIP address.
func (p *Phone) Addr() netip.AddrPort { return p.net.Addr() }

// Calls delivers the incoming calls as they begin. Calls that nobody takes
// from it are still answered.
func (p *Phone) Calls() <-chan *Call { return p.calls }

func (p *Phone) answer(ctx context.Context, c *Call) {
	select {
	case p.calls <- c:
	default:
	}
	if p.cfg.Answer != nil {
		p.cfg.Answer(ctx, c)
		return
	}
	codecs := toneCodecs
	if p.cfg.Tone == 0 {
		codecs = everyCodec
	}
	if c.ringAndAnswer(ctx, p.cfg.RingTime, codecs) {
		p.talk(ctx, c)
	}
}

func (p *Phone) talk(ctx context.Context, c *Call) {
	if p.cfg.Tone == 0 {
		c.Echo()
	} else {
		c.Play(p.cfg.Tone)
	}
	<-ctx.Done()
}

// Dial calls a number through the proxy. The call plays the phone's tone once
// it is answered, until it is hung up.
func (p *Phone) Dial(ctx context.Context, number string) (*Call, error) {
	return p.net.Call(ctx, CallRequest{From: p.cfg.Number, To: number, Talk: p.talk})
}

// Call places a call with all options; From is the phone's number.
func (p *Phone) Call(ctx context.Context, r CallRequest) (*Call, error) {
	r.From = p.cfg.Number
	return p.net.Call(ctx, r)
}

// Register registers the phone and returns the lifetime granted.
func (p *Phone) Register(ctx context.Context) (time.Duration, error) {
	return p.register(ctx, p.cfg.Expires)
}

// Unregister removes the phone's contact.
func (p *Phone) Unregister(ctx context.Context) error {
	_, err := p.register(ctx, 0)
	return err
}

func (p *Phone) register(ctx context.Context, expires time.Duration) (time.Duration, error) {
	var authorization sip.Header
	for try := 0; ; try++ {
		res, err := p.sendRegister(ctx, expires, authorization)
		if err != nil {
			return 0, fmt.Errorf("register %s at %s: %w", p.cfg.Number, p.cfg.Proxy, err)
		}
		if res.StatusCode == 401 && (try == 0 || try == 1 && isStale(res)) {
			if authorization, err = p.authorize(res, sip.REGISTER, "sip:"+p.cfg.Domain); err == nil {
				continue
			}
			return 0, fmt.Errorf("register %s at %s: %w", p.cfg.Number, p.cfg.Proxy, err)
		}
		if res.StatusCode >= 300 {
			return 0, remoteCause(res, res.StatusCode, res.Reason)
		}
		return p.granted(res), nil
	}
}

func isStale(res *sip.Response) bool {
	params, _ := digestParams(headerValue(res, "WWW-Authenticate"))
	return params["stale"] == "true"
}

func (p *Phone) granted(res *sip.Response) time.Duration {
	own := p.net.contact(p.transport(), p.cfg.Number)
	for _, h := range res.GetHeaders("Contact") {
		contact, ok := h.(*sip.ContactHeader)
		if !ok || !sameContact(&contact.Address, &own.Address) {
			continue
		}
		if s, err := strconv.Atoi(contact.Params.GetOr("expires", "")); err == nil {
			return time.Duration(s) * time.Second
		}
	}
	return 0
}

func (p *Phone) transport() string { return sip.NetworkToUpper(p.cfg.Transport) }

func (p *Phone) sendRegister(ctx context.Context, expires time.Duration, authorization sip.Header) (*sip.Response, error) {
	aor := sip.Uri{Scheme: "sip", User: p.cfg.Number, Host: p.cfg.Domain}
	req := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: p.cfg.Domain})
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	from := &sip.FromHeader{Address: aor, Params: sip.NewParams()}
	from.Params.Add("tag", sip.GenerateTagN(10))
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: aor})
	callID := sip.CallIDHeader(p.callID)
	req.AppendHeader(&callID)
	p.mu.Lock()
	p.seq++
	req.AppendHeader(&sip.CSeqHeader{SeqNo: p.seq, MethodName: sip.REGISTER})
	p.mu.Unlock()
	req.AppendHeader(p.net.contact(p.transport(), p.cfg.Number))
	req.AppendHeader(sip.NewHeader("Expires", seconds(expires)))
	if authorization != nil {
		req.AppendHeader(authorization)
	}
	x, err := p.net.start(ctx, req, p.cfg.Proxy, p.transport())
	if err != nil {
		return nil, err
	}
	return x.final(ctx)
}

// authorize answers the first challenge that it understands; registrars list
// the one they like best first (RFC 7616 section 3.7).
func (p *Phone) authorize(res *sip.Response, method sip.RequestMethod, uri string) (sip.Header, error) {
	challenge, answer := "WWW-Authenticate", "Authorization"
	if res.StatusCode == 407 {
		challenge, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, h := range res.GetHeaders(challenge) {
		c, ok := digestParams(h.Value())
		if !ok {
			continue
		}
		algorithm := c["algorithm"]
		if algorithm == "" {
			algorithm = "MD5"
		}
		newHash, known := digestHashes[algorithm]
		if !known {
			continue
		}
		p.mu.Lock()
		p.counts[c["nonce"]]++
		nc := fmt.Sprintf("%08x", p.counts[c["nonce"]])
		p.mu.Unlock()
		cnonce := sip.GenerateTagN(16)
		response := digestResponse(newHash, p.cfg.Number, c["realm"], p.cfg.Password, string(method), uri, c["nonce"], nc, cnonce)
		return sip.NewHeader(answer, fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="%s", qop=auth, nc=%s`,
			p.cfg.Number, c["realm"], c["nonce"], uri, response, algorithm, cnonce, nc)), nil
	}
	return nil, errors.New("the challenge offers no digest algorithm that the phone knows")
}
