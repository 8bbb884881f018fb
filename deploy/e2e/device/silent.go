package device

import "strings"

// SilentOffer describes a browser that offers G.711 and never sends a packet. It
// costs nothing, where a test is about many calls and not about their media.
func SilentOffer() string { return silent("actpass") }

// SilentAnswer is such a browser's answer to an offer of the gateway.
func SilentAnswer() string { return silent("active") }

func silent(setup string) string {
	lines := []string{
		"v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0",
		"a=group:BUNDLE 0",
		"m=audio 9 UDP/TLS/RTP/SAVPF 0 101", "c=IN IP4 0.0.0.0", "a=rtcp-mux",
		"a=ice-ufrag:Yx3q", "a=ice-pwd:0Wn4VbPq8sJt2LhKc6RzEmGd",
		"a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("7A:", 32), ":"),
		"a=setup:" + setup, "a=mid:0", "a=sendrecv",
		"a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15",
		"a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host", "a=end-of-candidates",
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}
