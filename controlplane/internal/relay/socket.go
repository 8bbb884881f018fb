package relay

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Close codes of the WebSocket (RFC 6455 7.4.2, private use), the HTTP status
// that they stand for with 4000 added.
const (
	closeUnauthorized websocket.StatusCode = 4401
	closeNotFound     websocket.StatusCode = 4404
	closeGone         websocket.StatusCode = 4410
	closeReplaced     websocket.StatusCode = 4409
)

// helloWithin is how long the reader has for its first message, helloSize how
// long that may be.
const (
	helloWithin = 10 * time.Second
	helloSize   = 8 << 10
)

// hello is the reader's first message.
type hello struct {
	// LastEventID is the id of the last CloudEvent that the reader has.
	LastEventID string `json:"lastEventId"`
	// Ticket admits when neither the URL nor a header did.
	Ticket string `json:"ticket"`
}

// socket serves a channel over WebSocket.
func (r *Relay) socket(w http.ResponseWriter, q *http.Request, id string) error {
	var c gateway.RelayChannel
	var until time.Time
	admitted := q.Header.Get("Authorization") != "" || q.URL.Query().Get("ticket") != ""
	if admitted {
		var err error
		if c, until, err = r.admit(q, id); err != nil {
			return err
		}
	}
	// Whoever has a token or ticket may come from any page: no cookie is
	// involved that another page could make use of.
	conn, err := websocket.Accept(w, q, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		// Accept has answered.
		return nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(helloSize)
	first, err := readHello(q.Context(), conn)
	if err != nil {
		conn.Close(websocket.StatusPolicyViolation, "the first message must be a JSON object")
		return nil
	}
	if !admitted {
		if c, until, err = r.redeem(q, id, first.Ticket); err != nil {
			conn.Close(closeCode(err), "the ticket does not admit to this channel")
			return nil
		}
	}
	err = r.serveSocket(q.Context(), conn, c, until, first.LastEventID)
	r.log.Debug("a stream ended", "channel", c.ID, "transport", "websocket", "reason", err)
	conn.Close(closeCode(err), reasonOf(err))
	return nil
}

func readHello(ctx context.Context, conn *websocket.Conn) (h hello, err error) {
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	_, message, err := conn.Read(ctx)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(message, &h)
}

func (r *Relay) serveSocket(ctx context.Context, conn *websocket.Conn, c gateway.RelayChannel, until time.Time, lastEventID string) error {
	// Nothing more is expected of the reader but pongs and its goodbye.
	ctx, s, err := r.hub.join(conn.CloseRead(ctx), c.ID)
	if err != nil {
		return err
	}
	defer r.hub.leave(c.ID, s)
	gauge := r.metrics.streams.WithLabelValues("websocket")
	gauge.Inc()
	defer gauge.Dec()
	var after int64
	if lastEventID != "" {
		after, err = r.store.RelayPosition(ctx, c.ID, key(lastEventID))
		if err != nil && !errors.Is(err, gateway.ErrNotFound) {
			return err
		}
	}
	return r.pump(ctx, c, after, until, s, messages{conn})
}

// messages writes every event as one text message.
type messages struct{ conn *websocket.Conn }

func (m messages) event(ctx context.Context, e gateway.RelayEvent) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	return m.conn.Write(ctx, websocket.MessageText, e.Body)
}

func (m messages) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	return m.conn.Ping(ctx)
}

func closeCode(err error) websocket.StatusCode {
	var f *failure
	switch {
	case errors.Is(err, errClosed):
		return closeGone
	case errors.Is(err, errNoChannel):
		return closeNotFound
	case errors.Is(err, errReplaced):
		return closeReplaced
	case errors.Is(err, errToken), errors.As(err, &f) && f.Status == http.StatusUnauthorized:
		return closeUnauthorized
	case errors.Is(err, errShutdown):
		return websocket.StatusGoingAway
	}
	return websocket.StatusTryAgainLater
}

func reasonOf(err error) string {
	for _, known := range []error{errClosed, errReplaced, errToken, errShutdown} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the stream cannot go on now"
}
