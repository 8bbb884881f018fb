// Package mediaplane is a media node: it carries calls between browsers and the
// operator's network as control planes program it over Connect, and keeps
// nothing that another node could not be given.
//
//	cfg := mediaplane.Default()
//	cfg.RPC.SharedSecret = …
//	plane, err := mediaplane.New(cfg, mediaplane.Deps{})   // binds everything
//	err = plane.Run(ctx)                                   // serves until ctx ends
package mediaplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/rpc"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/session"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// shutdownGrace is how long calls of the service may take to end.
const shutdownGrace = 3 * time.Second

// A connection that is silent for pingAfter is asked for a sign of life, and is
// closed when none comes within pingTimeout.
const (
	pingAfter   = 5 * time.Second
	pingTimeout = 10 * time.Second
)

// maxMessage bounds a request of the service, in bytes.
const maxMessage = 1 << 20

// Deps are what a Plane is given by the process around it.
type Deps struct {
	// Logger; nil takes slog.Default.
	Logger *slog.Logger
	// Registerer for metrics; nil registers none.
	Registerer prometheus.Registerer
	// Version of the build, shown to control planes.
	Version string
}

// Plane is a media node.
type Plane struct {
	config    Config
	log       *slog.Logger
	engine    fastpath.Engine
	sessions  *session.Manager
	service   *rpc.Server
	announcer *rpc.Announcer
	listener  net.Listener
	server    *http.Server
	client    *http.Transport
}

// New checks the configuration and binds every address, so that a port that is
// taken is found before anything runs. A Plane that is not run must be closed.
func New(cfg Config, deps Deps) (_ *Plane, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if cfg.NodeID == "" {
		if cfg.NodeID, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("node_id: empty, and the host has no name: %w", err)
		}
	}
	p := &Plane{config: cfg, log: deps.Logger.With("node", cfg.NodeID)}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()

	serverTLS, clientTLS, err := tlsConfigs(cfg.RPC)
	if err != nil {
		return nil, err
	}
	if p.listener, err = net.Listen("tcp", cfg.RPC.Listen); err != nil {
		return nil, fmt.Errorf("rpc.listen: %w", err)
	}
	if p.engine, err = openEngine(cfg, p.log); err != nil {
		return nil, fmt.Errorf("engine %s: %w", cfg.Engine, err)
	}
	p.log.Info("engine chosen", "engine", p.engine.Name(), "reason", p.engine.Reason())

	if deps.Registerer != nil {
		deps.Registerer.MustRegister(newEngineCollector(p.engine))
	}
	metrics := session.NewMetrics(deps.Registerer)
	if p.sessions, err = sessions(cfg, p.engine, metrics, p.log); err != nil {
		return nil, err
	}
	p.service = rpc.NewServer(rpc.Identity{
		ID: cfg.NodeID, Incarnation: uuid.NewString(), URL: p.url(serverTLS != nil), Version: deps.Version,
	}, p.sessions, metrics, cfg.Timers.Heartbeat, p.log)

	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "isthmus", Subsystem: "media", Name: "rpc_unauthenticated_total",
		Help: "Calls of the node's service without the shared secret.",
	})
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(refused)
	}
	mux := http.NewServeMux()
	mux.Handle(mediav1connect.NewMediaNodeHandler(p.service, connect.WithReadMaxBytes(maxMessage)))
	p.server = &http.Server{
		Handler:           rpc.RequireSecret(cfg.RPC.SharedSecret, refused, rpc.WithController(mux)),
		TLSConfig:         serverTLS,
		Protocols:         protocols(serverTLS != nil),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// A control plane that vanished must not count as watching.
		HTTP2:    &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}

	p.client = &http.Transport{TLSClientConfig: clientTLS, ForceAttemptHTTP2: true, Protocols: protocols(true)}
	p.client.Protocols.SetUnencryptedHTTP2(true)
	p.client.Protocols.SetHTTP1(false)
	p.announcer = &rpc.Announcer{Clients: map[string]mediav1connect.NodeRegistryClient{}, Node: p.service.Node, Logger: p.log}
	announce := &http.Client{Transport: rpc.WithSecret(cfg.RPC.SharedSecret, p.client)}
	for _, u := range cfg.ControlPlanes {
		p.announcer.Clients[u] = mediav1connect.NewNodeRegistryClient(announce, u)
	}
	return p, nil
}

func sessions(cfg Config, engine fastpath.Engine, metrics *session.Metrics, log *slog.Logger) (*session.Manager, error) {
	webrtc, webrtcTold, err := webrtcAddresses(cfg.WebRTC)
	if err != nil {
		return nil, err
	}
	rtp, rtpTold, err := rtpAddresses(cfg.RTP)
	if err != nil {
		return nil, err
	}
	loops := cfg.Limits.Loops
	if loops == 0 {
		loops = runtime.GOMAXPROCS(0)
	}
	m, err := session.New(session.Config{
		Loops: loops, MaxPairs: pairsAllowed(cfg, log),
		WebRTC: webrtc, WebRTCAdvertise: webrtcTold, RTP: rtp, RTPAdvertise: rtpTold,
		PortMin: cfg.RTP.PortMin, PortMax: cfg.RTP.PortMax, SocketBuffer: cfg.Limits.SocketBuffer,
		MaxSessions: cfg.Limits.Sessions, WatchBuffer: cfg.Limits.WatchBuffer,
		OrphanAfter: cfg.Timers.OrphanAfter, HandshakeTimeout: cfg.Timers.Handshake,
		QualityInterval: cfg.Timers.Quality, CheckpointInterval: cfg.Timers.Checkpoint, TickInterval: cfg.Timers.Tick,
		Engine: engine, Metrics: metrics, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("webrtc.port: %w", err)
	}
	return m, nil
}

func protocols(tls bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(tls)
	p.SetUnencryptedHTTP2(!tls)
	return p
}

// tlsConfigs makes those of the service (nil for plain text on loopback) and of
// the announcements.
func tlsConfigs(c RPCConfig) (server, client *tls.Config, err error) {
	client = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ServerCA != "" {
		if client.RootCAs, err = pool("rpc.server_ca", c.ServerCA); err != nil {
			return nil, nil, err
		}
	}
	if c.Certificate == "" {
		return nil, client, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("rpc.certificate, rpc.key: %w", err)
	}
	client.Certificates = []tls.Certificate{pair}
	server = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if c.ClientCA != "" {
		if server.ClientCAs, err = pool("rpc.client_ca", c.ClientCA); err != nil {
			return nil, nil, err
		}
		server.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return server, client, nil
}

func pool(key, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM", key, file)
	}
	return p, nil
}

func (p *Plane) url(tls bool) string {
	if p.config.RPC.URL != "" {
		return p.config.RPC.URL
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(p.listener.Addr().String())
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		if list, err := hostAddresses(ip.Unmap().Is4()); err == nil && len(list) > 0 {
			host = list[0].String()
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// URL of the node's service, as it is announced.
func (p *Plane) URL() string { return p.service.Node().GetUrl() }

// WebRTCAddresses are told to browsers, RTPAddresses to far ends.
func (p *Plane) WebRTCAddresses() []netip.AddrPort { return p.sessions.WebRTCAddresses() }

// RTPAddresses are told to far ends.
func (p *Plane) RTPAddresses() []netip.Addr { return p.sessions.RTPAddresses() }

// Run serves until ctx ends: then new sessions are refused, those that are there
// end with reason "shutdown", watchers are told, and everything is closed.
func (p *Plane) Run(ctx context.Context) error {
	if err := p.engine.Start(ctx); err != nil {
		p.Close()
		return fmt.Errorf("start engine %s: %w", p.engine.Name(), err)
	}
	p.sessions.Adopt()
	p.log.Info("media node serving", "url", p.URL(), "webrtc", p.WebRTCAddresses(), "rtp", p.RTPAddresses())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		if p.server.TLSConfig != nil {
			err = p.server.ServeTLS(p.listener, "", "")
		} else {
			err = p.server.Serve(p.listener)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", p.URL(), err)
	})
	group.Go(func() error { return p.sessions.Run(ctx) })
	group.Go(func() error { return p.announcer.Run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		// Sessions first: watchers are to see them go.
		p.sessions.Close()
		p.service.EndWatches()
		grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		if err := p.server.Shutdown(grace); err != nil {
			_ = p.server.Close()
		}
		return nil
	})
	err := group.Wait()
	p.client.CloseIdleConnections()
	return errors.Join(err, p.engine.Close())
}

// Close gives everything back that New took. It is for a Plane that is not run.
func (p *Plane) Close() {
	if p.server != nil {
		_ = p.server.Close()
	}
	if p.listener != nil {
		_ = p.listener.Close()
	}
	if p.sessions != nil {
		p.sessions.Close()
	}
	if p.engine != nil {
		_ = p.engine.Close()
	}
}
