package call

import (
	"testing"

	"pgregory.net/rapid"
)

func TestProvisionalStatus(t *testing.T) {
	for code := 100; code <= 199; code++ {
		want, told := Proceeding, true
		switch code {
		case 100, 199:
			want, told = "", false
		case 180:
			want = Ringing
		case 182:
			want = Waiting
		case 183:
			want = InProgress
		}
		if got, ok := ProvisionalStatus(code); got != want && told || ok != told {
			t.Errorf("%d is %q, %t, want %q, %t", code, got, ok, want, told)
		}
	}
	for _, code := range []int{0, 99, 200, 486} {
		if _, ok := ProvisionalStatus(code); ok {
			t.Errorf("%d passes as provisional", code)
		}
	}
}

func TestFinalStatus(t *testing.T) {
	for _, c := range []struct {
		name      string
		signal    Signal
		rang      bool
		cancelled bool
		want      Status
	}{
		{name: "busy here", signal: Signal{Code: 486}, want: Busy},
		{name: "busy everywhere", signal: Signal{Code: 600}, want: Busy},
		{name: "decline", signal: Signal{Code: 603}, want: Declined},
		{name: "unwanted", signal: Signal{Code: 607}, want: Declined},
		{name: "not found", signal: Signal{Code: 404}, want: NotReachable},
		{name: "gone", signal: Signal{Code: 410}, want: NotReachable},
		{name: "address incomplete", signal: Signal{Code: 484}, want: NotReachable},
		{name: "does not exist anywhere", signal: Signal{Code: 604}, want: NotReachable},
		{name: "unavailable without ringing", signal: Signal{Code: 480}, want: NotReachable},
		{name: "unavailable after ringing", signal: Signal{Code: 480}, rang: true, want: NoAnswer},
		{name: "request timeout", signal: Signal{Code: 408}, want: NoAnswer},
		{name: "terminated after our CANCEL", signal: Signal{Code: 487}, cancelled: true, want: SessionCancelled},
		{name: "terminated though we did not cancel", signal: Signal{Code: 487}, want: SessionCancelled},
		{name: "our CANCEL with a cause", signal: Signal{Code: 487, Q850: 17}, cancelled: true, want: SessionCancelled},
		{name: "refused while our CANCEL was under way", signal: Signal{Code: 486}, cancelled: true, want: Busy},
		{name: "conditional request failed", signal: Signal{Code: 412}, want: Failed},
		{name: "flow failed", signal: Signal{Code: 430}, want: Failed},
		{name: "not acceptable here", signal: Signal{Code: 488}, want: Failed},
		{name: "moved", signal: Signal{Code: 302}, want: Failed},
		{name: "unauthorized", signal: Signal{Code: 401}, want: Failed},
		{name: "forbidden", signal: Signal{Code: 403}, want: Failed},
		{name: "server error", signal: Signal{Code: 500}, want: Failed},
		{name: "unavailable service", signal: Signal{Code: 503}, want: Failed},
		{name: "not acceptable", signal: Signal{Code: 606}, want: Failed},
		{name: "transport failure", signal: Signal{}, want: Failed},
		{name: "Q.850 user busy", signal: Signal{Code: 480, Q850: 17}, want: Busy},
		{name: "Q.850 no user responding", signal: Signal{Code: 500, Q850: 18}, want: NoAnswer},
		{name: "Q.850 no answer", signal: Signal{Code: 480, Q850: 19}, want: NoAnswer},
		{name: "Q.850 unallocated", signal: Signal{Code: 500, Q850: 1}, want: NotReachable},
		{name: "Q.850 no route", signal: Signal{Code: 500, Q850: 3}, want: NotReachable},
		{name: "Q.850 absent", signal: Signal{Code: 480, Q850: 20}, rang: true, want: NotReachable},
		{name: "Q.850 number changed", signal: Signal{Code: 480, Q850: 22}, rang: true, want: NotReachable},
		{name: "Q.850 invalid number", signal: Signal{Code: 486, Q850: 28}, want: NotReachable},
		{name: "Q.850 rejected", signal: Signal{Code: 480, Q850: 21}, want: Declined},
		{name: "Q.850 no circuit", signal: Signal{Code: 486, Q850: 34}, want: Failed},
		{name: "Q.850 out of order", signal: Signal{Code: 480, Q850: 38}, want: Failed},
		{name: "Q.850 temporary failure", signal: Signal{Code: 480, Q850: 41}, want: Failed},
		{name: "Q.850 congestion", signal: Signal{Code: 480, Q850: 42}, want: Failed},
		{name: "Q.850 no resource", signal: Signal{Code: 480, Q850: 47}, want: Failed},
		{name: "Q.850 that says nothing leaves it to the code", signal: Signal{Code: 486, Q850: 16}, want: Busy},
	} {
		if got := FinalStatus(c.signal, c.rang, c.cancelled); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestFinalStatusFits: whatever the network says, the status is final and can
// follow any status of an outgoing call that is being set up.
func TestFinalStatusFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Signal{Code: rapid.IntRange(0, 699).Draw(t, "code"), Q850: rapid.IntRange(0, 127).Draw(t, "q850")}
		got := FinalStatus(s, rapid.Bool().Draw(t, "rang"), rapid.Bool().Draw(t, "cancelled"))
		from := rapid.SampledFrom([]Status{Initial, InProgress, Ringing, Proceeding, Waiting}).Draw(t, "from")
		if !got.Final() || got == Terminated || !CanFollow(Origination, from, got) {
			t.Fatalf("%+v makes %s of %s", s, got, from)
		}
	})
}

func TestSignalReason(t *testing.T) {
	for _, c := range []struct {
		signal Signal
		want   string
	}{
		{Signal{Code: 183, Phrase: "Session Progress"}, "SIP 183 Session Progress"},
		{Signal{Code: 480, Phrase: "Temporarily Unavailable", Q850: 19}, "SIP 480 Temporarily Unavailable; Q.850 19"},
		{Signal{Phrase: "connection lost"}, "connection lost"},
		{Signal{Q850: 16}, "Q.850 16"},
		{Signal{Code: 486}, "SIP 486"},
		{Signal{}, ""},
	} {
		if got := c.signal.Reason(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.signal, got, c.want)
		}
	}
}
