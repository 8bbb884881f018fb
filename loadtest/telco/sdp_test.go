package telco

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
	"pgregory.net/rapid"
)

func TestDirections(t *testing.T) {
	for _, c := range []struct{ offer, wanted, answer direction }{
		{sendRecv, sendRecv, sendRecv}, {sendOnly, sendRecv, recvOnly}, {recvOnly, sendRecv, sendOnly},
		{inactive, sendRecv, inactive}, {sendRecv, sendOnly, sendOnly}, {sendOnly, sendOnly, inactive},
		{recvOnly, sendOnly, sendOnly}, {sendRecv, inactive, inactive},
	} {
		if got := c.offer.answerTo(c.wanted); got != c.answer {
			t.Errorf("an offer of %s within %s is answered %s, want %s", c.offer, c.wanted, got, c.answer)
		}
	}
}

func TestParseSession(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
	for _, c := range []struct {
		name, body string
		check      func(streamSide, offerShape) bool
	}{
		{"hold of old peers", head + "c=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", func(s streamSide, _ offerShape) bool {
			return s.direction == sendOnly && !s.address.IsValid()
		}},
		{"session direction, stream address, IPv6", head + "t=0 0\r\na=inactive\r\nm=audio 4000 RTP/AVP 8\r\nc=IN IP6 2001:db8::1\r\n", func(s streamSide, _ offerShape) bool {
			return s.direction == inactive && s.address.String() == "[2001:db8::1]:4000" && s.codecs[0].is(pcma)
		}},
		{"audio after video and a refused line", head + "c=IN IP4 192.0.2.1\r\nt=0 0\r\nm=video 5000 RTP/AVP 99\r\nm=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/AVP 9 0\r\na=rtcp:4011\r\n", func(s streamSide, o offerShape) bool {
			return o.audio == 2 && len(o.lines) == 3 && s.rtcp.Port() == 4011 && s.codecs[0].is(g722)
		}},
		{"dynamic types and events at two rates", head + "c=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 96 97 98 99\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:97 telephone-event/48000\r\na=rtpmap:98 telephone-event/8000\r\na=rtpmap:99 EVS/16000\r\na=rtcp-mux\r\n", func(s streamSide, _ offerShape) bool {
			return s.codecs[0].is(opus) && s.codecs[0].fmtp == "useinbandfec=1" && s.events[48000] == 97 && s.events[8000] == 98 && s.mux && s.rtcp == s.address
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			side, shape, err := parseSession([]byte(c.body))
			if err != nil || !c.check(side, shape) {
				t.Errorf("parsed as %+v, %+v, %v", side, shape, err)
			}
		})
	}
}

// What the network describes, it reads back the same.
func TestDescriptionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.SampledFrom([]string{"192.0.2.1:4000", "[2001:db8::2]:5004"}).Draw(t, "address")
		own := localStream{
			address:   netip.MustParseAddrPort(address),
			codecs:    rapid.Permutation(everyCodec).Draw(t, "codecs")[:rapid.IntRange(1, 4).Draw(t, "count")],
			events:    map[int]uint8{8000: 101},
			direction: rapid.SampledFrom([]direction{sendRecv, sendOnly, recvOnly, inactive}).Draw(t, "direction"),
			sessionID: rapid.Uint64().Draw(t, "session"), version: rapid.Uint64().Draw(t, "version"),
		}
		side, shape, err := parseSession(own.render(nil))
		if err != nil || side.address != own.address || side.direction != own.direction || len(side.codecs) != len(own.codecs) || side.events[8000] != 101 {
			t.Fatalf("%s\nread as %+v, %v", own.render(nil), side, err)
		}
		for i, c := range side.codecs {
			if !c.is(own.codecs[i]) || c.pt != own.codecs[i].pt {
				t.Fatalf("codec %d is %+v", i, c)
			}
		}
		shape.lines = append(shape.lines, mediaLine{"video", "RTP/AVP", "99"})
		if answer := string(own.render(&shape)); !strings.Contains(answer, "m=video 0 RTP/AVP 99\r\n") {
			t.Fatalf("answer drops a refused line:\n%s", answer)
		}
	})
}

func FuzzParseSession(f *testing.F) {
	f.Add([]byte(someOffer))
	f.Add([]byte("v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\na=rtcp:\r\na=rtpmap:\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		side, shape, err := parseSession(body)
		if err == nil && (shape.audio < 0 || shape.audio >= len(shape.lines)) {
			t.Fatalf("audio line %d of %d, %+v", shape.audio, len(shape.lines), side)
		}
	})
}

func FuzzDigestParams(f *testing.F) {
	f.Add(`Digest username="a\"b", realm="r", nc=00000001, qop=auth`)
	f.Add(`Digest a="`)
	f.Add("Digest ,,=,")
	f.Fuzz(func(t *testing.T, value string) {
		if params, ok := digestParams(value); ok && params == nil {
			t.Fatal("good header without parameters map")
		}
	})
}

func TestNumbers(t *testing.T) {
	n := normalizer{country: "+1", known: func(s string) bool { return s == "+15550100" || s == alice }}
	for dialled, want := range map[string]string{
		"+15550100":                        "+15550100",
		"+1-555-(01.00)":                   "+15550100",
		"5550100":                          "+15550100",
		"555-0100":                         "+15550100",
		"15550100":                         "+15550100",
		"0015550100":                       "+15550100",
		"%2B15550100":                      "+15550100",
		"+15550100;phone-context=x;isub=1": "+15550100",
		"5550100;phone-context=+1":         "+15550100",
		"30123456;phone-context=+49":       "+4930123456",
		"0301234567":                       "+1301234567",
		"15551000001":                      alice,
		"anonymous":                        "",
		"":                                 "",
		"+0123456":                         "",
		"+1234":                            "",
		"+1234567890123456":                "",
		"12a45":                            "",
		"+155501\r\nX: y":                  "",
		"++15550100":                       "",
		"*21#":                             "",
	} {
		if got := n.number(dialled); got != want {
			t.Errorf("%q is %q, want %q", dialled, got, want)
		}
	}
	var uri sip.Uri
	if err := sip.ParseUri("tel:+1-555-0100;isub=7", &uri); err != nil || n.uri(&uri) != "+15550100" {
		t.Errorf("tel URI is %q, %v", n.uri(&uri), err)
	}
}

func FuzzNumber(f *testing.F) {
	f.Add("+1-555-0100;phone-context=+1")
	f.Add("%2B1")
	n := normalizer{country: "+1", known: func(string) bool { return true }}
	f.Fuzz(func(t *testing.T, dialled string) {
		if got := n.number(dialled); got != "" && !isE164(got) {
			t.Fatalf("%q became %q", dialled, got)
		}
	})
}

func TestInfoDigits(t *testing.T) {
	for _, c := range []struct {
		kind, body string
		digit      byte
		ok         bool
	}{
		{"application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", '5', true},
		{"application/dtmf-relay; charset=utf-8", "Duration=160\r\nsignal = #\r\n", '#', true},
		{"Application/DTMF", " 7 ", '7', true},
		{"application/dtmf", "77", 0, false},
		{"application/dtmf-relay", "Duration=1", 0, false},
		{"text/plain", "5", 0, false},
	} {
		if digit, ok := infoDigit(c.kind, []byte(c.body)); digit != c.digit || ok != c.ok {
			t.Errorf("%s %q is %q, %v", c.kind, c.body, digit, ok)
		}
	}
}
