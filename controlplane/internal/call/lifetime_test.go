package call

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	l := Lifetimes{Min: time.Minute, Default: time.Hour, Max: 24 * time.Hour}
	for _, c := range []struct {
		name  string
		ahead *time.Duration
		below Below
		want  time.Duration
		err   Code
	}{
		{name: "no wish", want: time.Hour},
		{name: "no wish, lenient", below: DefaultOutside, want: time.Hour},
		{name: "within", ahead: new(2 * time.Hour), want: 2 * time.Hour},
		{name: "shortest", ahead: new(time.Minute), want: time.Minute},
		{name: "longest", ahead: new(24 * time.Hour), want: 24 * time.Hour},
		{name: "too long is cut", ahead: new(25 * time.Hour), want: 24 * time.Hour},
		{name: "too long, lenient", ahead: new(25 * time.Hour), below: DefaultOutside, want: time.Hour},
		{name: "too short", ahead: new(time.Minute - 1), err: OutOfRange},
		{name: "too short, lenient", ahead: new(time.Minute - 1), below: DefaultOutside, want: time.Hour},
		{name: "now", ahead: new(time.Duration(0)), err: OutOfRange},
		{name: "past", ahead: new(-time.Hour), err: OutOfRange},
		{name: "past, lenient", ahead: new(-time.Hour), below: DefaultOutside, want: time.Hour},
	} {
		var wish *time.Time
		if c.ahead != nil {
			wish = new(now.Add(*c.ahead))
		}
		got, err := l.Expiry(now, wish, c.below)
		if CodeOf(err) != c.err || err == nil && !got.Equal(now.Add(c.want)) {
			t.Errorf("%s: %s ahead, %v", c.name, got.Sub(now), err)
		}
	}
}

// TestExpiryStaysInBounds: what is granted is never outside the bounds, and a
// wish within them is granted exactly.
func TestExpiryStaysInBounds(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		l := Lifetimes{Min: time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "min"))}
		l.Default = l.Min + time.Duration(rapid.Int64Range(0, 1e13).Draw(t, "default"))
		l.Max = l.Default + time.Duration(rapid.Int64Range(0, 1e13).Draw(t, "max"))
		wish := now.Add(time.Duration(rapid.Int64Range(-1e13, 3e13).Draw(t, "wish")))
		below := rapid.SampledFrom([]Below{RefuseBelow, DefaultOutside}).Draw(t, "below")
		got, err := l.Expiry(now, &wish, below)
		life, asked := got.Sub(now), wish.Sub(now)
		switch {
		case err != nil && (below == DefaultOutside || asked >= l.Min):
			t.Fatal(err)
		case err == nil && (life < l.Min || life > l.Max):
			t.Fatalf("%s is outside", life)
		case err == nil && asked >= l.Min && asked <= l.Max && !got.Equal(wish):
			t.Fatalf("asked for %s, got %s", asked, life)
		}
	})
}

func TestExpired(t *testing.T) {
	end := time.Unix(1e9, 0)
	r := Registration{ExpiresAt: end}
	if r.Expired(end.Add(-1)) || !r.Expired(end) || !r.Expired(end.Add(1)) {
		t.Error("a registration must live until, not including, its end")
	}
}
