package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// maxDatagram is the size in octets above which a request leaves UDP for TCP
// (RFC 3261 18.1.1).
const maxDatagram = 1300

// Times of the choice between UDP and TCP: how long TCP is tried, and how long its
// refusal is remembered.
const (
	streamPatience = time.Second
	refusedLife    = 5 * time.Minute
)

// maxRetryAfter bounds how long a target that answered 503 is left alone.
const maxRetryAfter = 5 * time.Minute

// flight is one request on its way: to the first of the places where it can go, and
// when that one is dead, to the next (RFC 3263 4.3). What it brings is the result of
// one transaction. Targets that fail are remembered, and so are those that answer.
type flight struct {
	n      *Network
	trunk  *trunk.Trunk
	plan   outbound
	result func(transaction.Result)

	mu   sync.Mutex
	hops []locate.Target
	// current counts attempts; hops[hop] is where the current one went.
	current, hop int
	client       *transaction.Client
	timer        *time.Timer
	// heard: the current attempt was answered. over: a final result was handed
	// on. stream: the current attempt left UDP because of its size.
	heard, over, stream bool
}

// launch sends a request to the first of the places that answers.
func (n *Network) launch(t *trunk.Trunk, out outbound, hops []locate.Target, result func(transaction.Result)) *flight {
	f := &flight{n: n, trunk: t, plan: out, hops: n.health.Order(hops), result: result}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempt()
	return f
}

// launchTo is launch for a destination that may have to be resolved.
func (n *Network) launchTo(t *trunk.Trunk, out outbound, q locate.Query, result func(transaction.Result)) *flight {
	if hops, ok := n.locator.Literal(q); ok {
		return n.launch(t, out, hops, result)
	}
	f := &flight{n: n, trunk: t, plan: out, result: result}
	if !n.spawn(func() { f.locate(q) }) {
		return f // the network is closed, and with it everybody who waits
	}
	return f
}

func (f *flight) locate(q locate.Query) {
	hops, err := f.n.lookup(f.n.ctx, q)
	if err != nil {
		f.finish(transaction.Result{Err: fmt.Errorf("%w: %w", transaction.ErrTransport, err)})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hops = hops
	f.attempt()
}

// lookup resolves a query to the places that can be reached, those that are up first.
func (n *Network) lookup(ctx context.Context, q locate.Query) ([]locate.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timers.Dial)
	defer cancel()
	hops, err := n.locator.Locate(ctx, q)
	if err != nil {
		return nil, err
	}
	return n.health.Order(hops), nil
}

// attempt sends the request to the present hop. The caller holds the lock.
func (f *flight) attempt() {
	n, hop := f.n, f.hops[f.hop]
	f.current++
	f.heard, f.stream = false, false
	this := f.current
	route := n.route(f.trunk, hop)
	req, err := f.plan.request(n, &route, this == 1)
	if err == nil && f.tooLarge(req, hop) {
		// The transport changes, the place does not; Contact stays, as it is where
		// the rest of the dialog is expected.
		large := route
		large.Network, large.Patience = "tcp", streamPatience
		large.Listener = n.tap.Pick("tcp", hop.Addr.Addr())
		f.stream = true
		route = large
		req = f.plan.again(n, route)
	}
	if err != nil {
		n.spawn(func() { f.got(this, hop, transaction.Result{Err: fmt.Errorf("%w: %w", transaction.ErrTransport, err)}) })
		return
	}
	if f.hop+1 < len(f.hops) {
		f.timer = n.after(n.cfg.Timers.Attempt, func() { f.late(this, hop) })
	}
	f.client = n.tx.Request(req, route, func(r transaction.Result) { f.got(this, hop, r) })
}

// tooLarge tells whether a request must not go by UDP (RFC 3261 18.1.1).
func (f *flight) tooLarge(req *sip.Request, hop locate.Target) bool {
	n := f.n
	return hop.Network == "udp" && f.trunk.LargeRequests == "tcp" && len(req.Body()) > 0 && len(req.String()) > maxDatagram &&
		n.tap.Pick("tcp", hop.Addr.Addr()) >= 0 && !n.health.Down(locate.Target{Network: "tcp", Addr: hop.Addr})
}

// late: the present hop has not answered, and there are others.
func (f *flight) late(attempt int, hop locate.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || f.heard || attempt != f.current {
		return
	}
	f.n.targetFailed(f.trunk, hop, "no answer in time")
	f.hop++
	f.attempt()
}

// got takes what a transaction of the flight brings.
func (f *flight) got(attempt int, hop locate.Target, r transaction.Result) {
	f.mu.Lock()
	if !f.passes(attempt, hop, r) {
		f.mu.Unlock()
		return
	}
	if r.Err != nil || r.Response.StatusCode >= 200 {
		f.over = true
	}
	f.mu.Unlock()
	f.result(r)
}

// passes tells whether a result is the user's; what is not leads to another
// attempt, or to nothing. The caller holds the lock.
func (f *flight) passes(attempt int, hop locate.Target, r transaction.Result) bool {
	n := f.n
	if r.Response != nil {
		n.targetAnswered(f.trunk, hop, r.Response)
	}
	if attempt != f.current {
		// A hop that was given up. Its success counts all the same.
		return r.Response != nil && r.Response.StatusCode/100 == 2 && !f.over
	}
	if f.over {
		return r.Response != nil // a 2xx again
	}
	if r.Response != nil {
		f.heard = true
		if r.Response.StatusCode != 503 || f.hop+1 >= len(f.hops) {
			return true
		}
		f.hop++
		f.attempt()
		return false
	}
	if f.stream {
		n.health.Failed(locate.Target{Network: "tcp", Addr: hop.Addr}, refusedLife)
		f.attempt()
		return false
	}
	n.targetFailed(f.trunk, hop, r.Err.Error())
	if f.heard || f.hop+1 >= len(f.hops) {
		return true
	}
	f.hop++
	f.attempt()
	return false
}

func (f *flight) finish(r transaction.Result) {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.result(r)
}

// answered reports whether anything came back from where the request went last.
func (f *flight) answered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard || f.over
}

// origin is the request, as it was sent first.
func (f *flight) origin() *sip.Request { return f.plan.req }

// method of the request.
func (f *flight) method() sip.RequestMethod { return f.plan.req.Method }

// cancel makes the CANCEL of an INVITE and sends it where the INVITE went.
func (f *flight) cancel(fields ...sip.Header) {
	f.mu.Lock()
	client := f.client
	f.mu.Unlock()
	if client == nil {
		return
	}
	req, route := client.Cancel(fields...)
	f.n.tx.Request(req, route, func(transaction.Result) {})
}

// targetFailed remembers that a target did not answer.
func (n *Network) targetFailed(t *trunk.Trunk, hop locate.Target, reason string) {
	if n.health.Failed(hop, n.cfg.Timers.Penalty) {
		n.log.Info("sip: a target went down", "trunk", t.Name, "target", hop.String(), "reason", reason)
	}
}

// targetAnswered remembers that a target lives, and whether it wants to be left
// alone (RFC 3261 21.5.4).
func (n *Network) targetAnswered(t *trunk.Trunk, hop locate.Target, res *sip.Response) {
	if res.StatusCode == 503 {
		if s, ok := header.Number(header.First(res, "Retry-After")); ok && s > 0 {
			d := min(time.Duration(s)*time.Second, maxRetryAfter)
			if n.health.Refused(hop, d) {
				n.log.Info("sip: a target is overloaded", "trunk", t.Name, "target", hop.String(), "retry_after", d)
			}
		}
		return
	}
	if n.health.Answered(hop) {
		n.log.Info("sip: a target came up", "trunk", t.Name, "target", hop.String())
	}
}

// query is where the next hop of a request in a dialog is.
func (o outbound) query(n *Network) (locate.Query, error) {
	uri, network := o.next, o.network
	var u sip.Uri
	if err := sip.ParseUri(uri, &u); err != nil || u.Host == "" {
		return locate.Query{}, fmt.Errorf("%q cannot be reached: %w", uri, errors.Join(err, errors.New("no host")))
	}
	q := locate.Query{Host: strings.Trim(u.Host, "[]"), Transport: network, Secure: o.secure || strings.EqualFold(u.Scheme, "sips")}
	if t, ok := header.Param(u.UriParams, "transport"); ok {
		if t = strings.ToLower(t); n.tap.Pick(t, netip.Addr{}) >= 0 {
			q.Transport = t
		}
	}
	if q.Secure {
		q.Transport = "tls"
	}
	if m, ok := header.Param(u.UriParams, "maddr"); ok && m != "" {
		q.Host = strings.Trim(m, "[]")
	}
	if u.Port > 0 && u.Port <= 65535 {
		q.Port = uint16(u.Port)
	}
	return q, nil
}

// placeQuery is where a trunk's target leads.
func placeQuery(t *trunk.Trunk, p trunk.Target) locate.Query {
	q := locate.Query{Host: p.Host, Port: p.Port, Transport: t.Transport, Secure: t.SIPS}
	if q.Transport == "auto" {
		q.Transport = ""
	}
	return q
}

// route to a target for requests of a trunk.
func (n *Network) route(t *trunk.Trunk, hop locate.Target) tap.Route {
	r := tap.Route{Network: hop.Network, Addr: hop.Addr, Listener: n.tap.Pick(hop.Network, hop.Addr.Addr()), KeepAlive: t.KeepAlive}
	if hop.Network != "tls" {
		return r
	}
	if t.TLS.Own() {
		r.Identity = t.Name
	}
	r.Names, r.ServerName = identities(t, hop.Host)
	return r
}

// identities are those of which a trunk's server must prove one (RFC 5922), and the
// name to ask it for.
func identities(t *trunk.Trunk, host string) (names []string, serverName string) {
	if t.TLS.ServerName != "" {
		return []string{t.TLS.ServerName}, t.TLS.ServerName
	}
	add := func(name string) {
		if name == "" {
			return
		}
		names = append(names, name)
		if _, err := netip.ParseAddr(name); err != nil && serverName == "" {
			serverName = name
		}
	}
	add(host)
	add(strings.Trim(t.Domain, "[]"))
	for _, p := range t.Places() {
		add(p.Host)
	}
	return names, serverName
}
