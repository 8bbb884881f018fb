package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// newTransport makes connections only to addresses that the guard has judged.
// It speaks HTTP/2 where the sink does and keeps connections.
func newTransport(c Config, g *Guard) (*http.Transport, error) {
	roots, err := authorities(c.CAFiles)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		// No proxy: it would resolve names by itself, behind the guard's back.
		Proxy:                  nil,
		DialContext:            dialer{guard: g, attempt: min(3*time.Second, c.Timeout)}.dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.Timeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    c.PerHost,
		MaxIdleConns:           c.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

type dialer struct {
	guard *Guard
	// attempt bounds one address, so that the next one gets its turn.
	attempt time.Duration
}

// dial connects to the first address of the sink that is allowed and answers.
// The address that was judged is the one that is dialled.
func (d dialer) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("dial %s: bad port: %w", hostport, err)
	}
	addresses, err := d.guard.addresses(ctx, &url.URL{Scheme: "https", Host: hostport})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", host, err)
	}
	var errs []error
	for _, a := range addresses {
		attempt, cancel := context.WithTimeout(ctx, d.attempt)
		conn, err := new(net.Dialer).DialContext(attempt, network, netip.AddrPortFrom(a, uint16(number)).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}
