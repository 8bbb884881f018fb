package camara

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func TestRouting(t *testing.T) {
	const reg, calls, subs = "/webrtc-registration/v0.4", "/webrtc-call-handling/v0.4", "/webrtc-events-subscriptions/v0.3"
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", reg, 404, ""},
		{"GET", reg + "/", 404, ""},
		{"GET", "/webrtc-registration/v9/sessions", 404, ""},
		{"GET", "/webrtc-video/v0.4/sessions", 404, ""},
		{"GET", reg + "/sessions/a/b", 404, ""},
		{"GET", reg + "/sessions/" + registration + "/", 404, ""},
		{"GET", "//webrtc-registration/v0.4/sessions", 404, ""},
		{"GET", "/webrtc-registration/v0.4/../v0.4/sessions", 404, ""},
		{"PATCH", reg + "/sessions", 405, "GET, POST"},
		{"HEAD", reg + "/sessions", 405, "GET, POST"},
		{"OPTIONS", reg + "/sessions", 405, "GET, POST"},
		{"POST", reg + "/sessions/" + registration, 405, "DELETE, GET, PUT"},
		{"POST", reg + "/sessions/", 405, "DELETE, GET, PUT"},
		{"PUT", reg + "/sessions", 400, ""},
		{"DELETE", reg + "/sessions", 400, ""},
		{"GET", reg + "/sessions/", 400, ""},
		{"PUT", reg + "/sessions/", 400, ""},
		{"DELETE", reg + "/sessions/", 400, ""},
		{"GET", calls + "/sessions", 400, ""},
		{"DELETE", calls + "/sessions", 400, ""},
		{"PUT", calls + "/sessions", 400, ""},
		{"GET", calls + "/sessions/", 400, ""},
		{"PUT", calls + "/sessions/status", 400, ""},
		{"PUT", calls + "/sessions//status", 400, ""},
		{"GET", calls + "/sessions//status", 405, "PUT"},
		{"PUT", calls + "/sessions/" + session, 405, "DELETE, GET"},
		{"GET", calls + "/sessions/" + session + "/status", 405, "PUT"},
		{"PATCH", calls + "/sessions", 405, "POST"},
		{"GET", calls + "/sessions/" + strings.Repeat("a", 256), 200, ""},
		{"GET", calls + "/sessions/" + strings.Repeat("a", 257), 400, ""},
		{"GET", calls + "/sessions/a%0d%0ab", 400, ""},
		{"GET", calls + "/sessions/a%ff", 400, ""},
		{"GET", calls + "/sessions/a%2fb", 200, ""},
		{"GET", subs + "/subscriptions", 200, ""},
		{"GET", subs + "/subscriptions/", 400, ""},
		{"PATCH", subs + "/subscriptions/" + subscription, 405, "DELETE, GET, PUT"},
		{"GET", "/webrtc-registration/v0.4rc1/sessions/" + registration, 200, ""},
		{"GET", "/webrtc-registration/vwip/sessions/" + registration, 200, ""},
		{"GET", "/webrtc-call-handling/v0.4rc1/sessions/" + session, 200, ""},
		{"GET", "/webrtc-call-handling/vwip/sessions/" + session, 200, ""},
		{"GET", "/webrtc-events-subscriptions/v0.3rc1/subscriptions", 200, ""},
		{"GET", "/webrtc-events-subscriptions/vwip/subscriptions", 200, ""},
	}
	codes := map[int]string{400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
	b := setup(t)
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			w := b.send(t, ask{method: tt.method, path: tt.path})
			if w.Code != tt.status || code(w) != codes[tt.status] || w.Header().Get("Allow") != tt.allow {
				t.Errorf("got %d, Allow %q, %s", w.Code, w.Header().Get("Allow"), w.Body)
			}
			if w.Header().Get("Location") != "" {
				t.Error("a redirect")
			}
		})
	}
}

// One request with everything wrong shows the order of the checks as faults are
// mended one by one.
func TestOrderOfChecks(t *testing.T) {
	type step struct {
		name   string
		mend   func(*ask)
		status int
		code   string
	}
	q := ask{method: "PATCH", path: callsBase, token: "none", body: `{"colour":1}`, header: http.Header{
		"X-Correlator": {"not ok!"}, "Accept": {"text/html"}, "Content-Type": {"text/plain"},
	}}
	steps := []step{
		{"method", func(*ask) {}, 405, "METHOD_NOT_ALLOWED"},
		{"token", func(q *ask) { q.method = "POST" }, 401, "UNAUTHENTICATED"},
		{"correlator", func(q *ask) { q.token = "poor" }, 400, "INVALID_ARGUMENT"},
		{"scope", func(q *ask) { q.header.Set("X-Correlator", "ok") }, 403, "PERMISSION_DENIED"},
		{"accept", func(q *ask) { q.token = "user" }, 406, "NOT_ACCEPTABLE"},
		{"header", func(q *ask) { q.header.Set("Accept", "*/*") }, 400, "INVALID_ARGUMENT"},
		{"content type", func(q *ask) { q.header.Set("registrationId", registration) }, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"body", func(q *ask) { q.header.Set("Content-Type", "application/json") }, 400, "INVALID_ARGUMENT"},
		{"ownership", func(q *ask) { q.body = callBody(t, nil) }, 403, "INVALID_TOKEN_CONTEXT"},
	}
	b := setup(t)
	b.err = call.Errorf(call.InvalidTokenContext, "no such registration")
	for _, s := range steps {
		s.mend(&q)
		w := b.send(t, q)
		if w.Code != s.status || code(w) != s.code {
			t.Errorf("%s: got %d %s, want %d %s", s.name, w.Code, w.Body, s.status, s.code)
		}
		if asked := b.called != ""; asked != (s.name == "ownership") {
			t.Errorf("%s: the gateway was asked: %t", s.name, asked)
		}
	}
}

func TestAuthentication(t *testing.T) {
	tests := []struct {
		token, challenge, nonce, retry string
		status                         int
		code                           string
	}{
		{"none", `Bearer realm="isthmus"`, "", "", 401, "UNAUTHENTICATED"},
		{"nonce", `DPoP error="use_dpop_nonce"`, "n-1", "", 401, "UNAUTHENTICATED"},
		{"outage", "", "", "5", 503, "UNAVAILABLE"},
		{"broken", "", "", "", 500, "INTERNAL"},
	}
	b := setup(t)
	for _, tt := range tests {
		w := b.send(t, ask{method: "GET", path: callsBase + "/" + session, token: tt.token, header: http.Header{"X-Correlator": {"abc"}}})
		h := w.Header()
		if w.Code != tt.status || code(w) != tt.code || h.Get("WWW-Authenticate") != tt.challenge || h.Get("DPoP-Nonce") != tt.nonce || h.Get("Retry-After") != tt.retry {
			t.Errorf("%s: got %d %v %s", tt.token, w.Code, h, w.Body)
		}
		if h.Get("X-Correlator") != "abc" {
			t.Errorf("%s: the mark is not echoed", tt.token)
		}
		if strings.Contains(w.Body.String(), "secret fault") {
			t.Errorf("the answer tells of the fault: %s", w.Body)
		}
	}
}

func TestScopes(t *testing.T) {
	b := setup(t)
	for _, versions := range b.api.services {
		for version, ad := range versions {
			for _, r := range ad.routes {
				path := "/" + ad.api + "/" + version + strings.Replace(r.Path, "{"+r.parameterName()+"}", "x", 1)
				var others []string
				for _, s := range b.scopes {
					if !slices.Contains(r.Scopes, s) {
						others = append(others, s)
					}
				}
				w := b.send(t, ask{method: r.Method, path: path, token: "limited " + strings.Join(others, " ")})
				if w.Code != 403 || code(w) != "PERMISSION_DENIED" {
					t.Errorf("%s %s without %v: %d %s", r.Method, path, r.Scopes, w.Code, w.Body)
				}
				w = b.send(t, ask{method: r.Method, path: path, token: "limited " + r.Scopes[0]})
				if w.Code == 403 || w.Code == 401 {
					t.Errorf("%s %s with %v: %d %s", r.Method, path, r.Scopes, w.Code, w.Body)
				}
			}
		}
	}
}

func TestCorrelator(t *testing.T) {
	b := setup(t)
	get := func(values ...string) *httptest.ResponseRecorder {
		return b.send(t, ask{method: "GET", path: callsBase + "/" + session, header: http.Header{"X-Correlator": values}})
	}
	for _, good := range []string{"b4333c46-49c0-4f62-80d7-f0ef930f1c46", "a_b:c;d./<>{}", strings.Repeat("x", 256)} {
		if w := get(good); w.Code != 200 || w.Header().Get("X-Correlator") != good {
			t.Errorf("%q: %d, answered with %q", good, w.Code, w.Header().Get("X-Correlator"))
		}
	}
	for _, bad := range [][]string{{"a b"}, {"é"}, {strings.Repeat("x", 257)}, {"a", "b"}, {"a,b"}} {
		if w := get(bad...); w.Code != 400 || slices.Contains(bad, w.Header().Get("X-Correlator")) {
			t.Errorf("%q: %d, answered with %q", bad, w.Code, w.Header().Get("X-Correlator"))
		}
	}
	for _, none := range [][]string{nil, {""}} {
		if w := get(none...); w.Code != 200 || len(w.Header().Get("X-Correlator")) != 36 {
			t.Errorf("%q: %d, answered with %q", none, w.Code, w.Header().Get("X-Correlator"))
		}
	}
}

func TestMediaTypes(t *testing.T) {
	b := setup(t)
	body := `{"deviceId":"` + device + `"}`
	tests := []struct {
		header, value string
		status        int
	}{
		{"Content-Type", "application/json; charset=UTF-8", 201},
		{"Content-Type", "Application/JSON", 201},
		{"Content-Type", "application/json; charset=latin1", 415},
		{"Content-Type", "text/json", 415},
		{"Content-Type", "application/merge-patch+json", 415},
		{"Content-Type", "", 415},
		{"Content-Encoding", "gzip", 415},
		{"Content-Encoding", "identity", 201},
		{"Accept", "application/json", 201},
		{"Accept", "text/html, application/*;q=0.1", 201},
		{"Accept", "text/html, */*;q=0.1", 201},
		{"Accept", "text/html", 406},
		{"Accept", "application/json;q=0, */*", 406},
		{"Accept", "application/json;q=0", 406},
	}
	for _, tt := range tests {
		w := b.send(t, ask{method: "POST", path: "/webrtc-registration/v0.4/sessions", body: body, header: http.Header{tt.header: {tt.value}}})
		if w.Code != tt.status {
			t.Errorf("%s: %s: %d %s, want %d", tt.header, tt.value, w.Code, w.Body, tt.status)
		}
	}
}

func TestBodies(t *testing.T) {
	b := setup(t)
	pad := func(n int) string {
		good := `{"deviceId":"` + device + `"}`
		return good + strings.Repeat(" ", n-len(good))
	}
	tests := []struct {
		name, body string
		status     int
		code       string
	}{
		{"duplicate key", `{"deviceId":"` + device + `","deviceId":"` + device + `"}`, 400, "INVALID_ARGUMENT"},
		{"trailing data", `{"deviceId":"` + device + `"}{}`, 400, "INVALID_ARGUMENT"},
		{"array", `[]`, 400, "INVALID_ARGUMENT"},
		{"not JSON", `deviceId=x`, 400, "INVALID_ARGUMENT"},
		{"not UTF-8", "{\"deviceId\":\"\xff\"}", 400, "INVALID_ARGUMENT"},
		{"too deep", `{"deviceId":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, 400, "INVALID_ARGUMENT"},
		{"as long as allowed", pad(256 << 10), 201, ""},
		{"longer", pad(256<<10 + 1), 413, "PAYLOAD_TOO_LARGE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := b.send(t, ask{method: "POST", path: "/webrtc-registration/v0.4/sessions", body: tt.body})
			if w.Code != tt.status || code(w) != tt.code {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	t.Run("longer without Content-Length", func(t *testing.T) {
		r := httptest.NewRequest("POST", "/webrtc-registration/v0.4/sessions", struct{ *bytes.Reader }{bytes.NewReader([]byte(pad(256<<10 + 1)))})
		r.ContentLength = -1
		r.Header.Set("Authorization", "Bearer user")
		w := httptest.NewRecorder()
		b.api.Handler().ServeHTTP(w, r)
		if w.Code != 413 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

func TestPanic(t *testing.T) {
	b := setup(t)
	b.panic = "secret state"
	w := b.send(t, ask{method: "GET", path: callsBase + "/" + session})
	if w.Code != 500 || code(w) != "INTERNAL" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if got := b.counts(t, "isthmus_api_panics_total"); got[""] != 1 {
		t.Errorf("panics counted: %v", got)
	}
	b.panic = http.ErrAbortHandler
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("an abort was swallowed")
		}
	}()
	b.send(t, ask{method: "GET", path: callsBase + "/" + session})
}

func TestFaultsAreNotTold(t *testing.T) {
	b := setup(t)
	for _, err := range []error{
		http.ErrBodyNotAllowed,
		call.Errorf(call.Internal, "password=hunter2"),
		call.Errorf("NO_SUCH_CODE", "password=hunter2"),
	} {
		b.err = err
		w := b.send(t, ask{method: "GET", path: callsBase + "/" + session})
		if w.Code != 500 || code(w) != "INTERNAL" || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%v: got %d %s", err, w.Code, w.Body)
		}
	}
}

func TestTimeout(t *testing.T) {
	b := setup(t, func(c *Config) { c.Timeout = time.Millisecond })
	b.block = true
	w := b.send(t, ask{method: "GET", path: callsBase + "/" + session})
	if w.Code != 504 || code(w) != "TIMEOUT" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// What a caller's going away does is not logged as the gateway's fault.
func TestLogLevels(t *testing.T) {
	tests := []struct {
		err   error
		level string
	}{
		{nil, "INFO"},
		{call.Errorf(call.NotFound, "no"), "INFO"},
		{call.Errorf(call.EmergencyNotSupported, "no"), "INFO"},
		{context.Canceled, "INFO"},
		{context.DeadlineExceeded, "ERROR"},
		{call.Errorf(call.Unavailable, "no"), "ERROR"},
		{http.ErrBodyNotAllowed, "ERROR"},
	}
	for _, tt := range tests {
		b := setup(t)
		var log bytes.Buffer
		b.api.deps.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		b.err = tt.err
		b.send(t, ask{method: "GET", path: callsBase + "/" + session, header: http.Header{"X-Correlator": {"mark"}}})
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line["level"] != tt.level || line["x_correlator"] != "mark" || line["client"] != "app" || line["operation"] != "getSessionDetailsById" {
			t.Errorf("%v: %s", tt.err, log.String())
		}
		if tt.err == nil && (line["call"] != "call-1" || line["session"] != session || line["registration"] != registration) {
			t.Errorf("the log does not say what it was about: %s", log.String())
		}
	}
}

// A caller that goes away does not stop a change half-way.
func TestChangesOutliveTheirCaller(t *testing.T) {
	b := setup(t)
	for method, gone := range map[string]bool{"GET": true, "DELETE": false} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := httptest.NewRequestWithContext(ctx, method, callsBase+"/"+session, nil)
		r.Header.Set("Authorization", "Bearer user")
		b.api.Handler().ServeHTTP(httptest.NewRecorder(), r)
		if got := b.ctxErr != nil; got != gone {
			t.Errorf("%s: the use case saw %v", method, b.ctxErr)
		}
	}
}

func BenchmarkCreateSession(bm *testing.B) {
	b := setup(bm)
	body := callBody(bm, map[string]any{"offer": map[string]any{"sdp": offerSDP + strings.Repeat("a=x\r\n", 500)}})
	handler := b.api.Handler()
	for bm.Loop() {
		b.ladder.entries = b.ladder.entries[:0]
		r := httptest.NewRequest("POST", callsBase, strings.NewReader(body))
		r.Header = http.Header{"Authorization": {"Bearer user"}, "Content-Type": {"application/json"}, "Registrationid": {registration}}
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != http.StatusCreated {
			bm.Fatal(w.Code, w.Body)
		}
	}
}

func TestRateLimit(t *testing.T) {
	b := setup(t, func(c *Config) { c.Rate = Rate{PerSecond: 0.5, Burst: 2} })
	q := ask{method: "GET", path: callsBase + "/" + session}
	for range 2 {
		if w := b.send(t, q); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	w := b.send(t, q)
	if w.Code != 429 || code(w) != "TOO_MANY_REQUESTS" || w.Header().Get("Retry-After") != "2" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestCORS(t *testing.T) {
	preflight := func(b *bench, origin string) http.Header {
		r := httptest.NewRequest("OPTIONS", callsBase, nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		b.api.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusNoContent || w.Header().Get("X-Correlator") == "" {
			t.Errorf("preflight: %d %v", w.Code, w.Header())
		}
		return w.Header()
	}
	b := setup(t)
	h := preflight(b, "https://app.example.com")
	if h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "registrationId") || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("preflight: %v", h)
	}
	w := b.send(t, ask{method: "GET", path: "/nothing", header: http.Header{"Origin": {"https://app.example.com"}}})
	if !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "x-correlator") || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a refusal: %v", w.Header())
	}

	b = setup(t, func(c *Config) { c.Origins = []string{"https://app.example.com"} })
	if h := preflight(b, "https://app.example.com"); h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || h.Get("Vary") != "Origin" {
		t.Errorf("listed origin: %v", h)
	}
	if h := preflight(b, "https://evil.example.com"); h.Get("Access-Control-Allow-Origin") != "" || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("other origin: %v", h)
	}
}

func TestLadder(t *testing.T) {
	b := setup(t)
	b.send(t, ask{method: "POST", path: callsBase, body: callBody(t, nil), header: fromRegistration()})
	if len(b.ladder.entries) != 2 {
		t.Fatalf("%d entries", len(b.ladder.entries))
	}
	request, answer := b.ladder.entries[0], b.ladder.entries[1]
	if request.From != gateway.ActorDevice || request.To != gateway.ActorGateway || request.Title != "POST "+callsBase || request.Number != "+15550100" {
		t.Errorf("request: %+v", request)
	}
	if !strings.Contains(request.Text, "Authorization: Bearer [redacted]\r\n") || !strings.Contains(request.Text, `"receiverAddress":"tel:+15550199"`) || strings.Contains(request.Text, "user") {
		t.Errorf("request: %s", request.Text)
	}
	if answer.From != gateway.ActorGateway || answer.Title != "201 Created" || answer.CallID != "call-1" || !strings.Contains(answer.Text, session) {
		t.Errorf("answer: %+v", answer)
	}
	b.ladder.entries = nil
	b.send(t, ask{method: "GET", path: callsBase + "/" + session, token: "none"})
	if len(b.ladder.entries) != 2 || b.ladder.entries[1].Title != "401 Unauthorized" {
		t.Errorf("a refusal: %+v", b.ladder.entries)
	}
}

func TestMetrics(t *testing.T) {
	b := setup(t)
	b.send(t, ask{method: "GET", path: callsBase + "/" + session})
	b.send(t, ask{method: "GET", path: callsBase + "/" + session})
	b.send(t, ask{method: "GET", path: callsBase + "/" + session, token: "none"})
	b.send(t, ask{method: "GET", path: "/nothing"})
	want := map[string]float64{
		"api=none code=404 generation=none operation=none":                                  1,
		"api=webrtc-call-handling code=200 generation=r3.1 operation=getSessionDetailsById": 2,
		"api=webrtc-call-handling code=401 generation=r3.1 operation=getSessionDetailsById": 1,
	}
	if got := b.counts(t, "isthmus_api_requests_total"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if got := b.counts(t, "isthmus_api_request_duration_seconds"); got["api=webrtc-call-handling generation=r3.1 operation=getSessionDetailsById"] != 3 {
		t.Errorf("durations: %v", got)
	}
}

func TestGenerationsCanBeTurnedOff(t *testing.T) {
	b := setup(t, func(c *Config) { c.Generations = []string{R22} })
	if w := b.send(t, ask{method: "GET", path: callsBase + "/" + session}); w.Code != 404 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"generations":  func(c *Config) { c.Generations = []string{"r9"} },
		"at least one": func(c *Config) { c.Generations = nil },
		"max_body":     func(c *Config) { c.MaxBody = 0 },
		"timeout":      func(c *Config) { c.Timeout = 0 },
		"per_second":   func(c *Config) { c.Rate.PerSecond = -1 },
		"burst":        func(c *Config) { c.Rate = Rate{PerSecond: 1} },
		"cors_origins": func(c *Config) { c.Origins = []string{"app.example.com"} },
		"event_source": func(c *Config) { c.EventSource = "" },
		"home_domain":  func(c *Config) { c.R22.HomeDomain = "localhost" },
		"openid":       func(c *Config) { c.OpenIDConfiguration = "x" },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, domain := range []string{"", "10.0.0.1", "example.com;user=phone", "Example.com", "a@b.com"} {
		c := Default()
		c.R22.HomeDomain = domain
		if err := c.Validate(); err == nil {
			t.Errorf("home_domain %q was taken", domain)
		}
	}
	if _, err := New(Default(), Deps{}); err == nil {
		t.Error("an API without gateway was built")
	}
}

// Whatever is sent, the answer has the form that every answer has, and no check
// is passed by accident: the gateway is asked only when the answer is its own.
func TestAnyRequest(t *testing.T) {
	b := setup(t)
	segment := rapid.OneOf(rapid.SampledFrom([]string{"", "sessions", "status", "subscriptions", "webrtc-registration", "webrtc-call-handling", "webrtc-events-subscriptions", "v0.4", "v0.3", "vwip", "openapi", device}), rapid.StringMatching(`[a-z%.]{0,5}`))
	rapid.Check(t, func(rt *rapid.T) {
		path := "/" + strings.Join(rapid.SliceOfN(segment, 0, 6).Draw(rt, "path"), "/")
		r, err := http.NewRequest(rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"}).Draw(rt, "method"), "http://h"+path, strings.NewReader(rapid.SampledFrom([]string{"", "{}", "[", `{"deviceId":"` + device + `"}`}).Draw(rt, "body")))
		if err != nil {
			rt.Skip("not a URL")
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+rapid.SampledFrom([]string{"user", "app", "poor", "none"}).Draw(rt, "token"))
		b.called = ""
		w := httptest.NewRecorder()
		b.api.Handler().ServeHTTP(w, r)
		if w.Header().Get("X-Correlator") == "" {
			rt.Fatalf("no mark")
		}
		if w.Code >= 300 && w.Code < 400 || w.Code >= 500 {
			rt.Fatalf("%s %s: %d %s", r.Method, path, w.Code, w.Body)
		}
		if w.Code >= 400 && (b.called != "" || code(w) == "") {
			rt.Fatalf("%s %s: %d %s after %s", r.Method, path, w.Code, w.Body, b.called)
		}
	})
}
