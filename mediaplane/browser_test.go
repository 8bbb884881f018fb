package mediaplane_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// browser is a PeerConnection with one audio track.
type browser struct {
	t        *testing.T
	pc       *webrtc.PeerConnection
	track    *track
	received chan *rtp.Packet
	control  chan rtcp.Packet
	up       chan struct{} // closed when the PeerConnection is connected
	offer    string
}

// track sends packets as they are given, whatever their payload type.
type track struct {
	codec webrtc.RTPCodecParameters
	mu    sync.Mutex
	out   webrtc.TrackLocalWriter
	ssrc  webrtc.SSRC
}

func (k *track) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out, k.ssrc = c.WriteStream(), c.SSRC()
	return k.codec, nil
}

func (k *track) Unbind(webrtc.TrackLocalContext) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out = nil
	return nil
}

func (k *track) ID() string                { return "audio" }
func (k *track) RID() string               { return "" }
func (k *track) StreamID() string          { return "browser" }
func (k *track) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

func (k *track) write(p *rtp.Packet) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil {
		return errors.New("the track is not bound yet")
	}
	p.SSRC = uint32(k.ssrc)
	_, err := k.out.WriteRTP(&p.Header, p.Payload)
	return err
}

type browserOptions struct {
	profile dtls.SRTPProtectionProfile
	codecs  []webrtc.RTPCodecParameters
	// conn is the browser's socket; nil for one on loopback.
	conn *net.UDPConn
}

func pcmu() webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}}
}

func newBrowser(t *testing.T, o browserOptions) *browser {
	t.Helper()
	if o.codecs == nil {
		o.codecs = []webrtc.RTPCodecParameters{pcmu()}
	}
	media := &webrtc.MediaEngine{}
	for _, c := range o.codecs {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	settings := webrtc.SettingEngine{}
	if o.profile != 0 {
		settings.SetSRTPProtectionProfiles(o.profile)
	}
	if o.conn != nil {
		mux := webrtc.NewICEUDPMux(nil, o.conn)
		t.Cleanup(func() { _ = mux.Close() })
		settings.SetICEUDPMux(mux)
	} else {
		settings.SetIncludeLoopbackCandidate(true)
		settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	}
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, pc: pc, received: make(chan *rtp.Packet, 4096), control: make(chan rtcp.Packet, 256), up: make(chan struct{})}
	var once sync.Once
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(b.up) })
		}
	})
	b.track = &track{codec: o.codecs[0]}
	sender, err := pc.AddTrack(b.track)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			packets, _, err := sender.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				select {
				case b.control <- p:
				default:
				}
			}
		}
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		readers.Go(func() {
			for {
				packets, _, err := receiver.ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range packets {
					select {
					case b.control <- p:
					default:
					}
				}
			}
		})
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			b.received <- p
		}
	})
	t.Cleanup(func() {
		_ = pc.GracefulClose()
		readers.Wait()
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	b.offer = pc.LocalDescription().SDP
	return b
}

// attribute finds the first value of a=name: in the offer.
func (b *browser) attribute(name string) string {
	b.t.Helper()
	return attribute(b.t, b.offer, name)
}

func attribute(t *testing.T, sdp, name string) string {
	t.Helper()
	for line := range strings.Lines(sdp) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "a="+name+":"); ok {
			return v
		}
	}
	t.Fatalf("no a=%s in\n%s", name, sdp)
	return ""
}

func (b *browser) fingerprint() *mediav1.Fingerprint {
	b.t.Helper()
	algorithm, text, _ := strings.Cut(b.attribute("fingerprint"), " ")
	value, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		b.t.Fatal(err)
	}
	return &mediav1.Fingerprint{Algorithm: algorithm, Value: value}
}

func (b *browser) ice() *mediav1.ICECredentials {
	b.t.Helper()
	return &mediav1.ICECredentials{Ufrag: b.attribute("ice-ufrag"), Password: b.attribute("ice-pwd")}
}

// answer gives the browser the node's description.
func (b *browser) answer(ice *mediav1.ICECredentials, id identity, setup string, at *mediav1.SocketAddress, ssrc uint32, codecs ...webrtc.RTPCodecParameters) {
	b.t.Helper()
	if len(codecs) == 0 {
		codecs = []webrtc.RTPCodecParameters{pcmu()}
	}
	var payloads, maps strings.Builder
	for _, c := range codecs {
		fmt.Fprintf(&payloads, " %d", c.PayloadType)
		name := strings.TrimPrefix(c.MimeType, "audio/")
		fmt.Fprintf(&maps, "a=rtpmap:%d %s/%d\r\n", c.PayloadType, name, c.ClockRate)
		if c.Channels > 1 {
			s := maps.String()
			maps.Reset()
			maps.WriteString(strings.TrimSuffix(s, "\r\n") + fmt.Sprintf("/%d\r\n", c.Channels))
		}
	}
	mid := b.attribute("mid")
	sdp := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE " + mid + "\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF" + payloads.String() + "\r\nc=IN IP4 127.0.0.1\r\n" +
		"a=mid:" + mid + "\r\na=rtcp-mux\r\na=sendrecv\r\n" + maps.String() +
		"a=ice-ufrag:" + ice.GetUfrag() + "\r\na=ice-pwd:" + ice.GetPassword() + "\r\n" +
		"a=fingerprint:sha-256 " + id.fingerprint + "\r\na=setup:" + setup + "\r\n" +
		fmt.Sprintf("a=ssrc:%d cname:node\r\n", ssrc) +
		fmt.Sprintf("a=candidate:1 1 udp 2130706431 %s %d typ host\r\na=end-of-candidates\r\n", at.GetIp(), at.GetPort())
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		b.t.Fatalf("SetRemoteDescription: %v\n%s", err, sdp)
	}
}
