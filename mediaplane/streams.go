package mediaplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/rpc"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// PrintStreams asks the running node of a configuration for its streams, and
// prints a line for each: what forwards it and why not something faster, where
// its packets come from and go to, and how many came, were lost and sent.
func PrintStreams(ctx context.Context, cfg Config, w io.Writer) error {
	snapshot, err := snapshot(ctx, cfg)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SESSION\tSTREAM\tLEG\tENGINE\tLOCAL\tREMOTE\tRECEIVED\tLOST\tJITTER\tSENT\tREASON")
	for _, session := range snapshot.GetSessions() {
		legs := map[string]*mediav1.LegState{}
		for _, l := range session.GetLegs() {
			legs[l.GetId()] = l
		}
		for _, s := range session.GetStreams() {
			leg, c := legs[s.GetLeg()], s.GetCounters()
			local := "-"
			if list := leg.GetLocal(); len(list) > 0 {
				local = hostPort(list[0])
			}
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\n", session.GetId(), s.GetId(), s.GetLeg(), s.GetEngine(),
				local, hostPort(leg.GetRemote()), c.GetReceivedPackets(), c.GetLostPackets(),
				c.GetJitter().AsDuration().Round(100*time.Microsecond), c.GetSentPackets(), s.GetEngineReason())
		}
	}
	return t.Flush()
}

func hostPort(a *mediav1.SocketAddress) string {
	if a == nil {
		return "-"
	}
	return net.JoinHostPort(a.GetIp(), fmt.Sprint(a.GetPort()))
}

// snapshot is what a watch begins with.
func snapshot(ctx context.Context, cfg Config) (*mediav1.Snapshot, error) {
	server, client, err := tlsConfigs(cfg.RPC)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if server != nil {
		scheme = "https"
		trustOwn(client, server.Certificates[0].Certificate[0])
	}
	host, port, err := net.SplitHostPort(cfg.RPC.Listen)
	switch {
	case err != nil:
		return nil, fmt.Errorf("rpc.listen: %w", err)
	case port == "0":
		return nil, errors.New("rpc.listen: its port is 0, so it is not known where the node listens; give it one")
	case host == "" || net.ParseIP(host).IsUnspecified():
		host = "localhost"
	}
	url := scheme + "://" + net.JoinHostPort(host, port)
	transport := &http.Transport{TLSClientConfig: client, Protocols: protocols(server != nil)}
	defer transport.CloseIdleConnections()
	transport.Protocols.SetHTTP1(false)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	node := mediav1connect.NewMediaNodeClient(&http.Client{Transport: rpc.WithSecret(cfg.RPC.SharedSecret, transport)}, url)
	watch, err := node.Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		return nil, fmt.Errorf("ask the media node at %s: %w", url, err)
	}
	defer func() { _ = watch.Close() }()
	if !watch.Receive() {
		return nil, fmt.Errorf("ask the media node at %s: %w", url, watch.Err())
	}
	return watch.Msg().GetSnapshot(), nil
}

// trustOwn makes a client accept the node's own certificate, under whatever name
// it is reached, and no other.
func trustOwn(c *tls.Config, certificate []byte) {
	c.InsecureSkipVerify = true // in favour of the comparison
	c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
		if len(raw) == 0 || !bytes.Equal(raw[0], certificate) {
			return errors.New("it shows another certificate than rpc.certificate")
		}
		return nil
	}
}
