package store

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// wakeChannel is the name that processes on one PostgreSQL database notify.
const wakeChannel = "isthmus_wake"

// Topics: events for the outbox, and a change of the relay's channel whose id
// follows.
const (
	topicOutbox = "outbox"
	topicRelay  = "relay "
)

// waker tells of changes: within the process at once, to other processes by
// NOTIFY inside the transaction that makes the change, so that they hear of it
// when it can be seen and not at all when it is rolled back.
type waker struct {
	// origin marks what this process announced, which it need not hear again.
	origin string
	outbox chan struct{}
	relay  chan string
}

func newWaker() *waker {
	return &waker{origin: rand.Text(), outbox: make(chan struct{}, 1), relay: make(chan string, 1024)}
}

func (w *waker) signalOutbox() {
	select {
	case w.outbox <- struct{}{}:
	default:
	}
}

func (w *waker) signalRelay(channelID string) {
	select {
	case w.relay <- channelID:
	default:
		// Nobody reads; streams look for themselves now and then.
	}
}

// announce tells the other processes, when the transaction of q commits.
func (w *waker) announce(ctx context.Context, db *database, q *queries.Queries, topic string) error {
	if db.engine != enginePostgres {
		return nil
	}
	return q.Notify(ctx, wakeChannel, w.origin+" "+topic)
}

func (w *waker) receive(payload string) {
	origin, topic, _ := strings.Cut(payload, " ")
	if origin == w.origin {
		return
	}
	if id, relay := strings.CutPrefix(topic, topicRelay); relay {
		w.signalRelay(id)
	} else if topic == topicOutbox {
		w.signalOutbox()
	}
}

// listen hears the other processes until ctx is done, on a connection of its own.
func (w *waker) listen(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger) {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		heard, err := w.listenOnce(ctx, config)
		if ctx.Err() != nil {
			return
		}
		if heard {
			delay = 100 * time.Millisecond
		}
		log.Warn("the connection that listens for other processes is lost, connecting again", "error", err, "after", delay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

func (w *waker) listenOnce(ctx context.Context, config *pgx.ConnConfig) (connected bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+wakeChannel); err != nil {
		return false, err
	}
	// What was announced while nobody listened.
	w.signalOutbox()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, err
		}
		w.receive(n.Payload)
	}
}
