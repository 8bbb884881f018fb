package sdp

import (
	"net/netip"
	"strconv"
	"strings"
)

// Endpoint is the gateway's own side toward a WebRTC client: ICE-lite, all
// candidates known, DTLS-SRTP, RTP and RTCP on one port.
type Endpoint struct {
	// SessionID and Version go into the o= line; see the package comment for
	// when the version grows.
	SessionID, Version uint64
	// Ufrag and Password are the ICE credentials: 4 to 256 and 22 to 256
	// letters, digits, + and /.
	Ufrag, Password string
	// Fingerprint of the gateway's certificate for this session.
	Fingerprint Fingerprint
	// Setup is for answers: active, passive, or empty for passive where the
	// offer leaves the choice. An offer always says actpass.
	Setup string
	// Candidates are the host candidates, best first; at least one.
	Candidates []netip.AddrPort
	// SSRC is the one that the gateway sends with, CNAME its canonical name.
	// SSRC 0 writes neither.
	SSRC  uint32
	CNAME string
	// Direction is as the gateway sees it; empty means SendRecv. An answer
	// narrows it to what the offer permits.
	Direction Direction
	// Codecs in order of preference.
	Codecs []Codec
	// Ptime is the packet time asked for in milliseconds; 0 says nothing.
	Ptime int
	// Mid is for offers: the tag of the m-line; empty means "0". An answer
	// repeats that of the offer.
	Mid string
}

// WebRTCOffer writes an offer of one audio stream, with a=setup:actpass, in a
// BUNDLE group of its own. It fails with ErrNoCommonCodec when there is no
// voice codec, and with *Error when a value cannot be written.
func WebRTCOffer(local Endpoint) (string, error) {
	if local.Mid == "" {
		local.Mid = "0"
	}
	local.Setup = SetupActpass
	w := &writer{}
	w.webRTCHead(local, local.Mid)
	w.webRTCAudio(local, "UDP/TLS/RTP/SAVPF")
	return w.finish()
}

// Answer writes the answer to the offer o: its m-lines in its order, all but
// the audio refused, BUNDLE only if offered. It fails with ErrNoCommonCodec
// when local has no voice codec of the offer, and with *Error when local.Setup
// does not fit or a value cannot be written.
func (o *WebRTC) Answer(local Endpoint) (string, error) {
	w := &writer{}
	setup := o.LocalSetup(local.Setup)
	if local.Setup != "" && local.Setup != setup {
		w.fail(malformed("a=setup:%s does not answer a=setup:%s", clip(local.Setup), o.Setup))
	}
	local.Setup = setup
	local.Mid = o.Mid
	local.Codecs = onlyOffered(o.Codecs, local.Codecs)
	local.Direction = o.Direction.Answer(local.Direction)
	group := ""
	if o.Bundled {
		group = o.Mid
	}
	w.webRTCHead(local, group)
	for i, m := range o.Media {
		if i != o.Audio {
			w.refuseWebRTC(m)
			continue
		}
		w.webRTCAudio(local, o.Profile)
	}
	return w.finish()
}

// refuseWebRTC refuses RTP under the format 0, as browsers do: WebRTC stacks
// look up what the formats mean even if the port is 0, and give up on those
// that are not explained.
func (w *writer) refuseWebRTC(m Media) {
	if strings.Contains(m.Profile, "RTP/") {
		w.refuse(m, nil)
		return
	}
	w.refuse(m, m.formats)
}

// webRTCHead writes the session part; group is the tag to bundle, if any.
func (w *writer) webRTCHead(local Endpoint, group string) {
	if len(local.Candidates) == 0 {
		w.fail(malformed("the gateway has no ICE candidate to write"))
		return
	}
	for _, c := range local.Candidates {
		if !c.IsValid() || c.Port() == 0 || c.Addr().IsUnspecified() {
			w.fail(malformed("%s is not an address for an ICE candidate", c))
			return
		}
	}
	if err := credentials(local.Ufrag, local.Password); err != nil {
		w.fail(err)
	}
	if !local.Fingerprint.valid() {
		w.fail(malformed("the gateway's fingerprint (%s, %d octets) cannot be written",
			clip(local.Fingerprint.Algorithm), len(local.Fingerprint.Value)))
	}
	if local.Mid != "" && !isToken(local.Mid) {
		w.fail(malformed("the m-line tag %s is not a token", clip(local.Mid)))
	}
	w.head(local.SessionID, local.Version, local.Candidates[0].Addr())
	w.line('t', "0 0")
	if group != "" {
		w.value("group", "BUNDLE "+group)
	}
	w.attribute("ice-lite")
}

// webRTCAudio writes the audio m-line. No header extension and no feedback
// message is ever named, so that none is used: what the client sends can go to
// the core network as it is.
func (w *writer) webRTCAudio(local Endpoint, profile string) {
	if w.err != nil {
		return
	}
	first := local.Candidates[0]
	w.media("audio", first.Port(), profile, w.formats(local.Codecs))
	w.line('c', inet(first.Addr()))
	if local.Mid != "" {
		w.value("mid", local.Mid)
	}
	w.codecs(local.Codecs)
	w.ptime(local.Ptime)
	w.direction(local.Direction)
	w.attribute("rtcp-mux")
	w.value("ice-ufrag", local.Ufrag)
	w.value("ice-pwd", local.Password)
	w.value("fingerprint", local.Fingerprint.String())
	w.value("setup", local.Setup)
	if local.SSRC != 0 {
		w.source(local)
	}
	for i, c := range local.Candidates {
		w.value("candidate", candidate(i, c))
	}
	w.attribute("end-of-candidates")
}

// source announces the gateway's stream. The track is named only while it is
// sent (RFC 8829 5.2.1); SSRC and canonical name stay, as they do on hold.
func (w *writer) source(local Endpoint) {
	if !isToken(local.CNAME) {
		w.fail(malformed("the canonical name %s is not a token", clip(local.CNAME)))
	}
	if local.Direction.Sends() {
		w.value("msid", local.CNAME+" audio")
	}
	w.value("ssrc", strconv.FormatUint(uint64(local.SSRC), 10)+" cname:"+local.CNAME)
}

// candidate writes a host candidate (RFC 8839 5.1) with the priority of
// RFC 8445 5.1.2.1; i is its place in the gateway's order of preference.
func candidate(i int, at netip.AddrPort) string {
	const hostPreference, component = 126, 1
	local := uint32(65535 - min(i, 65535))
	priority := uint32(hostPreference)<<24 | local<<8 | (256 - component)
	return strconv.Itoa(i+1) + " 1 udp " + strconv.FormatUint(uint64(priority), 10) + " " +
		at.Addr().Unmap().WithZone("").String() + " " + strconv.Itoa(int(at.Port())) + " typ host"
}
