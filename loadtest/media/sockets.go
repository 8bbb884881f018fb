package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-gateway/isthmus/loadtest/netns"
)

// Sockets are those of a load's endpoints, in their order.
type Sockets struct {
	load  *Load
	conns []*net.UDPConn
}

// Times of connectivity checks.
const (
	checkInterval   = 250 * time.Millisecond
	checkPatience   = 10 * time.Second
	consentInterval = 5 * time.Second
	shakePatience   = 30 * time.Second
)

// handshakes at a time: what a busy access network brings, not a flood.
const handshakes = 32

// socketBuffer in bytes; the kernel's limit applies.
const socketBuffer = 4 << 20

// Connect binds a socket for every endpoint, checks connectivity and shakes
// hands where an endpoint asks for it. It completes the load: local ports that
// the system chose, keys that a handshake gave.
func Connect(ctx context.Context, load *Load, namespace string) (*Sockets, error) {
	return connect(ctx, load, namespace, func(*Endpoint) bool { return true })
}

// ConnectICE does the same for endpoints with ICE only. The others have no socket:
// it is for a Live, whose packets pass by sockets anyway.
func ConnectICE(ctx context.Context, load *Load, namespace string) (*Sockets, error) {
	return connect(ctx, load, namespace, func(e *Endpoint) bool { return e.ICE != nil })
}

func connect(ctx context.Context, load *Load, namespace string, bind func(*Endpoint) bool) (_ *Sockets, err error) {
	s := &Sockets{load: load, conns: make([]*net.UDPConn, len(load.Endpoints))}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	err = netns.Do(namespace, func() error {
		for i := range load.Endpoints {
			e := &load.Endpoints[i]
			if !bind(e) {
				continue
			}
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(e.Local))
			if err != nil {
				return fmt.Errorf("endpoint %s: %w", e.Name, err)
			}
			s.conns[i] = conn
			_ = conn.SetReadBuffer(socketBuffer)
			_ = conn.SetWriteBuffer(socketBuffer)
			port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			e.Local = netip.AddrPortFrom(e.Local.Addr(), port)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(handshakes)
	for i := range load.Endpoints {
		e := &load.Endpoints[i]
		if e.ICE == nil && e.DTLS == nil {
			continue
		}
		g.Go(func() error {
			if err := s.connect(ctx, i); err != nil {
				return fmt.Errorf("endpoint %s: %w", e.Name, err)
			}
			return nil
		})
	}
	return s, g.Wait()
}

func (s *Sockets) connect(ctx context.Context, i int) error {
	e := &s.load.Endpoints[i]
	if e.ICE != nil {
		if err := checkUntilAnswered(ctx, s.conns[i], e); err != nil {
			return err
		}
	}
	if e.DTLS == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shakePatience)
	defer cancel()
	keys, err := e.DTLS.shake(ctx, s.conns[i], e.Remote)
	if err != nil {
		return err
	}
	e.Keys, e.DTLS = keys, nil
	return nil
}

func checkUntilAnswered(ctx context.Context, conn *net.UDPConn, e *Endpoint) error {
	deadline := time.Now().Add(checkPatience)
	b := make([]byte, 2048)
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	for time.Now().Before(deadline) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		request, err := e.ICE.check()
		if err != nil {
			return err
		}
		if _, err := conn.WriteToUDPAddrPort(request.Raw, e.Remote); err != nil {
			return fmt.Errorf("connectivity check: %w", err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(checkInterval))
		for {
			n, err := conn.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				// An ICMP error of a target that is not there yet.
				continue
			}
			if answer(b[:n], request, e.ICE) {
				return nil
			}
		}
	}
	return fmt.Errorf("no answer to connectivity checks from %s within %s", e.Remote, checkPatience)
}

// answer says whether b is the authentic success response to a check.
func answer(b []byte, request *stun.Message, ice *ICE) bool {
	if !stun.IsMessage(b) {
		return false
	}
	m := &stun.Message{Raw: b}
	return m.Decode() == nil && m.Type == stun.BindingSuccess && m.TransactionID == request.TransactionID &&
		stun.NewShortTermIntegrity(ice.RemotePassword).Check(m) == nil
}

// Keep renews consent on every endpoint with ICE until ctx ends (RFC 7675).
func (s *Sockets) Keep(ctx context.Context) {
	var with []int
	for i, e := range s.load.Endpoints {
		if e.ICE != nil {
			with = append(with, i)
		}
	}
	if len(with) == 0 {
		return
	}
	// Spread over the interval, so that checks are no burst.
	tick := time.NewTicker(max(consentInterval/time.Duration(len(with)), time.Millisecond))
	defer tick.Stop()
	batch := max(1, len(with)*int(time.Millisecond)/int(consentInterval))
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range batch {
			e := s.load.Endpoints[with[i]]
			if m, err := e.ICE.check(); err == nil {
				_, _ = s.conns[with[i]].WriteToUDPAddrPort(m.Raw, e.Remote)
			}
			i = (i + 1) % len(with)
		}
	}
}

// Close closes all sockets.
func (s *Sockets) Close() {
	for _, c := range s.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}
