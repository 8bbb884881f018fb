package sdp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var alaw = []Codec{{8, "PCMA", 8000, 0, ""}, {101, telephoneEvent, 8000, 0, allDigits}}

// TestNothingIsSmuggledIn tries to write lines through every string.
func TestNothingIsSmuggledIn(t *testing.T) {
	const evil = "x\r\na=evil"
	good := gatewayWithCodecs(alaw)
	for name, spoil := range map[string]func(*Endpoint){
		"ufrag":       func(e *Endpoint) { e.Ufrag = "ufrag\r\na=evil" },
		"password":    func(e *Endpoint) { e.Password += "\na=evil" },
		"fingerprint": func(e *Endpoint) { e.Fingerprint.Algorithm = "sha-256\na=evil" },
		"CNAME":       func(e *Endpoint) { e.CNAME = evil },
		"blank CNAME": func(e *Endpoint) { e.CNAME = "a b" },
		"tag":         func(e *Endpoint) { e.Mid = evil },
		"direction":   func(e *Endpoint) { e.Direction = "sendrecv\r\na=evil" },
		"encoding":    func(e *Endpoint) { e.Codecs = append([]Codec{{96, "PCMA\r\na=evil", 8000, 0, ""}}, alaw...) },
		"parameters":  func(e *Endpoint) { e.Codecs = []Codec{{8, "PCMA", 8000, 0, evil}} },
		"bytes":       func(e *Endpoint) { e.Codecs = []Codec{{8, "PCMA", 8000, 0, "\xff"}} },
		"long text":   func(e *Endpoint) { e.Codecs = []Codec{{8, "PCMA", 8000, 0, strings.Repeat("a", maxFmtp+1)}} },
	} {
		t.Run(name, func(t *testing.T) {
			e := good
			spoil(&e)
			text, err := WebRTCOffer(e)
			var refused *Error
			if !errors.As(err, &refused) || text != "" {
				t.Fatalf("written as %q with error %v", text, err)
			}
		})
	}
	if _, err := WebRTCOffer(good); err != nil {
		t.Fatal(err)
	}
}

func TestWebRTCOfferRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*Endpoint)
		reason string
	}{
		"no candidate":           {func(e *Endpoint) { e.Candidates = nil }, "no ICE candidate"},
		"candidate without IP":   {func(e *Endpoint) { e.Candidates = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:5")} }, "not an address"},
		"candidate without port": {func(e *Endpoint) { e.Candidates = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} }, "not an address"},
		"half a fingerprint":     {func(e *Endpoint) { e.Fingerprint.Value = e.Fingerprint.Value[:16] }, "16 octets"},
		"number twice":           {func(e *Endpoint) { e.Codecs = append(e.Codecs, Codec{8, "PCMU", 8000, 0, ""}) }, "payload type 8 is used twice"},
		"number above 127":       {func(e *Endpoint) { e.Codecs = []Codec{{128, "PCMA", 8000, 0, ""}} }, "above 127"},
		"no clock":               {func(e *Endpoint) { e.Codecs = []Codec{{8, "PCMA", 0, 0, ""}} }, "no clock rate"},
		"negative packet time":   {func(e *Endpoint) { e.Ptime = -20 }, "packet time"},
	} {
		t.Run(name, func(t *testing.T) {
			e := gatewayWithCodecs(alaw)
			c.spoil(&e)
			_, err := WebRTCOffer(e)
			checkReason(t, err, c.reason, false)
		})
	}
	if _, err := WebRTCOffer(gatewayWithCodecs(alaw[1:])); !errors.Is(err, ErrNoCommonCodec) {
		t.Errorf("events alone: error is %v", err)
	}
}

func TestWebRTCAnswerSetup(t *testing.T) {
	for _, c := range []struct{ offered, local, want string }{
		{SetupActpass, "", SetupPassive}, {SetupActpass, SetupActive, SetupActive}, {SetupActpass, SetupPassive, SetupPassive},
		{SetupActive, "", SetupPassive}, {SetupActive, SetupActive, ""}, {SetupActive, SetupPassive, SetupPassive},
		{SetupPassive, "", SetupActive}, {SetupPassive, SetupPassive, ""}, {SetupPassive, SetupActive, SetupActive},
		{SetupActpass, SetupActpass, ""}, {SetupActpass, "actor\r\n", ""},
	} {
		offer, err := ParseWebRTC(edit{"setup:actpass", "setup:" + c.offered}.apply(t, chromiumOffer(t)))
		if err != nil {
			t.Fatal(err)
		}
		e := gatewayWithCodecs(offer.Codecs)
		e.Setup = c.local
		text, err := offer.Answer(e)
		if (err == nil) != (c.want != "") || (err == nil && !strings.Contains(text, "a=setup:"+c.want+"\r\n")) {
			t.Errorf("offered %s, local %q: want %q, got error %v and\n%s", c.offered, c.local, c.want, err, text)
		}
	}
}

func TestWebRTCAnswerOfForeignCodecs(t *testing.T) {
	offer, err := ParseWebRTC(chromiumOffer(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := offer.Answer(gatewayWithCodecs([]Codec{{18, "G729", 8000, 0, ""}})); !errors.Is(err, ErrNoCommonCodec) {
		t.Errorf("error is %v, want ErrNoCommonCodec", err)
	}
	text, err := offer.Answer(gatewayWithCodecs([]Codec{{97, "PCMA", 8000, 0, ""}, {18, "G729", 8000, 0, ""}}))
	if err != nil || !strings.Contains(text, "SAVPF 8\r\n") {
		t.Errorf("the answer should have PCMA under the offered number 8 alone: %v\n%s", err, text)
	}
}

func TestRestartsICE(t *testing.T) {
	offer := func(e edit) *WebRTC {
		o, err := ParseWebRTC(e.apply(t, chromiumOffer(t)))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first := offer(edit{"a=sendrecv", "a=sendrecv"})
	if offer(edit{"a=sendrecv", "a=sendonly"}).RestartsICE(first) {
		t.Error("hold is no ICE restart")
	}
	if !offer(edit{"ufrag:EsAw", "ufrag:EsAx"}).RestartsICE(first) || !offer(edit{"bP+XJ", "bP+XK"}).RestartsICE(first) {
		t.Error("new credentials are an ICE restart")
	}
}

func TestCoreAnswer(t *testing.T) {
	offer := func(edits ...edit) *Core {
		t.Helper()
		text := asteriskOffer(t)
		for _, e := range edits {
			text = e.apply(t, text)
		}
		o, err := ParseCore(text)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	local := gatewayCore()
	local.Codecs = alaw

	t.Run("ended stream", func(t *testing.T) {
		o := offer(edit{"m=audio 11852", "m=audio 0"})
		if !o.Rejected || o.Direction != Inactive {
			t.Errorf("parsed as %+v", o)
		}
		text, err := o.Answer(local)
		if err != nil || !strings.Contains(text, "m=audio 0 RTP/AVP 8 0 3 101\r\n") {
			t.Errorf("error %v, answer\n%s", err, text)
		}
	})
	t.Run("multiplexed RTCP", func(t *testing.T) {
		muxed := local
		muxed.RTCP = muxed.Address
		_, err := offer().Answer(muxed)
		checkReason(t, err, "no a=rtcp-mux", false)
		text, err := offer(edit{"", "a=rtcp-mux\r\n"}).Answer(muxed)
		if err != nil || !strings.Contains(text, "a=rtcp-mux\r\n") {
			t.Errorf("error %v, answer\n%s", err, text)
		}
	})
	t.Run("packet time", func(t *testing.T) {
		text, err := offer(edit{"a=ptime:20", "a=ptime:30"}).Answer(local)
		if err != nil || !strings.Contains(text, "a=ptime:30\r\n") {
			t.Errorf("error %v, answer\n%s", err, text)
		}
		if o := offer(edit{"a=ptime:20", "a=ptime:soon"}); o.Ptime != 0 || o.MaxPtime != 150 {
			t.Errorf("packet times are %d and %d", o.Ptime, o.MaxPtime)
		}
	})
	t.Run("no common codec", func(t *testing.T) {
		other := local
		other.Codecs = []Codec{{9, "G722", 8000, 0, ""}, {101, telephoneEvent, 8000, 0, ""}}
		if _, err := offer().Answer(other); !errors.Is(err, ErrNoCommonCodec) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("no own address", func(t *testing.T) {
		_, err := offer().Answer(CoreEndpoint{Codecs: alaw})
		checkReason(t, err, "not an address to receive RTP at", false)
		_, err = CoreOffer(CoreEndpoint{Codecs: alaw, Address: netip.MustParseAddrPort("[::]:4000")})
		checkReason(t, err, "not an address to receive RTP at", false)
	})
}

// TestCoreReoffer holds a call that came with video and fax beside the audio.
func TestCoreReoffer(t *testing.T) {
	text := readGolden(t, "testdata/incoming/linphone-avpf-video.txtar").given("core-offer.sdp")
	o, err := ParseCore(text + "m=image 5000 udptl t38\r\na=mid:fax\r\n")
	if err != nil {
		t.Fatal(err)
	}
	local := gatewayCore()
	local.Version = 2
	local.RTCP = local.Address
	local.Direction = SendRecv.Hold()
	local.Codecs = o.Codecs[:1]
	got, err := o.Reoffer(local)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`v=0
o=- 9000001 2 IN IP4 192.0.2.11
s=-
c=IN IP4 192.0.2.11
t=0 0
m=audio 20000 RTP/AVPF 96
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=sendonly
a=rtcp-mux
m=video 0 RTP/AVPF 96 97
m=image 0 udptl t38
a=mid:fax
`, "\n", "\r\n")
	if got != want {
		t.Errorf("offer is\n%s\nwant\n%s", got, want)
	}
}

func TestBundleGroups(t *testing.T) {
	for group, bundled := range map[string]bool{
		"a=group:BUNDLE 0": true, "a=group:LS 0": false, "a=group:BUNDLE 1": false, "a=group:BUNDLE": false,
		"a=group:BUNDLE 1\r\na=group:BUNDLE 2 0": true,
	} {
		o, err := ParseWebRTC(edit{"a=group:BUNDLE 0", group}.apply(t, chromiumOffer(t)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := o.Answer(gatewayWithCodecs(o.Codecs))
		if err != nil {
			t.Fatal(err)
		}
		if o.Bundled != bundled || strings.Contains(text, "a=group:BUNDLE 0\r\n") != bundled {
			t.Errorf("%s: bundled is %t, answer\n%s", group, o.Bundled, text)
		}
	}
}

func TestCoreHoldForms(t *testing.T) {
	for name, c := range map[string]struct {
		edits []edit
		want  Direction
	}{
		"zero address":                 {[]edit{{"c=IN IP4 203.0.113.40", "c=IN IP4 0.0.0.0"}}, SendOnly},
		"zero address, recvonly":       {[]edit{{"c=IN IP4 203.0.113.40", "c=IN IP4 0.0.0.0"}, {"a=sendrecv", "a=recvonly"}}, Inactive},
		"zero address of IPv6":         {[]edit{{"c=IN IP4 203.0.113.40", "c=IN IP6 ::"}}, SendOnly},
		"the name for no address":      {[]edit{{"c=IN IP4 203.0.113.40", "c=IN IP6 hold.invalid"}}, SendOnly},
		"of the session":               {[]edit{{"a=sendrecv\r\n", ""}, {"t=0 0", "t=0 0\r\na=inactive"}}, Inactive},
		"the m-line's own comes first": {[]edit{{"t=0 0", "t=0 0\r\na=inactive"}}, SendRecv},
		"the m-line's own address":     {[]edit{{"c=IN IP4 203.0.113.40", "c=IN IP4 0.0.0.0"}, {"a=sendrecv", "c=IN IP4 203.0.113.41\r\na=sendrecv"}}, SendRecv},
		"none said":                    {[]edit{{"a=sendrecv\r\n", ""}}, SendRecv},
	} {
		t.Run(name, func(t *testing.T) {
			text := asteriskOffer(t)
			for _, e := range c.edits {
				text = e.apply(t, text)
			}
			o, err := ParseCore(text)
			if err != nil {
				t.Fatal(err)
			}
			if o.Direction != c.want {
				t.Errorf("direction is %s, want %s", o.Direction, c.want)
			}
		})
	}
}
