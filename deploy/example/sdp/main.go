// Command sdp makes the session descriptions that a WebRTC endpoint makes, for
// those who try the APIs by hand: sdp offer prints an offer, sdp answer reads an
// offer and prints an answer. Nobody is there to send media when it has ended.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pion/webrtc/v4"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sdp:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	codecs := &webrtc.MediaEngine{}
	if err := codecs.RegisterDefaultCodecs(); err != nil {
		return err
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	defer pc.Close()
	var local webrtc.SessionDescription
	switch {
	case len(args) == 1 && args[0] == "offer":
		local, err = offer(pc)
	case len(args) == 1 && args[0] == "answer":
		local, err = answer(pc, os.Stdin)
	default:
		return errors.New("say offer, or answer with an offer on standard input")
	}
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(local); err != nil {
		return err
	}
	<-gathered
	_, err = fmt.Print(pc.LocalDescription().SDP)
	return err
}

func offer(pc *webrtc.PeerConnection) (webrtc.SessionDescription, error) {
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio); err != nil {
		return webrtc.SessionDescription{}, err
	}
	return pc.CreateOffer(nil)
}

func answer(pc *webrtc.PeerConnection, offer io.Reader) (webrtc.SessionDescription, error) {
	text, err := io.ReadAll(offer)
	if err != nil {
		return webrtc.SessionDescription{}, err
	}
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU}, "audio", "sdp")
	if err != nil {
		return webrtc.SessionDescription{}, err
	}
	if _, err := pc.AddTrack(track); err != nil {
		return webrtc.SessionDescription{}, err
	}
	err = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(text)})
	if err != nil {
		return webrtc.SessionDescription{}, fmt.Errorf("the offer on standard input: %w", err)
	}
	return pc.CreateAnswer(nil)
}
