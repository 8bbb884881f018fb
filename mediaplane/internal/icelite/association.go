package icelite

import (
	"net/netip"
	"time"
)

// ConsentTimeout is how long a path stays usable without an authenticated check
// (RFC 7675 section 5.1).
const ConsentTimeout = 30 * time.Second

// maxPaths bounds the valid paths of a leg, so that a browser with many
// candidates, or one that lies, cannot fill the node.
const maxPaths = 32

// Path is one way between the node and a browser.
type Path struct {
	// Socket is the index of the node's shared socket.
	Socket int
	Remote netip.AddrPort
}

// Association is what a leg knows of its paths.
//
//	idle ──check──▶ checked ──USE-CANDIDATE──▶ connected ◀─┐
//	                                   │ 30 s of silence    │ check
//	                                   └────────▶ expired ──┘
//
// It is not safe for concurrent use.
type Association struct {
	valid    []Path
	selected Path
	has      bool
	expired  bool
	last     time.Time
}

// Check notes an accepted check on path. It reports whether the path is new,
// whether the selected path changed, and which path had to be forgotten.
func (a *Association) Check(path Path, useCandidate bool, now time.Time) (added, changed bool, evicted *Path) {
	a.last = now
	if !a.knows(path) {
		if len(a.valid) == maxPaths {
			i := 0
			if a.has && a.valid[0] == a.selected {
				i = 1
			}
			gone := a.valid[i]
			evicted = &gone
			a.valid = append(a.valid[:i], a.valid[i+1:]...)
		}
		a.valid = append(a.valid, path)
		added = true
	}
	switch {
	case useCandidate && (!a.has || a.selected != path || a.expired),
		// Browsers nominate once; the checks after that are consent.
		a.expired && a.selected == path:
		a.selected, a.has, a.expired = path, true, false
		changed = true
	}
	return added, changed, evicted
}

// Restore selects a path that was selected on another node: the browser does not
// nominate again.
func (a *Association) Restore(path Path, now time.Time) {
	if !a.knows(path) {
		a.valid = append(a.valid, path)
	}
	a.selected, a.has, a.expired, a.last = path, true, false, now
}

func (a *Association) knows(path Path) bool {
	for _, p := range a.valid {
		if p == path {
			return true
		}
	}
	return false
}

// Selected is the nominated path.
func (a *Association) Selected() (Path, bool) { return a.selected, a.has }

// Usable is the path to send on: the nominated one while consent lasts, before
// nomination the one checked last.
func (a *Association) Usable() (Path, bool) {
	switch {
	case a.expired:
		return Path{}, false
	case a.has:
		return a.selected, true
	case len(a.valid) > 0:
		return a.valid[len(a.valid)-1], true
	}
	return Path{}, false
}

// Paths lists the valid paths.
func (a *Association) Paths() []Path { return a.valid }

// Connected says that a path is nominated and consent is fresh.
func (a *Association) Connected() bool { return a.has && !a.expired }

// Expire reports, once, that consent was lost.
func (a *Association) Expire(now time.Time) bool {
	if !a.has || a.expired || now.Sub(a.last) < ConsentTimeout {
		return false
	}
	a.expired = true
	return true
}
