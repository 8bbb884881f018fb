package sdp

import (
	"errors"
	"strings"
	"testing"
)

// edit is a change to a good description; an empty old text appends.
type edit struct{ old, new string }

func (e edit) apply(t *testing.T, text string) string {
	t.Helper()
	if e.old == "" {
		return text + e.new
	}
	if !strings.Contains(text, e.old) {
		t.Fatalf("the description does not contain %q", e.old)
	}
	return strings.ReplaceAll(text, e.old, e.new)
}

func chromiumOffer(t *testing.T) string {
	return readGolden(t, "testdata/outgoing/chromium-to-asterisk-pcma.txtar").given("browser-offer.sdp")
}

func asteriskOffer(t *testing.T) string {
	return readGolden(t, "testdata/incoming/asterisk-pcma.txtar").given("core-offer.sdp")
}

func TestParseWebRTCRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit         edit
		reason       string
		unacceptable bool
	}{
		"no audio":              {edit{"m=audio", "m=video"}, "no audio m-line", true},
		"audio refused":         {edit{"m=audio 51372", "m=audio 0"}, "port 0", true},
		"plain RTP":             {edit{"UDP/TLS/RTP/SAVPF", "RTP/AVP"}, `profile "RTP/AVP"; DTLS-SRTP`, true},
		"SDES":                  {edit{"UDP/TLS/RTP/SAVPF", "RTP/SAVP"}, `profile "RTP/SAVP"; DTLS-SRTP`, true},
		"no ufrag":              {edit{"a=ice-ufrag:EsAw\r\n", ""}, "no ICE credentials", false},
		"no password":           {edit{"a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n", ""}, "no ICE credentials", false},
		"short ufrag":           {edit{"ufrag:EsAw", "ufrag:EsA"}, "a=ice-ufrag is not made of", false},
		"long ufrag":            {edit{"ufrag:EsAw", "ufrag:" + strings.Repeat("x", 257)}, "a=ice-ufrag is not made of", false},
		"foreign ufrag":         {edit{"ufrag:EsAw", "ufrag:Es-w"}, "a=ice-ufrag is not made of", false},
		"short password":        {edit{"bP+XJMM09aR8AiX1jdukzR6Y", "bP+XJMM09aR8AiX1jdukz"}, "a=ice-pwd is not made of", false},
		"no fingerprint":        {edit{"a=fingerprint:", "a=x-fingerprint:"}, "no a=fingerprint", false},
		"weak fingerprint only": {edit{"a=fingerprint:sha-256", "a=fingerprint:sha-1"}, "sha-256 or stronger", false},
		"cut fingerprint":       {edit{":98:1F:C2", ""}, "has 29 octets, not those of sha-256", false},
		"odd fingerprint":       {edit{":98:1F:C2", ":98:1F:C"}, "not made of octets", false},
		"no rtcp-mux":           {edit{"a=rtcp-mux\r\n", ""}, "no a=rtcp-mux", true},
		"setup holdconn":        {edit{"setup:actpass", "setup:holdconn"}, "not actpass, active or passive", true},
		"payload type 128":      {edit{"SAVPF 111", "SAVPF 128"}, `"128" is not a payload type`, false},
		"payload type named":    {edit{"SAVPF 111", "SAVPF opus"}, `"opus" is not a payload type`, false},
		"rtpmap without clock":  {edit{"opus/48000/2", "opus"}, "no encoding name and clock rate", false},
		"rtpmap with clock 0":   {edit{"opus/48000/2", "opus/0/2"}, "no valid clock rate", false},
		"tag with blanks":       {edit{"a=mid:0", "a=mid:0 1"}, "is not a token", false},
		"port above 65535":      {edit{"m=audio 51372", "m=audio 65536"}, "no port from 0 to 65535", false},
		"no format":             {edit{" 111 63 9 0 8 13 110 126", ""}, "a kind, a port, a profile and a format", false},
		"odd profile":           {edit{"UDP/TLS/RTP/SAVPF", "UDP//RTP"}, "no valid profile", false},
		"no version":            {edit{"v=0\r\n", ""}, "does not begin with v=0", false},
		"another version":       {edit{"v=0\r\n", "v=1\r\n"}, "does not begin with v=0", false},
		"no origin":             {edit{"o=", "x="}, "no o= line", false},
		"two origins":           {edit{"s=-", "o=- 1 1 IN IP4 0.0.0.0"}, "second o= line", false},
		"short origin":          {edit{" IN IP4 127.0.0.1", ""}, "six fields", false},
		"session id of letters": {edit{"4611731400430051336", "first"}, "session id", false},
		"version too large":     {edit{"51336 2 IN", "51336 18446744073709551616 IN"}, `version "18446744073709551616"`, false},
		"not ASCII":             {edit{"s=-", "\u02e20"}, `line 3, "\u02e20"`, false},
		"not a line":            {edit{"s=-", "hello"}, `line 3, "hello"`, false},
		"bare CR":               {edit{"s=-", "s=-\ra=setup:active"}, "line 3 contains a control character", false},
		"NUL":                   {edit{"s=-", "s=\x00"}, "line 3 contains a control character", false},
		"too long":              {edit{"", strings.Repeat("a=x\r\n", MaxLength/5)}, "more than the 65536 allowed", false},
		"nothing but the head":  {edit{chromiumOffer(t), "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n"}, "no m= line", false},
		"empty":                 {edit{chromiumOffer(t), " \r\n"}, "it is empty", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseWebRTC(c.edit.apply(t, chromiumOffer(t)))
			checkReason(t, err, c.reason, c.unacceptable)
		})
	}
}

func TestParseCoreRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit         edit
		reason       string
		unacceptable bool
	}{
		"fax alone":         {edit{"m=audio 11852 RTP/AVP 8 0 3 101", "m=image 11852 udptl t38"}, "no audio m-line", true},
		"SRTP alone":        {edit{"RTP/AVP", "RTP/SAVP"}, `"RTP/SAVP" only`, true},
		"host name":         {edit{"c=IN IP4 203.0.113.40", "c=IN IP4 pbx.example.com"}, `"pbx.example.com", not an IP address`, true},
		"multicast":         {edit{"c=IN IP4 203.0.113.40", "c=IN IP4 233.252.0.1/127"}, "multicast", true},
		"broadcast":         {edit{"c=IN IP4 203.0.113.40", "c=IN IP4 255.255.255.255"}, "broadcast", true},
		"scoped address":    {edit{"c=IN IP4 203.0.113.40", "c=IN IP6 fe80::1%eth0"}, "not an IP address", true},
		"no connection":     {edit{"c=IN IP4 203.0.113.40\r\n", ""}, "c= line", false},
		"ATM connection":    {edit{"c=IN IP4", "c=ATM NSAP"}, "not an Internet address", false},
		"RTCP without port": {edit{"", "a=rtcp:x\r\n"}, "no port", false},
		"RTCP at a name":    {edit{"", "a=rtcp:4 IN IP4 x.example\r\n"}, "no valid address", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseCore(c.edit.apply(t, asteriskOffer(t)))
			checkReason(t, err, c.reason, c.unacceptable)
		})
	}
}

func checkReason(t *testing.T, err error, reason string, unacceptable bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want *Error", err)
	}
	if !strings.Contains(e.Error(), reason) {
		t.Errorf("reason is %q, want one with %q", e.Reason, reason)
	}
	if e.Unacceptable != unacceptable {
		t.Errorf("unacceptable is %t for %q", e.Unacceptable, e.Reason)
	}
}

// TestParseTolerates lists what peers do and what must not end a call.
func TestParseTolerates(t *testing.T) {
	for name, e := range map[string]edit{
		"LF line ends":             {"\r\n", "\n"},
		"no last line end":         {"a=ssrc:3570614608 msid:6f2c0a4e-1b7d-4f7e-9a53-0d8f3f1f2b11 3f0f4a4a-6a58-4e2c-b1b5-3f4e2f7c8f10\r\n", "a=x"},
		"blank lines":              {"m=audio", "\r\nm=audio"},
		"unknown line types":       {"t=0 0", "t=0 0\r\ny=1\r\nb=UNKNOWN:4"},
		"no session name or time":  {"s=-\r\nt=0 0\r\n", ""},
		"blanks around attributes": {"a=setup:actpass", "a=setup: actpass "},
		"no setup":                 {"a=setup:actpass\r\n", ""},
		"no candidates":            {"a=candidate:", "a=x-candidate:"},
		"broken candidates":        {"a=candidate:", "a=candidate:x y "},
		"port range":               {"m=audio 51372", "m=audio 51372/2"},
		"format without rtpmap":    {"a=rtpmap:63 red/48000/2\r\n", ""},
		"format twice":             {"111 63", "111 111 63"},
		"parameters for all":       {"a=fmtp:63", "a=fmtp:*"},
		"a second fingerprint":     {"a=setup", "a=fingerprint:sha-1 00:11\r\na=setup"},
		"Latin-1 session name":     {"s=-", "s=B\xfcro"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := ParseWebRTC(e.apply(t, chromiumOffer(t)))
			if err != nil {
				t.Fatal(err)
			}
			if got := OfferToCore(o.Codecs, DefaultPolicy()); len(got) != 7 {
				t.Errorf("the core network is offered %v, want four voice codecs, comfort noise and two of events", got)
			}
			if o.Ufrag != "EsAw" || len(o.Fingerprints) != 1 || o.SSRC != 3570614608 || o.Setup != SetupActpass {
				t.Errorf("parsed as %+v", o)
			}
		})
	}
}
