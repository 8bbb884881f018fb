// Package ladder shows the message ladder of a control plane in a terminal: it
// reads the stream that the control plane serves to operators and draws each entry
// as an arrow between four life lines, with what one looks for first in a message
// beside it. It needs nothing of the control plane but the URL of its admin port.
package ladder

import (
	"slices"
	"time"
)

// Entry is a message or a milestone of a call.
type Entry struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// From and To are of device, gateway, network and media; the same for what
	// happens in one place.
	From         string `json:"from"`
	To           string `json:"to"`
	Number       string `json:"number"`
	CallID       string `json:"callId"`
	SIPCallID    string `json:"sipCallId"`
	MediaSession string `json:"mediaSession"`
	Title        string `json:"title"`
	// Text of the whole message.
	Text string `json:"text"`
}

// Filter chooses entries. The zero value takes all.
type Filter struct {
	// Call is the id of a call, of one of its media sessions, or a SIP Call-ID.
	Call string
	// Number in E.164 form.
	Number string
	// Since leaves out what happened before.
	Since time.Time
}

// Call ids are known from some of a call's entries only, so the others wait for
// them, at most this many.
const maxWaiting = 20000

// Selection applies a filter to a stream of entries.
type Selection struct {
	filter Filter
	// call is the id of the call that was asked for, once it is known.
	call    string
	waiting []Entry
}

// Select makes a selection.
func Select(f Filter) *Selection { return &Selection{filter: f} }

// Take answers the entries to be shown now that e has come.
func (s *Selection) Take(e Entry) []Entry {
	switch {
	case e.Time.Before(s.filter.Since):
		return nil
	case s.filter.Number != "" && e.Number != s.filter.Number:
		return nil
	case s.filter.Call == "":
		return []Entry{e}
	}
	want := s.filter.Call
	if e.CallID == want || e.MediaSession == want || e.SIPCallID == want {
		if s.call == "" && e.CallID != "" {
			s.call = e.CallID
			return append(s.earlier(), e)
		}
		return []Entry{e}
	}
	if s.call != "" {
		if e.CallID == s.call {
			return []Entry{e}
		}
		return nil
	}
	if s.waiting = append(s.waiting, e); len(s.waiting) > maxWaiting {
		s.waiting = s.waiting[1:]
	}
	return nil
}

// earlier are the entries of the call that came before its id was known.
func (s *Selection) earlier() []Entry {
	out := slices.DeleteFunc(s.waiting, func(e Entry) bool { return e.CallID != s.call })
	s.waiting = nil
	return out
}
