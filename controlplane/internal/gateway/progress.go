package gateway

import (
	"context"
	"errors"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// Provisional is told of a 1xx response.
func (g *Gateway) Provisional(ctx context.Context, callID string, a Answer) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	m := lc.sessions[0]
	status, told := call.ProvisionalStatus(a.Code)
	if lc.leaving || !m.Status.SettingUp() {
		return
	}
	lc.rang = lc.rang || status == call.Ringing
	core := lc.Media.Core
	gate, generation := core.Gate, lc.Media.Generation
	core.authorize(a.EarlyMedia)
	answer := ""
	if a.SDP != "" {
		fresh, err := g.answerBrowser(ctx, lc, m, a.SDP)
		if err != nil {
			// The final response decides; early media is a courtesy.
			g.log.Warn("early media cannot be passed", "call", callID, "error", err)
		}
		answer = fresh
	}
	if core.Gate != gate && lc.Media.Talking != "" && lc.Media.Generation == generation {
		if err := g.apply(ctx, lc); err != nil {
			g.log.Warn("early media cannot be gated", "call", callID, "error", err)
		}
	}
	if status == call.Ringing && lc.ringsBack() && a.EarlyMedia != EarlyMediaSendRecv && a.EarlyMedia != EarlyMediaSendOnly {
		fresh, err := g.ring(ctx, lc, m)
		if err != nil {
			g.log.Warn("ringing tone cannot be played", "call", callID, "error", err)
		}
		if fresh != "" {
			answer = fresh
		}
	}
	if !told {
		// Another branch is heard now. That changes nothing for the device
		// unless it is another codec.
		if answer != "" {
			g.save(ctx, lc, statusNotice(m, m.Status, answer))
		}
		return
	}
	defer g.passOn(lc)
	if err := m.Move(status, a.Reason(), g.now()); err != nil {
		g.log.Error("take a provisional response", "call", callID, "error", err)
		return
	}
	g.save(ctx, lc, statusNotice(m, status, answer))
}

// Answered is told of the 2xx to our INVITE.
func (g *Gateway) Answered(ctx context.Context, callID string, a Answer) {
	lc, ok := g.lock(callID)
	if !ok {
		return
	}
	defer lc.mu.Unlock()
	m := lc.sessions[0]
	lc.Dialog = a.Dialog
	text := a.SDP
	if text == "" {
		text = lc.Media.Core.SDP.Remote
	}
	if lc.leaving || !m.Status.SettingUp() {
		// The answer crossed our CANCEL: the adapter ends the dialog.
		return
	}
	gated := lc.Media.Core.Gate != ""
	lc.Media.Core.Gate = ""
	if leg := lc.leg(m.ID); leg != nil && leg.Tone != nil {
		// The codec of the tone goes with it, also when the answer is known.
		leg.Tone, lc.Media.Core.SDP.Remote = nil, ""
	}
	answer, err := g.answerBrowser(ctx, lc, m, text)
	if err == nil && gated {
		err = g.apply(ctx, lc)
	}
	if err != nil {
		cause := call.CauseMediaFailed
		if errors.Is(err, sdp.ErrNoCommonCodec) {
			cause = call.CauseIncompatibleMedia
		}
		g.end(ctx, lc, cause, call.Failed, "the answer cannot be used: "+err.Error())
		return
	}
	if answer == "" {
		// Told once more, since it is in force only now.
		answer = m.Answer
	}
	if err := m.Move(call.Connected, a.Reason(), g.now()); err != nil {
		g.log.Error("take the answer to a call", "call", callID, "error", err)
		return
	}
	g.answered(lc, m)
	g.save(ctx, lc, statusNotice(m, call.Connected, answer))
	g.passOn(lc)
}

// answerBrowser takes the network's answer over to the browser. The result is
// empty when the browser's answer stays as it was.
func (g *Gateway) answerBrowser(ctx context.Context, lc *liveCall, m *call.MediaSession, text string) (string, error) {
	leg, core := lc.leg(m.ID), lc.Media.Core
	if text == "" {
		return "", errors.New("the network sent no session description")
	}
	if text == core.SDP.Remote && lc.Media.Talking == leg.ID && m.Answer != "" {
		return "", nil
	}
	offer, err := sdp.ParseWebRTC(leg.SDP.Remote)
	if err != nil {
		return "", err
	}
	if err := core.takeAnswer(text, sdp.SendRecv); err != nil {
		return "", err
	}
	leg.Codecs = leg.withTone(withEvents(sdp.AnswerFor(offer.Codecs, core.Codecs), offer.Codecs), offer.Codecs)
	lc.Media.Talking = leg.ID
	if err := g.apply(ctx, lc); err != nil {
		return "", err
	}
	return lc.freshAnswer(m, leg, offer)
}
