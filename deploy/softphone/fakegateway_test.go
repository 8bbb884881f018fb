package softphone_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/deploy/softphone"
)

const alice = "+15550001"

// object is a JSON object.
type object = map[string]any

// fakeGateway answers the few operations that the page uses, with a real
// WebRTC peer behind every call, and the real demo OAuth server beside it.
type fakeGateway struct {
	t   *testing.T
	url string

	relay  *inbox
	ladder *inbox

	mu            sync.Mutex
	registrations map[string]object
	subscriptions map[string]object
	sessions      map[string]*session
	// requests are "METHOD path" of all API requests, in order.
	requests []string
	// refuse is answered to the next POST of a call, when set.
	refuse object
	// rejectHold makes the next PUT Hold fail.
	rejectHold bool
	life       time.Duration
	// noRotation: the relay gives no new credentials.
	noRotation bool
}

func newFakeGateway(t *testing.T, configure ...func(*devoauth.Config)) *fakeGateway {
	t.Helper()
	g := &fakeGateway{
		t: t, relay: newInbox(), ladder: newInbox(), life: time.Hour,
		registrations: map[string]object{}, subscriptions: map[string]object{}, sessions: map[string]*session{},
	}
	mux := http.NewServeMux()
	srv := httptest.NewUnstartedServer(mux)
	g.url = strings.Replace("http://"+srv.Listener.Addr().String(), "127.0.0.1", "localhost", 1)

	cfg := devoauth.Default()
	cfg.Issuer = g.url + "/oauth"
	cfg.Subscribers = []devoauth.Subscriber{{Number: alice, Name: "Alice Example"}, {Number: "+15550002", Name: "Bob Example"}}
	cfg.Clients = []devoauth.Client{{ID: "softphone", Name: "Softphone", RedirectURIs: []string{g.url + "/"}}}
	for _, c := range configure {
		c(&cfg)
	}
	oauth, err := devoauth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range oauth.Patterns() {
		mux.Handle(p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.mu.Lock()
			g.requests = append(g.requests, r.Method+" "+r.URL.Path)
			g.mu.Unlock()
			oauth.Handler().ServeHTTP(w, r)
		}))
	}
	page, err := softphone.Handler(settings(g.url))
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/", page)
	mux.HandleFunc("POST /relay/channels", g.api(g.openChannel))
	mux.HandleFunc("DELETE /relay/channels/{id}", g.api(func(r *http.Request, _ object) (int, any) { return 204, nil }))
	mux.HandleFunc("POST /relay/channels/{id}/credentials", g.api(func(*http.Request, object) (int, any) {
		if g.noRotation {
			return notFound()
		}
		return 201, object{"sinkCredential": g.credential()}
	}))
	mux.Handle("GET /relay/stream", g.relay)
	mux.Handle("GET /ladder/stream", g.ladder)
	mux.HandleFunc("POST /reg/sessions", g.api(g.register))
	mux.HandleFunc("GET /reg/sessions/{id}", g.api(g.registration))
	mux.HandleFunc("PUT /reg/sessions/{id}", g.api(g.registration))
	mux.HandleFunc("DELETE /reg/sessions/{id}", g.api(func(r *http.Request, _ object) (int, any) {
		delete(g.registrations, r.PathValue("id"))
		return 204, nil
	}))
	mux.HandleFunc("POST /events/subscriptions", g.api(g.subscribe))
	mux.HandleFunc("GET /events/subscriptions/{id}", g.api(g.subscription))
	mux.HandleFunc("PUT /events/subscriptions/{id}", g.api(g.subscription))
	mux.HandleFunc("DELETE /events/subscriptions/{id}", g.api(func(r *http.Request, _ object) (int, any) {
		delete(g.subscriptions, r.PathValue("id"))
		return 204, nil
	}))
	mux.HandleFunc("POST /calls/sessions", g.api(g.originate))
	mux.HandleFunc("GET /calls/sessions/{id}", g.api(g.session))
	mux.HandleFunc("PUT /calls/sessions/{id}/status", g.api(g.update))
	mux.HandleFunc("DELETE /calls/sessions/{id}", g.api(g.hangUp))
	mux.HandleFunc("GET /network/numbers", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, demoNumbers) })
	mux.HandleFunc("POST /network/call", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the demo network is sent an access token")
		}
		var body object
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body["to"] != alice {
			t.Errorf("call me: %v, %v", body, err)
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		status, answer := g.callMe(body)
		writeJSON(w, status, answer)
	})
	srv.Start()
	t.Cleanup(func() {
		for _, i := range []*inbox{g.relay, g.ladder} {
			close(i.closed)
		}
		srv.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, s := range g.sessions {
			s.close()
		}
	})
	return g
}

func settings(url string) softphone.Settings {
	return softphone.Settings{
		Issuer: url + "/oauth", ClientID: "softphone", RegistrationURL: "/reg", CallHandlingURL: "/calls", EventsURL: "/events",
		RelayURL: "/relay/channels", LadderURL: "/ladder/stream", NetworkURL: "/network", PhoneContext: "+1",
	}
}

var demoNumbers = []object{
	{"number": "+15550100", "scenario": "echo", "description": "Rings, answers and sends back what you say"},
	{"number": "+15550101", "scenario": "tone", "description": "Rings, answers and plays a 440 Hz tone"},
	{"number": "+15550102", "scenario": "busy", "description": "Is busy"},
	{"number": "+15550103", "scenario": "declined", "description": "Rings, then declines the call"},
	{"number": "+15550104", "scenario": "unknown", "description": "Is not a number in service"},
	{"number": "+15550105", "scenario": "no-answer", "description": "Rings and is never answered"},
	{"number": "+15550106", "scenario": "early-media", "description": "Plays an announcement before it answers, then a tone"},
}

// api wraps an operation: token, body, lock, ladder.
func (g *fakeGateway) api(op func(*http.Request, object) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		correlator := r.Header.Get("x-correlator")
		w.Header().Set("x-correlator", correlator)
		if subject(r) != alice {
			writeJSON(w, 401, object{"status": 401, "code": "UNAUTHENTICATED", "message": "Who are you?"})
			return
		}
		text, _ := io.ReadAll(r.Body)
		body := object{}
		if len(text) > 0 {
			if err := json.Unmarshal(text, &body); err != nil {
				g.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			}
		}
		g.trace("device", "gateway", r.Method+" "+r.URL.Path, "", fmt.Sprintf("%s %s HTTP/1.1\nX-Correlator: %s\n\n%s", r.Method, r.URL.Path, correlator, text))
		g.mu.Lock()
		g.requests = append(g.requests, r.Method+" "+r.URL.Path)
		status, answer := op(r, body)
		g.mu.Unlock()
		g.trace("gateway", "device", fmt.Sprint(status, " ", http.StatusText(status)), "", fmt.Sprintf("HTTP/1.1 %d\nX-Correlator: %s\n", status, correlator))
		writeJSON(w, status, answer)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v)
	}
}

// subject is the number in the request's access token, which is not checked.
func subject(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		PhoneNumber string `json:"phone_number"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.PhoneNumber
}

func (g *fakeGateway) expiry() string {
	return time.Now().Add(g.life).UTC().Format("2006-01-02T15:04:05.000Z")
}

func (g *fakeGateway) openChannel(*http.Request, object) (int, any) {
	return 201, object{
		"id": uuid.NewString(), "sinkUrl": "https://relay.example/sinks/" + uuid.NewString(), "streamUrl": "/relay/stream",
		"sinkCredential": g.credential(),
	}
}

func (g *fakeGateway) credential() object {
	return object{"credentialType": "ACCESSTOKEN", "accessToken": "sink-token-of-the-relay-" + uuid.NewString(), "accessTokenExpiresUtc": g.expiry(), "accessTokenType": "bearer"}
}

func (g *fakeGateway) register(_ *http.Request, body object) (int, any) {
	if _, err := uuid.Parse(fmt.Sprint(body["deviceId"])); err != nil || len(body) != 1 {
		return 400, object{"status": 400, "code": "INVALID_ARGUMENT", "message": "body"}
	}
	id := uuid.NewString()
	g.registrations[id] = object{"registrationId": id, "regInfo": object{"phoneNumber": alice, "regStatus": "Registered"}, "expiresAt": g.expiry()}
	return 201, g.registrations[id]
}

func notFound() (int, any) {
	return 404, object{"status": 404, "code": "NOT_FOUND", "message": "There is no such resource."}
}

func (g *fakeGateway) registration(r *http.Request, _ object) (int, any) {
	reg, ok := g.registrations[r.PathValue("id")]
	if !ok {
		return notFound()
	}
	if r.Method == http.MethodPut {
		reg["expiresAt"] = g.expiry()
	}
	return 200, reg
}

func (g *fakeGateway) subscribe(_ *http.Request, body object) (int, any) {
	types, _ := body["types"].([]any)
	credential, _ := body["sinkCredential"].(object)
	if len(types) != 3 || credential["accessToken"] == nil || !strings.HasPrefix(fmt.Sprint(body["sink"]), "https://relay.example/sinks/") {
		return 400, object{"status": 400, "code": "INVALID_ARGUMENT", "message": "body"}
	}
	id := uuid.NewString()
	delete(body, "sinkCredential")
	body["id"], body["status"], body["expiresAt"] = id, "ACTIVE", g.expiry()
	g.subscriptions[id] = body
	return 201, body
}

func (g *fakeGateway) subscription(r *http.Request, body object) (int, any) {
	sub, ok := g.subscriptions[r.PathValue("id")]
	if !ok {
		return notFound()
	}
	if body["config"] != nil {
		sub["expiresAt"] = g.expiry()
	}
	return 200, sub
}

// notify delivers a CloudEvent into the relay.
func (g *fakeGateway) notify(kind string, data object) {
	event := object{
		"id": uuid.NewString(), "source": g.url, "specversion": "1.0", "type": "org.camaraproject.webrtc-events-subscriptions.v0." + kind,
		"time": time.Now().UTC().Format(time.RFC3339Nano), "datacontenttype": "application/json", "data": data,
	}
	text, _ := json.Marshal(event)
	g.trace("gateway", "device", kind+" notified", "", "POST /sinks/1 HTTP/1.1\n\n"+string(text))
	g.relay.put("", string(text))
}

// trace adds to the gateway's side of the ladder.
func (g *fakeGateway) trace(from, to, title, callID, text string) {
	entry, _ := json.Marshal(object{
		"time": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), "from": from, "to": to, "title": title, "callId": callID, "text": text,
	})
	g.ladder.put("entry", string(entry))
}

func (g *fakeGateway) asked(request string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, r := range g.requests {
		if strings.HasPrefix(r, request) {
			n++
		}
	}
	return n
}

// inbox is an event stream that is kept from the beginning.
type inbox struct {
	mu       sync.Mutex
	messages []string
	changed  chan struct{}
	closed   chan struct{}
	drop     chan struct{}
	connects []string // Last-Event-ID of each
}

func newInbox() *inbox {
	return &inbox{changed: make(chan struct{}), closed: make(chan struct{}), drop: make(chan struct{})}
}

func (i *inbox) put(event, data string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m := fmt.Sprintf("id: %d\ndata: %s\n\n", len(i.messages)+1, data)
	if event != "" {
		m = "event: " + event + "\n" + m
	}
	i.messages = append(i.messages, m)
	close(i.changed)
	i.changed = make(chan struct{})
}

// breakOff ends the streams that are open.
func (i *inbox) breakOff() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.drop)
	i.drop = make(chan struct{})
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subject(r) != alice {
		w.WriteHeader(401)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	next := 0
	_, _ = fmt.Sscan(r.Header.Get("Last-Event-ID"), &next)
	i.mu.Lock()
	drop := i.drop
	i.connects = append(i.connects, r.Header.Get("Last-Event-ID"))
	i.mu.Unlock()
	_, _ = io.WriteString(w, ": hello\n\n")
	for {
		i.mu.Lock()
		batch, changed := i.messages[min(next, len(i.messages)):], i.changed
		i.mu.Unlock()
		next += len(batch)
		for _, m := range batch {
			_, _ = io.WriteString(w, m)
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-i.closed:
			return
		case <-drop:
			return
		}
	}
}
