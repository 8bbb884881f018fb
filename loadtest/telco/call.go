package telco

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Call is a call between a number of the network and a peer, seen from the
// number's telephone. Its methods may be used by several goroutines; after the
// end of the call they do nothing and report its Cause.
type Call struct {
	n      *Network
	leg    *leg
	number string
	peer   string

	answeredOnce sync.Once
	answered     chan struct{}
	digits       chan byte

	mu       sync.Mutex
	media    *media
	codecs   []codec
	want     direction
	early    []byte        // our answer in an early response
	offering bool          // our 2xx carried an offer
	refusing bool          // offers of the peer get 488
	delay    time.Duration // of the answer to them
	pressed  []byte
	ringing  int // last provisional response received
}

func (n *Network) newCall(l *leg, number, peer string) *Call {
	c := &Call{
		n: n, leg: l, number: number, peer: peer,
		answered: make(chan struct{}), digits: make(chan byte, 64),
		codecs: everyCodec, want: sendRecv,
	}
	l.mu.Lock()
	l.user = c
	l.mu.Unlock()
	return c
}

// Number is the network's number in the call, in E.164 form.
func (c *Call) Number() string { return c.number }

// Peer is the other number in E.164 form, or an empty string when it is
// withheld or no number.
func (c *Call) Peer() string { return c.peer }

// CallID is the Call-ID of the SIP dialog.
func (c *Call) CallID() string { return c.leg.callID }

// Invite returns a copy of the INVITE that was received, or nil for a call the
// network made.
func (c *Call) Invite() *sip.Request {
	if c.leg.invite == nil {
		return nil
	}
	return c.leg.invite.req.Clone()
}

// Answered is closed when the call is answered.
func (c *Call) Answered() <-chan struct{} { return c.answered }

// Ended is closed when the call is over.
func (c *Call) Ended() <-chan struct{} { return c.leg.ctx.Done() }

// Cause says why the call ended. Ask it after Ended.
func (c *Call) Cause() Cause { return c.leg.why() }

// LastProgress is the last provisional status received for a call that the
// network made, 0 for none.
func (c *Call) LastProgress() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ringing
}

// Ring sends 180 Ringing. It returns the call's Cause when it has ended.
func (c *Call) Ring() error { return c.Progress(180) }

// Progress sends a provisional response without a description.
func (c *Call) Progress(code int) error {
	if !c.leg.invite.progress(code, nil) {
		return c.leg.why()
	}
	return nil
}

// EarlyMedia sends 183 Session Progress with our answer, so that audio flows
// before the call is answered. When the INVITE had no offer, the 183 goes
// without a description.
func (c *Call) EarlyMedia() error { return c.ProgressWithMedia(183) }

// ProgressWithMedia is EarlyMedia by another provisional response, 180 for
// instance.
func (c *Call) ProgressWithMedia(code int) error {
	body, err := c.answerOffer()
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.offering { // an offer needs a reliable response; leave it to the 200
		body, c.early = nil, nil
	}
	c.mu.Unlock()
	if !c.leg.invite.progress(code, body, sip.NewHeader("P-Early-Media", "sendrecv")) {
		return c.leg.why()
	}
	return nil
}

// Branch sends an unreliable provisional response with our answer as another
// branch of a forked call would: in an early dialog with a To tag of its own, by
// which nothing else comes.
func (c *Call) Branch(code int, tag string) error {
	body, err := c.answerOffer()
	if err != nil {
		return err
	}
	s := c.leg.invite
	res := s.response(code, body)
	res.To().Params.Remove("tag")
	res.To().Params.Add("tag", tag)
	return s.tx.Respond(res)
}

// Answer accepts the call. Media flow from now on.
func (c *Call) Answer() error {
	body, err := c.answerOffer()
	if err != nil {
		return err
	}
	if !c.leg.invite.accept(body) {
		<-c.leg.ctx.Done()
		return c.leg.why()
	}
	c.answeredOnce.Do(func() { close(c.answered) })
	return nil
}

// answerOffer opens the media and returns our description, the same every
// time. A call without a usable offer is refused with 488.
func (c *Call) answerOffer() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.early != nil {
		return c.early, nil
	}
	m, err := c.openLocked()
	if err != nil {
		c.leg.invite.reject(cause{Code: 503, Text: statusText(503), Q850: 47})
		return nil, err
	}
	offer, _ := sessionDescription(c.leg.invite.req)
	if len(offer) == 0 {
		c.offering = true
		c.early = m.offer(c.codecs, c.want)
		return c.early, nil
	}
	c.early, err = m.answer(offer, c.codecs, c.want)
	if err != nil {
		c.leg.log.Info("offer refused", "error", err)
		c.leg.invite.reject(cause{Code: 488, Text: statusText(488), Q850: 88},
			sip.NewHeader("Warning", fmt.Sprintf("304 %s %q", c.n.cfg.Domain, err.Error())))
		return nil, err
	}
	return c.early, nil
}

func (c *Call) openLocked() (*media, error) {
	if c.media != nil {
		return c.media, nil
	}
	m, err := c.n.openMedia(c.leg.log)
	if err != nil {
		return nil, err
	}
	m.onDigit = c.press
	if !c.n.goWork(func() {
		<-c.leg.ctx.Done()
		m.close()
	}) {
		m.close()
		return nil, errClosed
	}
	c.media = m
	return m, nil
}

func (c *Call) stream() *media {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.media
}

// Reject refuses an incoming call with a status of 300 to 699 and, unless 0, a
// Q.850 cause.
func (c *Call) Reject(status, q850 int) {
	c.leg.invite.reject(cause{Code: status, Text: statusText(status), Q850: q850})
}

// HangUp ends the call, whatever its state. It returns when the peer has
// answered or ctx ends.
func (c *Call) HangUp(ctx context.Context) { c.leg.hangUp(ctx, normalClearing) }

// Play sends the sum of the frequencies from now on; without one, silence is
// sent.
func (c *Call) Play(hz ...float64) {
	c.playSource(tone.NewGenerator(tone.Rate, tone.DefaultAmplitude, hz...))
}

func (c *Call) playSource(s source) {
	if m := c.stream(); m != nil {
		m.echo(false)
		m.playSource(s)
	}
}

// Echo sends back what is received from now on.
func (c *Call) Echo() {
	if m := c.stream(); m != nil {
		m.playSource(nil)
		m.echo(true)
	}
}

// Mute stops sending packets.
func (c *Call) Mute() {
	if m := c.stream(); m != nil {
		m.echo(false)
		m.playSource(nil)
	}
}

// Hear analyses the last d of received audio, at most 4 s of it.
func (c *Call) Hear(d time.Duration) tone.Analysis {
	m := c.stream()
	if m == nil {
		return tone.Analysis{}
	}
	return tone.Dominant(m.heard(int(d.Seconds()*tone.Rate)), tone.Rate)
}

// AwaitTone waits until the received audio is the tone of frequency hz over
// the time d, and returns the last analysis. ctx ending gives an error that
// says what was heard instead.
func (c *Call) AwaitTone(ctx context.Context, hz float64, d time.Duration) (tone.Analysis, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	if m := c.stream(); m != nil {
		m.forget()
	}
	for {
		a := c.Hear(d)
		if a.Samples >= int(d.Seconds()*tone.Rate) && a.Is(hz) {
			return a, nil
		}
		select {
		case <-ticker.C:
		case <-c.Ended():
			return a, fmt.Errorf("waiting for %.0f Hz on %s: %w (heard %v)", hz, c.number, c.leg.why(), a)
		case <-ctx.Done():
			return a, fmt.Errorf("waiting for %.0f Hz on %s: heard %v: %w", hz, c.number, a, context.Cause(ctx))
		}
	}
}

// Stats counts the media of a call.
type Stats struct {
	Codec           string // as in rtpmap, empty before an agreement
	Direction       string // ours: sendrecv, sendonly, recvonly, inactive
	PacketsSent     uint32
	PacketsReceived uint32
	ReportsReceived int       // RTCP packets
	LastReceived    time.Time // zero when nothing came
	JitterMillis    float64
}

// Stats returns the counters of the call's media.
func (c *Call) Stats() Stats {
	m := c.stream()
	if m == nil {
		return Stats{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{
		Codec: m.codec.name, Direction: string(m.direction), PacketsSent: m.out.packets,
		PacketsReceived: m.in.packets, ReportsReceived: m.in.reports, LastReceived: m.in.last,
	}
	if m.codec.rate > 0 {
		s.JitterMillis = m.in.jitter / float64(m.codec.rate) * 1000
	}
	return s
}

// SendDigits presses telephone keys: as RTP events when they were agreed on,
// otherwise with INFO requests.
func (c *Call) SendDigits(ctx context.Context, digits string) error {
	m := c.stream()
	if m == nil {
		return errors.New("send DTMF: the call has no media yet")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.leg.ctx, func() { cancel(c.leg.why()) })
	defer stop()
	if m.canSendEvents() {
		return m.sendDigits(ctx, digits)
	}
	for _, d := range digits {
		if err := c.leg.info(ctx, "application/dtmf-relay", fmt.Appendf(nil, "Signal=%c\r\nDuration=100\r\n", d)); err != nil {
			return fmt.Errorf("send DTMF %c: %w", d, err)
		}
	}
	return nil
}

// NextDigit waits for a key that the peer presses.
func (c *Call) NextDigit(ctx context.Context) (byte, error) {
	select {
	case d := <-c.digits:
		return d, nil
	case <-c.Ended():
		return 0, c.leg.why()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Digits returns all keys that the peer has pressed.
func (c *Call) Digits() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.pressed)
}

func (c *Call) press(digit byte) {
	c.mu.Lock()
	c.pressed = append(c.pressed, digit)
	c.mu.Unlock()
	select {
	case c.digits <- digit:
	default:
	}
}

// Hold puts the peer on hold: sendonly, so that it may hear music. Resume ends
// it.
func (c *Call) Hold(ctx context.Context) error { return c.redirect(ctx, sendOnly) }

// HoldInactive puts the peer on hold without media either way.
func (c *Call) HoldInactive(ctx context.Context) error { return c.redirect(ctx, inactive) }

// Resume takes the peer off hold.
func (c *Call) Resume(ctx context.Context) error { return c.redirect(ctx, sendRecv) }

// RefuseChanges answers the peer's re-INVITEs and UPDATEs with 488 from now on.
func (c *Call) RefuseChanges() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = true
}

// DelayChanges lets the peer wait for the answer to its re-INVITEs and UPDATEs from
// now on, less than a minute.
func (c *Call) DelayChanges(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = d
}

// redirect changes the direction of our stream with a re-INVITE. A collision
// with one of the peer's is tried again after the pause of RFC 3261 section
// 14.1.
func (c *Call) redirect(ctx context.Context, dir direction) error {
	m := c.stream()
	if m == nil {
		return errors.New("hold: the call has no media yet")
	}
	for try := 1; ; try++ {
		c.mu.Lock()
		c.want = dir
		codecs := c.codecs
		c.mu.Unlock()
		var failed error
		res, err := c.leg.reinvite(ctx, m.offer(codecs, dir), func(res *sip.Response) []byte {
			body, _ := sessionDescription(res)
			failed = m.answered(body)
			return nil
		})
		switch {
		case err != nil:
			return fmt.Errorf("change the media direction to %s: %w", dir, err)
		case res.StatusCode < 300:
			return failed
		case res.StatusCode != 491 || try == 4:
			return fmt.Errorf("change the media direction to %s: %d %s", dir, res.StatusCode, res.Reason)
		}
		wait := time.Duration(rand.IntN(2000)) * time.Millisecond
		if c.leg.outgoing { // the owner of the Call-ID waits longer
			wait = 2100*time.Millisecond + time.Duration(rand.IntN(1900))*time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-c.Ended():
			return c.leg.why()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// offer implements legUser.
func (c *Call) offer(ctx context.Context, _ sip.RequestMethod, body []byte) ([]byte, *cause) {
	c.mu.Lock()
	m, codecs, want, refusing, delay := c.media, c.codecs, c.want, c.refusing, c.delay
	c.mu.Unlock()
	if delay > 0 && c.n.pause(ctx, delay) != nil {
		return nil, &cause{Code: 487, Text: statusText(487)}
	}
	if m == nil || refusing {
		return nil, &cause{Code: 488, Text: statusText(488)}
	}
	if len(body) == 0 {
		return m.offer(codecs, want), nil
	}
	answer, err := m.answer(body, codecs, want)
	if err != nil {
		return nil, &cause{Code: 488, Text: statusText(488), Q850: 88}
	}
	return answer, nil
}

// acknowledged implements legUser.
func (c *Call) acknowledged(body []byte) {
	m := c.stream()
	if m == nil || len(body) == 0 {
		return
	}
	if err := m.answered(body); err != nil {
		c.leg.log.Warn("answer in the ACK is unusable", "error", err)
		c.n.goWork(func() { c.leg.bye(c.n.ctx, cause{Code: 488, Text: statusText(488), Q850: 88}) })
	}
}

// info implements legUser.
func (c *Call) info(contentType string, body []byte) {
	if digit, ok := infoDigit(contentType, body); ok {
		c.press(digit)
	}
}

// currentOffer describes the session as it is, for a refresh.
func (c *Call) currentOffer() []byte {
	c.mu.Lock()
	m, codecs, want := c.media, c.codecs, c.want
	c.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.offer(codecs, want)
}
