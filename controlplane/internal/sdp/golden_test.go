package sdp

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden sections of the test data anew")

// gateway returns the gateway's own sides in the golden files.
func gatewayWebRTC() Endpoint {
	f := Fingerprint{Algorithm: "sha-256"}
	for i := range 32 {
		f.Value = append(f.Value, byte(7*i+3))
	}
	return Endpoint{
		SessionID: 8000001, Version: 2, Ufrag: "gwUf", Password: "gatewaygatewaygateway+",
		Fingerprint: f, SSRC: 305419896, CNAME: "isthmus",
		Candidates: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.10:3478"), netip.MustParseAddrPort("[2001:db8::10]:3478"),
		},
	}
}

func gatewayCore() CoreEndpoint {
	return CoreEndpoint{
		SessionID: 9000001, Version: 1,
		Address: netip.MustParseAddrPort("192.0.2.11:20000"),
		RTCP:    netip.MustParseAddrPort("192.0.2.11:20001"),
	}
}

// goldenCase is one file of test data: sections that peers write, and sections
// that the package must produce from them.
type goldenCase struct {
	t        *testing.T
	file     string
	comment  string
	sections []goldenSection
}

// goldenSection is what follows a line "-- name --" in a file, up to the next.
type goldenSection struct{ name, text string }

func readGolden(t *testing.T, file string) *goldenCase {
	text, err := readFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &goldenCase{t: t, file: file}
	current := &c.comment
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(name, " --\n") {
			c.sections = append(c.sections, goldenSection{name: strings.TrimSuffix(name, " --\n")})
			current = &c.sections[len(c.sections)-1].text
			continue
		}
		*current += line
	}
	return c
}

func readFile(file string) (string, error) {
	data, err := os.ReadFile(file)
	return string(data), err
}

func (c *goldenCase) write() error {
	text := c.comment
	for _, s := range c.sections {
		text += "-- " + s.name + " --\n" + s.text
	}
	return os.WriteFile(c.file, []byte(text), 0o644)
}

// golden runs a case for every file of a directory of test data.
func golden(t *testing.T, dir string, run func(*goldenCase)) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data in %s: %v", dir, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			c := readGolden(t, file)
			run(c)
			if *update {
				if err := c.write(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// given returns a section as it goes over the wire.
func (c *goldenCase) given(name string) string {
	c.t.Helper()
	for _, s := range c.sections {
		if s.name == name {
			return strings.ReplaceAll(s.text, "\n", "\r\n")
		}
	}
	c.t.Fatalf("%s has no section %s", c.file, name)
	return ""
}

// want compares a section with what was produced.
func (c *goldenCase) want(name, got string) {
	c.t.Helper()
	if strings.HasPrefix(got, "v=0") && strings.Count(got, "\n") != strings.Count(got, "\r\n") {
		c.t.Errorf("%s has lines that do not end in CRLF", name)
	}
	text := strings.ReplaceAll(got, "\r\n", "\n")
	for i, s := range c.sections {
		if s.name != name {
			continue
		}
		if *update {
			c.sections[i].text = text
		} else if s.text != text {
			c.t.Errorf("%s: %s is\n%s\nwant\n%s", c.file, name, text, s.text)
		}
		return
	}
	if !*update {
		c.t.Errorf("%s has no section %s; run the test with -update and read the difference", c.file, name)
		return
	}
	c.sections = append(c.sections, goldenSection{name, text})
}

func (c *goldenCase) webRTC(name string) *WebRTC {
	c.t.Helper()
	o, err := ParseWebRTC(c.given(name))
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	return o
}

func (c *goldenCase) core(name string) *Core {
	c.t.Helper()
	o, err := ParseCore(c.given(name))
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	return o
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// leg describes what a media node is told.
func leg(browser, core []Codec, peer *Core) string {
	var b strings.Builder
	fmt.Fprintf(&b, "core RTP %s RTCP %s mux %t, its direction %s\n", peer.Remote, peer.RTCP, peer.RTCPMux, peer.Direction)
	for _, m := range Mappings(browser, core) {
		fmt.Fprintf(&b, "browser %d -> core %d\n", m.From, m.To)
	}
	for _, m := range Mappings(core, browser) {
		fmt.Fprintf(&b, "core %d -> browser %d\n", m.From, m.To)
	}
	return b.String()
}

// TestOutgoing carries a browser's offer to the core network and the answer back.
func TestOutgoing(t *testing.T) {
	golden(t, "outgoing", func(c *goldenCase) {
		offer := c.webRTC("browser-offer.sdp")
		out := gatewayCore()
		out.Direction = offer.Direction
		out.Codecs = OfferToCore(offer.Codecs, DefaultPolicy())
		c.want("invite.sdp", must(CoreOffer(out))(c.t))

		peer := c.core("core-answer.sdp")
		agreed := must(Negotiate(out.Codecs, peer.Codecs))(c.t)
		back := gatewayWebRTC()
		back.Direction = peer.Direction
		back.Ptime = peer.Ptime
		back.Codecs = AnswerFor(offer.Codecs, agreed)
		c.want("answer.sdp", must(offer.Answer(back))(c.t))
		c.want("media.txt", leg(back.Codecs, agreed, peer))
	})
}

// TestIncoming carries the core network's offer to a browser and the answer back.
func TestIncoming(t *testing.T) {
	golden(t, "incoming", func(c *goldenCase) {
		offer := c.core("core-offer.sdp")
		out := gatewayWebRTC()
		out.Direction = offer.Direction
		out.Ptime = offer.Ptime
		out.Codecs = OfferToBrowser(offer.Codecs, DefaultPolicy())
		c.want("offer.sdp", must(WebRTCOffer(out))(c.t))

		browser := c.webRTC("browser-answer.sdp")
		agreed := must(Negotiate(out.Codecs, browser.Codecs))(c.t)
		back := gatewayCore()
		back.Direction = browser.Direction
		back.Codecs = OneVoice(AnswerFor(offer.Codecs, agreed))
		c.want("answer.sdp", must(offer.Answer(back))(c.t))
		c.want("media.txt", leg(agreed, back.Codecs, offer))
	})
}
