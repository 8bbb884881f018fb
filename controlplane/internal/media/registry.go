package media

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

// missedIntervals is after how many silent intervals a node counts as lost.
const missedIntervals = 3

// Registry knows the media nodes. It is the gateway's Media.
type Registry struct {
	config Config
	client *http.Client
	log    *slog.Logger
	metric metrics
	// events is set by Attach, before Run and before any node is known.
	events gateway.MediaEvents

	mu    sync.Mutex
	nodes map[string]*node
	// expected sessions of nodes that have not announced themselves since this
	// process started.
	expected map[string][]string
	// life ends all watching; nil until Run.
	life  context.Context
	tasks sync.WaitGroup
}

// Deps of a Registry; both are required.
type Deps struct {
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// New makes a Registry without nodes.
func New(c Config, d Deps) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		config: c, client: client, log: d.Logger,
		nodes: map[string]*node{}, expected: map[string][]string{},
	}
	r.metric = newMetrics(d.Metrics, r)
	return r, nil
}

// Attach names who is told what the nodes see. It must come before Run.
func (r *Registry) Attach(events gateway.MediaEvents) { r.events = events }

// Handler serves NodeRegistry at the path that it answers.
func (r *Registry) Handler() (string, http.Handler) {
	return mediav1connect.NewNodeRegistryHandler(announcements{r}, connect.WithInterceptors(r.checkSecret()), connect.WithReadMaxBytes(1<<20))
}

// Run watches for nodes that fall silent, until ctx is done.
func (r *Registry) Run(ctx context.Context) error {
	r.mu.Lock()
	r.life = ctx
	for _, n := range r.nodes {
		r.start(n)
	}
	r.mu.Unlock()
	defer r.client.CloseIdleConnections()
	defer r.tasks.Wait()

	tick := time.NewTicker(r.config.AnnounceInterval)
	defer tick.Stop()
	adopt := time.NewTimer(r.config.AdoptWait)
	defer adopt.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-adopt.C:
			r.giveUpExpected(ctx)
		case now := <-tick.C:
			r.findSilent(ctx, now)
		}
	}
}

// Ready answers an error while no node takes sessions.
func (r *Registry) Ready() error {
	if len(r.candidates(nil)) == 0 {
		return gateway.ErrNoMediaNode
	}
	return nil
}

// Adopt notes the sessions that should be on nodes not heard of yet.
func (r *Registry) Adopt(plans []gateway.MediaPlan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		if r.nodes[p.Node] == nil {
			r.expected[p.Node] = append(r.expected[p.Node], p.CallID)
		}
	}
}

func (r *Registry) giveUpExpected(ctx context.Context) {
	r.mu.Lock()
	missing := r.expected
	r.expected = map[string][]string{}
	r.mu.Unlock()
	for name, calls := range missing {
		r.log.Warn("a media node has not come back", "node", name, "calls", len(calls))
		for _, id := range calls {
			r.events.SessionLost(ctx, id, "media node "+name+" has not come back")
		}
	}
}

// findSilent declares nodes lost that have not announced themselves.
func (r *Registry) findSilent(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var lost []*node
	for name, n := range r.nodes {
		if now.Sub(n.seen) > missedIntervals*r.config.AnnounceInterval {
			delete(r.nodes, name)
			lost = append(lost, n)
		}
	}
	r.mu.Unlock()
	for _, n := range lost {
		n.stop()
		r.metric.lost.Inc()
		calls := r.events.Sessions(ctx, n.name)
		r.log.Error("media node lost", "node", n.name, "calls", len(calls))
		r.tasks.Go(func() {
			for _, id := range calls {
				r.events.SessionLost(ctx, id, "media node "+n.name+" is lost")
			}
		})
	}
}

// announcements serves NodeRegistry.
type announcements struct{ r *Registry }

func (a announcements) Announce(_ context.Context, req *connect.Request[mediav1.AnnounceRequest]) (*connect.Response[mediav1.AnnounceResponse], error) {
	n := req.Msg.GetNode()
	if err := checkNode(n); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	a.r.announced(n)
	return connect.NewResponse(&mediav1.AnnounceResponse{Interval: durationpb.New(a.r.config.AnnounceInterval)}), nil
}

func checkNode(n *mediav1.Node) error {
	switch {
	case n == nil:
		return errors.New("node: missing")
	case n.Id == "" || len(n.Id) > 128:
		return errors.New("node.id: want 1 to 128 characters")
	case n.Incarnation == "":
		return errors.New("node.incarnation: must not be empty")
	case len(n.WebrtcAddresses) == 0:
		return errors.New("node.webrtc_addresses: must not be empty")
	}
	return checkURL(n.Url)
}

// checkURL refuses plaintext to other machines.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return fmt.Errorf("node.url: %q is not a URL", text)
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		ip, err := netip.ParseAddr(u.Hostname())
		if u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
			return nil
		}
		return fmt.Errorf("node.url: %q is plaintext to another machine; use https", text)
	}
	return fmt.Errorf("node.url: %q has an unknown scheme; want https", text)
}

// announced takes note of a node.
func (r *Registry) announced(info *mediav1.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[info.Id]
	if n != nil && n.info.Incarnation == info.Incarnation && n.info.Url == info.Url {
		n.seen, n.info = time.Now(), info
		return
	}
	if n != nil {
		// Restarted: the new watch tells what it has kept.
		n.stop()
	}
	delete(r.expected, info.Id)
	n = &node{
		name: info.Id, info: info, seen: time.Now(), registry: r,
		rpc:     mediav1connect.NewMediaNodeClient(r.client, info.Url, connect.WithInterceptors(r.showSecret())),
		applied: map[string]time.Time{},
		stop:    func() {},
		log:     r.log.With("node", info.Id),
	}
	r.nodes[info.Id] = n
	n.log.Info("media node announced", "url", info.Url, "incarnation", info.Incarnation, "engine", info.Engine, "engine_reason", info.EngineReason)
	r.start(n)
}

// start watches a node once the registry runs. r.mu is held.
func (r *Registry) start(n *node) {
	if r.life == nil || r.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.life)
	n.stop = cancel
	r.tasks.Go(func() { n.run(ctx) })
}

// checkSecret admits callers that know the shared secret, or that showed a
// certificate (the listener checks that).
func (r *Registry) checkSecret() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if want := r.config.SharedSecret; want != "" {
				got, _ := strings.CutPrefix(req.Header().Get("Authorization"), "Bearer ")
				if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
					return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("the shared secret is missing or wrong"))
				}
			}
			return next(ctx, req)
		}
	})
}

// isTimeout reports whether a node did not answer in time or was not reached.
func isTimeout(err error) bool {
	var opErr *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &opErr) ||
		connect.CodeOf(err) == connect.CodeDeadlineExceeded || connect.CodeOf(err) == connect.CodeUnavailable
}
