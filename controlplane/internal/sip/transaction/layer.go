package transaction

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

// Timers of RFC 3261 17.1.1.1, all above 0.
type Timers struct{ T1, T2, T4 time.Duration }

// Long is 64·T1: how long an unanswered transaction lives.
func (t Timers) Long() time.Duration { return 64 * t.T1 }

// Errors of a client transaction.
var (
	ErrTimeout   = errors.New("no response within 64·T1")
	ErrTransport = errors.New("the request could not be sent")
)

// Sender is what the layer needs of the transport.
type Sender interface {
	Send(m sip.Message, r tap.Route, failed func(error))
}

// Result is what a client transaction brings: a response, or the error that ended
// it without one.
type Result struct {
	Response *sip.Response
	Err      error
}

// Handler of what is not a matter of transactions alone.
type Handler interface {
	// Request is a new request; for ACK to a 2xx tx is nil.
	Request(in tap.Inbound, req *sip.Request, tx *Server)
	// Cancel is a CANCEL that matches a pending INVITE; the 200 to it has not
	// been sent.
	Cancel(in tap.Inbound, req *sip.Request, tx, invite *Server)
	// Stray is a response without a transaction.
	Stray(in tap.Inbound, res *sip.Response)
}

// Layer holds all live transactions.
type Layer struct {
	timers  Timers
	sender  Sender
	handler Handler

	mu      sync.Mutex
	clients map[string]*Client
	servers map[string]*Server
	closed  bool
}

// New makes a layer.
func New(timers Timers, sender Sender, handler Handler) *Layer {
	return &Layer{timers: timers, sender: sender, handler: handler,
		clients: map[string]*Client{}, servers: map[string]*Server{}}
}

// Count is the number of live transactions.
func (l *Layer) Count() (clients, servers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients), len(l.servers)
}

// Close stops every transaction without a word to anybody.
func (l *Layer) Close() {
	l.mu.Lock()
	l.closed = true
	clients, servers := l.clients, l.servers
	l.clients, l.servers = map[string]*Client{}, map[string]*Server{}
	l.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		c.stopTimers()
		c.state = gone
		c.mu.Unlock()
	}
	for _, s := range servers {
		s.mu.Lock()
		s.stopTimers()
		s.state = gone
		s.mu.Unlock()
	}
}

// Receive takes a message from the tap.
func (l *Layer) Receive(in tap.Inbound) {
	switch m := in.Message.(type) {
	case *sip.Response:
		l.mu.Lock()
		c := l.clients[clientKey(m)]
		l.mu.Unlock()
		if c == nil {
			l.handler.Stray(in, m)
			return
		}
		c.receive(m)
	case *sip.Request:
		l.request(in, m)
	}
}

func (l *Layer) request(in tap.Inbound, req *sip.Request) {
	method := req.Method
	key := serverKey(req, method)
	if method == sip.ACK {
		key = serverKey(req, sip.INVITE)
	}
	l.mu.Lock()
	s := l.servers[key]
	if s != nil {
		l.mu.Unlock()
		if method == sip.ACK && s.ack() {
			l.handler.Request(in, req, nil) // an ACK to 2xx on the INVITE's branch
		} else if method != sip.ACK {
			s.repeat()
		}
		return
	}
	if method == sip.ACK {
		l.mu.Unlock()
		l.handler.Request(in, req, nil)
		return
	}
	if l.closed {
		l.mu.Unlock()
		return
	}
	s = &Server{layer: l, key: key, Request: req, back: in.Back(), invite: method == sip.INVITE, reliable: in.Network != "udp"}
	l.servers[key] = s
	var invite *Server
	if method == sip.CANCEL {
		invite = l.servers[serverKey(req, sip.INVITE)]
	}
	l.mu.Unlock()
	if invite != nil {
		l.handler.Cancel(in, req, s, invite)
		return
	}
	l.handler.Request(in, req, s)
}

func branch(m sip.Message) string {
	b, _ := header.Param(m.Via().Params, "branch")
	return b
}

// clientKey is by branch and method (RFC 3261 17.1.3).
func clientKey(m sip.Message) string {
	return branch(m) + "|" + string(m.CSeq().MethodName)
}

// serverKey is by branch, sent-by and method (RFC 3261 17.2.3).
func serverKey(req *sip.Request, method sip.RequestMethod) string {
	via := req.Via()
	return branch(req) + "|" + strings.ToLower(via.Host) + ":" + strconv.Itoa(via.Port) + "|" + string(method)
}

type state int

const (
	trying state = iota
	proceeding
	completed
	accepted
	confirmed
	gone
)
