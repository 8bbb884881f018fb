package sip

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/precondition"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// liveCall carries out what a call's machine wants.
type liveCall struct {
	n        *Network
	id       string
	sipID    string
	localTag string
	// remoteTag of the INVITE that was received, empty for calls that we make.
	remoteTag string
	number    call.Number
	trunk     *trunk.Trunk
	auth      *digest.Session

	// legs are the places for an outgoing INVITE, in order; leg is where it went
	// last.
	legs []leg
	leg  int
	last *flight
	// counted is the trunk whose limits the call counts for.
	counted *trunk.Trunk
	// priority: emergency calls and their callbacks do not count against
	// MaxCalls.
	priority bool
	// handed is closed when the first INVITE left, failed when it could not.
	handed, failed       chan struct{}
	handedOnce, failOnce sync.Once
	failure              gateway.Ending

	mu        sync.Mutex
	m         *dialog.Machine
	txs       map[dialog.Tx]*flight
	reqs      map[dialog.Req]*transaction.Server
	lastReq   dialog.Req
	timers    map[dialog.Timer]*time.Timer
	waiters   map[dialog.Token]chan dialog.Done
	lastToken dialog.Token
	ackAuth   []sip.Header
	// qos are the preconditions of the peer's newest description; unready: the
	// call may not ring before they are met.
	qos     precondition.Table
	unready bool
	// waits: the called party is in another call.
	waits bool
	// ack is held back until the answer is stored.
	ack *dialog.SendACK
	// pending is the dialog of the last INVITE before its answer, as stored.
	pending gateway.Dialog
	// authorizedEarly: the network has said what early media may pass.
	authorizedEarly bool

	// events of the call go to told, in their order, until it is muted.
	events queue
	told   gateway.NetworkEvents
	// handing is the transfer under way.
	handing *transfer
	muted   bool
}

// queue tells events one at a time, in order.
type queue struct {
	mu      sync.Mutex
	items   []func(ctx context.Context)
	running bool
}

func (c *liveCall) tell(f func(ctx context.Context)) {
	q := &c.events
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.muted {
		return
	}
	q.items = append(q.items, f)
	if !q.running {
		q.running = c.n.spawn(c.drain)
	}
}

func (c *liveCall) drain() {
	q := &c.events
	for {
		q.mu.Lock()
		if len(q.items) == 0 {
			q.running = false
			q.items = nil
			q.mu.Unlock()
			return
		}
		f := q.items[0]
		q.items = q.items[1:]
		q.mu.Unlock()
		f(c.n.ctx)
	}
}

func (n *Network) newCall(id, sipID, localTag, remoteTag string, t *trunk.Trunk, number call.Number) *liveCall {
	c := &liveCall{n: n, id: id, sipID: sipID, localTag: localTag, remoteTag: remoteTag, trunk: t, number: number,
		txs: map[dialog.Tx]*flight{}, reqs: map[dialog.Req]*transaction.Server{},
		timers: map[dialog.Timer]*time.Timer{}, waiters: map[dialog.Token]chan dialog.Done{},
		handed: make(chan struct{}), failed: make(chan struct{}), told: n.events}
	c.auth = n.session(t, number)
	return c
}

// session answers the challenges of a trunk's servers; nil without an account.
func (n *Network) session(t *trunk.Trunk, number call.Number) *digest.Session {
	cred, ok := t.CredentialsOf(number)
	if !ok {
		return nil
	}
	return digest.NewSession(digest.Credentials{Username: cred.Username, Password: cred.Password}, func() string { return n.random(16) })
}

// machineConfig is the trunk's policy for one call.
func (n *Network) machineConfig(t *trunk.Trunk, targets int) dialog.Config {
	return dialog.Config{
		T1: n.cfg.Timers.T1, T2: n.cfg.Timers.T2,
		Invite: n.cfg.Timers.Invite, Attempt: n.cfg.Timers.Attempt, Ringing: n.cfg.Timers.Ringing,
		Targets: targets, FollowRedirects: t.FollowRedirect, FollowRefer: t.FollowRefer, Reliable: t.Reliable,
		SessionExpires: uint32(t.SessionExpires / time.Second), MinSE: uint32(t.MinSE / time.Second),
		DigitType: "application/" + t.Digits, Now: n.now, Rand: n.rand,
	}
}

var errBusy = errors.New("this process has as many calls as it may")

// add makes the call known. An id that is known already is refused.
func (n *Network) add(c *liveCall) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return errors.New("the SIP network is shutting down")
	case len(n.calls) >= n.cfg.MaxCalls && !c.priority:
		return errBusy
	case n.calls[c.id] != nil:
		return errors.New("there is a call with the id " + c.id)
	}
	n.calls[c.id] = c
	n.local[c.sipID+"|"+c.localTag] = c
	if c.remoteTag != "" {
		n.incoming[c.sipID+"|"+c.remoteTag] = c
	}
	return nil
}

// ended keeps the call for late messages only.
func (n *Network) ended(c *liveCall) {
	n.mu.Lock()
	if n.calls[c.id] == c {
		delete(n.calls, c.id)
	}
	n.mu.Unlock()
	c.release()
	n.after(64*n.cfg.Timers.T1, func() { n.forget(c) })
}

func (n *Network) forget(c *liveCall) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls[c.id] == c {
		delete(n.calls, c.id)
	}
	if n.local[c.sipID+"|"+c.localTag] == c {
		delete(n.local, c.sipID+"|"+c.localTag)
	}
	if n.incoming[c.sipID+"|"+c.remoteTag] == c {
		delete(n.incoming, c.sipID+"|"+c.remoteTag)
	}
}

func (n *Network) byID(id string) *liveCall {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[id]
}

func (n *Network) byLocal(sipID, tag string) *liveCall {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.local[sipID+"|"+tag]
}

func (n *Network) byRemote(sipID, tag string) *liveCall {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.incoming[sipID+"|"+tag]
}

func (c *liveCall) handedOver() { c.handedOnce.Do(func() { close(c.handed) }) }

// step lets the machine take a step and carries out the effects.
func (c *liveCall) step(f func(m *dialog.Machine) []dialog.Effect) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run(f(c.m))
}

// try is step for wishes that may be refused.
func (c *liveCall) try(f func(m *dialog.Machine) ([]dialog.Effect, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	effects, err := f(c.m)
	if err == nil {
		c.run(effects)
	}
	return err
}

// abandon ends all waiting at shutdown.
func (c *liveCall) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for token, w := range c.waiters {
		w <- dialog.Done{Token: token, Err: gateway.ErrNetworkDown}
		delete(c.waiters, token)
	}
}

// wish makes a token whose outcome can be waited for. The caller holds the lock.
func (c *liveCall) wish() (dialog.Token, chan dialog.Done) {
	c.lastToken++
	w := make(chan dialog.Done, 1)
	c.waiters[c.lastToken] = w
	return c.lastToken, w
}

// request hands a request to the machine. The caller does not hold the lock.
func (c *liveCall) request(req *sip.Request, tx *transaction.Server, remoteTag string) {
	r := request(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	if tx != nil {
		r.ID = c.server(tx)
	}
	told := c.reserved(r)
	c.run(c.m.Request(r, remoteTag))
	told()
	if req.Method == sip.ACK {
		for id, s := range c.reqs {
			if s.Request.Method == sip.INVITE && s.Request.CSeq().SeqNo == r.Seq {
				delete(c.reqs, id)
			}
		}
	}
}

func (c *liveCall) server(tx *transaction.Server) dialog.Req {
	c.lastReq++
	c.reqs[c.lastReq] = tx
	return c.lastReq
}

// result is what a client transaction brings.
func (c *liveCall) result(tx dialog.Tx, r transaction.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Response != nil {
		c.handedOver() // the answer may be read before the sender is told that it wrote
	}
	switch {
	case r.Err != nil:
		delete(c.txs, tx)
		c.run(c.m.Failed(tx, r.Err, errors.Is(r.Err, transaction.ErrTimeout)))
	case (r.Response.StatusCode == 401 || r.Response.StatusCode == 407) && c.challenged(tx, r.Response):
		delete(c.txs, tx)
		c.run(c.m.Challenged(tx))
	default:
		if r.Response.StatusCode > 100 {
			c.auth.Accepted()
		}
		if t := c.txs[tx]; t != nil && r.Response.StatusCode >= 200 && t.method() != sip.INVITE {
			delete(c.txs, tx)
		}
		c.run(c.m.Response(tx, response(r.Response)))
	}
}

// ending tells the gateway that the call is over.
func (c *liveCall) ended(e gateway.Ending) {
	select {
	case <-c.handed:
	default:
		if c.remoteTag == "" && c.legs != nil {
			// The INVITE never left: Invite itself answers with the error.
			c.failOnce.Do(func() {
				c.failure = e
				close(c.failed)
			})
			c.n.ended(c)
			return
		}
	}
	c.n.ended(c)
	if c.handing != nil && c.handing.leave(e) {
		return
	}
	c.tell(func(ctx context.Context) { c.told.Ended(ctx, c.id, e) })
}

// authorized is what the gateway is told of P-Early-Media: what a trusted trunk
// says or, by the trunk's policy, that nothing passes before it says so.
func (c *liveCall) authorized(direction string) gateway.EarlyMedia {
	if c.trunk.Trusted && direction != "" {
		c.authorizedEarly = true
		return gateway.EarlyMedia(direction)
	}
	if c.trunk.EarlyMedia == trunk.EarlyMediaAuthorized && !c.authorizedEarly {
		return gateway.EarlyMediaInactive
	}
	return ""
}

// challenged takes a challenge and reports whether to try again.
func (c *liveCall) challenged(tx dialog.Tx, res *sip.Response) bool {
	t := c.txs[tx]
	return t != nil && c.auth.Challenge(t.origin(), res)
}

// stored is a dialog as the gateway keeps it.
func (c *liveCall) stored(d dialog.State) gateway.Dialog {
	d.Auth = c.auth.Marshal()
	return gateway.Dialog{SIPCallID: d.CallID, LocalTag: d.LocalTag, RemoteTag: d.RemoteTag, State: d.Marshal()}
}
