package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Authenticate says on whose behalf a request comes, by its access token.
type Authenticate func(*http.Request) (gateway.Principal, error)

func nobody(*http.Request) (gateway.Principal, error) {
	return gateway.Principal{}, errors.New("nobody may read the message ladder here")
}

// writeTimeout is how long one write to a reader may take.
const writeTimeout = 10 * time.Second

// reader is one open stream. Its cursor is owned by the goroutine that serves it.
type reader struct {
	everything bool
	number     call.Number
	callID     string
	cursor     uint64
	more       chan struct{}
}

// wire is an entry as JSON.
type wire struct {
	ID           string        `json:"id"`
	Time         string        `json:"time"`
	From         gateway.Actor `json:"from"`
	To           gateway.Actor `json:"to"`
	Number       call.Number   `json:"number,omitempty"`
	CallID       string        `json:"callId,omitempty"`
	SIPCallID    string        `json:"sipCallId,omitempty"`
	MediaSession string        `json:"mediaSession,omitempty"`
	Title        string        `json:"title"`
	Text         string        `json:"text,omitempty"`
}

// Handler serves subscribers: GET …/stream with an access token answers the
// entries of the token's number, those in the ring and then live, as
// server-sent events named "entry". Last-Event-ID resumes; ?call= narrows to
// one call; ?follow=false ends after what is in the ring. The stream ends when
// the token does.
func (l *Ladder) Handler() http.Handler {
	return l.guard(func(w http.ResponseWriter, r *http.Request) {
		p, err := l.auth(r)
		if err != nil {
			status, code := http.StatusUnauthorized, "UNAUTHENTICATED"
			switch c := call.CodeOf(err); c {
			case call.Unavailable:
				status, code = http.StatusServiceUnavailable, string(c)
			case call.PermissionDenied:
				status, code = http.StatusForbidden, string(c)
			default:
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			fail(w, status, code, "The message ladder needs a valid access token.")
			return
		}
		if p.Owner.Subject == "" {
			fail(w, http.StatusForbidden, "PERMISSION_DENIED", "The message ladder needs an access token that is bound to a subscriber.")
			return
		}
		ctx := r.Context()
		if !p.Expires.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, p.Expires)
			defer cancel()
		}
		l.serve(ctx, w, r, &reader{number: p.Owner.Subject})
	})
}

// AdminHandler serves operators, without asking who they are: it belongs on the
// admin listener only. GET …/stream answers everything; ?number= and ?call=
// narrow it, and the rest is as with Handler.
func (l *Ladder) AdminHandler() http.Handler {
	return l.guard(func(w http.ResponseWriter, r *http.Request) {
		rd := &reader{everything: true}
		if n := r.URL.Query().Get("number"); n != "" {
			number, err := call.ParseNumber(n)
			if err != nil {
				fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "number is not of the form +15550123.")
				return
			}
			rd.everything, rd.number = false, number
		}
		l.serve(r.Context(), w, r, rd)
	})
}

// guard lets only GET …/stream through, and answers browsers of other origins:
// reading takes a bearer token, which no browser adds by itself.
func (l *Ladder) guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case !strings.HasSuffix(r.URL.Path, "/stream"):
			fail(w, http.StatusNotFound, "NOT_FOUND", "The message ladder is read at …/stream.")
		case r.Method == http.MethodOptions:
			h.Set("Access-Control-Allow-Methods", "GET")
			h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control")
			h.Set("Access-Control-Max-Age", "3600")
			w.WriteHeader(http.StatusNoContent)
		case r.Method != http.MethodGet:
			h.Set("Allow", "GET, OPTIONS")
			fail(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The message ladder can only be read.")
		case !l.cfg.Enabled:
			fail(w, http.StatusNotFound, "NOT_FOUND", "The message ladder is turned off (ladder.enabled).")
		default:
			next(w, r)
		}
	})
}

// serve writes the stream until the reader goes, ctx ends or the ladder closes.
func (l *Ladder) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, rd *reader) {
	rd.callID = r.URL.Query().Get("call")
	rd.cursor = l.resume(r.Header.Get("Last-Event-ID"))
	rd.more = make(chan struct{}, 1)
	if err := l.open(rd); err != nil {
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "UNAVAILABLE", "The message ladder cannot take another reader now.")
		return
	}
	defer l.leaveReader(rd)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	follow := r.URL.Query().Get("follow") != "false"
	keepAlive := time.NewTicker(l.cfg.KeepAlive)
	defer keepAlive.Stop()
	text := []byte(": message ladder\nretry: 1000\n\n")
	for {
		for _, e := range l.read(rd) {
			text = e.appendTo(text)
		}
		if len(text) > 0 {
			// Not every writer knows deadlines; without one, the server's own
			// time-outs hold.
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := w.Write(text); err != nil || out.Flush() != nil {
				return
			}
			text = text[:0]
			continue // there may have been more than one batch
		}
		if !follow {
			return
		}
		select {
		case <-rd.more:
		case <-keepAlive.C:
			text = append(text, ": alive\n\n"...)
		case <-ctx.Done():
			return
		case <-l.closed:
			return
		}
	}
}

func (l *Ladder) open(rd *reader) error {
	select {
	case <-l.closed:
		return errClosed
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.readers) >= l.cfg.Streams {
		return errFull
	}
	l.readers[rd] = struct{}{}
	return nil
}

func (l *Ladder) leaveReader(rd *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.readers, rd)
}

// read takes the next entries for rd, at most a batch of them.
func (l *Ladder) read(rd *reader) []wire {
	const batch = 64
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.all
	if !rd.everything {
		if t = l.numbers[rd.number]; t == nil {
			return nil
		}
	}
	var out []wire
	for _, e := range t.entries[t.after(rd.cursor):] {
		rd.cursor = t.place(e)
		if rd.callID != "" && e.CallID != rd.callID {
			continue
		}
		if out = append(out, l.wire(e, rd.cursor)); len(out) == batch {
			break
		}
	}
	return out
}

func (l *Ladder) wire(e *entry, place uint64) wire {
	return wire{
		ID:           l.ring + "-" + strconv.FormatUint(place, 10),
		Time:         e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"),
		From:         e.From,
		To:           e.To,
		Number:       e.Number,
		CallID:       e.CallID,
		SIPCallID:    e.SIPCallID,
		MediaSession: e.mediaSession,
		Title:        e.Title,
		Text:         e.Text,
	}
}

// resume is the place that a Last-Event-ID stands for, 0 for one that is not of
// this ring: after a restart the reader gets everything there is.
func (l *Ladder) resume(id string) uint64 {
	place, ok := strings.CutPrefix(id, l.ring+"-")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(place, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (e wire) appendTo(text []byte) []byte {
	body, err := json.Marshal(e)
	if err != nil { // strings cannot fail to encode
		return text
	}
	return fmt.Appendf(text, "event: entry\nid: %s\ndata: %s\n\n", e.ID, body)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "code": code, "message": message})
}
