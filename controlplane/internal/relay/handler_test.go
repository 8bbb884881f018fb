package relay

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	b := setup(t, func(c *Config) {
		c.SinkURL = "https://relay.example/r"
		c.ICEServers = []ICEServer{{URLs: []string{"stun:stun.example"}}}
	})
	answer, body := b.do(t, "POST", "/channels", "{}", "Authorization", "Bearer "+anna, "x-correlator", "mine-1")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != 201 {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
	id := got["id"].(string)
	for k, want := range map[string]string{
		"streamUrl":    b.url + "/channels/" + id + "/stream",
		"webSocketUrl": "ws" + strings.TrimPrefix(b.url, "http") + "/channels/" + id + "/socket",
	} {
		if got[k] != want {
			t.Errorf("%s is %v, want %s", k, got[k], want)
		}
	}
	secret, ok := strings.CutPrefix(got["sinkUrl"].(string), "https://relay.example/r/sinks/")
	if !ok || len(secret) < 43 {
		t.Errorf("sinkUrl is %v", got["sinkUrl"])
	}
	cred := got["sinkCredential"].(map[string]any)
	if cred["credentialType"] != "ACCESSTOKEN" || cred["accessTokenType"] != "bearer" || len(cred["accessToken"].(string)) < 43 {
		t.Errorf("sinkCredential is %v", cred)
	}
	for _, s := range []any{cred["accessTokenExpiresUtc"], got["expiresAt"]} {
		if at, err := time.Parse(time.RFC3339, s.(string)); err != nil || time.Until(at) < time.Hour {
			t.Errorf("time %v: %v", s, err)
		}
	}
	if ice := got["iceServers"].([]any)[0].(map[string]any)["urls"].([]any); ice[0] != "stun:stun.example" {
		t.Errorf("iceServers is %v", got["iceServers"])
	}
	if answer.Header.Get("Location") != b.url+"/channels/"+id || answer.Header.Get("X-Correlator") != "mine-1" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", answer.Header)
	}
}

// Without configured URLs the relay is where the request found it; sinks are
// always https.
func TestURLsFromRequest(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	if want := "https" + strings.TrimPrefix(b.url, "http") + "/sinks/"; !strings.HasPrefix(c.SinkURL, want) {
		t.Errorf("sinkUrl is %s, want %s…", c.SinkURL, want)
	}
	_, body := b.do(t, "POST", "/channels", "", "Authorization", "Bearer "+anna, "X-Forwarded-Proto", "https")
	if want := `"webSocketUrl":"wss://`; !strings.Contains(body, want) {
		t.Errorf("behind a proxy: %s", body)
	}
}

func TestErrors(t *testing.T) {
	b := setup(t, func(c *Config) { c.ChannelsPerOwner = 2 })
	c := b.channel(t)
	b.channel(t)
	mine, other := "Bearer "+anna, "Bearer +15550101"
	at := "/channels/" + c.ID
	for _, r := range []struct {
		method, path, token string
		status              int
		code, header        string
	}{
		{"POST", "/channels", "", 401, "UNAUTHENTICATED", "WWW-Authenticate"},
		{"POST", "/channels", "Basic x", 401, "UNAUTHENTICATED", "WWW-Authenticate"},
		{"POST", "/channels", "Bearer +down", 503, "UNAVAILABLE", "Retry-After"},
		{"POST", "/channels", mine, 429, "QUOTA_EXCEEDED", ""},
		{"GET", "/channels", mine, 405, "METHOD_NOT_ALLOWED", "Allow"},
		{"GET", "/", mine, 404, "NOT_FOUND", ""},
		{"GET", "/channels//stream", mine, 404, "NOT_FOUND", ""},
		{"GET", at + "/other", mine, 404, "NOT_FOUND", ""},
		{"GET", at + "/stream", "", 401, "UNAUTHENTICATED", "WWW-Authenticate"},
		{"GET", at + "/stream", other, 404, "NOT_FOUND", ""},
		{"GET", at + "/socket", other, 404, "NOT_FOUND", ""},
		{"GET", "/channels/unknown/stream", mine, 404, "NOT_FOUND", ""},
		{"GET", at + "/stream?ticket=wrong", mine, 401, "UNAUTHENTICATED", "WWW-Authenticate"},
		{"POST", at + "/credentials", other, 404, "NOT_FOUND", ""},
		{"POST", at + "/tickets", other, 404, "NOT_FOUND", ""},
		{"DELETE", at, other, 404, "NOT_FOUND", ""},
		{"POST", "/sinks/unknown", mine, 404, "NOT_FOUND", ""},
	} {
		answer, body := b.do(t, r.method, r.path, "", "Authorization", r.token, "x-correlator", "bad mark!")
		var f failure
		if err := json.Unmarshal([]byte(body), &f); err != nil {
			t.Errorf("%s %s: body %q: %v", r.method, r.path, body, err)
		}
		if answer.StatusCode != r.status || f.Status != r.status || f.Code != r.code || f.Message == "" || answer.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s: got %d %s", r.method, r.path, r.token, answer.StatusCode, body)
		}
		if r.header != "" && answer.Header.Get(r.header) == "" {
			t.Errorf("%s %s: no %s", r.method, r.path, r.header)
		}
		if mark := answer.Header.Get("X-Correlator"); mark == "" || mark == "bad mark!" {
			t.Errorf("%s %s: mark %q", r.method, r.path, mark)
		}
	}
}

func TestOptions(t *testing.T) {
	b := setup(t, nil)
	answer, _ := b.do(t, "OPTIONS", "/channels", "")
	if answer.StatusCode != 204 || answer.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("got %d %v", answer.StatusCode, answer.Header)
	}
}

func TestSink(t *testing.T) {
	b := setup(t, func(c *Config) { c.MaxEvent, c.Buffer = 2000, 3 })
	c := b.channel(t)
	const kind = "application/cloudevents+json"
	token := "Bearer " + c.Credential.Token
	for name, r := range map[string]struct {
		token, kind, body string
		status            int
	}{
		"no token":        {"", kind, cloudEvent(1), 401},
		"another token":   {"Bearer " + newSecret(), kind, cloudEvent(1), 401},
		"access token":    {"Bearer " + anna, kind, cloudEvent(1), 401},
		"plain JSON":      {token, "application/json", cloudEvent(1), 400},
		"no type":         {token, "", cloudEvent(1), 400},
		"Latin 1":         {token, kind + "; charset=iso-8859-1", cloudEvent(1), 400},
		"empty":           {token, kind, "", 400},
		"array":           {token, kind, "[]", 400},
		"null":            {token, kind, "null", 400},
		"two objects":     {token, kind, cloudEvent(1) + cloudEvent(2), 400},
		"not UTF-8":       {token, kind, strings.Replace(cloudEvent(1), "t", "\xff", 1), 400},
		"no id":           {token, kind, `{"specversion":"1.0","source":"s","type":"t"}`, 400},
		"wrong case":      {token, kind, `{"specversion":"1.0","source":"s","type":"t","ID":"1"}`, 400},
		"number as id":    {token, kind, `{"specversion":"1.0","source":"s","type":"t","id":1}`, 400},
		"empty source":    {token, kind, `{"specversion":"1.0","source":"","type":"t","id":"1"}`, 400},
		"no type of it":   {token, kind, `{"specversion":"1.0","source":"s","id":"1"}`, 400},
		"another version": {token, kind, `{"specversion":"0.3","source":"s","type":"t","id":"1"}`, 400},
		"too large":       {token, kind, cloudEvent(1) + strings.Repeat(" ", 2000), 413},
	} {
		if answer, body := b.do(t, "POST", c.sink, r.body, "Authorization", r.token, "Content-Type", r.kind); answer.StatusCode != r.status {
			t.Errorf("%s: got %d %s, want %d", name, answer.StatusCode, body, r.status)
		}
	}
	if answer, body := b.do(t, "POST", c.sink, cloudEvent(1), "Authorization", "bearer "+c.Credential.Token, "Content-Type", kind+"; charset=UTF-8"); answer.StatusCode != 204 {
		t.Errorf("other spelling: %d %s", answer.StatusCode, body)
	}
	b.mustNotify(t, c, 2, 3, 2)
	answer, _ := b.do(t, "POST", c.sink, cloudEvent(4), "Authorization", token, "Content-Type", kind)
	if answer.StatusCode != 429 || answer.Header.Get("Retry-After") == "" {
		t.Errorf("full: got %d", answer.StatusCode)
	}
	b.store.mu.Lock()
	b.store.fail = errors.New("disk full")
	b.store.mu.Unlock()
	if answer, body := b.do(t, "POST", c.sink, cloudEvent(5), "Authorization", token, "Content-Type", kind); answer.StatusCode != 503 || strings.Contains(body, "disk") {
		t.Errorf("failing store: got %d %s", answer.StatusCode, body)
	}
}

func TestRotation(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	answer, body := b.do(t, "POST", "/channels/"+c.ID+"/credentials", "", "Authorization", "Bearer "+anna)
	var got struct {
		Credential credential `json:"sinkCredential"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != 201 || got.Credential.Token == c.Credential.Token {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
	b.mustNotify(t, c, 1)
	fresh := c
	fresh.Credential = got.Credential
	b.mustNotify(t, fresh, 2)
}

func TestRotationOverlaps(t *testing.T) {
	b := setup(t, func(c *Config) { c.CredentialLife, c.CredentialOverlap = time.Hour, 10*time.Minute })
	now := time.Now()
	old, first := b.newCredential(now)
	fresh, second := b.newCredential(now)
	both := b.rotate(b.rotate(nil, first, now), second, now)
	for _, c := range []struct {
		token string
		after time.Duration
		want  bool
	}{
		{old, 9 * time.Minute, true}, {old, 10 * time.Minute, false},
		{fresh, 59 * time.Minute, true}, {fresh, time.Hour, false}, {"", 0, false},
	} {
		if got := accepts(both, c.token, now.Add(c.after)); got != c.want {
			t.Errorf("after %v: accepted %v", c.after, got)
		}
	}
	for range 100 {
		_, next := b.newCredential(now)
		both = b.rotate(both, next, now)
	}
	if len(both) != credentials {
		t.Errorf("%d credentials are kept", len(both))
	}
}

func TestDelete(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	b.mustNotify(t, c, 1)
	s.want(1)
	mine := "Bearer " + anna
	if answer, body := b.do(t, "DELETE", "/channels/"+c.ID, "", "Authorization", mine); answer.StatusCode != http.StatusNoContent || body != "" {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
	s.wantEnd()
	if status := b.notify(t, c, cloudEvent(2)); status != http.StatusGone {
		t.Errorf("the notifier gets %d, want 410", status)
	}
	for _, r := range []string{"DELETE ", "GET /stream", "GET /socket", "POST /tickets", "POST /credentials"} {
		method, path, _ := strings.Cut(r, " ")
		if answer, _ := b.do(t, method, "/channels/"+c.ID+path, "", "Authorization", mine); answer.StatusCode != http.StatusGone {
			t.Errorf("%s: got %d, want 410", r, answer.StatusCode)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.SinkURL = "http://x" }, "sink_url"},
		{func(c *Config) { c.SinkURL = "https://x/" }, "sink_url"},
		{func(c *Config) { c.DeviceURL = "x" }, "device_url"},
		{func(c *Config) { c.ChannelsPerOwner = 0 }, "channels_per_owner"},
		{func(c *Config) { c.StreamsPerChannel = 0 }, "streams_per_channel"},
		{func(c *Config) { c.Buffer = 0 }, "buffer"},
		{func(c *Config) { c.MaxEvent = 1 }, "max_event"},
		{func(c *Config) { c.MaxAge = 0 }, "max_age"},
		{func(c *Config) { c.IdleClose = 0 }, "idle_close"},
		{func(c *Config) { c.Remember = 0 }, "remember"},
		{func(c *Config) { c.CredentialLife = 0 }, "credential_life"},
		{func(c *Config) { c.CredentialOverlap = -1 }, "credential_overlap"},
		{func(c *Config) { c.TicketLife = 2 * time.Minute }, "ticket_life"},
		{func(c *Config) { c.Heartbeat = 0 }, "heartbeat"},
		{func(c *Config) { c.ICEServers = []ICEServer{{}} }, "ice_servers[0]"},
		{func(c *Config) { c.ICEServers = []ICEServer{{URLs: []string{"http://x"}}} }, "ice_servers[0]"},
	} {
		cfg := Default()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error about %s", err, c.want)
		}
	}
}
