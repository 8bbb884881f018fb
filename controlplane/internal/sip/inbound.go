package sip

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/precondition"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// receive is the tap's hook for a message that passed validation.
func (n *Network) receive(in tap.Inbound) {
	from, to := header.Tag(in.Message.From().Params), header.Tag(in.Message.To().Params)
	local, remote := to, from
	if _, ok := in.Message.(*sip.Response); ok {
		local, remote = from, to
	}
	id, number := n.name(in.Message.CallID().Value(), local, remote)
	if req, ok := in.Message.(*sip.Request); ok && id == "" {
		t := n.peer(in)
		if !n.welcome(in, req, t != nil) {
			return
		}
		if t != nil && req.Method == sip.INVITE && to == "" {
			// A new call has its id from its first message on.
			id = uuid.Must(uuid.NewV7()).String()
			in.Label = id
			number = callee(t, req).number()
		}
	}
	n.trace(in.Message, in.Text, true, in.Remote.String(), id, number)
	n.tx.Receive(in)
}

// handler is the Network as the transaction layer's user.
type handler Network

// Cancel of a pending INVITE.
func (h *handler) Cancel(in tap.Inbound, req *sip.Request, tx, invite *transaction.Server) {
	n := (*Network)(h)
	c := n.byRemote(req.CallID().Value(), header.Tag(req.From().Params))
	if tag := header.Tag(invite.Request.To().Params); tag != "" {
		c = n.byLocal(req.CallID().Value(), tag)
	}
	if c == nil {
		tx.Respond(n.reply(req, 481, "", n.random(12)))
		return
	}
	r := request(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	r.ID = c.server(tx)
	c.run(c.m.Cancel(r))
}

// Request is any new request.
func (h *handler) Request(in tap.Inbound, req *sip.Request, tx *transaction.Server) {
	n := (*Network)(h)
	sipID, to, from := req.CallID().Value(), header.Tag(req.To().Params), header.Tag(req.From().Params)
	if req.Method == sip.CANCEL {
		n.refuse(tx, 481, "")
		return
	}
	if req.Method == sip.NOTIFY && n.watched(sipID) {
		n.notify(req, tx)
		return
	}
	if to != "" {
		c := n.byLocal(sipID, to)
		if c == nil {
			n.unknown(req, tx, sipID, to)
			return
		}
		n.within(c, req, tx, from)
		return
	}
	if req.Method == sip.ACK {
		return
	}
	t := n.peer(in)
	if t == nil {
		n.refusedPeer(in, req)
		n.refuse(tx, 403, "peer")
		return
	}
	if m := req.MaxForwards(); m != nil && m.Val() == 0 && req.Method != sip.OPTIONS {
		n.refuse(tx, 483, "max_forwards")
		return
	}
	switch req.Method {
	case sip.INVITE:
		n.incomingCall(in, req, tx, t)
	case sip.OPTIONS:
		if u := unsupported(t, req); len(u) > 0 {
			n.refuse(tx, 420, "extension", [2]string{"Unsupported", strings.Join(u, ", ")})
			return
		}
		res := n.reply(req, 200, "", n.random(12))
		for _, f := range [][2]string{{"Allow", allowed}, {"Accept", accepted}, {"Supported", "100rel, timer"}} {
			res.AppendHeader(sip.NewHeader(f[0], f[1]))
		}
		res.SetBody(nil)
		tx.Respond(res)
	case sip.BYE, sip.PRACK, sip.UPDATE, sip.INFO:
		n.refuse(tx, 481, "")
	default:
		n.refuse(tx, dialog.Refuse(0, string(req.Method)).Code, "")
	}
}

// refuse answers a request outside of calls; reason is counted unless empty.
func (n *Network) refuse(tx *transaction.Server, code int, reason string, fields ...[2]string) {
	if reason != "" {
		n.metrics.rejected.WithLabelValues(reason).Inc()
	}
	if tx == nil {
		return
	}
	res := n.reply(tx.Request, code, "", n.random(12))
	switch code {
	case 405, 501:
		fields = append(fields, [2]string{"Allow", allowed})
	case 415:
		fields = append(fields, [2]string{"Accept", accepted})
	}
	for _, f := range fields {
		res.AppendHeader(sip.NewHeader(f[0], f[1]))
	}
	res.SetBody(nil)
	tx.Respond(res)
}

// unsupported are the extensions that a request of the trunk requires in vain.
func unsupported(t *trunk.Trunk, req *sip.Request) []string {
	var out []string
	for _, v := range header.List(req, "Require") {
		switch strings.ToLower(v) {
		case "100rel", "timer":
		case precondition.Tag:
			if !meetsPreconditions(t) {
				out = append(out, v)
			}
		default:
			out = append(out, v)
		}
	}
	return out
}

// within passes a request to its call.
func (n *Network) within(c *liveCall, req *sip.Request, tx *transaction.Server, remoteTag string) {
	if tx != nil {
		if u := unsupported(c.trunk, req); len(u) > 0 {
			n.refuse(tx, 420, "extension", [2]string{"Unsupported", strings.Join(u, ", ")})
			return
		}
		if b, err := contentOf(req); err != nil || (req.Method == sip.INVITE || req.Method == sip.UPDATE) && len(b.unknown) > 0 {
			n.refuse(tx, 415, "content_type")
			return
		}
	}
	c.mu.Lock()
	known := c.m.Phase() == dialog.Calling || c.m.Dialog().RemoteTag == remoteTag
	c.mu.Unlock()
	if !known {
		n.refuse(tx, 481, "")
		return
	}
	c.request(req, tx, remoteTag)
}

// pending is a request that waits for its dialog to be found.
type pending struct {
	req *sip.Request
	tx  *transaction.Server
}

// maxFinding bounds the look-ups for unknown dialogs at a time.
const maxFinding = 256

// unknown asks the gateway for a dialog that this process does not hold. The source
// does not matter: a dialog's route set may name proxies that no trunk lists, and
// nobody guesses its tags.
func (n *Network) unknown(req *sip.Request, tx *transaction.Server, sipID, tag string) {
	if tx == nil {
		return // an ACK
	}
	key := sipID + "|" + tag
	n.mu.Lock()
	waiting, found := n.finding[key]
	if len(n.finding) >= maxFinding || len(waiting) >= 16 {
		n.mu.Unlock()
		n.refuse(tx, 503, "overload", [2]string{"Retry-After", "2"})
		return
	}
	n.finding[key] = append(waiting, pending{req, tx})
	n.mu.Unlock()
	if found {
		return
	}
	if !n.spawn(func() { n.find(key, sipID, tag) }) {
		n.refuse(tx, 503, "")
	}
}

func (n *Network) find(key, sipID, tag string) {
	var c *liveCall
	id, d, err := n.events.FindDialog(n.ctx, sipID, tag)
	if err == nil && id != "" && !d.IsZero() {
		c, err = n.restore(id, d)
	}
	if err != nil {
		n.log.Debug("sip: a request for a dialog that is not known", "sip_call_id", sipID, "error", err)
	}
	n.mu.Lock()
	waiting := n.finding[key]
	delete(n.finding, key)
	n.mu.Unlock()
	for _, p := range waiting {
		if c == nil {
			n.refuse(p.tx, 481, "")
			continue
		}
		n.within(c, p.req, p.tx, header.Tag(p.req.From().Params))
	}
}

// peer is the trunk that a message comes from, nil when nobody may.
func (n *Network) peer(in tap.Inbound) *trunk.Trunk {
	req, _ := in.Message.(*sip.Request)
	return n.set().ByPeer(in.Remote.Addr(), in.Names, func(t *trunk.Trunk) bool {
		if req == nil {
			return false
		}
		_, ok := n.registrar.ByContact(t.Name, req.Recipient.User)
		return ok
	})
}

// party is who is called.
type party struct {
	address call.Address
	name    string
}

func (p party) number() call.Number {
	number, _ := p.address.Number()
	return number
}

// callee finds the called party of an INVITE.
func callee(t *trunk.Trunk, req *sip.Request) party {
	to := req.To()
	p := party{name: phrase(header.Unescape(to.DisplayName))}
	if t.Mode == trunk.ModeRegister {
		if number, err := call.ParseNumber(req.Recipient.User); err == nil {
			p.address = number.Address()
			return p
		}
	}
	uri := req.Recipient.String()
	if t.CalleeFrom == "to" {
		uri = to.Address.String()
	}
	p.address = t.Callee(uri)
	return p
}

// callerOf finds who calls: the asserted identity of a trusted trunk, else From;
// nobody when that asked for privacy (RFC 3323, RFC 3325).
func callerOf(t *trunk.Trunk, req *sip.Request) party {
	anonymous := party{address: call.AnonymousAddress()}
	for _, v := range header.Values(req, "Privacy") {
		for _, p := range strings.FieldsFunc(v, func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
			switch strings.ToLower(p) {
			case "id", "user", "header", "session", "critical":
				if !strings.EqualFold(p, "session") && !strings.EqualFold(p, "critical") {
					return anonymous
				}
			}
		}
	}
	from := req.From()
	caller := party{address: t.Address(from.Address.String()), name: phrase(header.Unescape(from.DisplayName))}
	if t.Trusted {
		for i, v := range header.List(req, "P-Asserted-Identity") {
			name, uri, _, ok := header.NameAddr(v)
			if !ok {
				continue
			}
			a := t.Address(uri)
			_, number := a.Number()
			if !a.IsZero() && (i == 0 || number) {
				caller.address = a
				if name != "" {
					caller.name = phrase(name)
				}
				if number {
					break
				}
			}
		}
	}
	if caller.address.IsZero() || caller.address.Kind() == call.Anonymous {
		return anonymous
	}
	return caller
}

// incomingCall is an INVITE without To tag.
func (n *Network) incomingCall(in tap.Inbound, req *sip.Request, tx *transaction.Server, t *trunk.Trunk) {
	sipID, from := req.CallID().Value(), header.Tag(req.From().Params)
	if n.byRemote(sipID, from) != nil {
		// The same request on another path (RFC 3261 8.2.2.2).
		n.refuse(tx, 482, "merged")
		return
	}
	if s := req.Recipient.Scheme; s != "sip" && s != "sips" && s != "tel" && s != "urn" {
		n.refuse(tx, 416, "scheme")
		return
	}
	if u := unsupported(t, req); len(u) > 0 {
		n.refuse(tx, 420, "extension", [2]string{"Unsupported", strings.Join(u, ", ")})
		return
	}
	b, err := contentOf(req)
	if err != nil || len(b.unknown) > 0 {
		n.refuse(tx, 415, "content_type")
		return
	}
	r := request(req)
	cfg := n.machineConfig(t, 1)
	if dialog.TooSmall(cfg, r) {
		n.refuse(tx, 422, "", [2]string{"Min-SE", minSE(cfg)})
		return
	}
	table, refuse := n.refusesPreconditions(t, r)
	if refuse {
		n.refuse(tx, 580, "precondition")
		return
	}
	if !acceptsSDP(req) {
		n.refuse(tx, 406, "accept")
		return
	}
	called := callee(t, req)
	if called.address.IsZero() {
		n.refuse(tx, 404, "")
		return
	}
	id := in.Label
	d := dialog.State{
		CallID: sipID, LocalTag: n.random(12), RemoteTag: from,
		LocalURI:  trunk.NameAddr(header.Unescape(req.To().DisplayName), req.To().Address.String()),
		RemoteURI: trunk.NameAddr(header.Unescape(req.From().DisplayName), req.From().Address.String()),
		LocalSeq:  uint32(n.rand(1000)), Target: r.Contact,
		Trunk: t.Name, Number: string(called.number()), Contact: strings.TrimPrefix(string(called.number()), "+"), Network: in.Network,
	}
	for _, h := range req.GetHeaders("Record-Route") {
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			d.Routes = append(d.Routes, rr.Address.String())
		}
	}
	d.Secure = secure(req, d)
	c := n.newCall(id, sipID, d.LocalTag, from, t, called.number())
	c.qos, c.unready = table, !table.Met()
	c.handedOver()
	// The emergency service calls back (RFC 7090).
	c.priority = t.Emergency && strings.EqualFold(header.First(req, "Priority"), "psap-callback")
	if err := c.count(t, "in"); err != nil {
		n.log.Info("sip: a call is refused", "sip_call_id", sipID, "trunk", t.Name, "error", err)
		n.refuse(tx, 503, "limit", [2]string{"Retry-After", "5"})
		return
	}
	r.ID = c.server(tx)
	c.m = dialog.NewCallee(cfg, d, r)
	if err := n.add(c); err != nil {
		c.release()
		reason := ""
		if errors.Is(err, errBusy) {
			reason = "overload"
		}
		n.refuse(tx, 503, reason, [2]string{"Retry-After", "5"})
		return
	}
	trying := n.reply(req, 100, "", "")
	trying.SetBody(nil)
	tx.Respond(trying)
	caller := callerOf(t, req)
	location, err := callerLocation(req, b, n.now())
	if err != nil {
		n.log.Info("sip: a caller's location cannot be used", "call", id, "sip_call_id", sipID, "trunk", t.Name, "error", err)
	}
	call := gateway.IncomingCall{
		CallID: id, Tenant: t.Tenant, Caller: caller.address, CallerName: caller.name,
		Callee: called.address, CalleeName: called.name, SDP: r.Body.Content, Dialog: c.announced(tx),
		Location: location, Signaling: signalingOf(t, req), Emergency: c.priority,
		AnswerFirst: c.unready, Media: t.MediaPolicy(),
	}
	c.tell(func(ctx context.Context) { n.events.Incoming(ctx, call) })
}

// acceptsSDP tells whether a caller can take an answer (RFC 3261 20.1).
func acceptsSDP(req *sip.Request) bool {
	accept := header.List(req, "Accept")
	for _, v := range accept {
		kind, _ := header.Params(v)
		switch strings.ToLower(kind) {
		case "application/sdp", "application/*", "*/*":
			return true
		}
	}
	return len(accept) == 0
}

// secure tells whether a dialog must stay on TLS (RFC 3261 12.1.1).
func secure(req *sip.Request, d dialog.State) bool {
	first := d.Target
	if len(d.Routes) > 0 {
		first = d.Routes[0]
	}
	return req.Recipient.Scheme == "sips" || strings.HasPrefix(strings.ToLower(first), "sips:")
}

func minSE(cfg dialog.Config) string { return strconv.FormatUint(uint64(cfg.MinSE), 10) }
