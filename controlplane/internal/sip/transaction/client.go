package transaction

import (
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

// Client is a client transaction.
type Client struct {
	layer    *Layer
	key      string
	req      *sip.Request
	route    tap.Route
	reliable bool
	result   func(Result)

	mu       sync.Mutex
	state    state
	interval time.Duration
	retry    *time.Timer // A, E
	life     *time.Timer // B, F, then D, K, M
}

// Request starts a client transaction. The request must have its Via with a
// branch. result is called for every response that is not a retransmission of a
// final failure, and once with an Err instead when there was no final response.
// It runs on the goroutine that read the response or on a timer's, possibly before
// Request returns, so the caller needs a lock of its own.
func (l *Layer) Request(req *sip.Request, r tap.Route, result func(Result)) *Client {
	c := &Client{layer: l, key: clientKey(req), req: req, route: r, reliable: r.Network != "udp", result: result, interval: l.timers.T1}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return c
	}
	l.clients[c.key] = c
	l.mu.Unlock()
	c.mu.Lock()
	if !c.reliable {
		c.retry = time.AfterFunc(c.interval, c.retransmit)
	}
	c.life = time.AfterFunc(l.timers.Long(), func() { c.fail(ErrTimeout) })
	c.mu.Unlock()
	l.sender.Send(req, r, func(err error) { c.fail(fmt.Errorf("%w: %w", ErrTransport, err)) })
	return c
}

// Origin is the request that the transaction sent.
func (c *Client) Origin() *sip.Request { return c.req }

func (c *Client) retransmit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	invite := c.req.Method == sip.INVITE
	if c.state != trying && (invite || c.state != proceeding) {
		return
	}
	c.layer.sender.Send(c.req, c.route, func(err error) { c.fail(fmt.Errorf("%w: %w", ErrTransport, err)) })
	c.interval *= 2
	if !invite && (c.interval > c.layer.timers.T2 || c.state == proceeding) {
		c.interval = c.layer.timers.T2
	}
	c.retry = time.AfterFunc(c.interval, c.retransmit)
}

func (c *Client) receive(res *sip.Response) {
	c.mu.Lock()
	invite := c.req.Method == sip.INVITE
	code := res.StatusCode
	pass := false
	switch {
	case c.state == gone:
	case code < 200:
		if c.state == trying || c.state == proceeding {
			pass = true
			c.state = proceeding
			if invite {
				// The TU bounds how long it rings.
				c.stopTimers()
			}
		}
	case invite && code < 300:
		if c.state == trying || c.state == proceeding {
			c.stopTimers()
			c.state = accepted
			c.life = time.AfterFunc(c.layer.timers.Long(), c.end)
		}
		pass = c.state == accepted
	case c.state == trying || c.state == proceeding:
		pass = true
		c.stopTimers()
		c.state = completed
		linger := c.layer.timers.T4
		if invite {
			c.layer.sender.Send(FailureACK(c.req, res), c.route, nil)
			linger = c.layer.timers.Long()
		}
		if c.reliable {
			linger = 0
		}
		c.life = time.AfterFunc(linger, c.end)
	case invite && c.state == completed:
		c.layer.sender.Send(FailureACK(c.req, res), c.route, nil)
	}
	c.mu.Unlock()
	if pass {
		c.result(Result{Response: res})
	}
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.state != trying && c.state != proceeding {
		c.mu.Unlock()
		return
	}
	c.stopTimers()
	c.state = gone
	c.mu.Unlock()
	c.forget()
	c.result(Result{Err: err})
}

func (c *Client) end() {
	c.mu.Lock()
	c.stopTimers()
	c.state = gone
	c.mu.Unlock()
	c.forget()
}

func (c *Client) forget() {
	c.layer.mu.Lock()
	if c.layer.clients[c.key] == c {
		delete(c.layer.clients, c.key)
	}
	c.layer.mu.Unlock()
}

func (c *Client) stopTimers() {
	for _, t := range []*time.Timer{c.retry, c.life} {
		if t != nil {
			t.Stop()
		}
	}
}

// FailureACK acknowledges a failure response to an INVITE (RFC 3261 17.1.1.3); the
// INVITE's CANCEL will do in its place.
func FailureACK(invite *sip.Request, res *sip.Response) *sip.Request {
	ack := derived(invite, sip.ACK)
	ack.RemoveHeader("To")
	ack.AppendHeader(sip.HeaderClone(res.To()))
	ack.SetBody(nil)
	return ack
}

// Cancel makes the CANCEL of an INVITE (RFC 3261 9.1). It has the INVITE's branch
// and must take the INVITE's route.
func (c *Client) Cancel(extra ...sip.Header) (*sip.Request, tap.Route) {
	req := derived(c.req, sip.CANCEL)
	for _, h := range extra {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
	return req, c.route
}

func derived(invite *sip.Request, method sip.RequestMethod) *sip.Request {
	req := sip.NewRequest(method, *invite.Recipient.Clone())
	req.AppendHeader(sip.HeaderClone(invite.Via()))
	for _, h := range invite.GetHeaders("Route") {
		req.AppendHeader(sip.HeaderClone(h))
	}
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(sip.HeaderClone(invite.From()))
	req.AppendHeader(sip.HeaderClone(invite.To()))
	req.AppendHeader(sip.HeaderClone(invite.CallID()))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: method})
	if method == sip.ACK {
		for _, name := range []string{"Authorization", "Proxy-Authorization"} {
			for _, h := range invite.GetHeaders(name) {
				req.AppendHeader(sip.HeaderClone(h))
			}
		}
	}
	req.SetTransport(invite.Transport())
	return req
}
