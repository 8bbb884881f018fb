package sip

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO"

// hop is where a request of a dialog goes: its Request-URI, Route fields and the
// next hop (RFC 3261 12.2.1.1).
func hop(target string, routes []string) (recipient string, route []string, next string) {
	if len(routes) == 0 {
		return target, nil, target
	}
	first := routes[0]
	var u sip.Uri
	if err := sip.ParseUri(first, &u); err == nil {
		if _, loose := header.Param(u.UriParams, "lr"); !loose {
			// A strict router takes the first route as Request-URI.
			return first, append(append([]string(nil), routes[1:]...), target), first
		}
	}
	return target, routes, first
}

func (n *Network) via(r tap.Route, branch string) *sip.ViaHeader {
	b := n.tap.Bound()[r.Listener]
	v := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: strings.ToUpper(r.Network), Host: b.Host, Port: b.Port}
	v.Params.Add("branch", branch)
	v.Params.Add("rport", "")
	if r.Network == "tls" {
		v.Params.Add("alias", "") // requests to us may take this connection (RFC 5923)
	}
	return v
}

func (n *Network) branch() string { return sip.RFC3261BranchMagicCookie + n.random(16) }

// contact is the URI at which this gateway is reached by a peer of the route.
func (n *Network) contact(user string, secure bool, r tap.Route) string {
	b := n.tap.Bound()[r.Listener]
	uri := "sip:"
	if secure {
		uri = "sips:"
		if r.Network != "tls" {
			if i := n.tap.Pick("tls", r.Addr.Addr()); i >= 0 {
				b = n.tap.Bound()[i]
			}
		}
	}
	if user != "" {
		uri += user + "@"
	}
	uri += net.JoinHostPort(strings.Trim(b.Host, "[]"), strconv.Itoa(b.Port))
	if r.Network != "udp" && !secure {
		uri += ";transport=" + r.Network
	}
	return uri
}

func tagged(value, tag string) string {
	if tag == "" {
		return value
	}
	return value + ";tag=" + tag
}

// outbound is a request that has no transport yet: Via and Contact come with the
// route that it takes.
type outbound struct {
	req *sip.Request
	// next is the URI of the next hop, network its transport when it says none.
	next, network string
	// branch of the Via; empty for a fresh one on every route.
	branch string
	// contact: the request has a Contact with this user part.
	contact bool
	user    string
	// contactParams follow the URI of the Contact.
	contactParams string
	secure        bool
	// flow: the Contact belongs to the flow of a registration (RFC 5626 4.3).
	flow bool
}

// request is the outbound on a route; a route without a listener is an error. first
// takes the request itself, anything else a copy of it.
func (o outbound) request(n *Network, r *tap.Route, first bool) (*sip.Request, error) {
	if r.Listener < 0 {
		return nil, fmt.Errorf("there is no %s listener to reach %s", r.Network, r.Addr)
	}
	req := o.req
	if !first {
		req = req.Clone()
		req.RemoveHeader("Via")
	}
	if o.contact {
		uri := n.contact(o.user, o.secure, *r)
		if o.flow {
			uri += ";ob"
		}
		req.ReplaceHeader(sip.NewHeader("Contact", "<"+uri+">"+o.contactParams))
	}
	o.address(n, req, *r)
	return req, nil
}

// again is a copy of the request as it was sent last, with the Via of another route.
func (o outbound) again(n *Network, r tap.Route) *sip.Request {
	req := o.req.Clone()
	req.RemoveHeader("Via")
	o.address(n, req, r)
	return req
}

func (o outbound) address(n *Network, req *sip.Request, r tap.Route) {
	branch := o.branch
	if branch == "" {
		branch = n.branch()
	}
	req.PrependHeader(n.via(r, branch))
	req.SetTransport(strings.ToUpper(r.Network))
	// The message parses these at their first use; after this it is only read.
	req.From()
	req.To()
}

// build makes a request in a dialog, or the one that opens it.
func (n *Network) build(method string, seq uint32, d dialog.State) (outbound, error) {
	recipient, routes, next := hop(d.Target, d.Routes)
	var uri sip.Uri
	if err := sip.ParseUri(recipient, &uri); err != nil {
		return outbound{}, fmt.Errorf("Request-URI %q: %w", recipient, err)
	}
	req := sip.NewRequest(sip.RequestMethod(method), uri)
	for _, s := range routes {
		var u sip.Uri
		if err := sip.ParseUri(s, &u); err == nil {
			req.AppendHeader(&sip.RouteHeader{Address: u})
		}
	}
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(sip.NewHeader("From", tagged(d.LocalURI, d.LocalTag)))
	req.AppendHeader(sip.NewHeader("To", tagged(d.RemoteURI, d.RemoteTag)))
	id := sip.CallIDHeader(d.CallID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: seq, MethodName: sip.RequestMethod(method)})
	o := outbound{req: req, next: next, network: d.Network, user: d.Contact, secure: d.Secure, flow: d.Flow, contact: method == "INVITE" || method == "UPDATE" || method == "NOTIFY"}
	if o.contact {
		req.AppendHeader(sip.NewHeader("Contact", "")) // its place; the route makes it
	}
	if method == "INVITE" || method == "UPDATE" || method == "OPTIONS" {
		req.AppendHeader(sip.NewHeader("Allow", allowed))
	}
	if n.cfg.UserAgent != "" {
		req.AppendHeader(sip.NewHeader("User-Agent", n.cfg.UserAgent))
	}
	return o, nil
}

// ackBranch is the same for every repetition of one ACK.
func ackBranch(d dialog.State, seq uint32) string {
	h := fnv.New128a()
	fmt.Fprintf(h, "%s|%s|%s|%d", d.CallID, d.LocalTag, d.RemoteTag, seq)
	return sip.RFC3261BranchMagicCookie + "a" + hex.EncodeToString(h.Sum(nil))
}

func setBody(m sip.Message, b dialog.Body) {
	if b.Content == "" {
		m.SetBody(nil)
		return
	}
	m.AppendHeader(sip.NewHeader("Content-Type", b.Type))
	m.SetBody([]byte(b.Content))
}

// reply makes a response (RFC 3261 8.2.6). tag is the To tag when the request has
// none.
func (n *Network) reply(req *sip.Request, code int, phrase, tag string) *sip.Response {
	if phrase == "" {
		phrase = statusText(code)
	}
	res := sip.NewResponse(code, phrase)
	for _, h := range req.GetHeaders("Via") {
		res.AppendHeader(sip.HeaderClone(h))
	}
	if req.Method == sip.INVITE && code > 100 && code < 300 {
		for _, h := range req.GetHeaders("Record-Route") {
			res.AppendHeader(sip.HeaderClone(h))
		}
	}
	res.AppendHeader(sip.HeaderClone(req.From()))
	to := sip.HeaderClone(req.To()).(*sip.ToHeader)
	if code > 100 && header.Tag(to.Params) == "" && tag != "" {
		to.Params.Add("tag", tag)
	}
	res.AppendHeader(to)
	res.AppendHeader(sip.HeaderClone(req.CallID()))
	res.AppendHeader(sip.HeaderClone(req.CSeq()))
	if code == 100 {
		for _, h := range req.GetHeaders("Timestamp") {
			res.AppendHeader(sip.HeaderClone(h))
		}
	}
	if n.cfg.UserAgent != "" && code > 100 {
		res.AppendHeader(sip.NewHeader("Server", n.cfg.UserAgent))
	}
	res.SetTransport(req.Transport())
	return res
}

// statusText is the usual phrase of the statuses that are sent.
func statusText(code int) string {
	if s, ok := phrases[code]; ok {
		return s
	}
	switch code / 100 {
	case 1:
		return "Progress"
	case 2:
		return "OK"
	case 3:
		return "Redirected"
	case 5:
		return "Server Failure"
	case 6:
		return "Global Failure"
	}
	return "Request Failure"
}

var phrases = map[int]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
	200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 410: "Gone", 415: "Unsupported Media Type",
	416: "Unsupported URI Scheme", 420: "Bad Extension", 422: "Session Interval Too Small",
	480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected",
	483: "Too Many Hops", 484: "Address Incomplete", 486: "Busy Here", 487: "Request Terminated",
	469: "Bad Info Package", 488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 500: "Server Internal Error",
	501: "Not Implemented", 503: "Service Unavailable", 504: "Server Time-out", 580: "Precondition Failure", 600: "Busy Everywhere",
	603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable", 607: "Unwanted",
}
