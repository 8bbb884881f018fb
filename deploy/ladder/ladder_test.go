package ladder_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/isthmus-gateway/isthmus/deploy/ladder"
)

var update = flag.Bool("update", false, "write the golden files")

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sip makes a message of the network side.
func sip(after time.Duration, out bool, title, cseq, more string) ladder.Entry {
	e := ladder.Entry{Time: begin.Add(after), From: "gateway", To: "network", Number: "+15550001", CallID: "call-a", SIPCallID: "sip-a", Title: title}
	if !out {
		e.From, e.To = e.To, e.From
	}
	e.Text = title + "\r\nCSeq: " + cseq + "\r\n" + more
	return e
}

const offer = "Content-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 203.0.113.9\r\nm=audio 20000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"

// aCall is a call that is held and ends, with another one beside it.
func aCall() []ladder.Entry {
	at := func(after time.Duration, from, to, title, text string) ladder.Entry {
		return ladder.Entry{Time: begin.Add(after), From: from, To: to, Number: "+15550001", CallID: "call-a", SIPCallID: "sip-a", Title: title, Text: text}
	}
	other := sip(40*time.Millisecond, false, "INVITE sip:+15550002@gateway.example", "1 INVITE", strings.ReplaceAll(offer, "203.0.113.9", "2001:db8::7"))
	other.CallID, other.SIPCallID, other.Number = "call-b", "sip-b", "+15550002"
	started := at(0, "device", "gateway", "POST /webrtc-call-handling/v0.4/sessions", "POST /webrtc-call-handling/v0.4/sessions HTTP/1.1\n\n{\"receiverAddress\": \"tel:+15550100\"}")
	started.CallID, started.SIPCallID = "", ""
	first := at(5*time.Millisecond, "gateway", "device", "201 Initial", `{"mediaSessionId":"m"}`)
	first.MediaSession = "m"
	return []ladder.Entry{
		started, first,
		sip(6*time.Millisecond, true, "INVITE sip:+15550100@carrier.example;user=phone", "7 INVITE", offer),
		sip(8*time.Millisecond, false, "100 Trying", "7 INVITE", ""),
		other,
		sip(200*time.Millisecond, false, "183 Session Progress", "7 INVITE", "RSeq: 4\r\n"+strings.ReplaceAll(offer, "0 8 101", "8")),
		sip(201*time.Millisecond, true, "PRACK sip:far@198.51.100.1", "8 PRACK", "RAck: 4 7 INVITE\r\n"),
		at(300*time.Millisecond, "device", "media", "ICE connected", "leg browser, remote 192.0.2.1:4000"),
		at(320*time.Millisecond, "network", "media", "first RTP packet", "leg core, from 198.51.100.1:4000"),
		at(400*time.Millisecond, "gateway", "gateway", "Connected", ""),
		sip(65*time.Second, true, "INVITE sip:far@198.51.100.1", "9 INVITE", offer+"a=sendonly\r\nm=video 0 RTP/SAVP 96\r\n"),
		sip(66*time.Second, false, "488 Not Acceptable Here", "9 INVITE", "Warning: 304 carrier \"no\"\r\n"),
		at(67*time.Second, "gateway", "gateway", "not sent: BYE", "connection refused"),
		at(67*time.Second, "gateway", "device", "notification session-status: Terminated\x1b[2J with a title that is far too long for its place", "notified"),
		at(67*time.Second, "device", "gateway", "PUT /webrtc-call-handling/v0.4/sessions/m/status", "PUT /… HTTP/1.1\r\n\r\n{\"status\":\"Hold\"}"),
		at(68*time.Second, "media", "media", "removed", ""),
	}
}

func drawn(t *testing.T, l ladder.Look, entries []ladder.Entry) string {
	t.Helper()
	l.Zone = time.UTC
	var out bytes.Buffer
	d := ladder.Draw(&out, l)
	for _, e := range entries {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestDrawing(t *testing.T) {
	for name, l := range map[string]ladder.Look{"plain": {}, "color": {Color: true}, "narrow": {Width: 110}} {
		t.Run(name, func(t *testing.T) {
			got := drawn(t, l, aCall())
			file := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the drawing is\n%s\nwant\n%s", got, want)
			}
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); l.Width > 0 && n > l.Width {
					t.Errorf("a line has %d columns: %s", n, line)
				}
				if !l.Color && strings.Contains(line, "\x1b") {
					t.Errorf("a message moves the cursor: %q", line)
				}
			}
		})
	}
}

func titles(entries []ladder.Entry) string {
	var out []string
	for _, e := range entries {
		title, _, _ := strings.Cut(e.Title, " ")
		out = append(out, e.CallID+" "+title)
	}
	return strings.Join(out, ", ")
}

func TestSelection(t *testing.T) {
	a := ladder.Entry{Time: begin, CallID: "a", SIPCallID: "sip-a", Number: "+1", Title: "INVITE"}
	b := ladder.Entry{Time: begin.Add(time.Second), CallID: "b", SIPCallID: "sip-b", Number: "+2", Title: "INVITE"}
	session := ladder.Entry{Time: begin.Add(2 * time.Second), CallID: "a", MediaSession: "m", Number: "+1", Title: "PUT"}
	bye := ladder.Entry{Time: begin.Add(3 * time.Second), CallID: "a", SIPCallID: "sip-a", Number: "+1", Title: "BYE"}
	all := []ladder.Entry{a, b, session, bye}
	for name, c := range map[string]struct {
		filter ladder.Filter
		want   string
	}{
		"everything":                       {ladder.Filter{}, "a INVITE, b INVITE, a PUT, a BYE"},
		"a call":                           {ladder.Filter{Call: "a"}, "a INVITE, a PUT, a BYE"},
		"a session, known in the middle":   {ladder.Filter{Call: "m"}, "a INVITE, a PUT, a BYE"},
		"a Call-ID":                        {ladder.Filter{Call: "sip-b"}, "b INVITE"},
		"a number":                         {ladder.Filter{Number: "+2"}, "b INVITE"},
		"a time":                           {ladder.Filter{Since: begin.Add(2 * time.Second)}, "a PUT, a BYE"},
		"a call of another number":         {ladder.Filter{Call: "a", Number: "+2"}, ""},
		"a call that is not in the ladder": {ladder.Filter{Call: "c"}, ""},
	} {
		s := ladder.Select(c.filter)
		var got []ladder.Entry
		for _, e := range all {
			got = append(got, s.Take(e)...)
		}
		if titles(got) != c.want {
			t.Errorf("%s: selected %q, want %q", name, titles(got), c.want)
		}
	}
}

// server serves streams, one after the other.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	lastIDs []string
}

func serve(t *testing.T, streams ...func(w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.lastIDs)
		s.lastIDs = append(s.lastIDs, r.Header.Get("Last-Event-ID"))
		s.mu.Unlock()
		if r.URL.Path != "/ladder/stream" {
			t.Errorf("asked for %s", r.URL)
		}
		streams[min(n, len(streams)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func entries(ids ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, ": message ladder\nretry: 1000\n\n")
		for _, id := range ids {
			text, _ := json.Marshal(ladder.Entry{ID: id, Title: id})
			fmt.Fprintf(w, "event: entry\nid: %s\ndata: %s\n\n", id, text)
		}
	}
}

// A stream that breaks off is read on from where it was.
func TestReadConnectsAgain(t *testing.T) {
	s := serve(t, entries("1", "2"), entries("3"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var got []string
	lost := 0
	err := ladder.Source{URL: s.URL, Follow: true, Retry: time.Millisecond, Lost: func(error) { lost++ }}.Read(ctx, func(e ladder.Entry) {
		if got = append(got, e.Title); len(got) == 3 {
			stop()
		}
	})
	if err != nil || strings.Join(got, " ") != "1 2 3" || lost == 0 {
		t.Errorf("read %v, lost %d times: %v", got, lost, err)
	}
	if s.lastIDs[1] != "2" {
		t.Errorf("the second request says that the last entry was %q", s.lastIDs[1])
	}
}

func TestReadEnds(t *testing.T) {
	s := serve(t, entries("1"))
	n := 0
	if err := (ladder.Source{URL: strings.TrimPrefix(s.URL, "http://"), Number: "+1"}).Read(t.Context(), func(ladder.Entry) { n++ }); err != nil || n != 1 {
		t.Errorf("%d entries: %v", n, err)
	}
}

func TestReadRefused(t *testing.T) {
	off := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"status":404,"code":"NOT_FOUND","message":"The message ladder is turned off (ladder.enabled)."}`)
	})
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hello", http.StatusNotFound) })
	wrong := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"message":"number is not of the form +15550123."}`)
	})
	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	full := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"message":"The message ladder cannot take another reader now."}`)
	})
	noise := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: noise\n\n") })
	gone := serve(t, entries())
	gone.Close()
	for name, c := range map[string]struct{ url, says string }{
		"turned off":       {off.URL, "ladder.enabled: true"},
		"something else":   {other.URL, "admin port"},
		"a wrong number":   {wrong.URL, "not of the form"},
		"a broken proxy":   {broken.URL, "502"},
		"too many readers": {full.URL, "another reader"},
		"no entries":       {noise.URL, "sends no ladder"},
		"nobody":           {gone.URL, "no control plane answers"},
		"no URL":           {"ftp://x", "not the URL"},
		"an empty address": {"", "not the URL"},
	} {
		err := ladder.Source{URL: c.url, Follow: true}.Read(t.Context(), func(ladder.Entry) {})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v, want %q", name, err, c.says)
		}
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestDrawingOnNothing(t *testing.T) {
	if err := ladder.Draw(closed{}, ladder.Look{}).Add(ladder.Entry{}); err == nil {
		t.Error("nothing is said of a line that could not be written")
	}
}
