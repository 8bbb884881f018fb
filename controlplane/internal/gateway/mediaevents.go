package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// ICEConnected puts a milestone on the ladder.
func (g *Gateway) ICEConnected(_ context.Context, callID, leg string, remote netip.AddrPort) {
	g.milestone(callID, ActorDevice, ActorMedia, "ICE connected", "leg "+leg+", remote "+remote.String(), func(lc *liveCall) {
		lc.reached = leg
	})
}

// answered notes that a call is connected through, and says so when its browser
// has not reached the media node some time later: the usual cause of silence.
func (g *Gateway) answered(lc *liveCall, m *call.MediaSession) {
	const patience = 10 * time.Second
	g.metrics.setup.WithLabelValues(string(m.Direction)).Observe(m.AnsweredAt.Sub(m.CreatedAt).Seconds())
	g.log.Info("call answered", "call", lc.ID, "session", m.ID, "sip_call_id", lc.Dialog.SIPCallID, "node", lc.Media.Node, "codec", codecNames(lc.Media.Core.Codecs))
	time.AfterFunc(patience, func() {
		lc, ok := g.lock(lc.ID)
		if !ok {
			return
		}
		defer lc.mu.Unlock()
		if lc.reached == "" {
			g.log.Warn("no connectivity check of the browser has arrived", "call", lc.ID, "node", lc.Media.Node, "advertised", lc.candidates.Candidates)
			g.trace(lc, ActorMedia, ActorGateway, "no connectivity check yet", fmt.Sprintf("the browser was told %v", lc.candidates.Candidates))
		}
	})
}

// DTLSConnected puts a milestone on the ladder and ends the wait for a browser
// that was lost.
func (g *Gateway) DTLSConnected(_ context.Context, callID, leg, profile string) {
	g.milestone(callID, ActorDevice, ActorMedia, "DTLS-SRTP connected", "leg "+leg+", "+profile, func(lc *liveCall) {
		if lc.Media.Talking == leg && lc.confirmed() {
			lc.stopWaiting()
		}
	})
}

// FirstPacket puts a milestone on the ladder.
func (g *Gateway) FirstPacket(_ context.Context, callID, leg string, source netip.AddrPort) {
	from := ActorDevice
	if leg == CoreLegID {
		from = ActorNetwork
	}
	g.milestone(callID, from, ActorMedia, "first RTP packet", "leg "+leg+", from "+source.String(), nil)
}

// Latched puts a milestone on the ladder.
func (g *Gateway) Latched(_ context.Context, callID string, source netip.AddrPort) {
	g.milestone(callID, ActorNetwork, ActorMedia, "RTP source latched", source.String(), nil)
}

func (g *Gateway) milestone(callID string, from, to Actor, title, text string, then func(*liveCall)) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	g.trace(lc, from, to, title, text)
	if then != nil {
		then(lc)
	}
}

// LegFailed ends a call in set-up; an answered one gets some time in which its
// browser may come back.
func (g *Gateway) LegFailed(ctx context.Context, callID, leg, reason string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	m := lc.sessionOfLeg(leg)
	g.log.Warn("a media leg failed", "call", callID, "leg", leg, "reason", reason)
	g.trace(lc, ActorMedia, ActorGateway, "media failed", "leg "+leg+": "+reason)
	switch {
	case m == nil || m.Status.Final():
		// A leg that was replaced.
	case lc.leaving:
	case m.Status.Answered() && lc.timer == nil:
		lc.await(g.config.MediaGrace, func() {
			g.end(g.life, lc, call.CauseMediaFailed, call.Terminated, "media lost: "+reason)
		})
	case m.Status.Answered():
		// Failed again: its time is running.
	case lc.othersThan(m):
		n := g.endOne(lc, m, call.Failed, "media failed: "+reason)
		g.save(ctx, lc, n)
	default:
		g.end(ctx, lc, call.CauseMediaFailed, call.Failed, "media failed: "+reason)
	}
}

// MediaTimeout ends an answered call that has gone silent.
func (g *Gateway) MediaTimeout(ctx context.Context, callID, leg string, silent time.Duration) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	g.trace(lc, ActorMedia, ActorGateway, "media timeout", "leg "+leg+" silent for "+silent.String())
	if !lc.confirmed() || lc.LocalHold || lc.RemoteHold || leg != CoreLegID && leg != lc.Media.Talking {
		return
	}
	g.log.Warn("a call has gone silent", "call", callID, "leg", leg, "silent", silent)
	g.end(ctx, lc, call.CauseMediaFailed, call.Terminated, "media lost: nothing received for "+silent.String())
}

// MediaDigit passes a digit on by INFO when the far end takes no
// telephone-events.
func (g *Gateway) MediaDigit(_ context.Context, callID, leg, digit string, duration time.Duration) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	from := ActorDevice
	if leg == CoreLegID {
		from = ActorNetwork
	}
	g.trace(lc, from, ActorMedia, "DTMF "+digit, duration.String())
	if leg != lc.Media.Talking || !lc.confirmed() || hasEvents(lc.Media.Core.Codecs) {
		return
	}
	lc.digits = append(lc.digits, digitPressed{digit, duration})
	if len(lc.digits) == 1 {
		g.later(digitsLimit, func(ctx context.Context) { g.sendDigits(ctx, lc) })
	}
}

// digitPressed waits to be sent to the far end.
type digitPressed struct {
	digit    string
	duration time.Duration
}

// digitsLimit bounds the sending of what was dialled in one go.
const digitsLimit = 2 * time.Minute

// sendDigits sends digits one after the other: their order is what they mean.
func (g *Gateway) sendDigits(ctx context.Context, lc *liveCall) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	for len(lc.digits) > 0 {
		d := lc.digits[0]
		lc.mu.Unlock()
		err := g.network.SendDTMF(ctx, lc.ID, d.digit, int(d.duration.Milliseconds()))
		lc.mu.Lock()
		if err != nil {
			g.log.Warn("send a digit by INFO", "call", lc.ID, "error", err)
		}
		lc.digits = lc.digits[1:]
		if lc.over || ctx.Err() != nil {
			lc.digits = nil
		}
	}
}

// SessionLost ends a call whose media node has gone.
func (g *Gateway) SessionLost(ctx context.Context, callID, reason string) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	g.trace(lc, ActorMedia, ActorGateway, "media session lost", reason)
	status := call.Failed
	if lc.confirmed() {
		status = call.Terminated
	}
	g.end(ctx, lc, call.CauseMediaFailed, status, "media lost: "+reason)
}

// Sessions lists the calls that should be on a node.
func (g *Gateway) Sessions(_ context.Context, node string) []string {
	var ids []string
	for _, lc := range g.held() {
		lc.mu.Lock()
		if lc.Media.Node == node && !lc.over {
			ids = append(ids, lc.ID)
		}
		lc.mu.Unlock()
	}
	return ids
}
