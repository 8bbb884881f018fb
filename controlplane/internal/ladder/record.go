package ladder

import (
	"slices"
	"sort"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// entry is a stored message or milestone.
type entry struct {
	gateway.TraceEntry
	mediaSession string
	record       *record
	// place in the stream of everything; shown is that in the stream of its
	// number, 0 while it is in none.
	place, shown uint64
}

// key names a record: by call, by SIP Call-ID alone, or, for what belongs to no
// call, by number alone (which may be empty).
type key struct {
	call   string
	sip    string
	number call.Number
}

// record is what is known of one call.
type record struct {
	key    key
	number call.Number
	// sip are the SIP Call-IDs that it has claimed.
	sip     []string
	entries []*entry
}

// track is a run of entries in the order of their places.
type track struct {
	entries []*entry
	// at tells an entry's place; nil is entry.place.
	at func(*entry) uint64
}

func (t *track) place(e *entry) uint64 {
	if t.at == nil {
		return e.place
	}
	return t.at(e)
}

// after is the index of the first entry behind the place.
func (t *track) after(place uint64) int {
	return sort.Search(len(t.entries), func(i int) bool { return t.place(t.entries[i]) > place })
}

func (t *track) remove(e *entry) {
	i := t.after(t.place(e) - 1)
	if i == 0 {
		// The common case: the oldest goes. The slice moves on and is
		// reallocated by append, which leaves the gone part behind.
		t.entries[0] = nil
		t.entries = t.entries[1:]
		return
	}
	t.entries = slices.Delete(t.entries, i, i+1)
}

// join puts e into its record and shows what can be shown by that.
func (l *Ladder) join(e *entry) {
	r := l.find(e)
	if e.CallID != "" && e.SIPCallID != "" {
		l.claim(r, e.SIPCallID)
	}
	r.entries = append(r.entries, e)
	e.record = r
	if e.CallID == "" {
		e.CallID = r.key.call
	}
	l.learn(r, e.Number)
	l.show(e)
	if len(r.entries) > l.cfg.EntriesPerCall {
		l.remove(r.entries[0])
	}
}

// find is the record for e, made when there is none.
func (l *Ladder) find(e *entry) *record {
	k := key{number: e.Number}
	switch {
	case e.CallID != "":
		k = key{call: e.CallID}
	case e.SIPCallID != "":
		// Of several calls with this Call-ID, the number may tell which.
		owners := l.claims[e.SIPCallID]
		if e.Number != "" {
			owners = slices.DeleteFunc(slices.Clone(owners), func(r *record) bool { return r.number != e.Number })
		}
		if len(owners) == 1 {
			return owners[0]
		}
		k = key{sip: e.SIPCallID}
	}
	r := l.records[k]
	if r == nil {
		r = &record{key: k}
		l.records[k] = r
	}
	return r
}

// claim makes the SIP Call-ID the call's, and entries that waited for that join.
func (l *Ladder) claim(r *record, sip string) {
	if slices.Contains(r.sip, sip) {
		return
	}
	r.sip = append(r.sip, sip)
	l.claims[sip] = append(l.claims[sip], r)
	waiting := l.records[key{sip: sip}]
	if waiting == nil || len(l.claims[sip]) > 1 {
		return
	}
	delete(l.records, waiting.key)
	for _, e := range waiting.entries {
		e.record, e.CallID = r, r.key.call
	}
	r.entries = append(waiting.entries, r.entries...)
	slices.SortStableFunc(r.entries, func(a, b *entry) int { return int(int64(a.place) - int64(b.place)) })
	l.learn(r, waiting.number)
	for _, e := range waiting.entries {
		l.show(e)
	}
	for len(r.entries) > l.cfg.EntriesPerCall {
		l.remove(r.entries[0])
	}
}

// learn is told a number that belongs to the record; the first one stays.
func (l *Ladder) learn(r *record, n call.Number) {
	if n == "" || r.number != "" || len(l.claims[r.key.sip]) > 1 {
		return // of a Call-ID that several calls carry, no number is the right one
	}
	r.number = n
	for _, e := range r.entries {
		l.show(e)
	}
}

// leave takes e out of its record, and forgets a record that is empty.
func (l *Ladder) leave(e *entry) {
	r := e.record
	if r == nil {
		return
	}
	if i := slices.Index(r.entries, e); i >= 0 {
		r.entries = slices.Delete(r.entries, i, i+1)
	}
	if len(r.entries) > 0 {
		return
	}
	if l.records[r.key] == r {
		delete(l.records, r.key)
	}
	for _, sip := range r.sip {
		l.claims[sip] = slices.DeleteFunc(l.claims[sip], func(o *record) bool { return o == r })
		if len(l.claims[sip]) == 0 {
			delete(l.claims, sip)
		}
	}
}

// mediaSession is the CAMARA media session that a text names, if it names one:
// as a member of a JSON body or, before that, in the path of a request.
func mediaSession(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if _, path, ok := strings.Cut(line, "/webrtc-call-handling/"); ok {
		if _, id, ok := strings.Cut(path, "/sessions/"); ok {
			return id[:len(id)-len(strings.TrimLeftFunc(id, isUnreserved))]
		}
	}
	_, rest, _ := strings.Cut(text, `"mediaSessionId"`)
	rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " \r\n\t"), ":")
	if !ok {
		return ""
	}
	if rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \r\n\t"), `"`); !ok {
		return ""
	}
	id := rest[:len(rest)-len(strings.TrimLeftFunc(rest, isUnreserved))]
	if !strings.HasPrefix(rest[len(id):], `"`) {
		return ""
	}
	return id
}

// isUnreserved reports a character of the unreserved set of RFC 3986.
func isUnreserved(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-._~", r)
}
