package sdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyCodecs draws a codec list as peers write them: known and unknown voice
// codecs and events, in any order, under any free payload types.
func anyCodecs(t *rapid.T, label string) []Codec {
	formats := []Codec{
		{0, "opus", 48000, 2, ""}, {0, "G722", 8000, 0, ""}, {0, "PCMU", 8000, 0, ""}, {0, "PCMA", 8000, 0, ""},
		{0, telephoneEvent, 8000, 0, ""}, {0, telephoneEvent, 16000, 0, ""}, {0, telephoneEvent, 48000, 0, ""},
		{0, "AMR-WB", 16000, 0, ""}, {0, "L16", 44100, 2, ""}, {0, "red", 48000, 2, ""}, {0, "CN", 8000, 0, ""},
	}
	out := rapid.SliceOfNDistinct(rapid.SampledFrom(formats), 1, len(formats), Codec.rtpmap).Draw(t, label)
	numbers := rapid.SliceOfNDistinct(rapid.Uint8Range(0, 127), len(out), len(out), rapid.ID[uint8]).Draw(t, label+" numbers")
	fmtp := rapid.SampledFrom([]string{"", "0-15", "0-16", "0-11,16", "minptime=10;useinbandfec=1", "junk"})
	for i := range out {
		out[i].PayloadType = numbers[i]
		out[i].Fmtp = fmtp.Draw(t, label+" parameters")
	}
	return out
}

func anyDirection(t *rapid.T, label string) Direction {
	return rapid.SampledFrom([]Direction{SendRecv, SendOnly, RecvOnly, Inactive}).Draw(t, label)
}

func anyAddress(t *rapid.T, label string) netip.AddrPort {
	addr := rapid.SampledFrom([]string{"192.0.2.1", "198.51.100.7", "2001:db8::1", "2001:db8:1:2:3:4:5:6"}).Draw(t, label)
	return netip.AddrPortFrom(netip.MustParseAddr(addr), rapid.Uint16Min(1).Draw(t, label+" port"))
}

func anyCoreEndpoint(t *rapid.T) CoreEndpoint {
	e := CoreEndpoint{
		SessionID: rapid.Uint64().Draw(t, "id"), Version: rapid.Uint64().Draw(t, "version"),
		Address: anyAddress(t, "RTP"), Direction: anyDirection(t, "direction"),
		Codecs: anyCodecs(t, "codecs"), Ptime: rapid.IntRange(0, 120).Draw(t, "ptime"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "RTCP") {
	case 0:
		e.RTCP = e.Address
	case 1:
		e.RTCP = anyAddress(t, "RTCP")
	}
	return e
}

func anyEndpoint(t *rapid.T) Endpoint {
	e := gatewayWebRTC()
	e.SessionID, e.Version = rapid.Uint64().Draw(t, "id"), rapid.Uint64().Draw(t, "version")
	e.Ufrag = rapid.StringMatching(`[A-Za-z0-9+/]{4,30}`).Draw(t, "ufrag")
	e.Password = rapid.StringMatching(`[A-Za-z0-9+/]{22,40}`).Draw(t, "password")
	e.Fingerprint.Value = rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "fingerprint")
	e.SSRC = rapid.Uint32Min(1).Draw(t, "SSRC")
	e.CNAME = rapid.StringMatching(`[A-Za-z0-9.+-]{1,20}`).Draw(t, "CNAME")
	e.Mid = rapid.StringMatching(`[A-Za-z0-9]{1,8}`).Draw(t, "tag")
	e.Direction = anyDirection(t, "direction")
	e.Codecs = anyCodecs(t, "codecs")
	e.Ptime = rapid.IntRange(0, 120).Draw(t, "ptime")
	e.Candidates = nil
	for range rapid.IntRange(1, 4).Draw(t, "candidates") {
		e.Candidates = append(e.Candidates, anyAddress(t, "candidate"))
	}
	return e
}

// equal compares codec lists; the property name is part of the failure.
func equal(t *rapid.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s is %s, want %s", what, g, w)
	}
}

// full shows codecs with their parameters.
func full(codecs []Codec) string {
	var b strings.Builder
	for _, c := range codecs {
		fmt.Fprintf(&b, "[%s %q]", c, c.Fmtp)
	}
	return b.String()
}

func TestCoreReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyCoreEndpoint(t)
		text, err := CoreOffer(e)
		if !hasVoice(e.Codecs) {
			equal(t, "error", err, ErrNoCommonCodec)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCore(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		equal(t, "origin", []uint64{c.SessionID, c.Version}, []uint64{e.SessionID, e.Version})
		equal(t, "RTP address", c.Remote, e.Address)
		rtcp := e.RTCP
		if !rtcp.IsValid() && e.Address.Port() < 65535 {
			rtcp = netip.AddrPortFrom(e.Address.Addr(), e.Address.Port()+1)
		}
		equal(t, "RTCP address", c.RTCP, rtcp)
		equal(t, "rtcp-mux", c.RTCPMux, e.RTCP == e.Address)
		equal(t, "direction", c.Direction, e.Direction)
		equal(t, "codecs", full(c.Codecs), full(e.Codecs))
		equal(t, "packet time", c.Ptime, e.Ptime)
	})
}

func TestWebRTCReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEndpoint(t)
		text, err := WebRTCOffer(e)
		if !hasVoice(e.Codecs) {
			equal(t, "error", err, ErrNoCommonCodec)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		o, err := ParseWebRTC(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		equal(t, "origin", []uint64{o.SessionID, o.Version}, []uint64{e.SessionID, e.Version})
		equal(t, "credentials", []string{o.Ufrag, o.Password}, []string{e.Ufrag, e.Password})
		equal(t, "fingerprints", o.Fingerprints, []Fingerprint{e.Fingerprint})
		equal(t, "setup", o.Setup, SetupActpass)
		equal(t, "candidates", o.Candidates, e.Candidates)
		equal(t, "source", fmt.Sprint(o.SSRC, o.CNAME), fmt.Sprint(e.SSRC, e.CNAME))
		equal(t, "tag", o.Mid, e.Mid)
		equal(t, "bundled, muxed, lite", []bool{o.Bundled, o.RTCPMux, o.ICELite}, []bool{true, true, true})
		equal(t, "direction", o.Direction, e.Direction)
		equal(t, "codecs", full(o.Codecs), full(e.Codecs))
		equal(t, "packet time", o.Ptime, e.Ptime)
	})
}

// unique fails when two codecs share a payload type.
func unique(t *rapid.T, what string, codecs []Codec) {
	t.Helper()
	for i, c := range codecs {
		if containsNumber(codecs[:i], c.PayloadType) {
			t.Fatalf("%s: payload type %d is there twice in %v", what, c.PayloadType, codecs)
		}
	}
}

// subset fails when an answer has a codec that the offer does not have under
// the same payload type.
func subset(t *rapid.T, what string, answer, offer []Codec) {
	t.Helper()
	for _, a := range answer {
		if !slices.ContainsFunc(offer, func(o Codec) bool { return o.Same(a) && o.PayloadType == a.PayloadType }) {
			t.Fatalf("%s: %v was not offered in %v", what, a, offer)
		}
	}
}

// TestNegotiationChain takes random codecs of both ends through a whole call
// set-up, in either direction.
func TestNegotiationChain(t *testing.T) {
	for name, relay := range map[string]func([]Codec, Policy) []Codec{
		"browser calls": OfferToCore, "core network calls": OfferToBrowser,
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				p := Policy{Encodings: rapid.SliceOfNDistinct(rapid.SampledFrom(DefaultPolicy().Encodings), 1, 4, strings.ToLower).Draw(t, "policy")}
				offer := anyCodecs(t, "caller")
				callee := anyCodecs(t, "callee")

				relayed := relay(offer, p)
				unique(t, "relayed offer", relayed)
				if len(relayed) > 0 && !hasVoice(relayed) {
					t.Fatalf("%v is offered without a voice codec", relayed)
				}
				for _, c := range relayed {
					if c.PayloadType < firstDynamic && !static[c.PayloadType].Same(c) {
						t.Fatalf("%v has a payload type that means something else", c)
					}
					if c.IsTelephoneEvent() {
						continue
					}
					if !slices.ContainsFunc(offer, c.Same) {
						t.Fatalf("%v was not offered in %v", c, offer)
					}
					if c.IsComfortNoise() && slices.ContainsFunc(relayed, Codec.silent) {
						continue
					}
					if !slices.ContainsFunc(p.Encodings, func(s string) bool { return strings.EqualFold(s, c.Encoding) }) {
						t.Fatalf("%v may not pass %v", c, p.Encodings)
					}
				}

				agreed, err := Negotiate(relayed, callee)
				common := slices.ContainsFunc(callee, func(c Codec) bool {
					return c.isVoice() && slices.ContainsFunc(relayed, c.Same)
				})
				if common != (err == nil) {
					t.Fatalf("Negotiate(%v, %v) gives %v", relayed, callee, err)
				}
				if err != nil {
					return
				}
				unique(t, "agreed", agreed)
				if !agreed[0].isVoice() {
					t.Fatalf("%v does not begin with a voice codec", agreed)
				}
				subset(t, "agreed", agreed, callee)

				answer := AnswerFor(offer, agreed)
				unique(t, "answer", answer)
				subset(t, "answer", answer, offer)
				if !hasVoice(answer) {
					t.Fatalf("no voice codec of %v is answered though %v is agreed", offer, agreed)
				}
				both := slices.ContainsFunc(offer, Codec.IsTelephoneEvent) && slices.ContainsFunc(agreed, Codec.IsTelephoneEvent)
				if both != slices.ContainsFunc(answer, Codec.IsTelephoneEvent) {
					t.Fatalf("events in the answer %v do not follow from the offer %v and the far end's %v", answer, offer, agreed)
				}

				// Whatever either end may now send has a way to the other end,
				// events too where both have them.
				for _, way := range [][2][]Codec{{answer, agreed}, {agreed, answer}} {
					from := way[0]
					if !both {
						from = slices.DeleteFunc(slices.Clone(from), Codec.IsTelephoneEvent)
					}
					if maps := Mappings(way[0], way[1]); len(maps) != len(from) {
						t.Fatalf("Mappings(%v, %v) = %v", way[0], way[1], maps)
					}
				}
				one := OneVoice(answer)
				subset(t, "one voice", one, answer)
				if n := len(slices.DeleteFunc(slices.Clone(one), func(c Codec) bool { return !c.isVoice() })); n != 1 {
					t.Fatalf("OneVoice(%v) = %v", answer, one)
				}
			})
		})
	}
}

// TestAnswerKeepsMediaLines puts the audio among other m-lines in any place.
func TestAnswerKeepsMediaLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		others := []string{
			"m=image 4000 udptl t38\r\n", "m=video 0 RTP/AVP 31\r\n", "m=text 4004 RTP/AVP 98\r\na=rtpmap:98 t140/1000\r\n",
			"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "m=audio 4010 RTP/SAVP 0\r\n", "m=message 7 TCP/MSRP *\r\n",
		}
		list := rapid.SliceOfN(rapid.SampledFrom(others), 0, 5).Draw(t, "others")
		at := rapid.IntRange(0, len(list)).Draw(t, "place")
		place := func(text string) string {
			head, audio, _ := strings.Cut(text, "m=audio")
			return head + strings.Join(slices.Insert(slices.Clone(list), at, "m=audio"+audio), "")
		}
		local := anyCoreEndpoint(t)
		local.RTCP = netip.AddrPort{}
		local.Codecs = append(local.Codecs[:0:0], Codec{0, "PCMU", 8000, 0, ""})
		coreText, err := CoreOffer(local)
		if err != nil {
			t.Fatal(err)
		}
		core, err := ParseCore(place(coreText))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := core.Answer(local)
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, answer, core.Media, at)

		browserText, err := WebRTCOffer(gatewayWithCodecs(local.Codecs))
		if err != nil {
			t.Fatal(err)
		}
		browser, err := ParseWebRTC(place(browserText))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err = browser.Answer(gatewayWithCodecs(local.Codecs)); err != nil {
			t.Fatal(err)
		}
		checkLines(t, answer, browser.Media, at)
	})
}

func gatewayWithCodecs(codecs []Codec) Endpoint {
	e := gatewayWebRTC()
	e.Codecs = codecs
	return e
}

func checkLines(t *rapid.T, answer string, offered []Media, accepted int) {
	t.Helper()
	d, err := lex(answer)
	if err != nil {
		t.Fatalf("%v in\n%s", err, answer)
	}
	if len(d.sections) != len(offered) {
		t.Fatalf("%d m-lines answer %d", len(d.sections), len(offered))
	}
	for i, s := range d.sections {
		if s.Kind != offered[i].Kind || s.Profile != offered[i].Profile || s.Mid != offered[i].Mid {
			t.Fatalf("m-line %d is %+v, offered was %+v", i, s.Media, offered[i])
		}
		if (s.Port != 0) != (i == accepted) {
			t.Fatalf("m-line %d has port %d, accepted should be %d", i, s.Port, accepted)
		}
	}
}
