package audio

import (
	"sync"

	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Voice makes the packets of one direction: 20 ms of G.711 each.
type Voice struct {
	mu     sync.Mutex
	source *tone.Generator
	header rtp.Header
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
	return &rtp.Packet{Header: v.header, Payload: law.AppendEncoded(nil, samples)}
}
