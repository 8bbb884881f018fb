package tap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/certificate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// streamKey is that of streams to be dialled, with what they must prove; those
// that were accepted have neither identity nor names.
func streamKey(network, identity string, addr netip.AddrPort, names []string) string {
	return network + "|" + identity + "|" + addr.String() + "|" + strings.Join(names, ",")
}

// newStream begins a stream; the caller holds t.mu.
func (t *Tap) newStream(r Route, conn net.Conn) (*stream, error) {
	s := &stream{t: t, route: r, conn: conn, accepted: conn != nil, key: streamKey(r.Network, r.Identity, r.Addr, r.Names),
		queue: make(chan outgoing, queueLength), closed: make(chan struct{}), pong: make(chan struct{}, 1), heard: make(chan struct{}, 1)}
	if t.closed {
		return nil, errClosed
	}
	if t.count >= t.cfg.MaxStreams {
		return nil, fmt.Errorf("there are %d stream connections, the most that are allowed", t.count)
	}
	if s.accepted {
		if n := t.sources[r.Addr.Addr()]; n >= t.cfg.MaxPerSource {
			return nil, fmt.Errorf("there are %d stream connections from this address, the most that are allowed", n)
		}
		t.sources[r.Addr.Addr()]++
	}
	t.count++
	t.streams[s.key] = s
	t.wg.Add(1)
	go s.run()
	return s, nil
}

// writeStream queues a message for the stream of its route, which it makes when
// there is none.
func (t *Tap) writeStream(o outgoing) error {
	t.mu.Lock()
	s := t.existing(o.route)
	if s == nil {
		var err error
		r := o.route
		r.stream = nil
		if s, err = t.newStream(r, nil); err != nil {
			t.mu.Unlock()
			return err
		}
		o.fresh = true
	}
	t.mu.Unlock()
	return s.enqueue(o)
}

// existing finds a live stream for a route: the one that it came by, one dialled
// for the same purpose, or one that the peer opened from that address, provided
// that it has proved to be who is meant. The caller holds t.mu.
func (t *Tap) existing(r Route) *stream {
	if r.stream != nil && r.stream.alive() {
		return r.stream
	}
	if s := t.streams[streamKey(r.Network, r.Identity, r.Addr, r.Names)]; s != nil && s.alive() {
		return s
	}
	if s := t.streams[streamKey(r.Network, "", r.Addr, nil)]; s != nil && s.alive() && (r.Network != "tls" || certificate.Matches(s.peer(), r.Names)) {
		return s
	}
	return nil
}

func (t *Tap) accept(i int) {
	for {
		conn, err := t.tcp[i].Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.cfg.Logger.Warn("sip: cannot accept a connection", "error", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of descriptors, for instance
			case <-t.ctx.Done():
				return
			}
			continue
		}
		remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
		if !t.admit(remote.Addr()) {
			conn.Close()
			continue
		}
		if t.bound[i].Network == "tls" {
			conn = tls.Server(conn, t.cfg.Listeners[i].TLS)
		}
		t.mu.Lock()
		_, err = t.newStream(Route{Network: t.bound[i].Network, Listener: i, Addr: remote}, conn)
		t.mu.Unlock()
		if err != nil {
			t.hooks.Refused(&validate.Problem{Reason: "connections", Detail: err.Error()}, Inbound{Listener: i, Network: t.bound[i].Network, Remote: remote})
			conn.Close()
		}
	}
}

// remove forgets a stream that is closed.
func (t *Tap) remove(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	for _, key := range []string{s.key, s.alias} {
		if t.streams[key] == s {
			delete(t.streams, key)
		}
	}
	if !s.accepted {
		return
	}
	from := s.route.Addr.Addr()
	if t.sources[from]--; t.sources[from] <= 0 {
		delete(t.sources, from)
	}
}

// missed gives a message that a stream did not take a second chance on another:
// the peer may have closed the old one in the very moment.
func (t *Tap) missed(o outgoing, err error) {
	if !o.fresh && !errors.Is(err, errClosed) {
		o.fresh, o.route.stream = true, nil
		if err = t.writeStream(o); err == nil {
			return
		}
	}
	if o.failed != nil {
		o.failed(err)
	}
}

// learnAlias lets requests to the peer take the connection that it opened, when it
// wishes so and has proved its name (RFC 5923).
func (s *stream) learnAlias(in Inbound) {
	if !s.accepted || len(in.Names) == 0 {
		return
	}
	req, ok := in.Message.(*sip.Request)
	if !ok || s.alias != "" {
		return
	}
	via := req.Via()
	if _, wishes := via.Params.Get("alias"); !wishes {
		return
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.alias = streamKey(s.route.Network, "", netip.AddrPortFrom(in.Remote.Addr(), sentBy(via, in.Network)), nil)
	s.t.streams[s.alias] = s
}
