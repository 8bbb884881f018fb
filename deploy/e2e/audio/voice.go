package audio

import (
	"strings"
	"sync"

	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Voice makes the packets of one direction: 20 ms of G.711 each.
type Voice struct {
	mu     sync.Mutex
	source *tone.Generator
	header rtp.Header
	// keys to be pressed, and how many packets of the first one were sent.
	keys string
	sent int
	// began is the timestamp of the event under way.
	began uint32
}

// NewVoice makes a Voice that plays a tone.
func NewVoice(ssrc uint32, hz ...float64) *Voice {
	v := &Voice{header: rtp.Header{Version: 2, SSRC: ssrc}}
	v.Play(hz...)
	return v
}

// Play sends other tones from now on; none is silence.
func (v *Voice) Play(hz ...float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.source = tone.NewGenerator(tone.Rate, tone.DefaultAmplitude, hz...)
}

// Press sends keys as telephone events in place of the tone, one after the other
// (RFC 4733 section 2.5): each lasts 100 ms, its end is told three times.
func (v *Voice) Press(keys string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys += keys
}

const (
	pressed = 5 // packets of a key that is held
	ends    = 3 // and that tell its end
)

// press is the next packet of an event, with the lock held.
func (v *Voice) press() *rtp.Packet {
	if v.sent == 0 {
		v.began = v.header.Timestamp
	}
	v.sent++
	h := v.header
	h.PayloadType, h.Timestamp, h.Marker = event, v.began, v.sent == 1
	held := uint16(min(v.sent, pressed) * frame)
	flags := byte(10) // volume
	if v.sent > pressed {
		flags |= 0x80
	}
	payload := []byte{byte(strings.IndexByte(keypad, v.keys[0])), flags, byte(held >> 8), byte(held)}
	if v.sent == pressed+ends {
		v.keys, v.sent = v.keys[1:], 0
	}
	return &rtp.Packet{Header: h, Payload: payload}
}

// Next is the next packet.
func (v *Voice) Next(law tone.Law) *rtp.Packet {
	v.mu.Lock()
	defer v.mu.Unlock()
	samples := make([]int16, frame)
	v.source.Read(samples)
	v.header.PayloadType = pcmu
	if law == tone.ALaw {
		v.header.PayloadType = pcma
	}
	v.header.SequenceNumber++
	v.header.Timestamp += frame
	if v.keys != "" {
		return v.press()
	}
	return &rtp.Packet{Header: v.header, Payload: law.AppendEncoded(nil, samples)}
}
