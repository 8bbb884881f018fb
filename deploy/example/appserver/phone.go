package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// phone is a PeerConnection that says a tone in G.711 and listens.
type phone struct {
	pc    *webrtc.PeerConnection
	stop  chan struct{}
	work  sync.WaitGroup
	sound chan struct{} // a packet that is not silence
}

var pcmu = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}

func newPhone() (*phone, error) {
	codecs := &webrtc.MediaEngine{}
	err := codecs.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 0, RTPCodecCapability: pcmu}, webrtc.RTPCodecTypeAudio)
	if err != nil {
		return nil, err
	}
	// The gateway of a demonstration may be on this machine.
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p := &phone{pc: pc, stop: make(chan struct{}), sound: make(chan struct{}, 1)}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { p.listen(track) })
	track, err := webrtc.NewTrackLocalStaticSample(pcmu, "audio", "phone")
	if err == nil {
		_, err = pc.AddTrack(track)
	}
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	p.work.Go(func() { p.talk(track) })
	return p, nil
}

// talk sends a tone until the phone is closed: 400 Hz, in μ-law.
func (p *phone) talk(track *webrtc.TrackLocalStaticSample) {
	const packet = 20 * time.Millisecond
	frame := make([]byte, 160)
	for i := range frame {
		frame[i] = 0x20
		if i%20 < 10 {
			frame[i] = 0xa0
		}
	}
	tick := time.NewTicker(packet)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// Until the call is connected this goes nowhere.
			_ = track.WriteSample(media.Sample{Data: frame, Duration: packet})
		case <-p.stop:
			return
		}
	}
}

func (p *phone) listen(track *webrtc.TrackRemote) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		for _, b := range packet.Payload {
			if b&0x7f < 0x60 { // louder than noise
				select {
				case p.sound <- struct{}{}:
				default:
				}
				break
			}
		}
	}
}

// hears waits for half a second of sound from the far end.
func (p *phone) hears(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for range 25 {
		select {
		case <-p.sound:
		case <-ctx.Done():
			return errors.New("the far end cannot be heard; the media are " + p.pc.ConnectionState().String())
		}
	}
	return nil
}

// offer answers a complete offer: the APIs take no candidates after it.
func (p *phone) offer() (string, error) {
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return p.gathered(offer)
}

// answer answers an offer, as completely.
func (p *phone) answer(offer string) (string, error) {
	err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer})
	if err != nil {
		return "", err
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return p.gathered(answer)
}

func (p *phone) gathered(local webrtc.SessionDescription) (string, error) {
	complete := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(local); err != nil {
		return "", err
	}
	<-complete
	return p.pc.LocalDescription().SDP, nil
}

// accept takes the far end's answer. It may be told more than once.
func (p *phone) accept(answer string) error {
	if p.pc.SignalingState() == webrtc.SignalingStateStable {
		return nil
	}
	return p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

func (p *phone) close() error {
	close(p.stop)
	p.work.Wait()
	return p.pc.Close()
}
