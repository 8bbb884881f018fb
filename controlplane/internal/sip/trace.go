package sip

import (
	"context"
	"log/slog"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/guard"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// trace logs a message and draws it on the ladder.
func (n *Network) trace(m sip.Message, text string, in bool, peer string, callID string, number call.Number) {
	direction := "out"
	if in {
		direction = "in"
	}
	n.metrics.messages.WithLabelValues(direction, label(m)).Inc()
	debug := n.log.Enabled(context.Background(), slog.LevelDebug)
	if n.tracer == nil && !debug {
		return
	}
	text = redact(text)
	title, _, _ := strings.Cut(text, "\r\n")
	if r, ok := strings.CutPrefix(title, "SIP/2.0 "); ok {
		title = r
	} else {
		title = strings.TrimSuffix(title, " SIP/2.0")
	}
	sipID := m.CallID().Value()
	if debug {
		n.log.Debug("sip: message", "direction", direction, "peer", peer, "title", title,
			"call", callID, "sip_call_id", sipID, "text", text)
	}
	if n.tracer == nil {
		return
	}
	e := gateway.TraceEntry{Time: n.now(), From: gateway.ActorGateway, To: gateway.ActorNetwork,
		Number: number, CallID: callID, SIPCallID: sipID, Title: title, Text: text}
	if in {
		e.From, e.To = e.To, e.From
	}
	n.tracer.Trace(e)
}

// redact hides what authorization fields prove, and the keys of SRTP.
func redact(text string) string {
	text = sdp.Redact(text)
	if !strings.Contains(strings.ToLower(text), "authorization") {
		return text
	}
	head, body, found := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	hidden := false
	out := lines[:0]
	for _, line := range lines {
		if line != "" && (line[0] == ' ' || line[0] == '\t') && hidden {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		hidden = ok && (strings.EqualFold(strings.TrimSpace(name), "Authorization") || strings.EqualFold(strings.TrimSpace(name), "Proxy-Authorization"))
		if hidden {
			scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
			line = name + ": " + scheme + " (hidden)"
		}
		out = append(out, line)
	}
	text = strings.Join(out, "\r\n")
	if found {
		text += "\r\n\r\n" + body
	}
	return text
}

// sending is the tap's hook for what is about to leave.
func (n *Network) sending(m sip.Message, text string, r tap.Route) {
	local, remote := ownTags(m)
	id, number := n.name(m.CallID().Value(), local, remote)
	n.trace(m, text, false, r.Addr.String(), id, number)
}

// sent is the tap's hook for what has left, or could not.
func (n *Network) sent(m sip.Message, r tap.Route, err error) {
	local, remote := ownTags(m)
	if err != nil {
		id, number := n.name(m.CallID().Value(), local, remote)
		n.unsent(m, r.Addr.String(), id, number, err)
		return
	}
	if req, ok := m.(*sip.Request); ok && req.Method == sip.INVITE {
		if c := n.byLocal(m.CallID().Value(), local); c != nil {
			c.handedOver()
		}
	}
}

// unsent says of a message that was traced that it did not leave.
func (n *Network) unsent(m sip.Message, peer, callID string, number call.Number, err error) {
	n.log.Debug("sip: message could not be sent", "peer", peer, "message", label(m), "call", callID, "error", err)
	if n.tracer == nil {
		return
	}
	n.tracer.Trace(gateway.TraceEntry{Time: n.now(), From: gateway.ActorGateway, To: gateway.ActorGateway,
		Number: number, CallID: callID, SIPCallID: m.CallID().Value(), Title: "not sent: " + label(m), Text: err.Error()})
}

// ownTags are the tags of this end and of the other in a message of ours.
func ownTags(m sip.Message) (local, remote string) {
	local, remote = header.Tag(m.From().Params), header.Tag(m.To().Params)
	if _, ok := m.(*sip.Response); ok {
		local, remote = remote, local
	}
	return local, remote
}

// name finds what a message belongs to: a call, or a registration's number.
func (n *Network) name(sipID, local, remote string) (string, call.Number) {
	n.mu.Lock()
	c := n.local[sipID+"|"+local]
	if c == nil || local == "" {
		c = n.incoming[sipID+"|"+remote]
	}
	number := n.labels[sipID]
	n.mu.Unlock()
	if c != nil {
		return c.id, c.number
	}
	return "", number
}

// refused is the tap's hook for what did not pass validation.
func (n *Network) refused(p *validate.Problem, in tap.Inbound) bool {
	n.metrics.rejected.WithLabelValues(p.Reason).Inc()
	n.log.Debug("sip: message not accepted", "reason", p.Reason, "detail", p.Detail, "network", in.Network,
		"peer", in.Remote, "answer", p.Code, "text", redact(in.Text))
	known := n.set().ByPeer(in.Remote.Addr(), in.Names, nil) != nil
	if p.Reason == "tls_handshake" && n.guard.Notice(in.Remote.Addr(), n.now()) {
		n.log.Info("sip: a TLS connection was refused", "peer", in.Remote, "error", p.Detail)
	}
	return n.pass(in, guard.Garbage, known) && (known || !n.cfg.Guard.Silent)
}
