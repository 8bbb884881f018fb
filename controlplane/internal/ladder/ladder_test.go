package ladder

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = call.Number("+15550001")
	bob   = call.Number("+15550002")
)

func small() Config {
	c := Default()
	c.EntriesPerCall, c.Entries = 10, 30
	return c
}

func newLadder(t testing.TB, c Config, a Authenticate) *Ladder {
	t.Helper()
	l, err := New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// seen are the titles of what a reader gets who starts after the place.
func seen(l *Ladder, rd *reader) []string {
	var titles []string
	for {
		batch := l.read(rd)
		if len(batch) == 0 {
			return titles
		}
		for _, w := range batch {
			titles = append(titles, w.Title)
		}
	}
}

func TestCorrelation(t *testing.T) {
	e := func(title string, n call.Number, callID, sip string) gateway.TraceEntry {
		return gateway.TraceEntry{Title: title, Number: n, CallID: callID, SIPCallID: sip}
	}
	for _, tc := range []struct {
		name       string
		in         []gateway.TraceEntry
		alice, bob []string
		callIDs    map[string]string
	}{
		{
			name:  "entries of a number need nothing else",
			in:    []gateway.TraceEntry{e("token", alice, "", ""), e("other", bob, "", ""), e("nobody's", "", "", "")},
			alice: []string{"token"}, bob: []string{"other"},
		},
		{
			name:  "a call's number is that of any of its entries",
			in:    []gateway.TraceEntry{e("post", alice, "c1", ""), e("ICE", "", "c1", ""), e("stranger", "", "c2", "")},
			alice: []string{"post", "ICE"},
		},
		{
			name:  "what came before the number is known is shown then",
			in:    []gateway.TraceEntry{e("INVITE", "", "c1", "s1"), e("100", "", "", "s1"), e("invitation", bob, "c1", "")},
			bob:   []string{"INVITE", "100", "invitation"},
			alice: nil, callIDs: map[string]string{"100": "c1"},
		},
		{
			name:  "a Call-ID that is claimed later takes what waited",
			in:    []gateway.TraceEntry{e("INVITE", "", "", "s1"), e("post", alice, "c1", ""), e("180", "", "c1", "s1")},
			alice: []string{"post", "INVITE", "180"}, callIDs: map[string]string{"INVITE": "c1", "180": "c1"},
		},
		{
			name: "two calls with one Call-ID are kept apart",
			in: []gateway.TraceEntry{
				e("out", alice, "c1", "s1"), e("in", bob, "c2", "s1"),
				e("unclear", "", "", "s1"), e("bob's", bob, "", "s1"), e("c1's", "", "c1", "s1"), e("unclear too", "", "", "s1"),
			},
			alice: []string{"out", "c1's"}, bob: []string{"in", "bob's"},
			callIDs: map[string]string{"bob's": "c2", "unclear": "", "unclear too": ""},
		},
		{
			name:  "an entry with another number than its call's is shown to that one only",
			in:    []gateway.TraceEntry{e("one", alice, "c1", ""), e("two", bob, "c1", "")},
			alice: []string{"one"}, bob: []string{"two"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLadder(t, Default(), nil)
			for _, e := range tc.in {
				l.Trace(e)
			}
			if got := seen(l, &reader{number: alice}); !slices.Equal(got, tc.alice) {
				t.Errorf("alice sees %q, want %q", got, tc.alice)
			}
			if got := seen(l, &reader{number: bob}); !slices.Equal(got, tc.bob) {
				t.Errorf("bob sees %q, want %q", got, tc.bob)
			}
			if got := seen(l, &reader{everything: true}); len(got) != len(tc.in) {
				t.Errorf("the operator sees %q, want all %d", got, len(tc.in))
			}
			for _, w := range l.read(&reader{everything: true}) {
				if want, ok := tc.callIDs[w.Title]; ok && w.CallID != want {
					t.Errorf("%s is of call %q, want %q", w.Title, w.CallID, want)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	l := newLadder(t, small(), nil)
	for i := range 15 {
		l.Trace(gateway.TraceEntry{Title: fmt.Sprint(i), Number: alice, CallID: "c1", SIPCallID: "s1"})
	}
	if got := seen(l, &reader{number: alice}); len(got) != 10 || got[0] != "5" || got[9] != "14" {
		t.Errorf("kept of one call: %q, want 5 to 14", got)
	}
	for i := range 100 {
		l.Trace(gateway.TraceEntry{Title: fmt.Sprint(i), Number: bob, CallID: fmt.Sprint("c", i%7+2)})
	}
	if got := seen(l, &reader{everything: true}); len(got) != 30 {
		t.Errorf("%d entries are kept in total, want 30", len(got))
	}
	if got := seen(l, &reader{number: alice}); len(got) != 0 {
		t.Errorf("the oldest call still has %q", got)
	}
	if len(l.claims) != 0 || len(l.numbers) != 1 {
		t.Errorf("left behind: %d Call-IDs, %d numbers", len(l.claims), len(l.numbers))
	}
	l.Trace(gateway.TraceEntry{Text: strings.Repeat("ü", 20_000)})
	all := l.read(&reader{everything: true})
	if text := all[len(all)-1].Text; len(text) > l.cfg.TextBytes || !utf8.ValidString(text) || !strings.HasSuffix(text, "[… cut off]") {
		t.Errorf("a long text is kept with %d bytes, ends in %q", len(text), text[len(text)-20:])
	}
}

func TestDisabledKeepsNothing(t *testing.T) {
	c := Default()
	c.Enabled = false
	l := newLadder(t, c, nil)
	l.Trace(gateway.TraceEntry{Title: "x", Number: alice})
	if got := seen(l, &reader{everything: true}); got != nil {
		t.Errorf("a ladder that is off keeps %q", got)
	}
}

// TestProperties traces at random and checks the invariants of the package.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, err := New(small(), nil)
		if err != nil {
			t.Fatal(err)
		}
		// Truth: call c<i> belongs to alice when i is even, and has the SIP
		// Call-ID s<i>; an entry may hide any of these.
		follower := &reader{number: alice}
		var followed []string
		n := rapid.IntRange(1, 120).Draw(t, "entries")
		for i := range n {
			c := rapid.IntRange(0, 5).Draw(t, "call")
			owner := []call.Number{alice, bob}[c%2]
			e := gateway.TraceEntry{Title: fmt.Sprintf("%d %s", i, owner), Time: time.Unix(int64(i), 0)}
			show := rapid.SampledFrom([]string{"call", "sip", "call sip", "call number", "call sip number", "number", "sip number"}).Draw(t, "shown")
			if strings.Contains(show, "call") {
				e.CallID = fmt.Sprint("c", c)
			}
			if strings.Contains(show, "sip") {
				e.SIPCallID = fmt.Sprint("s", c)
			}
			if strings.Contains(show, "number") {
				e.Number = owner
			}
			l.Trace(e)
			if rapid.Bool().Draw(t, "read") {
				followed = append(followed, seen(l, follower)...)
			}
		}
		followed = append(followed, seen(l, follower)...)
		if slices.ContainsFunc(followed, func(s string) bool { return !strings.HasSuffix(s, string(alice)) }) {
			t.Fatalf("alice was shown what is not hers: %q", followed)
		}
		if sorted := slices.Sorted(slices.Values(followed)); len(slices.Compact(sorted)) != len(followed) {
			t.Fatalf("alice was shown something twice: %q", followed)
		}
		now := seen(l, &reader{number: alice})
		for _, title := range now {
			if !slices.Contains(followed, title) {
				t.Fatalf("the follower missed %q, got %q", title, followed)
			}
		}
		if len(l.all.entries) > l.cfg.Entries {
			t.Fatalf("%d entries in total", len(l.all.entries))
		}
		total := 0
		for _, r := range l.records {
			total += len(r.entries)
			if len(r.entries) == 0 || len(r.entries) > l.cfg.EntriesPerCall {
				t.Fatalf("record %v has %d entries", r.key, len(r.entries))
			}
		}
		if total != len(l.all.entries) {
			t.Fatalf("records hold %d entries, the ring %d", total, len(l.all.entries))
		}
	})
}

func TestMediaSession(t *testing.T) {
	for text, want := range map[string]string{
		`{"status":"Initial","mediaSessionId": "0191-a"}`:                          "0191-a",
		"PUT /webrtc-call-handling/v0.4/sessions/0191-b/status HTTP/1.1\r\n\r\n{}": "0191-b",
		"POST /webrtc-call-handling/v0.4/sessions HTTP/1.1\r\n\r\n{}":              "",
		"INVITE sip:+15550100@telco.example SIP/2.0":                               "",
	} {
		if got := mediaSession(text); got != want {
			t.Errorf("media session of %q is %q, want %q", text, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	_, err := New(Config{EntriesPerCall: 20, Entries: 10, KeepAlive: time.Millisecond}, nil)
	for _, k := range []string{"entries:", "text_bytes:", "streams:", "keep_alive:"} {
		if err == nil || !strings.Contains(err.Error(), k) {
			t.Errorf("the error does not name %s %v", k, err)
		}
	}
}
