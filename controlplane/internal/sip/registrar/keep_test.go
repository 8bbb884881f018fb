package registrar

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/reginfo"
)

// Bindings of an earlier process are refreshed once each, spread over the time
// that is given, and then live on like others; one that is refused is lost.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		const count = 100
		for i := range count {
			n := call.Number(fmt.Sprintf("+1555%04d", i))
			b.r.Keep(fmt.Sprint("a", i), b.trunk, n, time.Duration(i+1)*time.Second)
			b.r.Keep(fmt.Sprint("b", i), b.trunk, n, time.Duration(i+1)*time.Second)
		}
		if got := b.r.Count(); got != count {
			t.Errorf("%d bindings", got)
		}
		if err := b.r.Register(t.Context(), "c", b.trunk, "+15550000"); err != nil || b.s.take() != "" {
			t.Error("a kept binding needs a REGISTER for another device")
		}
		time.Sleep(count*time.Second + time.Millisecond)
		times := b.s.sent()
		for i, at := range times {
			if at != time.Duration(i+1)*time.Second {
				t.Errorf("REGISTER %d after %s", i, at)
			}
		}
		if len(times) != count {
			t.Errorf("%d REGISTERs", len(times))
		}
		time.Sleep(time.Hour)
		if n := len(b.s.sent()); n < 2*count || n > 3*count {
			t.Errorf("%d REGISTERs in an hour and a bit", n)
		}
		b.s.script(refused(403))
		time.Sleep(time.Hour)
		if b.lose() != 2*count+1 || b.r.Count() != 0 {
			t.Errorf("%d lost, %d left", b.lose(), b.r.Count())
		}
	})
}

func TestNotified(t *testing.T) {
	mine := func(uri string) bool { return uri == "sip:me" }
	for name, c := range map[string]struct {
		contact reginfo.Contact
		// then is what was sent within two minutes.
		then []string
		lost int
	}{
		"somebody else's":    {contact: reginfo.Contact{URI: "sip:you", State: "terminated", Event: "rejected"}},
		"as it should be":    {contact: reginfo.Contact{URI: "sip:me", State: "active", Event: "refreshed", Expires: time.Hour}},
		"shortened":          {contact: reginfo.Contact{URI: "sip:me", State: "active", Event: "shortened", Expires: 2 * time.Minute}, then: []string{"1m0.1s"}},
		"deactivated":        {contact: reginfo.Contact{URI: "sip:me", State: "terminated", Event: "deactivated"}, then: []string{"100ms"}},
		"expired":            {contact: reginfo.Contact{URI: "sip:me", State: "terminated", Event: "expired"}, then: []string{"100ms"}},
		"on probation":       {contact: reginfo.Contact{URI: "sip:me", State: "terminated", Event: "probation", RetryAfter: 50 * time.Second}, then: []string{"50.1s"}},
		"rejected":           {contact: reginfo.Contact{URI: "sip:me", State: "terminated", Event: "rejected"}, lost: 1},
		"taken away by hand": {contact: reginfo.Contact{URI: "sip:me", State: "terminated", Event: "unregistered"}, lost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setup()
				b.s.script(func(r Request) Answer { a := granted(3600)(r); a.Events = true; return a })
				if err := b.r.Register(t.Context(), "a", b.trunk, number); err != nil {
					t.Fatal(err)
				}
				if got := b.s.take(); got != "+15550100 3600, watch +15550100" {
					t.Errorf("sent %s", got)
				}
				info := reginfo.Info{Registrations: []reginfo.Registration{{}, {Contacts: []reginfo.Contact{{URI: "sip:x", State: "terminated"}, c.contact}}}}
				b.r.Notified("t", "+15550199", info, mine)
				b.r.Notified("t", number, info, mine)
				time.Sleep(2 * time.Minute)
				var then []string
				for _, at := range b.s.sent()[1:] {
					then = append(then, at.String())
				}
				if !slices.Equal(then, c.then) || b.lose() != c.lost {
					t.Errorf("REGISTER after %v, lost %d times", then, b.lose())
				}
				if c.lost > 0 && b.s.take() != "unwatch +15550100" {
					t.Error("a lost number is still watched")
				}
				b.r.Notified("t", number, info, mine)
			})
		})
	}
}
