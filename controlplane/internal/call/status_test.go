package call

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStatusClasses(t *testing.T) {
	final := []Status{Terminated, SessionCancelled, Declined, Failed, NoAnswer, NotReachable, Busy}
	settingUp := []Status{Initial, InProgress, Ringing, Proceeding, Waiting}
	answered := []Status{Connected, Hold, Resume}
	requestable := []Status{InProgress, Ringing, Connected, Hold, Resume}
	if len(Statuses()) != len(final)+len(settingUp)+len(answered) {
		t.Errorf("there are %d statuses", len(Statuses()))
	}
	for _, s := range append(Statuses(), "", "connected", "Nonsense") {
		if s.Final() != slices.Contains(final, s) || s.SettingUp() != slices.Contains(settingUp, s) ||
			s.Answered() != slices.Contains(answered, s) || s.Requestable() != slices.Contains(requestable, s) {
			t.Errorf("%q: final %t, setting up %t, answered %t, requestable %t", s, s.Final(), s.SettingUp(), s.Answered(), s.Requestable())
		}
	}
}

// TestTransitions is the whole table, one row for each status that can be left.
func TestTransitions(t *testing.T) {
	ends := []Status{Connected, SessionCancelled, Declined, Failed, NoAnswer, Terminated}
	outgoing := append([]Status{InProgress, Ringing, Proceeding, Waiting, Busy, NotReachable}, ends...)
	live := []Status{Connected, Hold, Resume, Terminated}
	want := map[Direction]map[Status][]Status{
		Origination: {
			Initial: outgoing, InProgress: outgoing, Ringing: outgoing, Proceeding: outgoing, Waiting: outgoing,
			Connected: live, Hold: live, Resume: live,
		},
		Termination: {
			Initial: append([]Status{InProgress, Ringing}, ends...), InProgress: append([]Status{InProgress, Ringing}, ends...),
			Ringing:   append([]Status{Ringing}, ends...),
			Connected: live, Hold: live, Resume: live,
		},
	}
	for direction, table := range want {
		for _, from := range Statuses() {
			if direction == Termination && (from == Proceeding || from == Waiting) {
				continue // Never reached.
			}
			for _, to := range Statuses() {
				if got := CanFollow(direction, from, to); got != slices.Contains(table[from], to) {
					t.Errorf("%s: %s to %s is %t", direction, from, to, got)
				}
			}
		}
	}
}

func TestMove(t *testing.T) {
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	m := MediaSession{ID: "m", Direction: Origination, Status: Initial}
	for i, step := range []struct {
		to, then Status
		refused  bool
	}{
		{to: Hold, then: Initial, refused: true},
		{to: InProgress, then: InProgress},
		{to: Ringing, then: Ringing},
		{to: Initial, then: Ringing, refused: true},
		{to: Connected, then: Connected},
		{to: Ringing, then: Connected, refused: true},
		{to: Hold, then: Hold},
		{to: Resume, then: Connected},
		{to: Busy, then: Connected, refused: true},
		{to: Terminated, then: Terminated},
		{to: Connected, then: Terminated, refused: true},
		{to: Terminated, then: Terminated, refused: true},
	} {
		before := m
		err := m.Move(step.to, string(step.to), start.Add(time.Duration(i)*time.Second))
		if step.refused && (CodeOf(err) != IncompatibleState || m != before) || !step.refused && (err != nil || m.Reason != string(step.to)) {
			t.Fatalf("step %d to %s: %+v, %v", i, step.to, m, err)
		}
		if m.Status != step.then {
			t.Fatalf("step %d to %s: now %s, want %s", i, step.to, m.Status, step.then)
		}
	}
	if m.AnsweredAt != start.Add(4*time.Second) || m.EndedAt != start.Add(9*time.Second) {
		t.Errorf("answered %s, ended %s", m.AnsweredAt, m.EndedAt)
	}
	if got := m.Change(Terminated); got.MediaSessionID != "m" || got.Status != Terminated || got.Reason != "Terminated" || got.Offer != "" {
		t.Errorf("told as %+v", got)
	}
}

// TestFinalIsNeverLeft moves at random: a final status is entered at most once,
// Resume never lasts, and what was refused changed nothing.
func TestFinalIsNeverLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := MediaSession{Direction: rapid.SampledFrom([]Direction{Origination, Termination}).Draw(t, "direction"), Status: Initial}
		ends, now := 0, time.Unix(1e9, 0)
		for i, to := range rapid.SliceOfN(rapid.SampledFrom(Statuses()), 1, 30).Draw(t, "statuses") {
			before := m
			err := m.Move(to, "", now.Add(time.Duration(i)))
			switch {
			case err != nil && m != before:
				t.Fatalf("a refused move to %s changed %+v to %+v", to, before, m)
			case before.Status.Final() && (err == nil || m.Status != before.Status):
				t.Fatalf("%s became %s", before.Status, m.Status)
			case m.Status == Resume:
				t.Fatal("Resume lasts")
			case !before.EndedAt.IsZero() && m.EndedAt != before.EndedAt, !before.AnsweredAt.IsZero() && m.AnsweredAt != before.AnsweredAt:
				t.Fatalf("a time changed from %+v to %+v", before, m)
			}
			if err == nil && to.Final() {
				ends++
			}
			if m.Status.Final() == m.EndedAt.IsZero() {
				t.Fatalf("%s and ended at %s", m.Status, m.EndedAt)
			}
		}
		if ends > 1 {
			t.Fatalf("the session ended %d times", ends)
		}
	})
}
