package camara

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/strictjson"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

var update = flag.Bool("update", false, "write golden files anew")

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const (
	device       = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	registration = "11111111-2222-4333-8444-555555555555"
	session      = "99999999-8888-4777-8666-555555555555"
	subscription = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	offerSDP     = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
	answerSDP    = "v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
)

// fake is a gateway that answers what a test tells it and notes what it is asked.
type fake struct {
	err   error
	panic any

	registration  call.Registration
	registrations []call.Registration
	session       call.MediaSession
	subscription  call.Subscription
	subscriptions []call.Subscription

	// called is the last use case, id its argument, request what else it got.
	called  string
	id      string
	request any
	who     gateway.Principal
	block   bool
	ctxErr  error
}

func (f *fake) note(ctx context.Context, p gateway.Principal, called, id string, request any) error {
	f.called, f.id, f.request, f.who, f.ctxErr = called, id, request, p, ctx.Err()
	if f.panic != nil {
		panic(f.panic)
	}
	if f.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fake) Register(ctx context.Context, p gateway.Principal, r gateway.RegisterRequest) (call.Registration, error) {
	return f.registration, f.note(ctx, p, "Register", "", r)
}

func (f *fake) Registration(ctx context.Context, p gateway.Principal, id string) (call.Registration, error) {
	return f.registration, f.note(ctx, p, "Registration", id, nil)
}

func (f *fake) Registrations(ctx context.Context, p gateway.Principal, deviceID string) ([]call.Registration, error) {
	return f.registrations, f.note(ctx, p, "Registrations", deviceID, nil)
}

func (f *fake) Refresh(ctx context.Context, p gateway.Principal, id string, r gateway.RefreshRequest) (call.Registration, error) {
	return f.registration, f.note(ctx, p, "Refresh", id, r)
}

func (f *fake) Deregister(ctx context.Context, p gateway.Principal, id string) error {
	return f.note(ctx, p, "Deregister", id, nil)
}

func (f *fake) Originate(ctx context.Context, p gateway.Principal, r gateway.OriginateRequest) (call.MediaSession, error) {
	return f.session, f.note(ctx, p, "Originate", "", r)
}

func (f *fake) Session(ctx context.Context, p gateway.Principal, id string) (call.MediaSession, error) {
	return f.session, f.note(ctx, p, "Session", id, nil)
}

func (f *fake) UpdateSession(ctx context.Context, p gateway.Principal, id string, r gateway.StatusRequest) (call.MediaSession, error) {
	return f.session, f.note(ctx, p, "UpdateSession", id, r)
}

func (f *fake) EndSession(ctx context.Context, p gateway.Principal, id string) error {
	return f.note(ctx, p, "EndSession", id, nil)
}

func (f *fake) Subscribe(ctx context.Context, p gateway.Principal, r gateway.SubscribeRequest) (call.Subscription, error) {
	err := f.note(ctx, p, "Subscribe", "", r)
	s := call.Subscription{
		ID: subscription, Owner: p.Owner, DeviceID: r.DeviceID, RegistrationID: r.RegistrationID, SessionID: r.SessionID,
		Types: r.Types, Sink: r.Sink, Generation: r.Generation, Echo: r.Echo, RequestedExpiry: r.Expires,
		MaxEvents: r.MaxEvents, InitialEvent: r.InitialEvent, State: call.SubscriptionActive,
		StartsAt: now, ExpiresAt: now.Add(time.Hour),
	}
	if r.Expires != nil {
		s.ExpiresAt = *r.Expires
	}
	return s, err
}

func (f *fake) Subscription(ctx context.Context, p gateway.Principal, id string) (call.Subscription, error) {
	return f.subscription, f.note(ctx, p, "Subscription", id, nil)
}

func (f *fake) Subscriptions(ctx context.Context, p gateway.Principal) ([]call.Subscription, error) {
	return f.subscriptions, f.note(ctx, p, "Subscriptions", "", nil)
}

func (f *fake) UpdateSubscription(ctx context.Context, p gateway.Principal, id string, r gateway.UpdateSubscriptionRequest) (call.Subscription, error) {
	return f.subscription, f.note(ctx, p, "UpdateSubscription", id, r)
}

func (f *fake) Unsubscribe(ctx context.Context, p gateway.Principal, id string) error {
	return f.note(ctx, p, "Unsubscribe", id, nil)
}

type ladder struct{ entries []gateway.TraceEntry }

func (l *ladder) Trace(e gateway.TraceEntry) { l.entries = append(l.entries, e) }

// bench is a fresh API over a fake.
type bench struct {
	*fake
	api      *API
	ladder   *ladder
	registry *prometheus.Registry
	scopes   []string
}

func owner(subject call.Number) call.Owner {
	return call.Owner{Tenant: call.DefaultTenant, Issuer: "https://as.example.com", ClientID: "app", Subject: subject}
}

// loadOnce spares every test the reading of the documents, which nothing changes.
func loadOnce(api, generation string) (*apidoc.Document, error) {
	type result struct {
		doc *apidoc.Document
		err error
	}
	load := sync.OnceValue(func() result {
		doc, err := apidoc.Load(api, generation)
		return result{doc, err}
	})
	kept, _ := documents.LoadOrStore(api+" "+generation, load)
	r := kept.(func() result)()
	return r.doc, r.err
}

var documents sync.Map

func setup(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{
		fake: &fake{
			registration: call.Registration{ID: registration, Owner: owner("+15550100"), DeviceID: device, CreatedAt: now, ExpiresAt: now.Add(time.Hour)},
			session: call.MediaSession{
				ID: session, CallID: "call-1", Owner: owner("+15550100"), RegistrationID: registration, DeviceID: device,
				Direction: call.Origination, Originator: call.Number("+15550100").Address(), Receiver: call.Number("+15550199").Address(),
				CallType: call.Regular, Status: call.Initial, Offer: offerSDP, CreatedAt: now,
			},
			subscription: call.Subscription{
				ID: subscription, Owner: owner("+15550100"), DeviceID: device, Types: []call.EventType{call.SessionStatus},
				Sink:       call.Sink{URL: "https://app.example.com/events", AccessToken: "hush", AccessTokenExpires: now.Add(time.Hour)},
				Generation: R31, Echo: []byte(`{"deviceId":"` + device + `"}`), State: call.SubscriptionActive,
				StartsAt: now, ExpiresAt: now.Add(time.Hour),
			},
		},
		ladder:   &ladder{},
		registry: prometheus.NewRegistry(),
	}
	config := Default()
	for _, c := range change {
		c(&config)
	}
	api, err := build(config, Deps{
		Gateway:      b.fake,
		Authenticate: b.authenticate,
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer:   b.registry,
		Tracer:       b.ladder,
		Clock:        func() time.Time { return now },
	}, loadOnce)
	if err != nil {
		t.Fatal(err)
	}
	b.api = api
	for _, versions := range api.services {
		for _, ad := range versions {
			for _, r := range ad.routes {
				b.scopes = append(b.scopes, r.Scopes...)
			}
		}
	}
	return b
}

// authenticate knows the tokens "user", "app", "poor" (no scope), and "limited …"
// with the scopes that follow.
func (b *bench) authenticate(r *http.Request) (gateway.Principal, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	kind, scopes, _ := strings.Cut(token, " ")
	p := gateway.Principal{Owner: owner("+15550100"), Scopes: b.scopes, Expires: now.Add(time.Hour)}
	switch kind {
	case "user":
	case "app":
		p.Owner.Subject = ""
	case "poor":
		p.Scopes = nil
	case "limited":
		p.Scopes = strings.Fields(scopes)
	case "outage":
		return gateway.Principal{}, &gateway.AuthError{Unavailable: true, RetryAfter: 5 * time.Second, Err: errors.New("no route")}
	case "nonce":
		return gateway.Principal{}, &gateway.AuthError{Challenge: `DPoP error="use_dpop_nonce"`, DPoPNonce: "n-1"}
	case "broken":
		return gateway.Principal{}, errors.New("secret fault")
	default:
		return gateway.Principal{}, &gateway.AuthError{Challenge: `Bearer realm="isthmus"`}
	}
	return p, nil
}

// ask is one request; the zero value of a field takes the usual one.
type ask struct {
	method, path, body string
	token              string
	header             http.Header
}

// send serves a request and checks what holds for every answer: the mark, the
// form of refusals, the documented shape.
func (b *bench) send(t testing.TB, q ask) *httptest.ResponseRecorder {
	t.Helper()
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	r := httptest.NewRequest(q.method, "http://gateway.example.com"+q.path, body)
	if q.token == "" {
		q.token = "user"
	}
	if q.token != "none" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range q.header {
		r.Header[k] = v
		if len(v) == 0 {
			r.Header.Del(k)
		}
	}
	w := httptest.NewRecorder()
	b.api.Handler().ServeHTTP(w, r)
	b.checkAnswer(t, q, w)
	return w
}

func (b *bench) checkAnswer(t testing.TB, q ask, w *httptest.ResponseRecorder) {
	t.Helper()
	if !correlatorPattern.MatchString(w.Header().Get(correlatorHeader)) || w.Header().Get(correlatorHeader) == "" {
		t.Errorf("%s %s: no good x-correlator: %q", q.method, q.path, w.Header().Get(correlatorHeader))
	}
	data := w.Body.Bytes()
	var body any
	if len(data) > 0 {
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s %s: Content-Type %q", q.method, q.path, got)
		}
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatalf("%s %s: the answer is not JSON: %v", q.method, q.path, err)
		}
	}
	if w.Code == http.StatusNoContent {
		if len(data) > 0 {
			t.Errorf("%s %s: 204 with a body", q.method, q.path)
		}
	}
	if w.Code >= 400 {
		o, err := strictjson.Object(data)
		if err != nil {
			t.Fatalf("%s %s: %d without ErrorInfo: %v", q.method, q.path, w.Code, err)
		}
		if o["status"] != float64(w.Code) || o["code"] == "" || o["message"] == "" || len(o) != 3 {
			t.Errorf("%s %s: %d with ErrorInfo %v", q.method, q.path, w.Code, o)
		}
	}
	r := httptest.NewRequest(q.method, "http://gateway.example.com"+q.path, nil)
	m, f := b.api.resolve(r)
	if f != nil {
		return
	}
	for _, v := range m.CheckResponse(w.Code, body) {
		t.Errorf("%s %s: the answer %d %s does not have its documented shape: %s", q.method, q.path, w.Code, data, v)
	}
}

// counts of a metric by its labels; of a histogram, how many samples it has.
func (b *bench) counts(t testing.TB, name string) map[string]float64 {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			counts[strings.Join(labels, " ")] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return counts
}

// code of a refusal, empty for none.
func code(w *httptest.ResponseRecorder) string {
	var e ErrorInfo
	if w.Code < 400 || json.Unmarshal(w.Body.Bytes(), &e) != nil {
		return ""
	}
	return e.Code
}

var ids = regexp.MustCompile(`[^a-z0-9]+`)

// golden compares with testdata/{name}, pretty-printed JSON.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(got, &v); err != nil {
		t.Fatalf("%s: not JSON: %v: %s", name, err, got)
	}
	pretty, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	pretty = append(pretty, '\n')
	path := filepath.Join("testdata", ids.ReplaceAllString(strings.ToLower(name), "-")+".json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pretty, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(pretty) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", path, pretty, want)
	}
}
