package telco

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Scenario names what a number does when it is called.
type Scenario string

// The scenarios. Unless it says otherwise a scenario rings for ring_time.
const (
	ScenarioEcho        Scenario = "echo"        // answers, sends back what it hears, any codec
	ScenarioTone        Scenario = "tone"        // answers, plays 440 Hz
	ScenarioBusy        Scenario = "busy"        // 486 at once, Q.850 17
	ScenarioDeclined    Scenario = "declined"    // rings, then 603, Q.850 21
	ScenarioUnknown     Scenario = "unknown"     // 404 at once, Q.850 1
	ScenarioNoAnswer    Scenario = "no-answer"   // rings until ring_timeout, then 480, Q.850 19
	ScenarioEarlyMedia  Scenario = "early-media" // 183 with an announcement for 4 s, answers, plays 440 Hz
	ScenarioHangUp      Scenario = "hang-up"     // answers, plays 440 Hz, hangs up after 5 s
	ScenarioHold        Scenario = "hold"        // answers with 440 Hz; after 4 s holds with music for 4 s; repeats
	ScenarioDTMF        Scenario = "dtmf"        // answers, plays back every key pressed
	ScenarioLongRing    Scenario = "long-ring"   // rings for 15 s, answers, echoes
	ScenarioUnavailable Scenario = "unavailable" // 480 at once, Q.850 20
	ScenarioFailure     Scenario = "failure"     // 500 at once, Q.850 41
	ScenarioForwarded   Scenario = "forwarded"   // 181, then rings, answers, echoes
	ScenarioCallBack    Scenario = "call-back"   // answers, hangs up after 2 s, calls the caller after 3 s more
)

// ToneFrequency is what the tone scenarios play, in hertz.
const ToneFrequency = 440

// HoldFrequency is the base of the music on hold, in hertz.
const HoldFrequency = 523.25

var scenarios = map[Scenario]func(context.Context, *Call){
	ScenarioEcho:        playEcho,
	ScenarioTone:        talkTo(talkTone),
	ScenarioBusy:        refuseWith(486, 17),
	ScenarioDeclined:    playDeclined,
	ScenarioUnknown:     refuseWith(404, 1),
	ScenarioNoAnswer:    playNoAnswer,
	ScenarioEarlyMedia:  playEarlyMedia,
	ScenarioHangUp:      talkTo(talkHangUp),
	ScenarioHold:        talkTo(talkHold),
	ScenarioDTMF:        talkTo(talkDTMF),
	ScenarioLongRing:    playLongRing,
	ScenarioUnavailable: refuseWith(480, 20),
	ScenarioFailure:     refuseWith(500, 41),
	ScenarioForwarded:   playForwarded,
	ScenarioCallBack:    playCallBack,
}

func scenarioNames() string {
	var names []string
	for name := range scenarios {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// ringAndAnswer rings for the time d and answers with one of the codecs.
func (c *Call) ringAndAnswer(ctx context.Context, d time.Duration, codecs []codec) bool {
	c.limitCodecs(codecs)
	return c.Ring() == nil && c.n.pause(ctx, d) == nil && c.Answer() == nil
}

// limitCodecs sets what the call may agree on.
func (c *Call) limitCodecs(codecs []codec) {
	c.mu.Lock()
	c.codecs = codecs
	c.mu.Unlock()
}

func refuseWith(status, q850 int) func(context.Context, *Call) {
	return func(_ context.Context, c *Call) { c.Reject(status, q850) }
}

func playEcho(ctx context.Context, c *Call) {
	if c.ringAndAnswer(ctx, c.n.cfg.RingTime, everyCodec) {
		talkEcho(ctx, c)
	}
}

// talkTo makes a scenario that rings, answers in G.711 and then does what talk
// says.
func talkTo(talk func(context.Context, *Call)) func(context.Context, *Call) {
	return func(ctx context.Context, c *Call) {
		if c.ringAndAnswer(ctx, c.n.cfg.RingTime, toneCodecs) {
			talk(ctx, c)
		}
	}
}

func playDeclined(ctx context.Context, c *Call) {
	if c.Ring() == nil && c.n.pause(ctx, c.n.cfg.RingTime) == nil {
		c.Reject(603, 21)
	}
}

func playNoAnswer(ctx context.Context, c *Call) {
	if c.Ring() == nil && c.n.pause(ctx, c.n.cfg.RingTimeout) == nil {
		c.Reject(480, 19)
	}
}

func playEarlyMedia(ctx context.Context, c *Call) {
	c.limitCodecs(toneCodecs)
	if c.EarlyMedia() != nil {
		return
	}
	c.playSource(newMelody(announcement))
	if c.n.pause(ctx, 4*time.Second) != nil || c.Answer() != nil {
		return
	}
	talkTone(ctx, c)
}

// talks are what a connected call can do; a call that the network makes does
// one of them once it is answered.
var talks = map[Scenario]func(context.Context, *Call){
	ScenarioEcho:   talkEcho,
	ScenarioTone:   talkTone,
	ScenarioHangUp: talkHangUp,
	ScenarioHold:   talkHold,
	ScenarioDTMF:   talkDTMF,
}

func talkEcho(ctx context.Context, c *Call) {
	c.Echo()
	<-ctx.Done()
}

func talkTone(ctx context.Context, c *Call) {
	c.Play(ToneFrequency)
	<-ctx.Done()
}

func talkHangUp(ctx context.Context, c *Call) {
	c.Play(ToneFrequency)
	if c.n.pause(ctx, 5*time.Second) == nil {
		c.HangUp(ctx)
	}
}

func talkHold(ctx context.Context, c *Call) {
	for {
		c.Play(ToneFrequency)
		if c.n.pause(ctx, 4*time.Second) != nil {
			return
		}
		if err := c.Hold(ctx); err != nil {
			c.leg.log.Warn("hold failed", "error", err)
			break
		}
		c.playSource(newMelody(holdMusic))
		if c.n.pause(ctx, 4*time.Second) != nil {
			return
		}
		if err := c.Resume(ctx); err != nil {
			c.leg.log.Warn("resume failed", "error", err)
			break
		}
	}
	<-ctx.Done()
}

func talkDTMF(ctx context.Context, c *Call) {
	c.Play()
	for {
		digit, err := c.NextDigit(ctx)
		if err != nil {
			return
		}
		low, high, _ := tone.DTMF(digit)
		c.leg.log.Info("key pressed", "number", c.number, "digit", string(rune(digit)))
		c.Play(low, high)
		if c.n.pause(ctx, 400*time.Millisecond) != nil {
			return
		}
		c.Play()
	}
}

func playLongRing(ctx context.Context, c *Call) {
	if c.ringAndAnswer(ctx, 15*time.Second, everyCodec) {
		talkEcho(ctx, c)
	}
}

func playForwarded(ctx context.Context, c *Call) {
	if c.Progress(181) == nil && c.n.pause(ctx, 500*time.Millisecond) == nil {
		playEcho(ctx, c)
	}
}

func playCallBack(ctx context.Context, c *Call) {
	if !c.ringAndAnswer(ctx, c.n.cfg.RingTime, toneCodecs) {
		return
	}
	c.Play(ToneFrequency)
	if c.n.pause(ctx, 2*time.Second) != nil {
		return
	}
	n, number, peer := c.n, c.number, c.peer
	c.HangUp(ctx)
	if peer == "" {
		return
	}
	n.goWork(func() {
		if n.pause(n.ctx, 3*time.Second) != nil {
			return
		}
		if _, err := n.Call(n.ctx, CallRequest{From: number, To: peer, Scenario: ScenarioTone}); err != nil {
			n.log.Warn("calling back failed", "to", peer, "error", err)
		}
	})
}

// note is a sound of a melody.
type note struct {
	hz       []float64
	duration time.Duration
}

// The announcement sounds like speech heard from afar: short syllables of
// changing pitch with pauses. It begins with the special information tones of
// ITU-T E.180.
var announcement = []note{
	{[]float64{950}, 330 * time.Millisecond}, {[]float64{1400}, 330 * time.Millisecond},
	{[]float64{1800}, 330 * time.Millisecond}, {nil, 300 * time.Millisecond},
	{[]float64{210, 640}, 140 * time.Millisecond}, {[]float64{190, 520}, 110 * time.Millisecond},
	{nil, 60 * time.Millisecond}, {[]float64{230, 710, 1200}, 180 * time.Millisecond},
	{[]float64{180, 480}, 160 * time.Millisecond}, {nil, 220 * time.Millisecond},
	{[]float64{220, 600, 1700}, 150 * time.Millisecond}, {[]float64{200, 560}, 240 * time.Millisecond},
	{nil, 500 * time.Millisecond},
}

// holdMusic is a broken C major chord.
var holdMusic = []note{
	{[]float64{HoldFrequency}, 300 * time.Millisecond}, {[]float64{659.25}, 300 * time.Millisecond},
	{[]float64{783.99}, 300 * time.Millisecond}, {[]float64{659.25}, 300 * time.Millisecond},
}

// melody plays notes in a loop.
type melody struct {
	notes   []note
	current int
	left    int // samples of the current note
	sound   *tone.Generator
}

func newMelody(notes []note) *melody { return &melody{notes: notes, current: -1} }

// Read implements source.
func (m *melody) Read(samples []int16) {
	for len(samples) > 0 {
		if m.left == 0 {
			m.current = (m.current + 1) % len(m.notes)
			n := m.notes[m.current]
			m.left = int(n.duration.Seconds() * tone.Rate)
			m.sound = tone.NewGenerator(tone.Rate, tone.DefaultAmplitude, n.hz...)
		}
		part := samples[:min(len(samples), m.left)]
		m.sound.Read(part)
		m.left -= len(part)
		samples = samples[len(part):]
	}
}
