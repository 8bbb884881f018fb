package device

import (
	"fmt"
	"strings"
	"sync"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// voiceTrack is a track in whichever codec of G.711 was negotiated. Unlike the
// tracks of the library it leaves payload types as they are, so that telephone
// events can be sent on it.
type voiceTrack struct {
	mu     sync.Mutex
	writer webrtc.TrackLocalWriter
	ssrc   uint32
	law    tone.Law
}

// Bind implements webrtc.TrackLocal.
func (v *voiceTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, p := range c.CodecParameters() {
		law := tone.MuLaw
		switch {
		case strings.EqualFold(p.MimeType, webrtc.MimeTypePCMA):
			law = tone.ALaw
		case !strings.EqualFold(p.MimeType, webrtc.MimeTypePCMU):
			continue
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.writer, v.ssrc, v.law = c.WriteStream(), uint32(c.SSRC()), law
		return p, nil
	}
	return webrtc.RTPCodecParameters{}, fmt.Errorf("no G.711 in %v", c.CodecParameters())
}

// Unbind implements webrtc.TrackLocal.
func (v *voiceTrack) Unbind(webrtc.TrackLocalContext) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writer = nil
	return nil
}

// ID implements webrtc.TrackLocal.
func (*voiceTrack) ID() string { return "audio" }

// RID implements webrtc.TrackLocal.
func (*voiceTrack) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (*voiceTrack) StreamID() string { return "device" }

// Kind implements webrtc.TrackLocal.
func (*voiceTrack) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

// write sends the next packet in the negotiated codec; before there is one, it
// goes nowhere.
func (v *voiceTrack) write(next func(tone.Law) *rtp.Packet) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := next(v.law)
	if v.writer == nil {
		return
	}
	p.SSRC = v.ssrc
	_, _ = v.writer.WriteRTP(&p.Header, p.Payload) // a peer that left is no error
}
