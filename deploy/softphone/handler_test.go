package softphone_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/deploy/softphone"
)

func newHandler(t *testing.T, s softphone.Settings) http.Handler {
	t.Helper()
	h, err := softphone.Handler(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, target string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestFiles(t *testing.T) {
	h := newHandler(t, settings("http://localhost:8080"))
	for target, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/index.html": "text/html; charset=utf-8", "/main.js": "text/javascript; charset=utf-8",
		"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml", "/settings.json": "application/json",
	} {
		r := get(h, target)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: %s, %s", target, r.Status, r.Header.Get("Content-Type"))
		}
		if r.Header.Get("Cache-Control") != "no-cache" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", target, r.Header)
		}
		for _, zip := range []string{"", "gzip"} {
			first := get(h, target, "Accept-Encoding", zip)
			if again := get(h, target, "Accept-Encoding", zip, "If-None-Match", "\"x\", W/"+first.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
				t.Errorf("%s again, encoding %q: %s", target, zip, again.Status)
			}
		}
	}
	if r := get(h, "/main.js", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("ETag") == get(h, "/main.js").Header.Get("ETag") {
		t.Errorf("zipped: %v", r.Header)
	}
	for _, target := range []string{"/nothing", "/dist/main.js", "/../embed.go"} {
		if r := get(h, target); r.StatusCode != 404 {
			t.Errorf("%s: %s", target, r.Status)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestContentSecurityPolicy(t *testing.T) {
	s := settings("https://login.example:8443")
	s.CallHandlingURL = "https://api.example/webrtc-call-handling/v0.4"
	policy := get(newHandler(t, s), "/").Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self' https://api.example https://login.example:8443", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("%q lacks %q", policy, want)
		}
	}
}

func TestSettings(t *testing.T) {
	var got softphone.Settings
	if err := json.NewDecoder(get(newHandler(t, settings("http://localhost:1")), "/settings.json").Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Title != "Isthmus" || got.RegistrationURL != "/reg" || !slices.Equal(got.Scopes, softphone.DefaultScopes()) {
		t.Errorf("settings.json: %+v", got)
	}
	for _, scope := range softphone.DefaultScopes() {
		if !slices.Contains(devoauth.DefaultScopes(), scope) {
			t.Errorf("the demo OAuth server does not grant %s", scope)
		}
	}
	_, err := softphone.Handler(softphone.Settings{RelayURL: "ftp://x", EventsURL: "/events/"})
	for _, key := range []string{"issuer:", "clientId:", "relayUrl:", "eventsUrl:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("the error does not name %s %v", key, err)
		}
	}
}
