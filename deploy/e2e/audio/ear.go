package audio

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Payload types of RFC 3551, and the one of telephone-event that the scenarios
// of the peers describe.
const (
	pcmu  = 0
	pcma  = 8
	event = 101
)

const (
	frame    = 160 // samples of 20 ms
	interval = 20 * time.Millisecond
	memory   = 4 * tone.Rate // samples that are kept
	probe    = tone.Rate / 2 // samples that are analysed
)

// Ear listens to the packets of one direction.
type Ear struct {
	t    testing.TB
	name string

	mu      sync.Mutex
	law     tone.Law
	heard   []int16
	stats   Stats
	lastSeq uint16
	lastAt  time.Time
	fresh   bool // nothing was received since Forget
	digits  []byte
	eventTS uint32
}

// Stats of what was received since an Ear was made or told to forget.
type Stats struct {
	Packets int
	// Lost is how many packets are missing in between, by sequence number.
	Lost int
	// Gap is the longest time between two packets.
	Gap time.Duration
	// SSRCs lists the sources in the order in which they came.
	SSRCs []uint32
	// PayloadTypes that were seen, and how often.
	PayloadTypes map[uint8]int
	// Last is when the last packet came.
	Last time.Time
}

// NewEar makes an Ear; name says in failures whose it is.
func NewEar(t testing.TB, name string) *Ear {
	e := &Ear{t: t, name: name}
	e.Forget()
	return e
}

// Take hears a packet.
func (e *Ear) Take(p *rtp.Packet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	known := len(e.stats.SSRCs) > 0 && e.stats.SSRCs[len(e.stats.SSRCs)-1] == p.SSRC
	if !known {
		e.stats.SSRCs = append(e.stats.SSRCs, p.SSRC)
	}
	if !e.fresh {
		e.stats.Gap = max(e.stats.Gap, now.Sub(e.lastAt))
		if step := int16(p.SequenceNumber - e.lastSeq); known && step > 1 {
			e.stats.Lost += int(step) - 1
		}
	}
	e.fresh, e.lastAt, e.lastSeq = false, now, p.SequenceNumber
	e.stats.Packets++
	e.stats.Last = now
	e.stats.PayloadTypes[p.PayloadType]++
	switch p.PayloadType {
	case pcmu:
		e.law = tone.MuLaw
	case pcma:
		e.law = tone.ALaw
	case event:
		e.key(p)
		return
	default:
		return
	}
	e.heard = e.law.AppendDecoded(e.heard, p.Payload)
	e.heard = e.heard[max(0, len(e.heard)-memory):]
}

// key takes a telephone event (RFC 4733 section 2.3): all packets of one carry
// the same timestamp.
func (e *Ear) key(p *rtp.Packet) {
	if len(p.Payload) < 4 || p.Payload[0] > 15 || (len(e.digits) > 0 && p.Timestamp == e.eventTS) {
		return
	}
	e.eventTS = p.Timestamp
	e.digits = append(e.digits, keypad[p.Payload[0]])
}

// keypad lists the keys by their event codes (RFC 4733 section 3.2).
const keypad = "0123456789*#ABCD"

// Forget begins the statistics and the memory anew.
func (e *Ear) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = nil
	e.stats = Stats{PayloadTypes: map[uint8]int{}}
	e.fresh = true
}

// Stats since the last Forget.
func (e *Ear) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.SSRCs, s.PayloadTypes = slices.Clone(s.SSRCs), maps.Clone(s.PayloadTypes)
	return s
}

// Law of the last audio packet.
func (e *Ear) Law() tone.Law {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.law
}

// Digits are the keys that were pressed, by RFC 4733 events.
func (e *Ear) Digits() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.digits)
}

// AwaitTone waits until half a second of what is heard from now on is the tone.
func (e *Ear) AwaitTone(within time.Duration, hz float64) {
	e.t.Helper()
	e.Forget()
	condition.Await(e.t, within, fmt.Sprintf("%.0f Hz at %s", hz, e.name), func() error {
		samples := e.recent()
		if len(samples) < probe {
			return fmt.Errorf("only %d samples were heard, %+v", len(samples), e.Stats())
		}
		if a := tone.Dominant(samples, tone.Rate); !a.Is(hz) {
			return fmt.Errorf("heard %v", a)
		}
		return nil
	})
}

// AwaitSilence waits until, for half a second, no packets come or those that come
// are silent.
func (e *Ear) AwaitSilence(within time.Duration) {
	e.t.Helper()
	e.Forget()
	begin := time.Now()
	condition.Await(e.t, within, "silence at "+e.name, func() error {
		last := e.Stats().Last
		if last.Before(begin) {
			last = begin
		}
		if time.Since(last) > time.Second/2 {
			return nil
		}
		samples := e.recent()
		if a := tone.Dominant(samples, tone.Rate); len(samples) < probe || !a.Silent() {
			return fmt.Errorf("heard %v", a)
		}
		return nil
	})
}

func (e *Ear) recent() []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[max(0, len(e.heard)-probe):])
}
