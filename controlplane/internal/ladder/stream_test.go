package ladder

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// tokens maps a bearer token to what it stands for.
func tokens(m map[string]gateway.Principal) Authenticate {
	return func(r *http.Request) (gateway.Principal, error) {
		p, ok := m[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if !ok {
			return gateway.Principal{}, errors.New("unknown token")
		}
		return p, nil
	}
}

func demoTokens() Authenticate {
	return tokens(map[string]gateway.Principal{
		"alice": {Owner: call.Owner{Subject: alice}},
		"bob":   {Owner: call.Owner{Subject: bob}},
		"app":   {},
		"brief": {Owner: call.Owner{Subject: alice}, Expires: time.Now().Add(50 * time.Millisecond)},
	})
}

// stream is an open event stream.
type stream struct {
	*http.Response
	lines *bufio.Scanner
}

func get(t *testing.T, h http.Handler, url string, header ...string) *stream {
	t.Helper()
	srv := httptest.NewServer(h)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := srv.Client()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
		srv.Close()
	})
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	return &stream{Response: resp, lines: s}
}

// entry reads the next entry; ok is false at the end of the stream.
func (s *stream) entry(t *testing.T) (id string, e wire, ok bool) {
	t.Helper()
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				t.Fatalf("%q: %v", value, err)
			}
			return id, e, true
		}
	}
	return "", e, false
}

func TestStreamOfOneNumber(t *testing.T) {
	l := newLadder(t, Default(), demoTokens())
	defer l.Close()
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.FixedZone("", 3600))
	l.Trace(gateway.TraceEntry{Title: "bob's", Number: bob, CallID: "c2"})
	l.Trace(gateway.TraceEntry{Time: at, From: gateway.ActorDevice, To: gateway.ActorGateway, Title: "POST sessions",
		Number: alice, CallID: "c1", Text: "{\"mediaSessionId\":\"m1\"}\r\n"})

	s := get(t, l.Handler(), "/ladder/stream", "Authorization", "Bearer alice")
	if s.StatusCode != 200 || s.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %s", s.Status, s.Header.Get("Content-Type"))
	}
	id, e, _ := s.entry(t)
	want := wire{ID: id, Time: "2030-01-02T02:04:05.678000Z", From: "device", To: "gateway", Number: alice,
		CallID: "c1", MediaSession: "m1", Title: "POST sessions", Text: "{\"mediaSessionId\":\"m1\"}\r\n"}
	if e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
	// Live, with the number known by the call only.
	l.Trace(gateway.TraceEntry{Title: "INVITE", CallID: "c1", SIPCallID: "s1"})
	l.Trace(gateway.TraceEntry{Title: "not hers", CallID: "c2", SIPCallID: "s2"})
	l.Trace(gateway.TraceEntry{Title: "180 Ringing", SIPCallID: "s1"})
	for _, want := range []string{"INVITE", "180 Ringing"} {
		if _, e, _ := s.entry(t); e.Title != want || e.CallID != "c1" {
			t.Errorf("got %q of call %q, want %q of c1", e.Title, e.CallID, want)
		}
	}

	again := get(t, l.Handler(), "/ladder/stream?follow=false", "Authorization", "Bearer alice", "Last-Event-ID", id)
	if _, e, _ := again.entry(t); e.Title != "INVITE" {
		t.Errorf("resumed at %q, want INVITE", e.Title)
	}
	older := get(t, l.Handler(), "/ladder/stream?follow=false", "Authorization", "Bearer alice", "Last-Event-ID", "abc-99")
	if _, e, _ := older.entry(t); e.Title != "POST sessions" {
		t.Errorf("with the place of an earlier process the stream starts at %q, want the first entry", e.Title)
	}
	one := get(t, l.AdminHandler(), "/stream?follow=false&call=c2")
	if _, e, _ := one.entry(t); e.Title != "bob's" {
		t.Errorf("first entry of c2 is %q", e.Title)
	}
}

func TestAdminStream(t *testing.T) {
	l := newLadder(t, Default(), nil)
	defer l.Close()
	for range 100 { // more than one batch
		l.Trace(gateway.TraceEntry{Title: "nobody's"})
	}
	l.Trace(gateway.TraceEntry{Title: "alice's", Number: alice})
	count := 0
	s := get(t, l.AdminHandler(), "/ladder/stream?follow=false")
	for _, _, ok := s.entry(t); ok; _, _, ok = s.entry(t) {
		count++
	}
	if count != 101 {
		t.Errorf("%d entries, want 101", count)
	}
	if _, e, _ := get(t, l.AdminHandler(), "/ladder/stream?follow=false&number=%2B15550001").entry(t); e.Title != "alice's" {
		t.Errorf("with number: %q", e.Title)
	}
}

func TestStreamEnds(t *testing.T) {
	l := newLadder(t, Default(), demoTokens())
	defer l.Close()
	ended := func(name string, s *stream) {
		t.Helper()
		if s.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", name, s.Status)
		}
		if _, err := io.ReadAll(s.Body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended("with its token", get(t, l.Handler(), "/stream", "Authorization", "Bearer brief"))
	s := get(t, l.Handler(), "/stream", "Authorization", "Bearer alice")
	l.Close()
	ended("with the ladder", s)
}

func TestRefusals(t *testing.T) {
	c := Default()
	c.Streams = 1
	l := newLadder(t, c, demoTokens())
	defer l.Close()
	off := c
	off.Enabled = false
	busy := newLadder(t, c, demoTokens())
	defer busy.Close()
	get(t, busy.Handler(), "/stream", "Authorization", "Bearer alice")

	for _, tc := range []struct {
		name   string
		h      http.Handler
		method string
		target string
		token  string
		status int
	}{
		{"no token", l.Handler(), "GET", "/stream", "", 401},
		{"unknown token", l.Handler(), "GET", "/stream", "Bearer x", 401},
		{"an application's own token", l.Handler(), "GET", "/stream", "Bearer app", 403},
		{"other path", l.Handler(), "GET", "/", "Bearer alice", 404},
		{"other method", l.Handler(), "POST", "/stream", "Bearer alice", 405},
		{"preflight", l.Handler(), "OPTIONS", "/stream", "", 204},
		{"turned off", newLadder(t, off, demoTokens()).Handler(), "GET", "/stream", "Bearer alice", 404},
		{"too many readers", busy.Handler(), "GET", "/stream", "Bearer alice", 503},
		{"not a number", l.AdminHandler(), "GET", "/stream?number=alice", "", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tc.method, tc.target, nil)
			r.Header.Set("Authorization", tc.token)
			tc.h.ServeHTTP(w, r)
			if w.Code != tc.status {
				t.Errorf("%d, want %d: %s", w.Code, tc.status, w.Body)
			}
			if w.Code >= 400 {
				var body struct {
					Status  int
					Code    string
					Message string
				}
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Status != tc.status || body.Code == "" || body.Message == "" {
					t.Errorf("body %q: %v", w.Body, err)
				}
			}
			if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate: %q", w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

// TestSlowReaderHoldsUpNobody traces far more than the ring holds while a
// reader does not read.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	c := small()
	l := newLadder(t, c, demoTokens())
	defer l.Close()
	s := get(t, l.Handler(), "/stream", "Authorization", "Bearer alice")
	text := strings.Repeat("x", 16<<10)
	for range 2000 {
		l.Trace(gateway.TraceEntry{Title: "flood", Number: alice, CallID: "c1", Text: text})
	}
	l.Trace(gateway.TraceEntry{Title: "last", Number: alice, CallID: "c1"})
	for n := 0; ; n++ {
		_, e, ok := s.entry(t)
		if !ok {
			t.Fatal("the stream ended")
		}
		if e.Title == "last" {
			break
		}
		if n == 2000 {
			t.Fatal("nothing was skipped for the slow reader, or the last entry was")
		}
	}
}
