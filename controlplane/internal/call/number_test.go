package call

import "testing"

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"+12345", true}, {"+15550100", true}, {"+123456789012345", true},
		{"", false}, {"+", false}, {"+1234", false}, {"+1234567890123456", false}, {"+01234567", false},
		{"15550100", false}, {"0015550100", false}, {"+1 5550100", false}, {"+1555010O", false}, {"+15550100\n", false}, {"tel:+15550100", false},
	} {
		n, err := ParseNumber(c.in)
		switch {
		case c.ok && (err != nil || string(n) != c.in || n.Digits() != c.in[1:] || n.Address().String() != "tel:"+c.in):
			t.Errorf("%q: %q, %v", c.in, n, err)
		case !c.ok && (n != "" || CodeOf(err) != InvalidArgument):
			t.Errorf("%q is accepted as %q, %v", c.in, n, err)
		}
	}
	if Number("").Digits() != "" {
		t.Error("no number has digits")
	}
}
