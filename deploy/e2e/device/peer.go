package device

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
)

// peer is a PeerConnection with one audio track in G.711, which says a tone.
type peer struct {
	*audio.Ear
	t     testing.TB
	pc    *webrtc.PeerConnection
	voice *audio.Voice
	up    chan struct{} // closed when connected
}

func codecs() *webrtc.MediaEngine {
	media := &webrtc.MediaEngine{}
	for _, c := range []webrtc.RTPCodecParameters{
		{PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}},
		{PayloadType: 8, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMA, ClockRate: 8000, Channels: 1}},
		{PayloadType: 101, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000, SDPFmtpLine: "0-15"}},
	} {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			panic(err) // the list is right or wrong for good
		}
	}
	return media
}

func newPeer(t testing.TB, name string, hz float64) *peer {
	t.Helper()
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(codecs()), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Ear: audio.NewEar(t, "device "+name), t: t, pc: pc, up: make(chan struct{})}
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(p.up) })
		}
	})
	var work sync.WaitGroup
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			p.Take(packet)
		}
	})
	track := &voiceTrack{}
	sender, err := pc.AddTrack(track)
	if err != nil {
		t.Fatal(err)
	}
	work.Go(func() {
		for {
			if _, _, err := sender.ReadRTCP(); err != nil {
				return
			}
		}
	})
	p.voice = audio.NewVoice(1, hz)
	stop := make(chan struct{})
	work.Go(func() {
		audio.Pace(stop, func() { track.write(p.voice.Next) })
	})
	t.Cleanup(func() {
		close(stop)
		_ = pc.Close() // the test is over
		work.Wait()
	})
	return p
}

// Play sends other tones from now on.
func (p *peer) Play(hz ...float64) { p.voice.Play(hz...) }

// Press sends keys as telephone events (RFC 4733).
func (p *peer) Press(keys string) { p.voice.Press(keys) }

// AwaitMedia waits until ICE and DTLS are done.
func (p *peer) AwaitMedia(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.up:
	case <-time.After(within):
		p.t.Fatalf("the media are %s after %s", p.pc.ConnectionState(), within)
	}
}

// MediaState of the PeerConnection.
func (p *peer) MediaState() webrtc.PeerConnectionState { return p.pc.ConnectionState() }

func (p *peer) offer() string {
	p.t.Helper()
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.local(offer)
}

func (p *peer) answer(offer string) string {
	p.t.Helper()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		p.t.Fatalf("the gateway's offer: %v\n%s", err, offer)
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.local(answer)
}

// local sets the local description and answers it with all candidates.
func (p *peer) local(d webrtc.SessionDescription) string {
	p.t.Helper()
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(d); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-gathered:
	case <-time.After(patience):
		p.t.Fatal("candidates are not gathered")
	}
	return p.pc.LocalDescription().SDP
}

func (p *peer) accept(answer string) {
	p.t.Helper()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.t.Fatalf("the gateway's answer: %v\n%s", err, answer)
	}
}

// MediaPort is the gateway's port that the media go to.
func (p *peer) MediaPort() int {
	p.t.Helper()
	pair, err := p.pc.GetSenders()[0].Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		p.t.Fatalf("there is no candidate pair: %v", err)
	}
	return int(pair.Remote.Port)
}
