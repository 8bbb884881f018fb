// Package session makes a node as the control plane wants it: it compares the
// spec of a session with what is there, gets what is missing, changes what
// stays, and gives back what is not wanted any more. Between changes it carries
// packets from legs to the forwarding table and from there to legs.
//
// Invariants:
//   - A spec is applied whole or not at all: everything that can fail is
//     acquired before anything changes.
//   - (owner_epoch, generation) of a session never goes back.
//   - Nothing that a packet can do waits: not for a watcher, not for a change.
//
// Locks are taken in the order Session.applying, Manager.mu, Session.mu; those
// of the mux and the hub are leaves.
package session

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Errors of a Manager, beside *FieldError and *StaleError.
var (
	ErrDraining = errors.New("the node is draining and takes no new session")
	ErrFull     = errors.New("the node has as many sessions as it may have (limits.sessions)")
	ErrPorts    = errors.New("no RTP ports for the session")
)

// StaleError refuses an (owner_epoch, generation) lower than the one in force.
type StaleError struct{ Epoch, Generation uint64 }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the node has owner_epoch %d generation %d", e.Epoch, e.Generation)
}

// Config of a Manager.
type Config struct {
	// WebRTC sockets are bound here; all serve every browser.
	WebRTC []netip.AddrPort
	// WebRTCAdvertise are told to browsers instead of the bound addresses;
	// port 0 stands for the bound port.
	WebRTCAdvertise []netip.AddrPort
	// RTP legs bind one of these; RTPAdvertise[i] is told in place of RTP[i].
	RTP          []netip.Addr
	RTPAdvertise []netip.Addr
	PortMin      uint16
	PortMax      uint16
	// MaxPairs bounds the port pairs that are open at once; 0 is no bound.
	MaxPairs     int
	SocketBuffer int
	// Loops read sockets, each on one processor at a time; at least 1.
	Loops int

	MaxSessions        int
	OrphanAfter        time.Duration
	HandshakeTimeout   time.Duration
	QualityInterval    time.Duration
	CheckpointInterval time.Duration
	TickInterval       time.Duration
	WatchBuffer        int

	Engine  fastpath.Engine
	Metrics *Metrics
	Logger  *slog.Logger
}

// Manager has the sessions of a node.
type Manager struct {
	config  Config
	log     *slog.Logger
	metrics *Metrics
	now     func() time.Time
	mono    func() int64 // CLOCK_MONOTONIC in nanoseconds
	random  func() *rand.Rand
	loops   []*udp.Loop
	groups  [][]*udp.Socket // of browsers: by address, one for each loop
	mux     *mux
	ports   *udp.Ports
	hub     *hub

	readers    sync.WaitGroup
	handshakes sync.WaitGroup
	assigned   atomic.Uint32 // legs given to loops

	mu       sync.Mutex
	sessions map[string]*Session
	draining bool
	closed   bool
	watched  time.Time
	counted  time.Time // streams, for the metrics; of the goroutine of Run alone
	// adopted are the engine's plans of an earlier process, by session, until
	// adoptUntil.
	adopted    map[string][]fastpath.Adopted
	adoptUntil time.Time
}

// New binds the node's shared sockets and starts to read them.
func New(cfg Config) (*Manager, error) {
	m := &Manager{
		config: cfg, log: cfg.Logger, metrics: cfg.Metrics, now: time.Now, mono: monotonic, random: unpredictable,
		ports: udp.NewPorts(cfg.RTP, cfg.PortMin, cfg.PortMax, cfg.MaxPairs, cfg.SocketBuffer/8),
		hub:   newHub(cfg.WatchBuffer), sessions: map[string]*Session{},
	}
	if err := m.bind(); err != nil {
		m.unbind()
		return nil, err
	}
	for _, l := range m.loops {
		m.readers.Go(func() {
			if err := l.Run(); err != nil {
				m.log.Error("packets are not read any more", "error", err)
			}
		})
	}
	return m, nil
}

// bind opens the loops and the sockets of browsers.
func (m *Manager) bind() error {
	for i := range max(1, m.config.Loops) {
		l, err := udp.NewLoop(i, func(packets int) { m.metrics.causes[dropSend].Add(float64(packets)) })
		if err != nil {
			return err
		}
		m.loops = append(m.loops, l)
	}
	for _, addr := range m.config.WebRTC {
		group, err := udp.ListenGroup(addr, m.config.SocketBuffer, len(m.loops))
		if err != nil {
			return err
		}
		m.groups = append(m.groups, group)
	}
	m.mux = newMux(m.groups, m.metrics, m.now)
	for i, group := range m.groups {
		for j, s := range group {
			if err := m.loops[j].Add(s, m.mux.receiver(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unbind is called when nobody sends any more.
func (m *Manager) unbind() {
	for _, l := range m.loops {
		_ = l.Close()
	}
	m.readers.Wait()
	for _, group := range m.groups {
		for _, s := range group {
			_ = s.Close()
		}
	}
}

// read makes a loop read a pair of sockets.
func (m *Manager) read(p *udp.Pair, rtp, rtcp udp.Handler) error {
	oversize := func() { m.metrics.drop(dropOversize) }
	l := m.loops[int(m.assigned.Add(1))%len(m.loops)]
	if err := l.Add(p.RTP, udp.Receiver{Handle: rtp, Oversize: oversize}); err != nil {
		return err
	}
	return l.Add(p.RTCP, udp.Receiver{Handle: rtcp, Oversize: oversize})
}

// unpredictable makes a generator that cannot be predicted from outside.
func unpredictable() *rand.Rand {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails (crypto/rand)
	return rand.New(rand.NewChaCha8(seed))
}

// Run ticks until ctx ends, then ends every session with reason "shutdown".
func (m *Manager) Run(ctx context.Context) error {
	ticker := time.NewTicker(m.config.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			m.Close()
			return nil
		case <-ticker.C:
			m.tick(m.now())
		}
	}
}

func (m *Manager) tick(now time.Time) {
	m.mu.Lock()
	if m.hub.watched() {
		m.watched = now
	}
	watched := m.watched
	list := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	m.mu.Unlock()
	m.disown(now)
	for _, s := range list {
		if s.orphaned(now, watched) {
			s.log.Warn("session orphaned: no control plane has watched it or applied a spec to it")
			m.remove(s, "orphaned")
			continue
		}
		s.tick(now)
	}
	if now.Sub(m.counted) >= m.config.QualityInterval {
		m.counted = now
		count := map[engineReason]int{}
		for _, s := range list {
			s.engines(count)
		}
		m.metrics.engines(count)
	}
}

// Close ends all sessions and waits until nothing runs any more.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed, m.draining = true, true
	list := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	m.mu.Unlock()
	for _, s := range list {
		m.remove(s, "shutdown")
	}
	m.handshakes.Wait()
	m.unbind()
}

// Apply makes a session as the spec says. Its errors are *FieldError,
// *StaleError, ErrDraining, ErrFull, or wrap ErrPorts.
func (m *Manager) Apply(spec *mediav1.SessionSpec) (*mediav1.SessionState, error) {
	p, err := Compile(spec)
	if err != nil {
		return nil, err
	}
	for {
		s, err := m.session(p.ID)
		if err != nil {
			return nil, err
		}
		state, again, err := m.applyTo(s, p)
		if !again {
			return state, err
		}
	}
}

// session finds a session or makes room for one.
func (m *Manager) session(id string) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		return s, nil
	}
	switch {
	case m.draining:
		return nil, ErrDraining
	case len(m.sessions) >= m.config.MaxSessions:
		return nil, ErrFull
	}
	s := newSession(m, id)
	m.sessions[id] = s
	m.metrics.sessions.Set(float64(len(m.sessions)))
	return s, nil
}

// applyTo applies a plan to a session; again is true when the session ended in
// the meantime.
func (m *Manager) applyTo(s *Session, p *Plan) (state *mediav1.SessionState, again bool, err error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.removed {
		return nil, true, nil
	}
	if s.plan != nil {
		have := s.plan
		switch {
		case p.Epoch < have.Epoch || p.Epoch == have.Epoch && p.Generation < have.Generation:
			return nil, false, &StaleError{have.Epoch, have.Generation}
		case p.Epoch == have.Epoch && p.Generation == have.Generation:
			s.mu.Lock()
			s.claimed = m.now()
			s.mu.Unlock()
			return s.State(), false, nil
		}
	}
	if err := s.apply(p); err != nil {
		if s.plan == nil {
			s.removed = true
			m.drop(s)
		}
		return nil, false, err
	}
	return s.State(), false, nil
}

func (m *Manager) drop(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[s.id] == s {
		delete(m.sessions, s.id)
	}
	m.metrics.sessions.Set(float64(len(m.sessions)))
}

// remove ends a session on the node's own account.
func (m *Manager) remove(s *Session, reason string) {
	_, _ = s.end(reason, math.MaxUint64)
	m.drop(s)
}

// Remove ends a session and answers its last state, nil when there is none. A
// lower owner_epoch than the session's is refused with *StaleError.
func (m *Manager) Remove(id string, epoch uint64) (*mediav1.SessionState, error) {
	m.mu.Lock()
	s := m.sessions[id]
	m.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	state, err := s.end("requested", epoch)
	if err != nil {
		return nil, err
	}
	m.drop(s)
	return state, nil
}

// Watch subscribes to events. The state of all sessions must be asked for after
// it, so that nothing falls between.
func (m *Manager) Watch() *Watcher { return m.hub.subscribe() }

// States of all sessions.
func (m *Manager) States() []*mediav1.SessionState {
	m.mu.Lock()
	list := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	m.mu.Unlock()
	states := make([]*mediav1.SessionState, 0, len(list))
	for _, s := range list {
		if st := s.State(); st != nil {
			states = append(states, st)
		}
	}
	return states
}

// Drain refuses new sessions from now on, and answers how many there are.
func (m *Manager) Drain() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = true
	return len(m.sessions)
}

// Draining says whether Drain was called.
func (m *Manager) Draining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.draining
}

// Capacity of the node.
func (m *Manager) Capacity() *mediav1.Capacity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &mediav1.Capacity{
		Sessions: uint32(len(m.sessions)), MaxSessions: uint32(m.config.MaxSessions), FreeRtpPorts: uint32(m.ports.Free()),
	}
}

// offloads says whether the engine can take plans at all.
func (m *Manager) offloads() bool {
	_, null := m.config.Engine.(fastpath.User)
	return !null
}

// Engine that forwards.
func (m *Manager) Engine() fastpath.Engine { return m.config.Engine }
