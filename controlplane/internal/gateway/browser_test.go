package gateway

import (
	"testing"

	"github.com/pion/webrtc/v4"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// TestRealPeerConnection lets a WebRTC stack judge what the gateway says in the
// course of a call: the answer, its repetition, hold, resume, and the answer to a
// page that was loaded again.
func TestRealPeerConnection(t *testing.T) {
	w := newWorld(t, newFakeStore(), nil)
	d := &device{w: w, p: principal(aliceNumber), conn: newPeerConnection("unused")}
	var err error
	if d.reg, err = w.g.Register(t.Context(), d.p, RegisterRequest{DeviceID: "browser"}); err != nil {
		t.Fatal(err)
	}
	connect := func() (*webrtc.PeerConnection, *webrtc.RTPTransceiver) {
		peer, err := webrtc.NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := peer.GracefulClose(); err != nil {
				t.Error(err)
			}
		})
		track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}, "audio", "voice")
		if err != nil {
			t.Fatal(err)
		}
		audio, err := peer.AddTransceiverFromTrack(track)
		if err != nil {
			t.Fatal(err)
		}
		return peer, audio
	}
	offer := func(peer *webrtc.PeerConnection) string {
		t.Helper()
		made, err := peer.CreateOffer(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := peer.SetLocalDescription(made); err != nil {
			t.Fatal(err)
		}
		return made.SDP
	}
	takes := func(peer *webrtc.PeerConnection, kind webrtc.SDPType, answer string) {
		t.Helper()
		if err := peer.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: answer}); err != nil {
			t.Fatalf("the browser refuses the answer: %v\n%s", err, answer)
		}
	}

	peer, audio := connect()
	m, err := d.originate(func(r *OriginateRequest) { r.Offer = offer(peer) })
	if err != nil {
		t.Fatal(err)
	}
	w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv))
	takes(peer, webrtc.SDPTypePranswer, d.get(m.ID).Answer)
	w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
	takes(peer, webrtc.SDPTypeAnswer, d.get(m.ID).Answer)

	for _, status := range []call.Status{call.Hold, call.Resume} {
		answer := d.mustPut(m.ID, StatusRequest{Status: status, Offer: offer(peer)}).Answer
		takes(peer, webrtc.SDPTypeAnswer, answer)
	}
	if got := audio.Sender().GetParameters().Codecs; len(got) == 0 || got[0].MimeType != webrtc.MimeTypePCMU {
		t.Errorf("the browser sends with %+v", got)
	}

	again, _ := connect()
	takes(again, webrtc.SDPTypeAnswer, d.mustPut(m.ID, StatusRequest{Status: call.Connected, Offer: offer(again)}).Answer)
	if got := again.SignalingState(); got != webrtc.SignalingStateStable {
		t.Errorf("the new page is in state %s", got)
	}
	w.over(m.CallID, Ending{Kind: EndedBye})
	w.stop()
	w.audit()
}
