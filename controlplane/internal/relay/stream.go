package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

const (
	// page of events that are read at once.
	page = 100
	// writeWithin bounds one write to a reader that does not take it.
	writeWithin = 10 * time.Second
)

// admit finds the channel of a stream by access token or ticket, and until when
// the stream may last; zero: no limit.
func (r *Relay) admit(q *http.Request, id string) (gateway.RelayChannel, time.Time, error) {
	if ticket := q.URL.Query().Get("ticket"); ticket != "" {
		return r.redeem(q, id, ticket)
	}
	return r.channel(q, id)
}

func (r *Relay) redeem(q *http.Request, id, ticket string) (gateway.RelayChannel, time.Time, error) {
	t, err := r.store.TakeRelayTicket(q.Context(), key(ticket))
	switch {
	case err != nil && !errors.Is(err, gateway.ErrNotFound):
		return gateway.RelayChannel{}, time.Time{}, unavailable(err)
	case err != nil || t.ChannelID != id || !time.Now().Before(t.Expires):
		return gateway.RelayChannel{}, time.Time{}, refuse(http.StatusUnauthorized, "UNAUTHENTICATED", "The ticket is not known, was used or has expired.").
			with("WWW-Authenticate", "Bearer")
	}
	c, err := r.find(q, id)
	if err == nil && c.Closed {
		err = gone()
	}
	return c, t.Authorized, err
}

// sender writes to one reader.
type sender interface {
	event(ctx context.Context, e gateway.RelayEvent) error
	// beat shows life, and finds out whether the reader does.
	beat(ctx context.Context) error
}

// pump writes everything after a number to a reader until ctx ends, the reader
// is gone, the channel closes or the time is over. It answers why it ended.
func (r *Relay) pump(ctx context.Context, c gateway.RelayChannel, after int64, until time.Time, s *stream, to sender) error {
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, until, errToken)
		defer cancel()
	}
	touched := int64(-1)
	defer func() {
		// Events that were written make room for others.
		if after > touched {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWithin)
			defer cancel()
			if err := r.touch(last, c.ID, after); err != nil && !errors.Is(err, errClosed) {
				r.log.Warn("what a stream has delivered could not be noted", "channel", c.ID, "error", err)
			}
		}
	}()
	beat := time.NewTicker(r.config.Heartbeat)
	defer beat.Stop()
	look := true
	for {
		for look {
			events, err := r.store.RelayEvents(ctx, c.ID, after, page)
			if err != nil {
				return ended(ctx, err)
			}
			for _, e := range events {
				if err := to.event(ctx, e); err != nil {
					return ended(ctx, err)
				}
				after = e.Seq
			}
			if len(events) == page || touched < 0 || len(events) == 0 {
				// A channel without news may be closed.
				if err := r.touch(ctx, c.ID, after); err != nil {
					return ended(ctx, err)
				}
				touched = after
			}
			look = len(events) == page
		}
		select {
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		case <-s.woken:
			look = true
		case <-beat.C:
			if err := to.beat(ctx); err != nil {
				return ended(ctx, err)
			}
			if err := r.touch(ctx, c.ID, after); err != nil {
				return ended(ctx, err)
			}
			// Wake-ups can be missed.
			touched, look = after, true
		}
	}
}

func (r *Relay) touch(ctx context.Context, id string, delivered int64) error {
	err := r.store.TouchRelayChannel(ctx, id, delivered)
	if errors.Is(err, gateway.ErrNotFound) {
		return errClosed
	}
	return err
}

// ended is why: the cause of the context's end, when it has ended.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// events serves a channel as server-sent events.
func (r *Relay) events(w http.ResponseWriter, q *http.Request, id string) error {
	c, until, err := r.admit(q, id)
	if err != nil {
		return err
	}
	ctx, s, err := r.hub.join(q.Context(), c.ID)
	if err != nil {
		return unavailable(err)
	}
	defer r.hub.leave(c.ID, s)
	gauge := r.metrics.streams.WithLabelValues("sse")
	gauge.Inc()
	defer gauge.Dec()

	resume := q.Header.Get("Last-Event-ID")
	if resume == "" {
		resume = q.URL.Query().Get("lastEventId")
	}
	to := &eventStream{w: w, control: http.NewResponseController(w)}
	// A server's limit for requests is not meant for streams.
	if err := to.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return unavailable(err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	// Proxies of the nginx kind would hold events back.
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	err = to.write([]byte("retry: 1000\n\n"))
	if err == nil {
		err = r.pump(ctx, c, resumeAfter(resume, c.LastSeq), until, s, to)
	}
	r.log.Debug("a stream ended", "channel", c.ID, "transport", "sse", "reason", err)
	return nil
}

// resumeAfter reads a Last-Event-ID of ours: the number of an event. Whatever
// the channel cannot have sent means from the beginning, 0.
func resumeAfter(id string, last int64) int64 {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 || n > last || strconv.FormatInt(n, 10) != id {
		return 0
	}
	return n
}

// eventStream writes server-sent events (WHATWG HTML 9.2).
type eventStream struct {
	w       io.Writer
	control *http.ResponseController
	buffer  bytes.Buffer
}

func (s *eventStream) event(_ context.Context, e gateway.RelayEvent) error {
	s.buffer.Reset()
	fmt.Fprintf(&s.buffer, "id: %d\n", e.Seq)
	appendData(&s.buffer, e.Body)
	s.buffer.WriteByte('\n')
	return s.write(s.buffer.Bytes())
}

func (s *eventStream) beat(context.Context) error { return s.write([]byte(":\n\n")) }

// appendData writes a body as data lines, which the reader joins by line feeds.
// Carriage returns, in JSON mere white space, end a line as well.
func appendData(b *bytes.Buffer, body []byte) {
	for {
		end := bytes.IndexAny(body, "\r\n")
		b.WriteString("data: ")
		if end < 0 {
			b.Write(body)
			b.WriteByte('\n')
			return
		}
		b.Write(body[:end])
		b.WriteByte('\n')
		if bytes.HasPrefix(body[end:], []byte("\r\n")) {
			end++
		}
		body = body[end+1:]
	}
}

func (s *eventStream) write(p []byte) error {
	// A server that cannot set deadlines has to do without.
	if err := s.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.control.Flush()
}
