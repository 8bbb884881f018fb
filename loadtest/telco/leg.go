package telco

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// supported lists the SIP extensions the network understands, allowed the
// methods.
const (
	supported = "100rel, timer"
	allowed   = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE"
)

// party is one side of a dialog as From and To show it.
type party struct {
	display string
	uri     sip.Uri
}

// legUser is who sits behind a leg: a scenario with its media, or the other
// half of a call between subscribers.
type legUser interface {
	// offer handles a session description that came in a re-INVITE or UPDATE
	// and returns the answer. An empty body asks for an offer.
	offer(ctx context.Context, method sip.RequestMethod, body []byte) ([]byte, *cause)
	// acknowledged handles the answer in the ACK of an offer made in a 2xx; it
	// is called for every ACK, with an empty body otherwise.
	acknowledged(body []byte)
	// info handles an INFO request.
	info(contentType string, body []byte)
}

type legState int

const (
	early legState = iota
	confirmed
	ended
)

// leg is one dialog and its INVITE session. See the package comment for its
// life.
type leg struct {
	n   *Network
	log *slog.Logger

	callID   string
	localTag string
	local    party
	remote   party
	outgoing bool // we sent the INVITE

	ctx context.Context // ends with the leg; the cause is a Cause
	end context.CancelCauseFunc

	mu         sync.Mutex
	state      legState
	user       legUser
	remoteTag  string
	target     sip.Uri
	routes     []sip.Uri
	transport  string
	localSeq   uint32
	remoteSeq  uint32
	canUpdate  bool // the peer allows UPDATE
	busyOffer  bool // an offer of ours is unanswered
	busyAnswer bool // an offer of the peer is unanswered
	acks       map[uint32]chan *sip.Request
	pracks     map[uint32]chan *sip.Request
	rseq       uint32
	invite     *serverInvite // of the initial INVITE received
	cancelDial context.CancelCauseFunc
	refresh    *time.Timer
}

// newLeg makes a leg; enter makes it known.
func (n *Network) newLeg(callID string, local, remote party) *leg {
	l := &leg{
		n:        n,
		callID:   callID,
		localTag: sip.GenerateTagN(12),
		local:    local,
		remote:   remote,
		acks:     map[uint32]chan *sip.Request{},
		pracks:   map[uint32]chan *sip.Request{},
		log:      n.log.With("sip_call_id", callID),
	}
	l.ctx, l.end = context.WithCancelCause(n.ctx)
	return l
}

// enter puts the leg into the network's table, where requests of the dialog
// find it, unless the network is closing.
func (l *leg) enter() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.closing {
		l.end(cause{Code: 503, Text: "Network shutting down", Q850: 41})
		return errClosed
	}
	l.n.legs[l.key()] = l
	return nil
}

func (l *leg) key() string { return l.callID + " " + l.localTag }

// findLeg returns the leg that an in-dialog request belongs to.
func (n *Network) findLeg(req *sip.Request) *leg {
	localTag, _ := req.To().Params.Get("tag")
	remoteTag, _ := req.From().Params.Get("tag")
	n.mu.Lock()
	l := n.legs[req.CallID().Value()+" "+localTag]
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remoteTag != "" && l.remoteTag != remoteTag {
		return nil
	}
	return l
}

// finish ends the leg once. It reports whether it was the one to do it.
func (l *leg) finish(why cause) bool {
	l.mu.Lock()
	if l.state == ended {
		l.mu.Unlock()
		return false
	}
	l.state = ended
	if l.refresh != nil {
		l.refresh.Stop()
	}
	l.mu.Unlock()
	l.n.mu.Lock()
	delete(l.n.legs, l.key())
	l.n.mu.Unlock()
	l.log.Debug("leg ended", "cause", why.Error())
	l.end(why)
	return true
}

// why returns the cause of an ended leg.
func (l *leg) why() cause {
	if c, ok := context.Cause(l.ctx).(cause); ok {
		return c
	}
	return cause{Code: 503, Text: "Network shutting down", Q850: 41}
}

// currentState returns the leg's state.
func (l *leg) currentState() legState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// hangUp ends the leg from our side in the way its state asks for: a final
// response, a CANCEL or a BYE. It returns when the peer knows or ctx ends.
func (l *leg) hangUp(ctx context.Context, why cause) {
	l.mu.Lock()
	state, invite, cancelDial := l.state, l.invite, l.cancelDial
	l.mu.Unlock()
	switch {
	case state == ended:
	case state == early && invite == nil && cancelDial == nil:
		l.finish(why) // before the INVITE
	case state == early && invite == nil:
		cancelDial(why)
		select {
		case <-l.ctx.Done():
		case <-ctx.Done():
			l.finish(why)
		}
	case state == early:
		invite.reject(why)
	default:
		l.bye(ctx, why)
	}
}

// bye ends a confirmed leg.
func (l *leg) bye(ctx context.Context, why cause) {
	// The callee must not send BYE before the ACK (RFC 3261 section 15).
	l.mu.Lock()
	invite := l.invite
	l.mu.Unlock()
	if invite != nil {
		select {
		case <-invite.settled:
		case <-l.ctx.Done():
			return
		case <-ctx.Done():
		}
	}
	req := l.request(sip.BYE)
	if h := why.reason(); h != nil {
		req.AppendHeader(h)
	}
	if !l.finish(why) {
		return
	}
	// ctx may be the leg's own, which has just ended: the BYE outlives it.
	answered := make(chan struct{})
	if !l.n.goWork(func() {
		defer close(answered)
		if res, err := l.send(l.n.ctx, req); err != nil {
			l.log.Warn("BYE was not answered", "error", err)
		} else if res.StatusCode >= 300 {
			l.log.Debug("BYE was refused", "status", res.StatusCode)
		}
	}) {
		return
	}
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// request builds the next request inside the dialog (RFC 3261 section
// 12.2.1.1).
func (l *leg) request(method sip.RequestMethod) *sip.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	if method != sip.ACK {
		l.localSeq++
	}
	return l.requestLocked(method, l.localSeq)
}

func (l *leg) requestLocked(method sip.RequestMethod, seq uint32) *sip.Request {
	target, routes := l.target, l.routes
	if len(routes) > 0 && !routes[0].UriParams.Has("lr") { // a strict router
		routes = append(append([]sip.Uri(nil), routes[1:]...), target)
		target = l.routes[0]
	}
	req := sip.NewRequest(method, target)
	for _, r := range routes {
		req.AppendHeader(&sip.RouteHeader{Address: *r.Clone()})
	}
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	l.appendIdentity(req, seq)
	if method == sip.INVITE || method == sip.UPDATE {
		req.AppendHeader(l.n.contact(l.transport, l.local.uri.User))
		req.AppendHeader(sip.NewHeader("Allow", allowed))
		req.AppendHeader(sip.NewHeader("Supported", supported))
	}
	return req
}

func (l *leg) appendIdentity(req *sip.Request, seq uint32) {
	from := &sip.FromHeader{DisplayName: l.local.display, Address: l.local.uri, Params: sip.NewParams()}
	from.Params.Add("tag", l.localTag)
	req.AppendHeader(from)
	to := &sip.ToHeader{DisplayName: l.remote.display, Address: l.remote.uri, Params: sip.NewParams()}
	if l.remoteTag != "" {
		to.Params.Add("tag", l.remoteTag)
	}
	req.AppendHeader(to)
	callID := sip.CallIDHeader(l.callID)
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: seq, MethodName: req.Method})
}

// nextHop returns where requests of the dialog go first.
func (l *leg) nextHop() (hostPort, transport string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.routes) > 0 {
		return hop(&l.routes[0], l.transport)
	}
	return hop(&l.target, l.transport)
}

// send sends an in-dialog request that is not an INVITE and returns the final
// response.
func (l *leg) send(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	hostPort, transport := l.nextHop()
	x, err := l.n.start(ctx, req, hostPort, transport)
	if err != nil {
		return nil, err
	}
	return x.final(ctx)
}

// contact is the network's address in a dialog.
func (n *Network) contact(transport, user string) *sip.ContactHeader {
	uri := sip.Uri{Scheme: "sip", User: user, Host: n.host, Port: int(n.Addr().Port()), UriParams: sip.NewParams()}
	if transport == "TCP" {
		uri.UriParams.Add("transport", "tcp")
	}
	return &sip.ContactHeader{Address: uri}
}

// setBody puts a session description into a message.
func setBody(m sip.Message, body []byte) {
	if len(body) > 0 {
		contentType := sip.ContentTypeHeader("application/sdp")
		m.AppendHeader(&contentType)
	}
	m.SetBody(body)
}

// routeSet reads Record-Route, for the caller's side in reverse order
// (RFC 3261 sections 12.1.1 and 12.1.2).
func routeSet(m sip.Message, reverse bool) []sip.Uri {
	var routes []sip.Uri
	for _, h := range m.GetHeaders("Record-Route") {
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			routes = append(routes, *rr.Address.Clone())
		}
	}
	if reverse {
		for i, j := 0, len(routes)-1; i < j; i, j = i+1, j-1 {
			routes[i], routes[j] = routes[j], routes[i]
		}
	}
	return routes
}

// refreshTarget takes the peer's Contact as the new remote target.
func (l *leg) refreshTarget(m sip.Message) {
	contact, ok := firstContact(m)
	if !ok {
		return
	}
	l.mu.Lock()
	l.target = *contact.Address.Clone()
	l.mu.Unlock()
}

func firstContact(m sip.Message) (*sip.ContactHeader, bool) {
	headers := append(m.GetHeaders("Contact"), m.GetHeaders("m")...)
	if len(headers) == 0 {
		return nil, false
	}
	contact, ok := headers[0].(*sip.ContactHeader)
	return contact, ok && !contact.Address.Wildcard && contact.Address.Host != ""
}

// info sends an INFO request (RFC 6086).
func (l *leg) info(ctx context.Context, contentType string, body []byte) error {
	req := l.request(sip.INFO)
	kind := sip.ContentTypeHeader(contentType)
	req.AppendHeader(&kind)
	req.SetBody(body)
	res, err := l.send(ctx, req)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("INFO was refused: %d %s", res.StatusCode, res.Reason)
	}
	return nil
}
