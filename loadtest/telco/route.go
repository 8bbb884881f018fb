package telco

import (
	"context"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// handleInvite decides where a new call goes: to a handler, to a scenario, or
// back to the gateway for another subscriber.
func (n *Network) handleInvite(req *sip.Request, tx *sip.ServerTx) {
	switch strings.ToLower(req.Recipient.Scheme) {
	case "sip", "tel", "":
	default:
		n.refuse(req, tx, 416)
		return
	}
	if _, ok := firstContact(req); !ok {
		n.refuse(req, tx, 400)
		return
	}
	if _, ok := sessionDescription(req); !ok {
		n.refuse(req, tx, 415, sip.NewHeader("Accept", "application/sdp"))
		return
	}
	caller := n.caller(req)
	if !n.registrar.admit(req, tx, caller) {
		return
	}
	called := n.normalize.uri(&req.Recipient)
	l, err := n.acceptInvite(req, tx)
	if err != nil {
		n.refuse(req, tx, 503)
		return
	}
	if l.ctx.Err() != nil {
		return // cancelled already
	}
	if seconds := sessionInterval(req); seconds > 0 && seconds < 90 {
		l.invite.interval = 0
		l.invite.reject(cause{Code: 422, Text: statusText(422)}, sip.NewHeader("Min-SE", "90"))
		return
	}
	l.invite.progress(100, nil)
	n.log.Info("call", "from", caller, "to", called, "dialled", req.Recipient.User, "sip_call_id", l.callID)

	n.mu.Lock()
	handler := n.handlers[called]
	n.mu.Unlock()
	number, listed := n.numbers[called]
	var work func()
	switch {
	case handler != nil:
		work = func() { n.serve(l, called, caller, handler) }
	case listed:
		work = func() { n.serve(l, called, caller, scenarios[number.Scenario]) }
	case n.isSubscriber(called):
		work = func() { n.bridge(l, called, caller) }
	default:
		work = func() { l.invite.reject(cause{Code: 404, Text: "Unallocated number", Q850: 1}) }
	}
	if !n.goWork(work) {
		l.invite.reject(cause{Code: 503, Text: statusText(503)})
	}
}

// caller returns the caller's number: the asserted identity (RFC 3325), or
// else the number in From.
func (n *Network) caller(req *sip.Request) string {
	for _, name := range []string{"P-Asserted-Identity", "P-Preferred-Identity"} {
		for _, h := range req.GetHeaders(name) {
			var uri sip.Uri
			var params sip.HeaderParams
			if _, err := sip.ParseAddressValue(h.Value(), &uri, &params); err == nil {
				if number := n.normalize.uri(&uri); number != "" {
					return number
				}
			}
		}
	}
	return n.normalize.uri(&req.From().Address)
}

// serve runs what answers for a number, and ends the call after it.
func (n *Network) serve(l *leg, number, peer string, answer func(context.Context, *Call)) {
	c := n.newCall(l, number, peer)
	answer(l.ctx, c)
	if l.ctx.Err() == nil {
		l.hangUp(n.ctx, normalClearing)
	}
}
