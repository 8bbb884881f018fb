package ladder

import (
	"errors"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Ladder is the store of recent entries. It is safe for concurrent use.
type Ladder struct {
	cfg  Config
	auth Authenticate
	// ring names this process's places; see place.
	ring string

	mu      sync.Mutex
	next    uint64
	all     track
	numbers map[call.Number]*track
	records map[key]*record
	// claims are the calls that carry a SIP Call-ID.
	claims  map[string][]*record
	readers map[*reader]struct{}

	closed chan struct{}
	once   sync.Once
}

var _ gateway.Tracer = (*Ladder)(nil)

// New makes a Ladder. authenticate is asked on behalf of whom a reader of
// Handler comes; it may be nil when Handler is not used.
func New(cfg Config, authenticate Authenticate) (*Ladder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if authenticate == nil {
		authenticate = nobody
	}
	return &Ladder{
		cfg:     cfg,
		auth:    authenticate,
		ring:    strconv.FormatInt(cfg.Now().UnixMicro(), 36),
		numbers: map[call.Number]*track{},
		records: map[key]*record{},
		claims:  map[string][]*record{},
		readers: map[*reader]struct{}{},
		closed:  make(chan struct{}),
	}, nil
}

// Trace implements gateway.Tracer. It waits for nothing but the lock of the
// ring, which is never held while something is written to a reader.
func (l *Ladder) Trace(t gateway.TraceEntry) {
	if !l.cfg.Enabled {
		return
	}
	if t.Time.IsZero() {
		t.Time = l.cfg.Now()
	}
	t.Text = clip(t.Text, l.cfg.TextBytes)
	t.Title = clip(t.Title, 512)
	e := &entry{TraceEntry: t, mediaSession: mediaSession(t.Text)}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.append(e)
	l.join(e)
	for len(l.all.entries) > l.cfg.Entries {
		l.remove(l.all.entries[0])
	}
}

// append gives e its place in the stream of everything.
func (l *Ladder) append(e *entry) {
	l.next++
	e.place = l.next
	l.all.entries = append(l.all.entries, e)
	l.wake("", true)
}

// show gives e its place in the stream of its number.
func (l *Ladder) show(e *entry) {
	n := e.record.number
	if e.Number != "" {
		n = e.Number
	}
	if n == "" || e.shown != 0 {
		return
	}
	e.Number = n
	l.next++
	e.shown = l.next
	t := l.numbers[n]
	if t == nil {
		t = &track{at: func(e *entry) uint64 { return e.shown }}
		l.numbers[n] = t
	}
	t.entries = append(t.entries, e)
	l.wake(n, false)
}

// remove forgets e everywhere.
func (l *Ladder) remove(e *entry) {
	l.all.remove(e)
	if e.shown != 0 {
		t := l.numbers[e.Number]
		if t.remove(e); len(t.entries) == 0 {
			delete(l.numbers, e.Number)
		}
	}
	l.leave(e)
}

func (l *Ladder) wake(n call.Number, everything bool) {
	for r := range l.readers {
		if r.everything == everything && (everything || r.number == n) {
			select {
			case r.more <- struct{}{}:
			default:
			}
		}
	}
}

// Close ends all streams; Trace goes on storing. It may be called repeatedly.
func (l *Ladder) Close() { l.once.Do(func() { close(l.closed) }) }

// Errors of subscribing to the ring.
var (
	errFull   = errors.New("too many readers of the message ladder")
	errClosed = errors.New("the message ladder is shutting down")
)

// clip cuts s to at most n bytes of whole characters and says so.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "\n[… cut off]"
	cut := n - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}
