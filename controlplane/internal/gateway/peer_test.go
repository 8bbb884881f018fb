package gateway

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

var (
	opus    = sdp.Codec{PayloadType: 111, Encoding: "opus", ClockRate: 48000, Channels: 2}
	pcmu    = sdp.Codec{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000}
	pcma    = sdp.Codec{PayloadType: 8, Encoding: "PCMA", ClockRate: 8000}
	digits8 = sdp.Codec{PayloadType: 101, Encoding: "telephone-event", ClockRate: 8000}
)

// peerConnection is a browser's peer connection as far as its descriptions go.
type peerConnection struct {
	ufrag     string
	seed      string
	version   atomic.Uint64
	direction sdp.Direction
	codecs    []sdp.Codec
	setup     string
}

var defaultCodecs = []sdp.Codec{opus, pcmu, pcma, digits8}

func newPeerConnection(seed string) *peerConnection {
	return &peerConnection{ufrag: strings.Repeat("u", 4) + seed, seed: seed, codecs: defaultCodecs}
}

func (p *peerConnection) endpoint() sdp.Endpoint {

	sum := sha256.Sum256([]byte(p.seed))
	return sdp.Endpoint{
		SessionID: 7, Version: p.version.Add(1), Ufrag: p.ufrag, Password: strings.Repeat("p", 22) + p.seed,
		Fingerprint: sdp.Fingerprint{Algorithm: "sha-256", Value: sum[:]},
		Candidates:  []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:40000")},
		SSRC:        42, CNAME: "browser", Direction: p.direction, Codecs: p.codecs, Setup: p.setup,
	}
}

// A browser is no ICE-lite peer, unlike the gateway for which sdp writes.
func full(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return strings.Replace(text, "a=ice-lite\r\n", "", 1)
}

func (p *peerConnection) offer() string {
	e := p.endpoint()
	e.Setup = ""
	return full(sdp.WebRTCOffer(e))
}

func (p *peerConnection) answer(offer string) string {
	remote, err := sdp.ParseWebRTC(offer)
	if err != nil {
		panic(fmt.Sprintf("the gateway's offer cannot be used: %v\n%s", err, offer))
	}
	e := p.endpoint()
	e.Codecs = sdp.AnswerFor(remote.Codecs, p.codecs)
	return full(remote.Answer(e))
}

func farEnd(d sdp.Direction, codecs []sdp.Codec) sdp.CoreEndpoint {
	return sdp.CoreEndpoint{SessionID: 9, Version: 1, Address: netip.MustParseAddrPort("203.0.113.5:30000"), Direction: d, Codecs: codecs}
}

// coreAnswer is a far end's answer to an offer, with the first codec of it that
// the far end has: G.711 unless others are given.
func coreAnswer(offer string, d sdp.Direction, codecs ...sdp.Codec) string {
	remote, err := sdp.ParseCore(offer)
	if err != nil {
		panic(fmt.Sprintf("the gateway's offer cannot be used: %v\n%s", err, offer))
	}
	if len(codecs) == 0 {
		codecs = []sdp.Codec{pcmu, digits8}
	}
	text, err := remote.Answer(farEnd(d, sdp.AnswerFor(remote.Codecs, codecs)))
	if err != nil {
		panic(err)
	}
	return text
}

func coreOffer(d sdp.Direction, codecs ...sdp.Codec) string {
	if len(codecs) == 0 {
		codecs = []sdp.Codec{pcmu, pcma, digits8}
	}
	text, err := sdp.CoreOffer(farEnd(d, codecs))
	if err != nil {
		panic(err)
	}
	return text
}
