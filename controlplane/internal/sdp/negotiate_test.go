package sdp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// list reads codecs from the form "111 opus/48000/2 | 101 telephone-event/8000 0-15".
func list(t *testing.T, text string) []Codec {
	t.Helper()
	var out []Codec
	for item := range strings.SplitSeq(text, "|") {
		fields := strings.Fields(item)
		if len(fields) == 0 {
			continue
		}
		c, err := parseRtpmap(fields[0] + " " + fields[1])
		if err != nil {
			t.Fatal(err)
		}
		c.Fmtp = strings.Join(fields[2:], " ")
		out = append(out, c)
	}
	return out
}

const (
	chromium = "111 opus/48000/2 minptime=10;useinbandfec=1 | 63 red/48000/2 111/111 | 9 G722/8000 | 0 PCMU/8000 | 8 PCMA/8000 | 13 CN/8000 | 110 telephone-event/48000 | 126 telephone-event/8000"
	opusOnly = "111 opus/48000/2 minptime=10;useinbandfec=1 | 126 telephone-event/8000 0-15 | 110 telephone-event/48000 0-15"
)

func TestOfferToCore(t *testing.T) {
	for name, c := range map[string]struct {
		browser string
		policy  []string
		want    string
	}{
		"opus alone":                 {chromium, []string{"opus"}, opusOnly},
		"policy decides the order":   {chromium, []string{"pcma", "G722"}, "8 PCMA/8000 | 9 G722/8000 | 13 CN/8000 | 126 telephone-event/8000 0-15"},
		"events for those without":   {"8 PCMA/8000", []string{"PCMA"}, "8 PCMA/8000 | 101 telephone-event/8000 0-15"},
		"numbers below 96 move":      {"35 opus/48000/2 | 36 telephone-event/48000 | 37 telephone-event/8000", []string{"opus"}, "111 opus/48000/2 | 101 telephone-event/8000 0-15 | 110 telephone-event/48000 0-15"},
		"the customary one is taken": {"101 opus/48000/2", []string{"opus"}, "101 opus/48000/2 | 96 telephone-event/8000 0-15 | 110 telephone-event/48000 0-15"},
		"static keeps its meaning":   {"9 PCMA/8000 | 96 PCMU/8000", []string{"PCMU", "PCMA"}, "96 PCMU/8000 | 8 PCMA/8000 | 101 telephone-event/8000 0-15"},
		"nothing may pass":           {"103 ISAC/16000 | 126 telephone-event/8000", []string{"opus", "PCMA"}, ""},
		"opus of one channel":        {"111 opus/48000", []string{"opus"}, "111 opus/48000 | 101 telephone-event/8000 0-15 | 110 telephone-event/48000 0-15"},
	} {
		t.Run(name, func(t *testing.T) {
			same(t, OfferToCore(list(t, c.browser), Policy{Encodings: c.policy}), list(t, c.want))
		})
	}
}

func TestOfferToBrowser(t *testing.T) {
	for name, c := range map[string]struct{ core, want string }{
		"without events":           {"8 PCMA/8000 | 0 PCMU/8000", "0 PCMU/8000 | 8 PCMA/8000"},
		"events 0-16":              {"8 PCMA/8000 | 101 telephone-event/8000 0-16", "8 PCMA/8000 | 101 telephone-event/8000 0-15"},
		"fewer events":             {"8 PCMA/8000 | 101 telephone-event/8000 0-11", "8 PCMA/8000 | 101 telephone-event/8000 0-11"},
		"events at another rate":   {"9 G722/8000 | 100 telephone-event/16000", "9 G722/8000 | 101 telephone-event/8000 0-15"},
		"events beside Opus":       {"96 opus/48000/2 | 101 telephone-event/8000", "96 opus/48000/2 | 101 telephone-event/8000 0-15 | 110 telephone-event/48000 0-15"},
		"the number 110 is taken":  {"110 opus/48000/2 | 101 telephone-event/8000", "110 opus/48000/2 | 101 telephone-event/8000 0-15 | 96 telephone-event/48000 0-15"},
		"numbers that are RTCP's":  {"8 PCMA/8000 | 72 telephone-event/8000", "8 PCMA/8000 | 101 telephone-event/8000 0-15"},
		"only codecs of mobiles":   {"104 EVS/16000 | 105 AMR-WB/16000 | 101 telephone-event/8000", ""},
		"upper and lower case":     {"8 pcma/8000 | 101 TELEPHONE-EVENT/8000", "8 pcma/8000 | 101 telephone-event/8000 0-15"},
		"another clock is another": {"97 PCMA/16000 | 9 G722/16000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			same(t, OfferToBrowser(list(t, c.core), DefaultPolicy()), list(t, c.want))
		})
	}
}

func TestNegotiate(t *testing.T) {
	for name, c := range map[string]struct{ offered, answered, want string }{
		"the answer's numbers":    {opusOnly, "96 opus/48000/2 stereo=1 | 97 telephone-event/8000 0-16", "96 opus/48000/2 stereo=1 | 97 telephone-event/8000 0-15"},
		"the answer's order":      {"0 PCMU/8000 | 8 PCMA/8000", "8 PCMA/8000 | 0 PCMU/8000", "8 PCMA/8000 | 0 PCMU/8000"},
		"what was not offered":    {"8 PCMA/8000", "18 G729/8000 | 8 PCMA/8000 | 101 telephone-event/8000", "8 PCMA/8000"},
		"the same format twice":   {"8 PCMA/8000", "8 PCMA/8000 | 97 PCMA/8000", "8 PCMA/8000"},
		"nothing in common":       {"8 PCMA/8000 | 101 telephone-event/8000", "18 G729/8000 | 101 telephone-event/8000", ""},
		"an answer of no formats": {"8 PCMA/8000", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Negotiate(list(t, c.offered), list(t, c.answered))
			if want := c.want == ""; want != errors.Is(err, ErrNoCommonCodec) || (err != nil) != want {
				t.Fatalf("error is %v", err)
			}
			same(t, got, list(t, c.want))
		})
	}
}

func TestAnswerFor(t *testing.T) {
	for name, c := range map[string]struct{ offer, accepted, want string }{
		"numbers of the offer":      {chromium, "96 opus/48000/2 stereo=0 | 97 telephone-event/48000", "111 opus/48000/2 stereo=0 | 110 telephone-event/48000 0-15 | 126 telephone-event/8000 0-15"},
		"events for Opus as well":   {chromium, "111 opus/48000/2 | 101 telephone-event/8000", "111 opus/48000/2 | 110 telephone-event/48000 0-15 | 126 telephone-event/8000 0-15"},
		"no 48000 Hz beside A-law":  {chromium, "8 PCMA/8000 | 101 telephone-event/8000", "8 PCMA/8000 | 126 telephone-event/8000 0-15"},
		"no events on the far side": {chromium, "8 PCMA/8000", "8 PCMA/8000"},
		"events across clock rates": {"9 G722/8000 | 100 telephone-event/16000", "9 G722/8000 | 101 telephone-event/8000 0-11", "9 G722/8000 | 100 telephone-event/16000 0-11"},
		"order of the far side":     {"0 PCMU/8000 | 8 PCMA/8000", "8 PCMA/8000 | 0 PCMU/8000", "8 PCMA/8000 | 0 PCMU/8000"},
		"no voice codec in common":  {"18 G729/8000 | 101 telephone-event/8000", "8 PCMA/8000 | 101 telephone-event/8000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			same(t, AnswerFor(list(t, c.offer), list(t, c.accepted)), list(t, c.want))
		})
	}
}

func TestOneVoice(t *testing.T) {
	for name, c := range map[string]struct{ codecs, want string }{
		"the first stays":        {"8 PCMA/8000 | 0 PCMU/8000 | 101 telephone-event/8000", "8 PCMA/8000 | 101 telephone-event/8000"},
		"events of its clock":    {"8 PCMA/8000 | 101 telephone-event/8000 | 110 telephone-event/48000", "8 PCMA/8000 | 101 telephone-event/8000"},
		"8000 Hz beside Opus":    {"96 opus/48000/2 | 101 telephone-event/8000 | 110 telephone-event/48000", "96 opus/48000/2 | 101 telephone-event/8000 | 110 telephone-event/48000"},
		"events of other clocks": {"9 G722/8000 | 100 telephone-event/16000", "9 G722/8000 | 100 telephone-event/16000"},
		"events come first":      {"101 telephone-event/8000 | 8 PCMA/8000", "8 PCMA/8000 | 101 telephone-event/8000"},
		"no voice at all":        {"101 telephone-event/8000", "101 telephone-event/8000"},
	} {
		t.Run(name, func(t *testing.T) { same(t, OneVoice(list(t, c.codecs)), list(t, c.want)) })
	}
}

func TestMappings(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"other numbers":            {"111 opus/48000/2 | 126 telephone-event/8000", "96 opus/48000/2 | 101 telephone-event/8000", "[{111 96} {126 101}]"},
		"8000 Hz to 48000 Hz":      {"111 opus/48000/2 | 126 telephone-event/8000", "111 opus/48000/2 | 110 telephone-event/48000", "[{111 111} {126 110}]"},
		"48000 Hz to 8000 Hz":      {"111 opus/48000/2 | 110 telephone-event/48000", "111 opus/48000/2 | 101 telephone-event/8000", "[{111 111} {110 101}]"},
		"the same rate first":      {"111 opus/48000/2 | 110 telephone-event/48000 | 126 telephone-event/8000", "111 opus/48000/2 | 101 telephone-event/8000 | 102 telephone-event/48000", "[{111 111} {110 102} {126 101}]"},
		"the far voice codec's":    {"9 G722/8000 | 100 telephone-event/16000", "111 opus/48000/2 | 9 G722/8000 | 101 telephone-event/8000 | 102 telephone-event/48000", "[{9 9} {100 102}]"},
		"no events there":          {"8 PCMA/8000 | 101 telephone-event/8000", "8 PCMA/8000", "[{8 8}]"},
		"a codec without the like": {"8 PCMA/8000 | 0 PCMU/8000", "8 PCMA/8000", "[{8 8}]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(Mappings(list(t, c.from), list(t, c.to))); got != c.want {
				t.Errorf("mappings are %s, want %s", got, c.want)
			}
		})
	}
}

// TestRelayed: an offer of everything can be written, and every codec of it passes.
func TestRelayed(t *testing.T) {
	text, err := CoreOffer(CoreEndpoint{Address: gatewayCore().Address, Codecs: Relayed()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCore(text)
	if err != nil {
		t.Fatal(err)
	}
	same(t, OfferToBrowser(c.Codecs, DefaultPolicy()), Relayed())
}

func TestNormalEvents(t *testing.T) {
	for in, want := range map[string]string{
		"": "0-15", "0-15": "0-15", "0-16": "0-15", "0-15,66,70": "0-15", "0-11": "0-11",
		"0-9,10-15": "0-15", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16": "0-15",
		"events=0-15": "0-15", "abc": "0-15", "9-3": "0-15", "0-255": "0-15", "16": "16",
	} {
		if got := normalEvents(in); got != want {
			t.Errorf("events %q become %q, want %q", in, got, want)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	if err := DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
	if err := (Policy{Encodings: []string{"pcma", "OPUS"}}).Validate(); err != nil {
		t.Error(err)
	}
	for want, names := range map[string][]string{
		"no encoding is named":             {},
		`encoding "EVS" is not known`:      {"PCMA", "EVS"},
		`encoding "opus" is named twice`:   {"Opus", "PCMU", "opus"},
		"telephone-event always passes":    {"PCMA", "Telephone-Event"},
		"known are opus, G722, PCMU, PCMA": {""},
	} {
		if err := (Policy{Encodings: names}).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error is %v, want one with %q", names, err, want)
		}
	}
}

func same(t *testing.T, got, want []Codec) {
	t.Helper()
	if full(got) != full(want) {
		t.Errorf("codecs are\n%s, want\n%s", full(got), full(want))
	}
}
