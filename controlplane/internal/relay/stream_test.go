package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestStream(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	auth := []string{"Authorization", "Bearer " + anna}
	// What comes before the stream is not lost.
	b.mustNotify(t, c, 1, 2)
	s := b.stream(t, c.StreamURL, auth...)
	if kind := s.response.Header.Get("Content-Type"); s.response.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d %s", s.response.StatusCode, kind)
	}
	s.want(1, 2)
	b.mustNotify(t, c, 3)
	last := s.want(3)
	s.close()
	// Nor what comes while there is none.
	b.mustNotify(t, c, 4, 5)
	s = b.stream(t, c.StreamURL, append(auth, "Last-Event-ID", last)...)
	s.want(4, 5)
	// Whoever knows nothing gets everything, and so does a second reader.
	second := b.stream(t, c.StreamURL, append(auth, "Last-Event-ID", "99")...)
	second.want(1, 2, 3, 4, 5)
	b.mustNotify(t, c, 6)
	s.want(6)
	second.want(6)
}

// White space in an event survives as far as server-sent events can carry it.
func TestStreamOfManyLines(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	body := "{\n  \"specversion\": \"1.0\",\n\n  \"id\": \"1\", \"source\": \"s\", \"type\": \"t\"\n}\n"
	if status := b.notify(t, c, body); status != 204 {
		t.Fatal(status)
	}
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	if _, data, _ := s.next(); data != body {
		t.Errorf("got %q, want %q", data, body)
	}
}

func TestHeartbeat(t *testing.T) {
	b := setup(t, func(c *Config) { c.Heartbeat = time.Second })
	c := b.channel(t)
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	if text, ok := s.block(); !ok || text != "retry: 1000" {
		t.Fatalf("got %q", text)
	}
	if text, ok := s.block(); !ok || text != ":" {
		t.Fatalf("got %q, want a comment", text)
	}
}

// What another process stored is found without being told, at the latest with
// the next heartbeat, and at once when told.
func TestEventsOfOtherProcesses(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	s.block()
	other := *b.Relay
	other.hub = newHub(1)
	b.notifyThrough(t, &other, c, cloudEvent(1))
	b.store.wakes <- c.ID
	s.want(1)
}

func TestReadEventsMakeRoom(t *testing.T) {
	b := setup(t, func(c *Config) { c.Buffer, c.Heartbeat = 2, time.Second })
	c := b.channel(t)
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	b.mustNotify(t, c, 1, 2)
	last := s.want(1, 2)
	s.close()
	eventually(t, "the note of what was read", func() bool { return b.notify(t, c, cloudEvent(3)) == 204 })
	s = b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna, "Last-Event-ID", last)
	s.want(3)
}

func TestNewestStreamWins(t *testing.T) {
	b := setup(t, func(c *Config) { c.StreamsPerChannel = 2 })
	c := b.channel(t)
	auth := []string{"Authorization", "Bearer " + anna}
	first := b.stream(t, c.StreamURL, auth...)
	second := b.stream(t, c.StreamURL, auth...)
	third := b.stream(t, c.StreamURL, auth...)
	first.wantEnd()
	b.mustNotify(t, c, 1)
	second.want(1)
	third.want(1)
}

func TestStreamEndsWithToken(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	b.expires = time.Now().Add(300 * time.Millisecond)
	b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna).wantEnd()
	if time.Now().Before(b.expires) {
		t.Error("ended before the token did")
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	s := b.stream(t, c.StreamURL, "Authorization", "Bearer "+anna)
	b.stop()
	s.wantEnd()
	if answer, _ := b.do(t, "GET", c.StreamURL, "", "Authorization", "Bearer "+anna); answer.StatusCode != 503 {
		t.Errorf("a stream during shutdown: %d", answer.StatusCode)
	}
}

func TestTicket(t *testing.T) {
	b := setup(t, func(c *Config) { c.TicketLife = time.Second })
	c, other := b.channel(t), b.channel(t)
	b.mustNotify(t, c, 1, 2)
	url := c.StreamURL + "?ticket=" + b.ticket(t, c)
	s := b.stream(t, url+"&lastEventId=1")
	s.want(2)
	if answer, _ := b.do(t, "GET", url, ""); answer.StatusCode != 401 {
		t.Errorf("second use: %d, want 401", answer.StatusCode)
	}
	if answer, _ := b.do(t, "GET", other.StreamURL+"?ticket="+b.ticket(t, c), ""); answer.StatusCode != 401 {
		t.Errorf("for another channel: %d, want 401", answer.StatusCode)
	}
	late := b.ticket(t, c)
	b.store.mu.Lock()
	for k, ticket := range b.store.tickets {
		ticket.Expires = time.Now()
		b.store.tickets[k] = ticket
	}
	b.store.mu.Unlock()
	if answer, _ := b.do(t, "GET", c.StreamURL+"?ticket="+late, ""); answer.StatusCode != 401 {
		t.Errorf("after its life: %d, want 401", answer.StatusCode)
	}
}

func (b *bundle) ticket(t *testing.T, c channel) string {
	t.Helper()
	answer, body := b.do(t, "POST", "/channels/"+c.ID+"/tickets", "", "Authorization", "Bearer "+anna)
	var got struct{ Ticket, ExpiresAt string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != 201 || got.Ticket == "" {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
	return got.Ticket
}

// socketOf opens a WebSocket and says hello.
func (b *bundle) socketOf(t *testing.T, url, first string, header ...string) *websocket.Conn {
	t.Helper()
	options := &websocket.DialOptions{HTTPHeader: map[string][]string{"Origin": {"https://app.example"}}}
	for i := 0; i < len(header); i += 2 {
		options.HTTPHeader.Set(header[i], header[i+1])
	}
	conn, _, err := websocket.Dial(t.Context(), url, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(first)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func wantMessages(t *testing.T, conn *websocket.Conn, events ...int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, n := range events {
		if _, message, err := conn.Read(ctx); err != nil || string(message) != cloudEvent(n) {
			t.Fatalf("got %q, %v, want event %d", message, err, n)
		}
	}
}

func wantClose(t *testing.T, conn *websocket.Conn, want websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, message, err := conn.Read(ctx); websocket.CloseStatus(err) != want {
		t.Fatalf("got %q, %v, want close code %d", message, err, want)
	}
}

func TestSocket(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	b.mustNotify(t, c, 1, 2)
	conn := b.socketOf(t, c.WebSocketURL, `{}`, "Authorization", "Bearer "+anna)
	wantMessages(t, conn, 1, 2)
	b.mustNotify(t, c, 3)
	wantMessages(t, conn, 3)
	conn.Close(websocket.StatusNormalClosure, "")
	b.mustNotify(t, c, 4)
	for _, admitted := range []struct{ url, first string }{
		{c.WebSocketURL, fmt.Sprintf(`{"ticket":%q,"lastEventId":"e2"}`, b.ticket(t, c))},
		{c.WebSocketURL + "?ticket=" + b.ticket(t, c), `{"lastEventId":"e2"}`},
	} {
		wantMessages(t, b.socketOf(t, admitted.url, admitted.first), 3, 4)
	}
	// An id that is unknown, or is the number of a server-sent event, is no
	// reason to leave something out.
	for _, id := range []string{"3", "e99"} {
		wantMessages(t, b.socketOf(t, c.WebSocketURL, fmt.Sprintf(`{"lastEventId":%q}`, id), "Authorization", "Bearer "+anna), 1, 2, 3, 4)
	}
}

// A socket carries an event byte for byte.
func TestSocketKeepsBytes(t *testing.T) {
	b := setup(t, nil)
	c := b.channel(t)
	body := "{\r\n\t\"specversion\":\"1.0\",\r\"id\":\"1\",\"source\":\"s\",\"type\":\"\\u00e4ä\"}\r\n"
	if status := b.notify(t, c, body); status != 204 {
		t.Fatal(status)
	}
	conn := b.socketOf(t, c.WebSocketURL, "{}", "Authorization", "Bearer "+anna)
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != body {
		t.Errorf("got %q, %v", message, err)
	}
}

func TestSocketRefusals(t *testing.T) {
	b := setup(t, func(c *Config) { c.StreamsPerChannel = 1 })
	c := b.channel(t)
	wantClose(t, b.socketOf(t, c.WebSocketURL, `{}`), closeUnauthorized)
	wantClose(t, b.socketOf(t, c.WebSocketURL, `{"ticket":"wrong"}`), closeUnauthorized)
	wantClose(t, b.socketOf(t, c.WebSocketURL, `hello`, "Authorization", "Bearer "+anna), websocket.StatusPolicyViolation)
	wantClose(t, b.socketOf(t, c.WebSocketURL, strings.Repeat(" ", helloSize+1), "Authorization", "Bearer "+anna), websocket.StatusMessageTooBig)

	first := b.socketOf(t, c.WebSocketURL, `{}`, "Authorization", "Bearer "+anna)
	b.mustNotify(t, c, 1)
	wantMessages(t, first, 1)
	second := b.socketOf(t, c.WebSocketURL, `{"lastEventId":"e1"}`, "Authorization", "Bearer "+anna)
	wantClose(t, first, closeReplaced)
	b.mustNotify(t, c, 2)
	wantMessages(t, second, 2)
	if answer, _ := b.do(t, "DELETE", "/channels/"+c.ID, "", "Authorization", "Bearer "+anna); answer.StatusCode != 204 {
		t.Fatal(answer.StatusCode)
	}
	wantClose(t, second, closeGone)
}

func FuzzResume(f *testing.F) {
	for _, id := range []string{"", "0", "1", "-1", "+1", "01", "7", "9223372036854775807", "9223372036854775808", "1\n", "e1", "٣"} {
		f.Add(id, int64(5))
	}
	f.Fuzz(func(t *testing.T, id string, last int64) {
		last &= math.MaxInt64
		after := resumeAfter(id, last)
		if after < 0 || after > last {
			t.Fatalf("%q resumes after %d of %d: events would be left out", id, after, last)
		}
		if after != 0 && strconv.FormatInt(after, 10) != id {
			t.Fatalf("%q is taken for %d", id, after)
		}
	})
}

// Whatever the body, it stays one message, in which only the kinds of line ends
// are lost.
func FuzzEventStream(f *testing.F) {
	for _, body := range []string{"", "{}", "a\nb", "a\r\nb\r\r\n\n", "\n\n", "data: x\nid: 9\n\n", ":\r"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var b bytes.Buffer
		appendData(&b, body)
		var lines []string
		for line := range strings.Lines(b.String()) {
			data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
			if !ok || strings.ContainsAny(data, "\r\n") {
				t.Fatalf("line %q", line)
			}
			lines = append(lines, data)
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(body))
		if got := strings.Join(lines, "\n"); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func FuzzCloudEvent(f *testing.F) {
	f.Add("application/cloudevents+json", []byte(cloudEvent(1)))
	f.Add("application/cloudevents+json; charset=utf-8", []byte(`{"id":null}`))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		source, id, err := checkCloudEvent(kind, body)
		if err != nil {
			return
		}
		if source == "" || id == "" || !json.Valid(body) {
			t.Fatalf("accepted %q", body)
		}
	})
}
