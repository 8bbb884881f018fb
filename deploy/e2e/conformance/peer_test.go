package conformance

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

// peer is the media of a device: a PeerConnection with one audio track in G.711.
type peer struct {
	pc *webrtc.PeerConnection
	up chan struct{} // closed when media are connected
	// made is the local description, once made.
	made string
}

func newPeer() (*peer, error) {
	media := &webrtc.MediaEngine{}
	for _, c := range []webrtc.RTPCodecParameters{
		{PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}},
		{PayloadType: 101, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000, SDPFmtpLine: "0-15"}},
	} {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p := &peer{pc: pc, up: make(chan struct{})}
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(p.up) })
		}
	})
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}, "audio", "device")
	if err == nil {
		_, err = pc.AddTrack(track)
	}
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	return p, nil
}

func (p *peer) close() { _ = p.pc.Close() } // the scenario is over

// offer is the same until the gateway has answered it.
func (p *peer) offer() (string, error) {
	if p.made != "" {
		return p.made, nil
	}
	d, err := p.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return p.local(d)
}

// answer to an offer of the gateway, which is held against what a browser takes.
func (p *peer) answer(offer string) (string, error) {
	if p.made != "" {
		return p.made, nil
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("the gateway's offer: %w\n%s", err, offer)
	}
	d, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return p.local(d)
}

// local sets the local description and answers it with all candidates.
func (p *peer) local(d webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(d); err != nil {
		return "", err
	}
	select {
	case <-gathered:
	case <-time.After(patience):
		return "", errors.New("candidates are not gathered")
	}
	p.made = p.pc.LocalDescription().SDP
	return p.made, nil
}

// accept takes the gateway's answer, once.
func (p *peer) accept(answer string) error {
	if p.pc.SignalingState() == webrtc.SignalingStateStable {
		return nil
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("the gateway's answer: %w\n%s", err, answer)
	}
	return nil
}

// again makes a complete new offer of the same connection.
func (p *peer) again() (string, error) {
	p.made = ""
	return p.offer()
}

func (p *peer) awaitMedia() error {
	select {
	case <-p.up:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the media are %s", p.pc.ConnectionState())
	}
}

// peerOf an actor, made when it is needed.
func (w *world) peerOf(a *actor) (*peer, error) {
	if a.peer == nil {
		p, err := newPeer()
		if err != nil {
			return nil, err
		}
		a.peer = p
	}
	return a.peer, nil
}
