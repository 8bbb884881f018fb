package sip_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sip/script"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

// patient bounds what should take a moment, on a busy machine.
const patient = 30 * time.Second

// within is how long a step of the run may take.
func (r *run) within() time.Duration { return max(patient, r.Patience) }

// Tones of the application and of the two places of the far end.
const (
	appHz  = 700
	farHz  = 950
	far2Hz = 1250
)

// player plays a run against a gateway.
type player struct {
	t *testing.T
	*run
	gateway   *gateway.Split
	device    *device.Device
	call      *device.Call
	invited   device.Session
	far, far2 *audio.Endpoint
	phone     *sipp.Telephone
	// told are the statuses of the call that were awaited.
	told []string
	// asked are the outcomes of requests that the application did not wait for.
	asked chan error
}

func play(t *testing.T, g *gateway.Split, r *run) {
	p := &player{t: t, run: r, gateway: g, asked: make(chan error, 4)}
	p.far, p.far2 = audio.ListenOn(t, r.place.IP, farHz), audio.ListenOn(t, r.place.IP, far2Hz)
	r.place.Far, r.place.Far2 = p.far.Port(), p.far2.Port()
	if slices.ContainsFunc(r.Steps, func(s script.Step) bool { return s.Actor == "app" }) && r.trunk["mode"] != "register" {
		p.device = device.New(t, device.Config{API: g.URL, Token: g.Token(r.place.Number), Number: r.place.Number, Roots: g.Roots})
	}
	if !r.Caller() {
		p.start()
	}
	acted := false
	for i, s := range r.Steps {
		switch {
		case s.Actor != "":
			if !acted && i > 0 {
				p.await(i)
			}
			acted = true
			p.act(s)
		case acted && !s.Out && p.phone != nil:
			p.phone.Tell(script.Synchronize)
			acted = false
		default:
			if p.phone == nil {
				p.start()
			}
			acted = false
		}
	}
	p.phone.AwaitSuccess(patient)
	if err := r.Check(r.place, script.Trace(p.phone.Messages())); err != nil {
		t.Errorf("%s:%d: %v", r.File, r.Line, err)
	}
	if p.call != nil {
		if got := p.call.Statuses(); !slices.Equal(got, p.told) {
			t.Errorf("%s:%d: the application was told %v, want %v", r.File, r.Line, got, p.told)
		}
	}
}

// start starts SIPp.
func (p *player) start() {
	p.t.Helper()
	args := []string{"-default_behaviors", "abortunexp"}
	if p.Raw {
		args = append(args, "-nr")
	}
	p.phone = sipp.Play(p.t, sipp.Scenario{
		Name: p.name, XML: p.SIPp(p.place), IP: p.place.IP, Port: p.place.Port, TCP: p.place.Transport == "tcp",
		Remote: p.place.Gateway, Listens: !p.Caller(), Args: args,
	})
}

// await waits until the messages before a step have passed.
func (p *player) await(step int) {
	p.t.Helper()
	if p.phone == nil {
		return
	}
	before := *p.Scenario
	before.Steps = p.Steps[:step]
	condition.Await(p.t, p.within(), fmt.Sprintf("what comes before line %d", p.Steps[step].Line), func() error {
		running := p.phone.Running()
		_, err := before.Match(script.Trace(p.phone.Messages()))
		if err != nil && !running {
			p.t.Fatalf("%s:%d: SIPp has ended: %v", p.File, p.Line, err)
		}
		return err
	})
}

// act does what a line of the application or of the far end's media says.
func (p *player) act(s script.Step) {
	p.t.Helper()
	words := strings.Join(s.Words, " ")
	fail := func(format string, args ...any) {
		p.t.Helper()
		p.t.Fatalf("%s:%d: %s", p.File, s.Line, fmt.Sprintf(format, args...))
	}
	ear := map[string]*audio.Ear{"far": p.far.Ear, "far2": p.far2.Ear}[s.Actor]
	voice := p.far
	if s.Actor == "far2" {
		voice = p.far2
	}
	if s.Actor == "app" && p.call != nil {
		ear = p.call.Ear
	}
	switch {
	case s.Words[0] == "hears":
		p.hears(ear, s.Words[1])
	case s.Words[0] == "receives" && s.Words[1] == "payload":
		condition.Await(p.t, p.within(), s.Actor+" "+words, func() error {
			for pt := range ear.Stats().PayloadTypes {
				if fmt.Sprint(pt) == s.Words[2] {
					return nil
				}
			}
			return fmt.Errorf("there are %v", ear.Stats().PayloadTypes)
		})
	case s.Words[0] == "receives" && s.Words[1] == "keys":
		condition.Await(p.t, p.within(), s.Actor+" "+words, func() error {
			if got := ear.Digits(); got != s.Words[2] {
				return fmt.Errorf("there are %q", got)
			}
			return nil
		})
	case s.Words[0] == "presses" && s.Actor != "app":
		voice.Press(s.Words[1])
	case s.Words[0] == "stops" && s.Actor != "app":
		voice.Rest()
	case s.Actor != "app":
		fail("the far end cannot do this: %s", words)
	default:
		if err := p.app(s.Words); err != nil {
			fail("%s: %v", words, err)
		}
	}
}

// hears waits for a tone, and looks whether anything is missing from it.
func (p *player) hears(ear *audio.Ear, whom string) {
	p.t.Helper()
	hz := map[string]float64{"app": appHz, "far": farHz, "far2": far2Hz}[whom]
	if whom == "nothing" {
		ear.AwaitSilence(patient)
		return
	}
	ear.AwaitTone(patient, hz)
	if s := ear.Stats(); s.Lost > 0 {
		p.t.Errorf("%s:%d: packets are lost: %+v", p.File, p.Line, s)
	}
}

// app does what a line of the application says.
func (p *player) app(words []string) error {
	p.t.Helper()
	d := p.device
	var err error
	switch {
	case words[0] == "registers":
		// Every application that a scenario mentions has, but where the network is
		// to see it.
		if d == nil {
			p.device = device.New(p.t, device.Config{API: p.gateway.URL, Token: p.gateway.Token(p.place.Number), Number: p.place.Number, Roots: p.gateway.Roots})
		}
	case words[0] == "deregisters":
		return d.Deregister()
	case words[0] == "loses":
		d.AwaitEvent(p.within(), "registration-ends")
	case words[0] == "calls":
		from, to := "tel:"+p.place.Number, "tel:"+p.place.Peer
		for _, w := range words[1:] {
			if w == "anonymously" {
				from = device.Anonymous
			} else {
				to = p.place.Expand(w)
			}
		}
		p.call, err = d.CallAs(from, to, appHz)
	case words[0] == "is" && words[1] == "invited":
		p.call, p.invited = d.AwaitOffer(patient, appHz, nil)
		if len(words) == 4 && !regexp.MustCompile("^(?:"+p.place.Pattern(words[3])+")$").MatchString(p.invited.Originator) {
			return fmt.Errorf("by %s", p.invited.Originator)
		}
	case words[0] == "is" && words[1] == "told":
		return p.isTold(words[2:])
	case words[0] == "prepares":
		p.call.Prepare()
		p.told = append(p.told, "InProgress")
	case words[0] == "rings":
		p.call.Put("Ringing", nil)
		p.told = append(p.told, "Ringing")
	case words[0] == "answers":
		p.call.AwaitMedia(patient) // they are ready before the user answers
		p.call.Put("Connected", nil)
		p.told = append(p.told, "Connected")
	case words[0] == "holds":
		p.call.Put("Hold", nil)
		p.told = append(p.told, "Hold")
	case words[0] == "resumes":
		p.call.Put("Resume", nil)
		p.told = append(p.told, "Resume")
	case words[0] == "asks":
		c, status := p.call, words[2]
		go func() {
			_, err := c.TryPut(status, nil)
			p.asked <- err
		}()
	case words[0] == "is" && words[1] == "answered":
		return p.isAnswered(words[2])
	case words[0] == "hangs", words[0] == "declines", words[0] == "cancels":
		p.call.HangUp()
	case words[0] == "presses":
		p.call.Press(words[1])
	default:
		return fmt.Errorf("the application cannot do this")
	}
	return err
}

// isTold waits for an event of the call with a status and, when it is given, a
// reason.
func (p *player) isTold(words []string) error {
	p.t.Helper()
	p.told = append(p.told, words[0])
	want := p.told
	var got device.Session
	err := condition.Until(p.within(), func() error {
		n := 0
		for _, e := range p.device.Events() {
			if e.Kind() != "session-status" || e.Session.ID != p.call.ID {
				continue
			}
			if n++; n == len(want) {
				got = e.Session
			}
		}
		if n < len(want) {
			return fmt.Errorf("the application was told %v, want %v", p.call.Statuses(), want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if got.Status != words[0] {
		return fmt.Errorf("the application was told %s (%s)", got.Status, got.Reason)
	}
	if got.Answer != nil && p.invited.ID == "" {
		p.call.TakeAnswer(got.Answer.SDP)
	}
	if got.Status == "Connected" && p.invited.ID == "" {
		p.call.AwaitMedia(patient)
	}
	if len(words) > 1 && !regexp.MustCompile(words[1]).MatchString(got.Reason) {
		return fmt.Errorf("the reason is %q", got.Reason)
	}
	return nil
}

// isAnswered waits for the outcome of what the application asked for: ok, or the
// status of a failure.
func (p *player) isAnswered(want string) error {
	p.t.Helper()
	var err error
	select {
	case err = <-p.asked:
	case <-time.After(patient):
		return fmt.Errorf("there is no answer")
	}
	got := "ok"
	if f := (*device.Failure)(nil); errors.As(err, &f) {
		got = fmt.Sprint(f.Status)
	}
	if got != want {
		return fmt.Errorf("the answer is %s: %v", got, err)
	}
	return nil
}
