package header

import (
	"slices"
	"testing"

	"github.com/emiago/sipgo/sip"
	"pgregory.net/rapid"
)

const message = "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bKa, SIP/2.0/UDP i;branch=z9hG4bKb\r\nf: <sip:a@b>;TAG=1\r\nTo: <sip:a@b>\r\ni: x\r\nCSeq: 1 OPTIONS\r\n" +
	"k: 100rel,\ttimer\r\nSUPPORTED: path\r\nx: 90;Refresher=uac\r\nReason: SIP;cause=200;text=\"a, b\", Q.850 ; cause=16\r\nContent-Length: 0\r\n\r\n"

func parse(t *testing.T) sip.Message {
	t.Helper()
	m, err := sip.ParseMessage([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFields(t *testing.T) {
	m := parse(t)
	if got := List(m, "Supported"); !slices.Equal(got, []string{"100rel", "timer", "path"}) {
		t.Errorf("Supported %q", got)
	}
	if !Has(m, "supported", "TIMER") || Has(m, "supported", "time") {
		t.Error("Has")
	}
	if got := First(m, "Session-Expires"); got != "90;Refresher=uac" {
		t.Errorf("Session-Expires %q", got)
	}
	v, params := Params(First(m, "Session-Expires"))
	if n, ok := Number(v); !ok || n != 90 || params["refresher"] != "uac" {
		t.Errorf("%q %v", v, params)
	}
	if got := len(Values(m, "Via")); got != 2 {
		t.Errorf("%d Via", got)
	}
	if Tag(m.From().Params) != "1" || Tag(m.To().Params) != "" {
		t.Error("Tag")
	}
	if Q850(m) != 16 || SIPCause(m) != 200 {
		t.Errorf("Reason %d, %d", Q850(m), SIPCause(m))
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[string]uint32{"7": 7, " 120 (soon)": 120, "5;duration=1": 5, "4294967295": 4294967295} {
		if got, ok := Number(in); !ok || got != want {
			t.Errorf("%q: %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-1", "+1", "x", "4294967296", "1x"} {
		if got, ok := Number(in); ok {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestNameAddr(t *testing.T) {
	for in, want := range map[string][3]string{
		`"A, \"B\" <C>" <sip:a@b;x=y?h=1>;tag=t`: {`A, "B" <C>`, "sip:a@b;x=y?h=1", "t"},
		`sip:a@b;tag=t`:                          {"", "sip:a@b", "t"},
		`Ann Lee <tel:+1>`:                       {"Ann Lee", "tel:+1", ""},
	} {
		name, uri, params, ok := NameAddr(in)
		if !ok || name != want[0] || uri != want[1] || params["tag"] != want[2] {
			t.Errorf("%s: %q %q %v", in, name, uri, params)
		}
	}
	for _, in := range []string{"", "<>", "<sip:a@b", `"x`} {
		if _, uri, _, ok := NameAddr(in); ok && uri == "" {
			t.Errorf("%s was accepted", in)
		}
	}
}

// Whatever is quoted comes back, but for control characters and outer spaces.
func TestQuoteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		if got := Unquote(Quote(s)); got != Printable(s) {
			t.Fatalf("%q became %q", s, got)
		}
		if parts := Split(Quote(s)+", x", ','); len(parts) != 2 {
			t.Fatalf("%q splits into %q", s, parts)
		}
	})
}
