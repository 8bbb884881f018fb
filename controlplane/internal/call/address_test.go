package call

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestParseAddressForms(t *testing.T) {
	for _, c := range []struct {
		in, canonical, user, host, context string
		kind                               AddressKind
		number                             Number
	}{
		{in: "tel:+15550100", kind: TelGlobal, canonical: "tel:+15550100", user: "+15550100", number: "+15550100"},
		{in: "TEL:+15550100", kind: TelGlobal, canonical: "tel:+15550100", user: "+15550100", number: "+15550100"},
		{in: "tel:+12345", kind: TelGlobal, canonical: "tel:+12345", user: "+12345", number: "+12345"},
		{in: "tel:+123456789012345", kind: TelGlobal, canonical: "tel:+123456789012345", user: "+123456789012345", number: "+123456789012345"},
		{in: "tel:100;phone-context=+1555", kind: TelLocal, canonical: "tel:100;phone-context=+1555", user: "100", context: "+1555"},
		{in: "tel:*21#;phone-context=IMS.Example.com", kind: TelLocal, canonical: "tel:*21#;phone-context=ims.example.com", user: "*21#", context: "ims.example.com"},
		{in: "tel:123456789012345;phone-context=example.com", kind: TelLocal, canonical: "tel:123456789012345;phone-context=example.com", user: "123456789012345", context: "example.com"},
		{in: "sip:alice@Example.COM", kind: SIPUser, canonical: "sip:alice@example.com", user: "alice", host: "example.com"},
		{in: "sip:a.b_c!d%20e+f-g@ims.mnc001.mcc001.3gppnetwork.org", kind: SIPUser, canonical: "sip:a.b_c!d%20e+f-g@ims.mnc001.mcc001.3gppnetwork.org", user: "a.b_c!d%20e+f-g", host: "ims.mnc001.mcc001.3gppnetwork.org"},
		{in: "sip:+15550100@example.com", kind: SIPUser, canonical: "tel:+15550100", user: "+15550100", host: "example.com", number: "+15550100"},
		{in: "SIP:+15550100@Example.com;user=phone", kind: SIPUser, canonical: "tel:+15550100", user: "+15550100", host: "example.com", number: "+15550100"},
		{in: "sip:0123@example.com", kind: SIPUser, canonical: "sip:0123@example.com", user: "0123", host: "example.com"},
		{in: "sip:100;phone-context=+1555@Example.com;user=phone", kind: SIPLocal, canonical: "sip:100;phone-context=+1555@example.com;user=phone", user: "100", host: "example.com", context: "+1555"},
		{in: "sip:*9#;phone-context=Home.example@ims.example.com;User=Phone", kind: SIPLocal, canonical: "sip:*9#;phone-context=home.example@ims.example.com;user=phone", user: "*9#", host: "ims.example.com", context: "home.example"},
		{in: "urn:service:sos", kind: EmergencyService, canonical: "urn:service:sos", user: "sos"},
		{in: "URN:Service:SOS.Fire", kind: EmergencyService, canonical: "urn:service:sos.fire", user: "sos.fire"},
		{in: "urn:service:sos.animal-control.x", kind: EmergencyService, canonical: "urn:service:sos.animal-control.x", user: "sos.animal-control.x"},
		{in: "sip:anonymous@anonymous.invalid", kind: Anonymous, canonical: "sip:anonymous@anonymous.invalid", user: "anonymous", host: "anonymous.invalid"},
		{in: "sip:Anonymous@Anonymous.INVALID", kind: Anonymous, canonical: "sip:anonymous@anonymous.invalid", user: "anonymous", host: "anonymous.invalid"},
		{in: "sip:anonymous@anonymous.invalid;user=phone", kind: Anonymous, canonical: "sip:anonymous@anonymous.invalid", user: "anonymous", host: "anonymous.invalid"},
	} {
		t.Run(c.in, func(t *testing.T) {
			a, err := ParseAddress(c.in)
			if err != nil {
				t.Fatal(err)
			}
			number, _ := a.Number()
			if a.Kind() != c.kind || a.User() != c.user || a.Host() != c.host || a.PhoneContext() != c.context || number != c.number {
				t.Errorf("parsed as kind %d, user %q, host %q, context %q, number %q", a.Kind(), a.User(), a.Host(), a.PhoneContext(), number)
			}
			if got := a.Canonical(); got != c.canonical {
				t.Errorf("canonical is %q, want %q", got, c.canonical)
			}
			if a.String() != c.in {
				t.Errorf("String is %q, want it as it was sent", a.String())
			}
			if a.IsZero() {
				t.Error("a parsed address is absent")
			}
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, in := range []string{
		"", ":", "tel", "tel:", "sip:", "urn:", "alice", "+15550100", "mailto:a@example.com", "sips:alice@example.com",
		"tel:+1234", "tel:+1234567890123456", "tel:+05550100", "tel:15550100", "tel:+1 555 0100", "tel:+1-555-0100", "tel:+1555010a",
		"tel:+15550100;ext=1", "tel:+15550100;phone-context=+1", " tel:+15550100", "tel:+15550100 ",
		"tel:;phone-context=+1", "tel:100;phone-context=", "tel:100;phone-context=+", "tel:100;phone-context=+1234567890123456",
		"tel:100;phone-context=single", "tel:1234567890123456;phone-context=+1", "tel:10a;phone-context=+1", "tel:100;phone-context=+1;x=y",
		"sip:@example.com", "sip:alice", "sip:alice@", "sip:alice@host", "sip:alice@example.com:5060", "sip:alice@-a.example",
		"sip:alice@a-.example", "sip:alice@a..example", "sip:alice@example.com;transport=tcp", "sip:alice@example.com;user=ip",
		"sip:alice:secret@example.com", "sip:al ice@example.com", "sip:<alice>@example.com", "sip:alice@example.com?Subject=x",
		"sip:alice@bob@example.com", "sip:\"a\"@example.com", "sip:a;b@example.com", "sip:alice@[::1]",
		"sip:100;phone-context=+1@example.com", "sip:100;phone-context=+1@example.com;user=ip", "sip:a;phone-context=+1@example.com;user=phone",
		"sip:alice%@example.com", "sip:alice%4@example.com", "sip:alice%zz@example.com",
		"sip:alice%0d%0aVia@example.com", "sip:alice%00@example.com", "sip:alice%7F@example.com",
		"urn:service:counseling", "urn:service:sos.", "urn:service:sos..fire", "urn:service:sosfire", "urn:service:sos.fi re", "urn:service:", "urn:sos",
		"tel:+15550100\r\n", "tel:+15550100\n", "sip:alice@example.com\r\nVia: x", "sip:ali\rce@example.com", "sip:alice@exam\nple.com",
		"urn:service:sos\n", "tel:100;phone-context=+1\r\n", "tel:100;phone-context=example.com\n", "sip:anonymous@anonymous.invalid\r\n",
		"tel:+1555\x000100", "sip:älice@example.com", "tel:+１５５５０１００",
	} {
		a, err := ParseAddress(in)
		var e *Error
		if !errors.As(err, &e) || e.Code != InvalidArgument {
			t.Errorf("%q: parsed as %+v with error %v, want INVALID_ARGUMENT", in, a, err)
			continue
		}
		if !a.IsZero() || a.Canonical() != "" || a.Equal(a) {
			t.Errorf("%q: a refused address is not absent: %+v", in, a)
		}
		if strings.ContainsFunc(e.Message, unicode.IsControl) {
			t.Errorf("%q: the message %q has control characters", in, e.Message)
		}
	}
}

func TestAddressLength(t *testing.T) {
	tail := "@example.com"
	fits := "sip:" + strings.Repeat("a", MaxAddressLength-len("sip:"+tail)) + tail
	if _, err := ParseAddress(fits); err != nil {
		t.Errorf("%d characters: %v", len(fits), err)
	}
	if _, err := ParseAddress("sip:a" + fits[4:]); err == nil {
		t.Errorf("%d characters are accepted", len(fits)+1)
	}
}

func TestAddressEqual(t *testing.T) {
	parse := func(s string) Address {
		a, err := ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"tel:+15550100", "sip:+15550100@example.com", true},
		{"tel:+15550100", "sip:+15550100@other.example;user=phone", true},
		{"tel:+15550100", "tel:+15550101", false},
		{"sip:alice@example.com", "sip:alice@EXAMPLE.com", true},
		{"sip:alice@example.com", "sip:Alice@example.com", false},
		{"tel:100;phone-context=+1", "tel:100;phone-context=+2", false},
		{"tel:100;phone-context=example.com", "sip:100;phone-context=example.com@example.com;user=phone", false},
		{"urn:service:sos", "urn:service:SOS", true},
	} {
		if got := parse(c.a).Equal(parse(c.b)); got != c.want {
			t.Errorf("%s and %s: equal is %t", c.a, c.b, got)
		}
	}
	if (Address{}).Equal(Address{}) {
		t.Error("two absent addresses name the same party")
	}
	if !AnonymousAddress().Equal(parse(anonymousURI)) {
		t.Error("the anonymous address differs from its URI")
	}
	if !Number("+15550100").Address().Equal(parse("tel:+15550100")) {
		t.Error("a number's address differs from its tel URI")
	}
}

func TestAddressJSON(t *testing.T) {
	for _, s := range []string{"", "tel:+15550100", "SIP:alice@Example.com", anonymousURI} {
		text, _ := json.Marshal(s)
		var a Address
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again, err := json.Marshal(a); err != nil || string(again) != string(text) {
			t.Errorf("%s became %s, %v", text, again, err)
		}
	}
	var a Address
	for _, text := range []string{`"nonsense"`, `7`, `"tel:+1555\r\n0100"`} {
		if err := json.Unmarshal([]byte(text), &a); err == nil {
			t.Errorf("%s is accepted as %+v", text, a)
		}
	}
}

// addressText draws texts near the grammar: parts of addresses in any order,
// with what must not get through between them.
func addressText() *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{
		"tel:", "sip:", "urn:", "SIP:", "service:", "sos", ".", "fire", "+", "1555", "0100", "*", "#", ";phone-context=", ";user=phone",
		"@", "alice", "Example", ".com", "anonymous", "anonymous.invalid", "%", "0d", "0A", "41", "-", "_", "!", " ", "\r", "\n", "\x00", "\t", ":", ";", "<", ">", "\"", "ü",
	})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 0, 10).Draw(t, "parts"), "")
	})
}

// checkAddress holds what must be true of every text, accepted or not.
func checkAddress(t interface{ Fatalf(string, ...any) }, s string) {
	a, err := ParseAddress(s)
	if err != nil {
		if CodeOf(err) != InvalidArgument {
			t.Fatalf("%q is refused with %v", s, err)
		}
		return
	}
	for _, text := range []string{a.String(), a.Canonical(), a.User(), a.Host(), a.PhoneContext()} {
		if i := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>",\`, r) }); i >= 0 {
			t.Fatalf("%q is accepted though %q at %d can break out of a header", s, text, i)
		}
	}
	again, err := ParseAddress(a.Canonical())
	if err != nil {
		t.Fatalf("%q has the canonical form %q, which is refused: %v", s, a.Canonical(), err)
	}
	if !again.Equal(a) || again.Canonical() != a.Canonical() {
		t.Fatalf("%q has the canonical form %q, whose is %q", s, a.Canonical(), again.Canonical())
	}
	if (again.Kind() == Anonymous) != (a.Kind() == Anonymous) {
		t.Fatalf("%q is anonymous in one of its forms only", s)
	}
}

func TestAddressProperties(t *testing.T) {
	t.Run("near the grammar", rapid.MakeCheck(func(t *rapid.T) { checkAddress(t, addressText().Draw(t, "text")) }))
	t.Run("any text", rapid.MakeCheck(func(t *rapid.T) { checkAddress(t, rapid.String().Draw(t, "text")) }))
	t.Run("control characters", rapid.MakeCheck(func(t *rapid.T) {
		valid := rapid.SampledFrom([]string{"tel:+15550100", "tel:1;phone-context=a.example", "sip:alice@example.com", "sip:1;phone-context=+1@a.example;user=phone", "urn:service:sos.fire", anonymousURI}).Draw(t, "address")
		at := rapid.IntRange(0, len(valid)).Draw(t, "at")
		control := rapid.SampledFrom([]string{"\r", "\n", "\r\n", "\x00", "\t", "\x0b", "\x7f", "\u0085", "\u2028"}).Draw(t, "control")
		if a, err := ParseAddress(valid[:at] + control + valid[at:]); err == nil {
			t.Fatalf("accepted as %+v", a)
		}
	}))
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"tel:+15550100", "tel:*21#;phone-context=+1", "sip:alice@example.com", "sip:1;phone-context=a.example@b.example;user=phone",
		"urn:service:sos.fire", anonymousURI, "sip:a%0d@example.com", "tel:+15550100\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkAddress(t, s) })
}
