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
	// inserted: the record is in the store.
	inserted bool
	// sessions of all devices; stored is how the store has them.
	sessions []*call.MediaSession
	stored   map[string]call.MediaSession
	// candidates of the media node, for descriptions to browsers.
	candidates MediaState

	rang bool
	// cancelled: the device asked for the end before the answer.
	cancelled bool
	// verdict is how the call is to end when the gateway itself decided.
	verdict *verdict
	// changing: an offer of ours is under way in the dialog.
	changing bool
	// awaiting: our offer went out in a 2xx, its answer comes with the ACK.
	awaiting bool
	// accepted: an incoming call was answered by a device.
	accepted bool
	// over: nothing more happens to this call.
	over bool
	// timer for what the call waits for: an answer, an offer, a browser.
	timer *time.Timer
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

// await replaces what the call waits for.
func (lc *liveCall) await(d time.Duration, f func()) {
	lc.stopWaiting()
	lc.timer = time.AfterFunc(d, f)
}

func (lc *liveCall) stopWaiting() {
	if lc.timer != nil {
		lc.timer.Stop()
		lc.timer = nil
	}
}

// keep makes a call known to this process.
func (g *Gateway) keep(lc *liveCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[lc.ID] = lc
}

func (g *Gateway) drop(lc *liveCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, lc.ID)
}

// lock finds a call that this process holds and locks it. ok is false when there
// is none or it is over.
func (g *Gateway) lock(callID string) (lc *liveCall, ok bool) {
	g.mu.Lock()
	lc = g.calls[callID]
	g.mu.Unlock()
	if lc == nil {
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

// save stores the call, its changed sessions and the notices in one transaction.
func (g *Gateway) save(ctx context.Context, lc *liveCall, notices ...notice) error {
	var written []call.MediaSession
	err := g.store.Update(ctx, func(tx Tx) error {
		written = written[:0]
		if err := g.saveRecord(ctx, tx, lc); err != nil {
			return err
		}
		for _, m := range lc.sessions {
			before, known := lc.stored[m.ID]
			if known && before == *m {
				continue
			}
			now := *m
			var err error
			if known {
				err = tx.UpdateSession(ctx, &now)
			} else {
				err = tx.InsertSession(ctx, now)
			}
			if err != nil {
				return err
			}
			written = append(written, now)
		}
		for _, n := range notices {
			if err := g.recordSession(ctx, tx, n.session, n.kind, n.change); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		g.log.Error("store a call", "call", lc.ID, "error", err)
		return err
	}
	lc.inserted = true
	for _, now := range written {
		lc.session(now.ID).Version = now.Version
		lc.stored[now.ID] = now
	}
	return nil
}

func (g *Gateway) saveRecord(ctx context.Context, tx Tx, lc *liveCall) error {
	switch {
	case lc.over && lc.inserted:
		err := tx.DeleteCall(ctx, lc.ID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	case lc.over:
		return nil
	case lc.inserted:
		return tx.UpdateCall(ctx, lc.Call)
	}
	return tx.InsertCall(ctx, lc.Call)
}

// apply programs the call's media.
func (g *Gateway) apply(ctx context.Context, lc *liveCall) error {
	lc.Media.Epoch = g.epoch
	lc.Media.Generation++
	lc.Media.SilenceLimit, lc.Media.OrphanAfter = g.config.MediaTimeout, g.config.OrphanAfter
	state, err := g.media.Apply(ctx, lc.Media)
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

// finish ends a call: every session that lives gets the final status, and the
// media goes. Its callers hold the lock; nothing happens to the call afterwards.
func (g *Gateway) finish(ctx context.Context, lc *liveCall, status call.Status, reason string) {
	if lc.over {
		return
	}
	lc.over = true
	lc.stopWaiting()
	var notices []notice
	for _, m := range lc.sessions {
		if m.Status.Final() {
			continue
		}
		notices = append(notices, g.endOne(lc, m, status, reason))
	}
	g.media.Remove(ctx, lc.Media)
	g.log.Info("call ended", "call", lc.ID, "status", status, "reason", reason)
	if err := g.save(ctx, lc, notices...); err != nil {
		g.finishLater(lc, notices)
		return
	}
	g.drop(lc)
}

// endOne moves one session to a final status; an answered session can only be
// terminated.
func (g *Gateway) endOne(lc *liveCall, m *call.MediaSession, status call.Status, reason string) notice {
	if m.Status.Answered() || !call.CanFollow(m.Direction, m.Status, status) {
		status = call.Terminated
	}
	if err := m.Move(status, reason, g.now()); err != nil {
		g.log.Error("end a session", "session", m.ID, "error", err)
	}
	g.metrics.sessions.WithLabelValues(string(m.Direction), string(m.Status)).Inc()
	g.trace(lc, ActorGateway, ActorGateway, string(m.Status), reason)
	return statusNotice(m, m.Status, "")
}

// finishLater stores the end of a call as soon as the store can take it again.
func (g *Gateway) finishLater(lc *liveCall, notices []notice) {
	const patience, pause = 10 * time.Minute, time.Second
	g.later(patience, func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				g.log.Error("gave up storing the end of a call", "call", lc.ID)
				return
			case <-time.After(pause):
			}
			lc.mu.Lock()
			err := g.save(ctx, lc, notices...)
			lc.mu.Unlock()
			if err == nil {
				g.drop(lc)
				return
			}
		}
	})
}

// end makes the network end a call, after which its sessions get the status.
func (g *Gateway) end(ctx context.Context, lc *liveCall, cause call.Cause, status call.Status, reason string) {
	if lc.verdict == nil {
		lc.verdict = &verdict{status, reason}
	}
	lc.stopWaiting()
	err := g.network.End(ctx, lc.ID, cause)
	switch {
	case errors.Is(err, ErrNoDialog):
		g.finish(ctx, lc, lc.verdict.status, lc.verdict.reason)
	case err != nil:
		g.log.Error("end a call", "call", lc.ID, "error", err)
		g.finish(ctx, lc, lc.verdict.status, lc.verdict.reason)
	}
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
