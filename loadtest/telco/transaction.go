package telco

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
)

// maxDatagram is the size in bytes above which a request leaves UDP for TCP
// (RFC 3261 section 18.1.1).
const maxDatagram = 1300

// pendingResponses finds the exchange that waits for a response.
type pendingResponses struct {
	mu      sync.Mutex
	waiting map[string]chan *sip.Response
}

func responseKey(m sip.Message) string {
	via, cseq := m.Via(), m.CSeq()
	if via == nil || cseq == nil {
		return ""
	}
	branch, _ := via.Params.Get("branch")
	return branch + " " + string(cseq.MethodName)
}

// tapResponse runs on the transport's read path, so responses of one
// transaction are queued in the order in which they came. TCP messages are
// traced here, where they are whole.
func (n *Network) tapResponse(m sip.Message) {
	if m.Transport() == "TCP" {
		n.trace(Received, "tcp:"+m.Source(), m.String())
	}
	res, ok := m.(*sip.Response)
	if !ok {
		return
	}
	n.pending.mu.Lock()
	queue := n.pending.waiting[responseKey(res)]
	n.pending.mu.Unlock()
	if queue == nil {
		return
	}
	select {
	case queue <- res:
	default: // a flood of repetitions; what matters comes again
	}
}

// exchange is one client transaction: the library repeats the request and runs
// the timers, the responses come from the tap.
type exchange struct {
	n         *Network
	req       *sip.Request
	tx        *sip.ClientTx
	responses chan *sip.Response
	key       string
	challenge *sip.Response // the 401 or 407 that ended an INVITE
}

// start sends a request whose Via is still missing, to hostPort over transport
// ("UDP" or "TCP"), and returns its transaction.
func (n *Network) start(ctx context.Context, req *sip.Request, hostPort, transport string) (*exchange, error) {
	if err := n.address(ctx, req, hostPort, transport); err != nil {
		return nil, fmt.Errorf("send %s to %s over %s: %w", req.Method, hostPort, transport, err)
	}
	x := &exchange{n: n, req: req, responses: make(chan *sip.Response, 64), key: responseKey(req)}
	n.pending.mu.Lock()
	if n.pending.waiting == nil {
		n.pending.waiting = map[string]chan *sip.Response{}
	}
	n.pending.waiting[x.key] = x.responses
	n.pending.mu.Unlock()

	tx, err := n.txs.Request(ctx, req)
	if err == nil && !n.goWork(func() { n.drain(tx) }) {
		tx.Terminate()
		err = errClosed
	}
	if err != nil {
		x.forget()
		return nil, fmt.Errorf("send %s to %s over %s: %w", req.Method, hostPort, transport, err)
	}
	x.tx = tx
	return x, nil
}

// drain takes the responses from the transaction, which blocks otherwise. It
// ends the transaction with the network.
func (n *Network) drain(tx *sip.ClientTx) {
	for {
		select {
		case <-tx.Responses():
		case <-tx.Done():
			return
		case <-n.ctx.Done():
			tx.Terminate()
			return
		}
	}
}

func (x *exchange) forget() {
	x.n.pending.mu.Lock()
	delete(x.n.pending.waiting, x.key)
	x.n.pending.mu.Unlock()
}

// next waits for the next response, provisional or final. An exhausted
// transaction gives errTimeout.
func (x *exchange) next(ctx context.Context) (*sip.Response, error) {
	select {
	case res := <-x.responses:
		return res, nil
	default:
	}
	select {
	case res := <-x.responses:
		return res, nil
	case <-x.tx.Done():
		return nil, errTimeout
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// final waits for the final response of a request that is not an INVITE and
// ends the transaction.
func (x *exchange) final(ctx context.Context) (*sip.Response, error) {
	defer x.forget()
	defer x.tx.Terminate()
	for {
		res, err := x.next(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s to %s: %w", x.req.Method, x.req.Destination(), err)
		}
		if res.StatusCode >= 200 {
			return res, nil
		}
	}
}

// address puts Via, transport and destination into a request. A request that
// is too large for a datagram goes by TCP.
func (n *Network) address(ctx context.Context, req *sip.Request, hostPort, transport string) error {
	resolved, err := resolve(ctx, hostPort)
	if err != nil {
		return err
	}
	select {
	case <-n.udp.ready: // the transport would open another socket before
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if req.ContentLength() == nil {
		req.SetBody(req.Body())
	}
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: transport,
		Host: n.host, Port: int(n.Addr().Port()), Params: sip.NewParams(),
	}
	via.Params.Add("branch", sip.GenerateBranch())
	via.Params.Add("rport", "")
	req.PrependHeader(via)
	if transport == "UDP" && len(req.String()) > maxDatagram {
		transport = "TCP"
		via.Transport = transport
	}
	n.point(req, resolved, transport)
	if transport == "TCP" {
		return n.tcp.dial(ctx, resolved)
	}
	return nil
}

// point sets where and from which socket a request goes.
func (n *Network) point(req *sip.Request, hostPort, transport string) {
	req.SetTransport(transport)
	req.SetDestination(hostPort)
	if transport == "UDP" {
		local := n.Addr()
		req.Laddr = sip.Addr{IP: net.IP(local.Addr().AsSlice()), Port: int(local.Port())}
	}
}

func resolve(ctx context.Context, hostPort string) (string, error) {
	host, port, err := splitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil {
		return net.JoinHostPort(ip.String(), strconv.Itoa(port)), nil
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ips[0].String(), strconv.Itoa(port)), nil
}

// hop returns where a SIP URI points: host:port, and the transport it names or
// else fallback.
func hop(u *sip.Uri, fallback string) (hostPort, transport string) {
	transport = fallback
	if t, ok := u.UriParams.Get("transport"); ok && t != "" {
		transport = strings.ToUpper(t)
	}
	host := strings.Trim(u.Host, "[]")
	if maddr, ok := u.UriParams.Get("maddr"); ok && maddr != "" {
		host = strings.Trim(maddr, "[]")
	}
	port := u.Port
	if port == 0 {
		port = 5060
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), transport
}

// headerValues returns the comma-separated tokens of all headers with one of
// the names (the full and the compact form), lower-cased and without
// parameters.
func headerValues(m sip.Message, names ...string) []string {
	var values []string
	for _, name := range names {
		for _, h := range m.GetHeaders(name) {
			for v := range strings.SplitSeq(h.Value(), ",") {
				v, _, _ = strings.Cut(v, ";")
				if v = strings.ToLower(strings.TrimSpace(v)); v != "" {
					values = append(values, v)
				}
			}
		}
	}
	return values
}

// headerValue returns the value of the first header with one of the names.
func headerValue(m sip.Message, names ...string) string {
	for _, name := range names {
		if h := m.GetHeaders(name); len(h) > 0 {
			return strings.TrimSpace(h[0].Value())
		}
	}
	return ""
}
