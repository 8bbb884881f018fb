// Package node programs a media node with the sessions of a load test, over the
// same RPC that control planes use.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"connectrpc.com/connect"

	"github.com/isthmus-gateway/isthmus/loadtest/netns"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// Access is how a node's service is reached.
type Access struct {
	// URL of the service, http:// only to loopback addresses.
	URL string
	// Secret that both planes share.
	Secret string
	// CA is a file with the authorities (PEM) of the node's certificate;
	// empty: those of the system.
	CA string
	// Certificate and Key are files (PEM) for mutual TLS; empty: none.
	Certificate, Key string
	// Namespace that the service is reached from; empty: the process's own.
	Namespace string
}

// Client of one node.
type Client struct {
	rpc       mediav1connect.MediaNodeClient
	transport *http.Transport
}

// Dial makes a client; it connects when it is used.
func Dial(a Access) (*Client, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no http or https URL of a media node", a.URL)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s would carry keys in plain text off loopback; use https", a.URL)
	}
	c, err := tlsConfig(a)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(u.Scheme == "http")
	dialer := net.Dialer{Timeout: 10 * time.Second}
	t := &http.Transport{
		Protocols: protocols, TLSClientConfig: c,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = netns.Do(a.Namespace, func() (err error) {
				conn, err = dialer.DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}
	hc := &http.Client{Transport: bearer{a.Secret, t}}
	return &Client{rpc: mediav1connect.NewMediaNodeClient(hc, a.URL), transport: t}, nil
}

func tlsConfig(a Access) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		text, err := os.ReadFile(a.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", a.CA)
		}
	}
	if a.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(a.Certificate, a.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

type bearer struct {
	secret string
	next   http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.secret != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.secret)
	}
	return b.next.RoundTrip(r)
}

// Close ends the connection.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Node describes the node.
func (c *Client) Node(ctx context.Context) (*mediav1.Node, error) {
	r, err := c.rpc.GetNode(ctx, connect.NewRequest(&mediav1.GetNodeRequest{}))
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	return r.Msg.GetNode(), nil
}

func (c *Client) apply(ctx context.Context, spec *mediav1.SessionSpec) (*mediav1.SessionState, error) {
	r, err := c.rpc.ApplySession(ctx, connect.NewRequest(&mediav1.ApplySessionRequest{Spec: spec}))
	if err != nil {
		return nil, fmt.Errorf("program session %s: %w", spec.GetId(), err)
	}
	return r.Msg.GetState(), nil
}

// snapshot is every session that the node has.
func (c *Client) snapshot(ctx context.Context) (*mediav1.Snapshot, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		return nil, fmt.Errorf("watch the node: %w", err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if s := stream.Msg().GetSnapshot(); s != nil {
			return s, nil
		}
	}
	return nil, errors.Join(errors.New("the node sent no snapshot"), stream.Err())
}
