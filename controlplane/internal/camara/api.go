package camara

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Gateway has the use cases that the APIs expose.
type Gateway interface {
	Register(ctx context.Context, p gateway.Principal, r gateway.RegisterRequest) (call.Registration, error)
	Registration(ctx context.Context, p gateway.Principal, id string) (call.Registration, error)
	Registrations(ctx context.Context, p gateway.Principal, deviceID string) ([]call.Registration, error)
	Refresh(ctx context.Context, p gateway.Principal, id string, r gateway.RefreshRequest) (call.Registration, error)
	Deregister(ctx context.Context, p gateway.Principal, id string) error

	Originate(ctx context.Context, p gateway.Principal, r gateway.OriginateRequest) (call.MediaSession, error)
	Session(ctx context.Context, p gateway.Principal, id string) (call.MediaSession, error)
	UpdateSession(ctx context.Context, p gateway.Principal, id string, r gateway.StatusRequest) (call.MediaSession, error)
	EndSession(ctx context.Context, p gateway.Principal, id string) error

	Subscribe(ctx context.Context, p gateway.Principal, r gateway.SubscribeRequest) (call.Subscription, error)
	Subscription(ctx context.Context, p gateway.Principal, id string) (call.Subscription, error)
	Subscriptions(ctx context.Context, p gateway.Principal) ([]call.Subscription, error)
	UpdateSubscription(ctx context.Context, p gateway.Principal, id string, r gateway.UpdateSubscriptionRequest) (call.Subscription, error)
	Unsubscribe(ctx context.Context, p gateway.Principal, id string) error
}

// Deps is what the APIs need of their surroundings. Gateway and Authenticate are
// mandatory.
type Deps struct {
	Gateway Gateway
	// Authenticate judges the access token of a request. A refusal is a
	// *gateway.AuthError; any other error is a fault of the gateway.
	Authenticate func(*http.Request) (gateway.Principal, error)
	// Logger defaults to slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
	// Tracer gets every request and answer; nil for none.
	Tracer gateway.Tracer
	// Clock defaults to time.Now.
	Clock func() time.Time
}

// API serves all generations.
type API struct {
	config   Config
	deps     Deps
	metrics  *metrics
	limits   *limiter
	services map[string]map[string]*adapter
	docs     *apidoc.Site
	renderer Renderer
}

// New loads the documents and binds the adapters of the configured generations.
func New(config Config, deps Deps) (*API, error) { return build(config, deps, apidoc.Load) }

func build(config Config, deps Deps, load loader) (*API, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure the APIs: %w", err)
	}
	if deps.Gateway == nil || deps.Authenticate == nil {
		return nil, errors.New("build the APIs: a gateway and an authenticator are needed")
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the APIs: %w", err)
	}
	a := &API{
		config:   config,
		deps:     deps,
		metrics:  m,
		limits:   newLimiter(config.Rate, deps.Clock),
		services: map[string]map[string]*adapter{},
		renderer: NewRenderer(config),
	}
	if err := a.mount(load); err != nil {
		return nil, err
	}
	return a, nil
}

// loader finds the document of an API in a generation.
type loader func(api, generation string) (*apidoc.Document, error)

// mount binds every adapter whose generation is served. A version that two
// generations share goes to the first.
func (a *API) mount(load loader) error {
	var pages []apidoc.Page
	for _, s := range a.offers() {
		if !slices.Contains(a.config.Generations, s.generation) {
			continue
		}
		ad, err := bind(s, load)
		if err != nil {
			return err
		}
		if a.services[ad.api] == nil {
			a.services[ad.api] = map[string]*adapter{}
		}
		for i, v := range ad.versions {
			if a.services[ad.api][v] != nil {
				continue
			}
			a.services[ad.api][v] = ad
			pages = append(pages, apidoc.Page{Document: ad.doc, Version: v, Alias: i > 0})
		}
	}
	docs, err := apidoc.NewSite(pages, apidoc.Login{
		OpenIDConfiguration: a.config.OpenIDConfiguration,
		ClientID:            a.config.DocsClientID,
	})
	if err != nil {
		return fmt.Errorf("build the OpenAPI pages: %w", err)
	}
	a.docs = docs
	return nil
}

// offer describes an adapter before it is bound.
type offer struct {
	api        string
	generation string
	// versions in URLs, the usual one first.
	versions []string
	bindings map[string]binding
}

// offers lists all adapters of all generations, newest first.
func (a *API) offers() []offer {
	g := a.deps.Gateway
	events := func(generation string) subscriptions {
		return subscriptions{gateway: g, dialect: dialects[generation]}
	}
	return []offer{
		{"webrtc-registration", R31, []string{"v0.4", "v0.4rc1", "vwip"}, registrationsR31{g}.bindings()},
		{"webrtc-call-handling", R31, []string{"v0.4", "v0.4rc1", "vwip"}, callsR31{g}.bindings()},
		{"webrtc-events-subscriptions", R31, []string{"v0.3", "v0.3rc1", "vwip"}, events(R31).bindings()},
		{"webrtc-events", Main2606, []string{"v0.3", "vwip"}, events(Main2606).bindings()},
		{"webrtc-registration", R22, []string{"v0.3"}, registrationsR22{g}.bindings()},
		{"webrtc-call-handling", R22, []string{"v0.3"}, callsR22{g, a.config.R22.HomeDomain}.bindings()},
		{"webrtc-events", R22, []string{"v0.2"}, subscriptionsR22{events(R22)}.bindings()},
	}
}

// bind joins a document with its handlers; each operation needs exactly one.
func bind(o offer, load loader) (*adapter, error) {
	doc, err := load(o.api, o.generation)
	if err != nil {
		return nil, err
	}
	ad := &adapter{api: o.api, generation: o.generation, doc: doc, versions: o.versions}
	for _, op := range doc.Operations() {
		b, ok := o.bindings[op.ID]
		if !ok {
			return nil, fmt.Errorf("bind %s %s: the document's operation %s has no handler", o.api, o.generation, op.ID)
		}
		ad.routes = append(ad.routes, &route{
			Operation: op,
			adapter:   ad,
			segments:  strings.Split(strings.TrimPrefix(op.Path, "/"), "/"),
			binding:   b,
		})
	}
	if len(ad.routes) != len(o.bindings) {
		return nil, fmt.Errorf("bind %s %s: %d handlers for the document's %d operations", o.api, o.generation, len(o.bindings), len(ad.routes))
	}
	return ad, nil
}

// Owns reports whether a request path belongs to this handler: to the APIs or
// their documents.
func (a *API) Owns(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first == "openapi" || strings.HasPrefix(first, "webrtc-")
}

// Handler serves the APIs and, under /openapi/, their documents. Any other path is
// answered 404 in CAMARA form.
func (a *API) Handler() http.Handler { return CORS(a.config.Origins, http.HandlerFunc(a.serve)) }

// Render shapes an event for the sink of a subscription, as the generation that
// the subscription was made through spells it. The body is a CloudEvent, the
// header has everything that the sink is to get: the content type, x-correlator,
// the sink's token and its own header fields. Equal arguments give equal results.
func (a *API) Render(sub call.Subscription, e call.Event) ([]byte, http.Header, error) {
	return a.renderer.Render(sub, e)
}

// resolve finds the operation of a request.
func (a *API) resolve(r *http.Request) (match, *failure) {
	segments := segmentsOf(r)
	if len(segments) < 3 {
		return match{}, noSuchPath(r)
	}
	api, version, rest := segments[0], segments[1], segments[2:]
	var m match
	var allow []string
	if ad := a.services[api][version]; ad != nil {
		found, id, missing, methods := find(ad.routes, r.Method, rest)
		if found != nil {
			return match{route: found, version: version, id: id, missing: missing, scopes: found.Scopes}, nil
		}
		allow = methods
	}
	if a.config.Examples {
		if methods := a.resolveExample(&m, api, version, r.Method, rest); allow == nil {
			allow = methods
		}
	}
	switch {
	case m.route != nil:
		return m, nil
	case len(allow) == 0:
		return match{}, noSuchPath(r)
	}
	list := strings.Join(allow, ", ")
	return match{}, refuse(codeMethodNotAllowed, "The path takes %s, not %s.", list, clip(r.Method)).with("Allow", list)
}

func noSuchPath(r *http.Request) *failure {
	return refuse(call.NotFound, "There is nothing at %s.", clip(r.URL.Path))
}

// clip bounds what is quoted from a request.
func clip(s string) string {
	if r := []rune(s); len(r) > 100 {
		return string(r[:100]) + "…"
	}
	return s
}
