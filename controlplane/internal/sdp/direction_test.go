package sdp

import "testing"

func TestDirection(t *testing.T) {
	for _, c := range []struct {
		d, reverse, hold Direction
		sends, receives  bool
	}{
		{SendRecv, SendRecv, SendOnly, true, true},
		{"", SendRecv, SendOnly, true, true},
		{SendOnly, RecvOnly, SendOnly, true, false},
		{RecvOnly, SendOnly, Inactive, false, true},
		{Inactive, Inactive, Inactive, false, false},
	} {
		if c.d.Reverse() != c.reverse || c.d.Hold() != c.hold || c.d.Sends() != c.sends ||
			c.d.Receives() != c.receives || c.d.Holds() == c.receives || !c.d.Valid() {
			t.Errorf("%q: reverse %q, hold %q, sends %t, receives %t, holds %t",
				c.d, c.d.Reverse(), c.d.Hold(), c.d.Sends(), c.d.Receives(), c.d.Holds())
		}
	}
	if Direction("both").Valid() {
		t.Error(`"both" is no direction`)
	}
}

// TestDirectionAnswer is the table of RFC 3264 6.1: what each side may answer.
func TestDirectionAnswer(t *testing.T) {
	for _, c := range []struct{ offered, wanted, answer Direction }{
		{SendRecv, SendRecv, SendRecv}, {SendRecv, SendOnly, SendOnly}, {SendRecv, RecvOnly, RecvOnly}, {SendRecv, Inactive, Inactive},
		{SendOnly, SendRecv, RecvOnly}, {SendOnly, SendOnly, Inactive}, {SendOnly, RecvOnly, RecvOnly}, {SendOnly, "", RecvOnly},
		{RecvOnly, SendRecv, SendOnly}, {RecvOnly, SendOnly, SendOnly}, {RecvOnly, RecvOnly, Inactive},
		{Inactive, SendRecv, Inactive}, {Inactive, SendOnly, Inactive},
	} {
		if got := c.offered.Answer(c.wanted); got != c.answer {
			t.Errorf("%s offered, %s wanted: answer %s, want %s", c.offered, c.wanted, got, c.answer)
		}
	}
}

// TestDirectionResume: taking the other side off hold does not end its own hold.
func TestDirectionResume(t *testing.T) {
	for remote, want := range map[Direction]Direction{
		SendRecv: SendRecv, RecvOnly: SendRecv, SendOnly: RecvOnly, Inactive: RecvOnly,
	} {
		if got := SendOnly.Resume(remote); got != want {
			t.Errorf("peer says %s: resume with %s, want %s", remote, got, want)
		}
	}
}
