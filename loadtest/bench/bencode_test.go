package bench

import (
	"reflect"
	"testing"
)

func TestBencode(t *testing.T) {
	value := map[string]any{"command": "offer", "n": -3, "flags": []any{"a", []any{}}, "d": map[string]any{}}
	text := "d7:command5:offer1:dde5:flagsl1:alee1:ni-3ee"
	if got := string(encode(value)); got != text {
		t.Errorf("encoded %q, want %q", got, text)
	}
	got, rest, err := decode(text + "x")
	if err != nil || rest != "x" || !reflect.DeepEqual(got, map[string]any{"command": "offer", "n": -3, "flags": []any{"a", []any(nil)}, "d": map[string]any{}}) {
		t.Errorf("decoded %#v, %q, %v", got, rest, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"d1:a1:be", "li1ei2ee", "5:ab", "i", "d", "l", "-1:", "999999999999:", "di1e1:ae"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, rest, err := decode(s); err == nil && len(rest) >= len(s) {
			t.Errorf("%q was decoded from nothing", s)
		}
	})
}
