package sdp

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// FuzzNegotiate carries any browser's description and any far end's through a call
// in each direction, under any policy: nothing panics, every description that is
// written can be read, keeps its m-lines, offers and answers nothing that was not
// there, has keys exactly where its profile and the policy want them, and whatever
// one end may send has a way to the other.
func FuzzNegotiate(f *testing.F) {
	var browsers, cores []string
	each := func(text string) {
		if _, err := ParseWebRTC(text); err == nil {
			browsers = append(browsers, text)
		} else if _, err := ParseCoreSRTP(text, SRTPOptional); err == nil {
			cores = append(cores, text)
		}
	}
	seeds(f, each)
	for i, b := range browsers {
		f.Add(b, cores[i%len(cores)], uint8(i))
	}
	for i, c := range cores {
		f.Add(browsers[i%len(browsers)], c, uint8(3*i))
	}
	f.Fuzz(func(t *testing.T, browserText, coreText string, choice uint8) {
		srtp := []SRTP{SRTPOff, SRTPOptional, SRTPRequired}[choice%3]
		policy := []Policy{DefaultPolicy(), {Encodings: []string{"PCMA", "PCMU"}}, {Encodings: []string{"opus"}}, {Encodings: []string{"G722", "pcmu"}, NoSilence: true}}[choice/3%4]
		browser, err := ParseWebRTC(browserText)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		core, err := ParseCoreSRTP(coreText, srtp)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		fuzzOutgoing(t, browser, core, policy, srtp)
		fuzzIncoming(t, browser, core, policy, srtp)
	})
}

func fuzzKeys(srtp SRTP) (out []Crypto) {
	if srtp.on() {
		for i, s := range Suites() {
			out = append(out, Crypto{i + 1, s, make([]byte, MasterLength(s))})
		}
	}
	return out
}

// fuzzOutgoing: the browser calls, and core is what the far end answers.
func fuzzOutgoing(t *testing.T, browser *WebRTC, core *Core, policy Policy, srtp SRTP) {
	offered := OfferToCore(browser.Codecs, policy)
	e := gatewayCore()
	e.Codecs, e.Crypto, e.Secure = offered, fuzzKeys(srtp), srtp == SRTPRequired
	invite, err := CoreOffer(e)
	if len(offered) == 0 {
		if !errors.Is(err, ErrNoCommonCodec) {
			t.Fatalf("nothing to offer, but %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v\n%v", err, offered)
	}
	if read, err := ParseCoreSRTP(invite, srtp); err != nil || len(read.Crypto) != len(e.Crypto) || len(read.Codecs) != len(offered) {
		t.Fatalf("the INVITE cannot be read back: %v\n%s", err, invite)
	}
	agreed, err := Negotiate(offered, core.Codecs)
	if err != nil {
		return
	}
	if len(core.Crypto) > 0 {
		_, _, _ = AnsweredCrypto(e.Crypto, core.Crypto)
	}
	back := gatewayWebRTC()
	back.Codecs = AnswerFor(browser.Codecs, agreed)
	answer, err := browser.Answer(back)
	if err != nil {
		t.Fatalf("the browser's answer: %v\n%v %v", err, back.Codecs, agreed)
	}
	if strings.Contains(answer, "crypto") {
		t.Fatal("keys leak to the browser")
	}
	fuzzWays(t, back.Codecs, agreed)
	again := e
	again.Codecs, again.Crypto, again.Direction = OneVoice(agreed), e.Crypto[:min(1, len(e.Crypto))], SendOnly
	if core.Secured() && len(again.Crypto) == 0 || core.Rejected {
		return
	}
	text, err := core.Reoffer(again)
	if err != nil {
		t.Fatalf("hold cannot be offered: %v", err)
	}
	if read, err := ParseCoreSRTP(text, srtp); err != nil || len(read.Media) != len(core.Media) {
		t.Fatalf("hold cannot be read: %v\n%s", err, text)
	}
}

// fuzzIncoming: core is the offer of the far end, and the browser answers with what
// it has.
func fuzzIncoming(t *testing.T, browser *WebRTC, core *Core, policy Policy, srtp SRTP) {
	offered := OfferToBrowser(core.Codecs, policy)
	if len(offered) == 0 {
		return
	}
	if _, err := WebRTCOffer(gatewayWithCodecs(offered)); err != nil {
		t.Fatalf("the browser's offer: %v\n%v", err, offered)
	}
	agreed, err := Negotiate(offered, browser.Codecs)
	if err != nil {
		return
	}
	e := gatewayCore()
	e.RTCP = e.Address
	if !core.RTCPMux {
		e.RTCP = gatewayCore().RTCP
	}
	e.Codecs = OneVoice(AnswerFor(core.Codecs, agreed))
	if picked, ok := PickCrypto(core.Crypto, Suites()); ok {
		e.Crypto = []Crypto{{picked.Tag, picked.Suite, make([]byte, MasterLength(picked.Suite))}}
	}
	answer, err := core.Answer(e)
	if err != nil {
		t.Fatalf("the answer: %v\n%v %v", err, e.Codecs, e.Crypto)
	}
	read, err := ParseCoreSRTP(answer, srtp)
	switch {
	case err != nil:
		t.Fatalf("the answer cannot be read: %v\n%s", err, answer)
	case len(read.Media) != len(core.Media) || read.Rejected != core.Rejected:
		t.Fatalf("%d m-lines answer %d\n%s", len(read.Media), len(core.Media), answer)
	case core.Rejected:
		return
	case len(read.Crypto) != len(e.Crypto) || read.Profile != core.Profile:
		t.Fatalf("%d keys in %s answer %s\n%s", len(read.Crypto), read.Profile, core.Profile, answer)
	}
	for i, m := range read.Media {
		if i != read.Audio && m.Port != 0 {
			t.Fatalf("m-line %d is taken\n%s", i, answer)
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(read.Codecs), func(c Codec) bool { return !c.isVoice() })); n != 1 {
		t.Fatalf("%d voice codecs in the answer\n%s", n, answer)
	}
	fuzzWays(t, agreed, e.Codecs)
}

// fuzzWays: voice passes in both directions.
func fuzzWays(t *testing.T, a, b []Codec) {
	for _, way := range [][2][]Codec{{a, b}, {b, a}} {
		seen := map[uint8]bool{}
		voice := false
		for _, m := range Mappings(way[0], way[1]) {
			if seen[m.From] {
				t.Fatalf("%d is mapped twice from %v to %v", m.From, way[0], way[1])
			}
			seen[m.From] = true
			voice = voice || m.From == way[0][0].PayloadType
		}
		if !voice && way[0][0].isVoice() && len(way[0]) <= len(way[1]) {
			t.Fatalf("voice has no way from %v to %v", way[0], way[1])
		}
	}
}
