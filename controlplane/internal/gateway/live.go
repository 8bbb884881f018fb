package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// liveCall is a call that this process holds. Its lock serialises what happens
// to the call and is held for every field but ID.
type liveCall struct {
	mu sync.Mutex
	Call
	// inserted: the record is in the store; record is how it has it, encoded.
	inserted bool
	record   []byte
	// sessions of all devices; stored is how the store has them.
	sessions []*call.MediaSession
	stored   map[string]call.MediaSession
	// candidates of the media node, for descriptions to browsers.
	candidates MediaState

	// pending are the events of changes that the store has not taken yet.
	pending []notice

	// reached is the browser leg that ICE connected last.
	reached string
	rang    bool
	// leaving: the network was asked for the end of the call.
	leaving bool
	// cancelled: the device asked for the end before the answer.
	cancelled bool
	// verdict is how the call is to end when the gateway itself decided.
	verdict *verdict
	// silent: the device learns the end from a response and needs no event.
	silent bool
	// unplugged: the media session was removed and must not come back.
	unplugged bool
	// changing: an offer of ours is under way in the dialog.
	changing bool
	// uninvited: the devices hear of the call when its caller is ready.
	uninvited bool
	// owed: a new offer of the calling device has not been passed on yet.
	owed bool
	// next is the network's side of the media as it is offered to another party,
	// while the call is handed over.
	next *CoreLeg
	// awaiting: our offer went out in a 2xx, its answer comes with the ACK.
	awaiting bool
	// accepted: an incoming call was answered by a device.
	accepted bool
	// over: nothing more happens to this call.
	over bool
	// timer for what the call waits for: an answer, an offer, a browser.
	timer *time.Timer
	// digits wait to be sent by INFO, one after the other.
	digits []digitPressed
}

// verdict is the final status of the sessions that are not over yet.
type verdict struct {
	status call.Status
	reason string
}

// notice is an event to record with a change.
type notice struct {
	session *call.MediaSession
	kind    call.EventType
	change  call.SessionChange
}

// statusNotice tells a session's status, with a new answer or offer if any.
func statusNotice(m *call.MediaSession, status call.Status, answer string) notice {
	c := m.Change(status)
	c.Answer = answer
	return notice{m, call.SessionStatus, c}
}

func (lc *liveCall) session(id string) *call.MediaSession {
	i := slices.IndexFunc(lc.sessions, func(m *call.MediaSession) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return lc.sessions[i]
}

// leg is the browser leg of a session.
func (lc *liveCall) leg(sessionID string) *BrowserLeg {
	for i := range lc.Media.Browsers {
		if lc.Media.Browsers[i].SessionID == sessionID {
			return &lc.Media.Browsers[i]
		}
	}
	return nil
}

// sessionOfLeg finds whose leg it is.
func (lc *liveCall) sessionOfLeg(leg string) *call.MediaSession {
	for _, b := range lc.Media.Browsers {
		if b.ID == leg {
			return lc.session(b.SessionID)
		}
	}
	return nil
}

// confirmed reports whether the call has been answered by someone.
func (lc *liveCall) confirmed() bool {
	return slices.ContainsFunc(lc.sessions, func(m *call.MediaSession) bool { return m.Status.Answered() })
}

// await replaces what the call waits for. What comes of it runs under the call's
// lock, but not if the wait was over before it got the lock: a call that is
// answered at the last moment must not be ended for want of an answer.
func (lc *liveCall) await(d time.Duration, f func()) {
	lc.stopWaiting()
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		lc.mu.Lock()
		defer lc.mu.Unlock()
		if lc.timer == timer {
			lc.timer = nil
			f()
		}
	})
	lc.timer = timer
}

func (lc *liveCall) stopWaiting() {
	if lc.timer != nil {
		lc.timer.Stop()
		lc.timer = nil
	}
}

// keep makes a call known to this process, unless it knows the call already. Its
// caller holds the call's lock from before the call can be seen in the store
// until its events can be taken, so that nobody finds half a call.
func (g *Gateway) keep(lc *liveCall) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[lc.ID] != nil {
		return false
	}
	g.calls[lc.ID] = lc
	return true
}

func (g *Gateway) drop(lc *liveCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, lc.ID)
}

func (g *Gateway) find(callID string) *liveCall {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[callID]
}

// lock finds a call that this process holds and locks it. ok is false when there
// is none or it is over.
func (g *Gateway) lock(callID string) (lc *liveCall, ok bool) {
	if lc = g.find(callID); lc == nil {
		return nil, false
	}
	lc.mu.Lock()
	if lc.over {
		lc.mu.Unlock()
		return nil, false
	}
	return lc, true
}

func (g *Gateway) held() []*liveCall {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*liveCall, 0, len(g.calls))
	for _, lc := range g.calls {
		out = append(out, lc)
	}
	return out
}

// errUnplugged: a call that is ending gets no media any more.
var errUnplugged = errors.New("the call is ending")

// apply programs the call's media. The caller's impatience does not count: what
// the node has and what the plan says must not part.
func (g *Gateway) apply(ctx context.Context, lc *liveCall) error {
	if lc.unplugged {
		return errUnplugged
	}
	lc.Media.Epoch = g.epoch
	lc.Media.Generation++
	lc.Media.SilenceLimit, lc.Media.OrphanAfter = g.config.MediaTimeout, g.config.OrphanAfter
	state, err := g.media.Apply(context.WithoutCancel(ctx), lc.Media)
	if err != nil {
		return err
	}
	lc.candidates = state
	lc.Media.Node = state.Node
	if lc.Media.Core != nil {
		lc.Media.Core.Local, lc.Media.Core.LocalRTCP = state.Core, state.CoreRTCP
	}
	return nil
}

// describe renders a description whose version grows only when the rest changes
// (RFC 3264 8).
func (d *Descriptions) describe(render func(id, version uint64) (string, error)) (string, error) {
	if d.SessionID == 0 {
		d.SessionID, d.Version = randomSessionID(), 1
	}
	text, err := render(d.SessionID, d.Version)
	if err != nil || text == d.Local {
		return text, err
	}
	if d.Local != "" {
		if text, err = render(d.SessionID, d.Version+1); err != nil {
			return "", err
		}
		d.Version++
	}
	d.Local = text
	return text, nil
}

// holdDirection is what the gateway offers the network, as far as this side's
// own hold goes.
func (lc *liveCall) holdDirection() sdp.Direction {
	if lc.LocalHold {
		return sdp.SendOnly
	}
	return sdp.SendRecv
}
