package crash

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
)

// ledger knows what was brought about and what was told.
type ledger struct {
	mu sync.Mutex
	// kills so far, the one that is about to happen included; buried are over.
	kills, buried int
	acts          map[string]*act // by number of the far end
	queues        map[string]*queue
	problems      []string
	// pulses tell the killer that something is under way.
	pulses chan string
	// changed is closed when an event comes.
	changed chan struct{}
}

func newLedger() *ledger {
	return &ledger{acts: map[string]*act{}, queues: map[string]*queue{}, pulses: make(chan string, 1), changed: make(chan struct{})}
}

// act is one call, or what one was meant to be.
type act struct {
	*ledger
	far string
	// may has the statuses that somebody has tried to bring about.
	may map[string]bool
	// acknowledged has the statuses that the API has answered with success.
	acknowledged []string
	// sessionID of the device, once known.
	sessionID string
	// sessions that were told, by id: a repeated INVITE may make a second one.
	sessions map[string]*session
	// done is closed when the device has lost interest; the far end leaves then.
	done chan struct{}
}

// session is what the first subscription of a device was told of one.
type session struct{ told []string }

var final = []string{"Terminated", "SessionCancelled", "Declined", "Failed", "NoAnswer", "NotReachable", "Busy"}

func (s *session) over() bool {
	return len(s.told) > 0 && slices.Contains(final, s.told[len(s.told)-1])
}

func (s *session) answered() bool { return slices.Contains(s.told, "Connected") }

func (l *ledger) begin(far string) *act {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &act{ledger: l, far: far, may: map[string]bool{"Initial": true}, sessions: map[string]*session{}, done: make(chan struct{})}
	l.acts[far] = a
	return a
}

// tries notes that somebody is about to bring a status about.
func (a *act) tries(statuses ...string) {
	a.mu.Lock()
	for _, s := range statuses {
		a.may[s] = true
	}
	a.mu.Unlock()
	a.pulse(statuses[0])
}

// took notes what the API has acknowledged.
func (a *act) took(status, sessionID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acknowledged = append(a.acknowledged, status)
	if sessionID != "" {
		a.sessionID = sessionID
	}
}

func (l *ledger) pulse(what string) {
	select {
	case l.pulses <- what:
	default:
	}
}

// aboutToKill notes that calls may fail from now on.
func (l *ledger) aboutToKill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kills++
	for _, a := range l.acts {
		a.may["Failed"] = true
	}
}

// killed notes that what was killed says nothing any more.
func (l *ledger) killed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buried = l.kills
}

func (l *ledger) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// state of the device's session: what was told last, "" for nothing.
func (a *act) state(sessionID string) (last string, answered, over bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[sessionID]
	if s == nil || len(s.told) == 0 {
		return "", false, false, a.changed
	}
	return s.told[len(s.told)-1], s.answered(), s.over(), a.changed
}

// goesOn reports whether a session of the act is not over.
func (a *act) goesOn() (goesOn bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		goesOn = goesOn || !s.over()
	}
	return goesOn, a.changed
}

// invited reports whether a session was told.
func (a *act) invited() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sessions) > 0
}

// invitation is the id of a session that was told and is not over.
func (a *act) invitation() (id string, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.sessions {
		if !s.over() {
			return id, a.changed
		}
	}
	return "", a.changed
}

// tell takes an event of a device's first subscription; the lock is held.
func (l *ledger) tell(e device.Event) {
	far, outgoing := strings.TrimPrefix(e.Session.Receiver, "tel:"), true
	if strings.HasPrefix(e.Session.Originator, "tel:"+callers) {
		far, outgoing = strings.TrimPrefix(e.Session.Originator, "tel:"), false
	}
	a := l.acts[far]
	if a == nil {
		l.problem("%s of a call with %s, which nobody made", e.Kind(), far)
		return
	}
	s := a.sessions[e.Session.ID]
	if s == nil {
		s = &session{}
		a.sessions[e.Session.ID] = s
	}
	status := e.Session.Status
	before := slices.Clone(s.told)
	complain := func(what string) {
		l.problem("session %s with %s: %s: %s (%s) after %v; brought about: %v", e.Session.ID, far, what, status, e.Session.Reason, before, a.may)
	}
	switch {
	case s.over():
		complain("told after the end")
	case !a.may[status]:
		complain("nobody has done that")
	case !outgoing && len(before) == 0 && e.Kind() != "session-invitation":
		complain("told before the invitation")
	case s.answered() && !slices.Contains([]string{"Hold", "Resume", "Terminated"}, status):
		complain("impossible after an answer")
	case !s.answered() && slices.Contains([]string{"Hold", "Resume"}, status),
		// Unless an answer crossed the cancellation: the call ends by a BYE then.
		!s.answered() && status == "Terminated" && !a.may["SessionCancelled"]:
		complain("impossible before an answer")
	}
	s.told = append(s.told, status)
}

// missing says what has not been told yet that must be.
func (l *ledger) missing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []error
	for _, a := range l.acts {
		all = append(all, a.missing())
	}
	for _, q := range l.queues {
		all = append(all, q.missing())
	}
	return errors.Join(all...)
}

func (a *act) missing() error {
	var all []error
	if a.sessionID != "" && a.sessions[a.sessionID] == nil {
		all = append(all, fmt.Errorf("session %s with %s was acknowledged, but nothing is told of it", a.sessionID, a.far))
	}
	for id, s := range a.sessions {
		if !s.over() {
			all = append(all, fmt.Errorf("the end of session %s with %s; told: %v, acknowledged: %v", id, a.far, s.told, a.acknowledged))
		}
		if id != a.sessionID {
			continue
		}
		for _, status := range a.acknowledged {
			if status != "Initial" && status != "DELETE" && !slices.Contains(s.told, status) {
				all = append(all, fmt.Errorf("%s of session %s with %s, which the API acknowledged; told: %v", status, id, a.far, s.told))
			}
		}
	}
	return errors.Join(all...)
}

// summary counts what was tried.
func (l *ledger) summary() string {
	outcomes := map[string]int{}
	for _, a := range l.acts {
		for _, s := range a.sessions {
			if len(s.told) > 0 {
				outcomes[s.told[len(s.told)-1]]++
			}
		}
	}
	events := 0
	for _, q := range l.queues {
		events += len(q.ids)
	}
	return fmt.Sprintf("%d kills, %d calls tried, %d subscriptions, %d events; calls ended with %v", l.kills, len(l.acts), len(l.queues), events, outcomes)
}
