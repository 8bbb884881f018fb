package sdp

import (
	"net/netip"
	"strings"
	"testing"

	pionsdp "github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// newPeer returns a real WebRTC stack that sends and receives audio.
func newPeer(t *testing.T) *webrtc.PeerConnection {
	t.Helper()
	peer, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := peer.Close(); err != nil {
			t.Error(err)
		}
	})
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMA, ClockRate: 8000}, "audio", "voice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.AddTransceiverFromTrack(track); err != nil {
		t.Fatal(err)
	}
	return peer
}

// loopback is a gateway that nobody reaches: only signalling is tried here.
func loopback(codecs []Codec) Endpoint {
	e := gatewayWithCodecs(codecs)
	e.Candidates = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}
	return e
}

// TestPeerOffers lets pion offer, and take the gateway's answer.
func TestPeerOffers(t *testing.T) {
	peer := newPeer(t)
	video := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
	if _, err := peer.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, video); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.CreateDataChannel("chat", nil); err != nil {
		t.Fatal(err)
	}
	text, err := peer.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.SetLocalDescription(text); err != nil {
		t.Fatal(err)
	}
	offer, err := ParseWebRTC(text.SDP)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := offer.Answer(loopback(AnswerFor(offer.Codecs, alaw)))
	if err != nil {
		t.Fatal(err)
	}
	err = peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
	if err != nil {
		t.Fatalf("the peer refuses the answer: %v\n%s", err, answer)
	}
	if got := peer.SignalingState(); got != webrtc.SignalingStateStable {
		t.Errorf("the peer is in state %s", got)
	}
	params := peer.GetSenders()[0].GetParameters()
	if len(params.Codecs) == 0 || params.Codecs[0].MimeType != webrtc.MimeTypePCMA {
		t.Errorf("the peer sends with %+v, want PCMA", params.Codecs)
	}
}

// TestPeerAnswers lets pion answer the gateway's offer, then its hold.
func TestPeerAnswers(t *testing.T) {
	peer := newPeer(t)
	local := loopback(alaw)
	for _, c := range []struct{ offered, answered Direction }{{SendRecv, SendRecv}, {SendOnly, RecvOnly}, {SendRecv, SendRecv}} {
		local.Version++
		local.Direction = c.offered
		text, err := WebRTCOffer(local)
		if err != nil {
			t.Fatal(err)
		}
		if err := peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
			t.Fatalf("the peer refuses the offer: %v\n%s", err, text)
		}
		created, err := peer.CreateAnswer(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := peer.SetLocalDescription(created); err != nil {
			t.Fatal(err)
		}
		answer, err := ParseWebRTC(created.SDP)
		if err != nil {
			t.Fatalf("%v in\n%s", err, created.SDP)
		}
		if answer.Setup == SetupActpass || answer.Mid != "0" || !answer.Bundled || c.offered.Answer(answer.Direction) != c.answered {
			t.Errorf("offered %s: the answer is %+v", c.offered, answer)
		}
		agreed, err := Negotiate(local.Codecs, answer.Codecs)
		if err != nil {
			t.Fatalf("%v in\n%s", err, created.SDP)
		}
		same(t, agreed[:1], list(t, "8 PCMA/8000"))
	}
}

// TestAnotherLexerAgrees reads what the package writes with pion's lexer.
func TestAnotherLexerAgrees(t *testing.T) {
	golden(t, "outgoing", func(c *goldenCase) {
		for _, name := range []string{"invite.sdp", "answer.sdp"} {
			var d pionsdp.SessionDescription
			if err := d.UnmarshalString(c.given(name)); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			audio := 0
			for _, m := range d.MediaDescriptions {
				if _, ok := m.Attribute("rtpmap"); ok && m.MediaName.Media == "audio" && m.MediaName.Port.Value != 0 {
					audio++
				}
			}
			if audio != 1 || !strings.HasPrefix(d.Origin.String(), "- ") {
				t.Errorf("%s has %d audio streams", name, audio)
			}
		}
	})
}
