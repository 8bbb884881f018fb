package sdp

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

// seed gives a fuzz target every description of the test data.
func seed(f *testing.F) { seeds(f, func(text string) { f.Add(text) }) }

func seeds(f *testing.F, each func(text string)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		text, err := readFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for section := range strings.SplitSeq(text, "-- ") {
			if _, sdp, ok := strings.Cut(section, ".sdp --\n"); ok {
				each(strings.ReplaceAll(sdp, "\n", "\r\n"))
			}
		}
	}
}

// FuzzParseWebRTC: no text makes the parser panic; what can be read can be
// answered, with its m-lines, and the answer can be read.
func FuzzParseWebRTC(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseWebRTC(text)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		local := gatewayWebRTC()
		local.Codecs = AnswerFor(o.Codecs, OfferToCore(o.Codecs, DefaultPolicy()))
		answer, err := o.Answer(local)
		if len(local.Codecs) == 0 {
			if !errors.Is(err, ErrNoCommonCodec) {
				t.Fatalf("no codec in common, but error %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseWebRTC(answer)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v\n%s", err, answer)
		}
		if len(back.Media) != len(o.Media) || back.Audio != o.Audio || back.Mid != o.Mid || back.Setup == SetupActpass {
			t.Fatalf("the answer does not fit\n%+v\n%s", o, answer)
		}
		if _, err := Negotiate(o.Codecs, back.Codecs); err != nil {
			t.Fatal(err)
		}
		if invite, err := CoreOffer(CoreEndpoint{Address: gatewayCore().Address, Codecs: OfferToCore(o.Codecs, DefaultPolicy())}); err != nil {
			t.Fatalf("the INVITE cannot be written: %v\n%s", err, invite)
		}
	})
}

// FuzzParseCore is the same for the core network's side.
func FuzzParseCore(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseCore(text)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		local := gatewayCore()
		local.RTCP = netip.AddrPort{}
		local.Codecs = AnswerFor(o.Codecs, OfferToBrowser(o.Codecs, DefaultPolicy()))
		answer, err := o.Answer(local)
		if len(local.Codecs) == 0 && !o.Rejected {
			if !errors.Is(err, ErrNoCommonCodec) {
				t.Fatalf("no codec in common, but error %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCore(answer)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v\n%s", err, answer)
		}
		if len(back.Media) != len(o.Media) || back.Rejected != o.Rejected || (!o.Rejected && back.Audio != o.Audio) {
			t.Fatalf("the answer does not fit\n%+v\n%s", o, answer)
		}
		if o.Rejected {
			return
		}
		if _, err := Negotiate(o.Codecs, back.Codecs); err != nil {
			t.Fatal(err)
		}
		if offer, err := WebRTCOffer(gatewayWithCodecs(OfferToBrowser(o.Codecs, DefaultPolicy()))); err != nil {
			t.Fatalf("the browser's offer cannot be written: %v\n%s", err, offer)
		}
	})
}

func checkFuzzError(t *testing.T, err error) {
	var e *Error
	if !errors.As(err, &e) || e.Reason == "" || !isVisible(e.Reason) {
		t.Fatalf("error %#v has no reason that can be shown", err)
	}
}
