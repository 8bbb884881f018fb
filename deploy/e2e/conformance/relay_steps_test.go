package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/cucumber/godog"
)

func (w *world) bindRelay(sc *godog.ScenarioContext) {
	sc.Step(`^the device has opened a relay channel$`, w.openRelay)
	sc.Step(`^the device has changed the credential of its relay channel$`, func() error {
		if err := w.send("the device", http.MethodPost, "{relay}/credentials", nil); err != nil {
			return err
		}
		return w.must(w.answered(http.StatusCreated, ""), w.keepCredential())
	})
	sc.Step(`^the device reads the relay by (server-sent events|WebSocket)$`, func(how string) error {
		w.reader = newReader()
		return w.read(how)
	})
	sc.Step(`^the device stops reading$`, func() error { w.reader.stop(); return nil })
	sc.Step(`^the device goes on reading by (server-sent events|WebSocket)$`, w.read)
	sc.Step(`^the device has read ("[^"]*"(?:, "[^"]*")*)$`, func(list string) error {
		want := strings.Split(strings.Trim(list, `"`), `", "`)
		return eventually(func() error {
			have, err := w.reader.statuses(w)
			if err == nil && !slices.Equal(have, want) {
				err = fmt.Errorf("the device has read %q", have)
			}
			return err
		})
	})
}

func (w *world) openRelay() error {
	body := "{}"
	if err := w.send("the device", http.MethodPost, "/relay/channels", &body); err != nil {
		return err
	}
	if err := w.answered(http.StatusCreated, ""); err != nil {
		return err
	}
	w.vars["relay"], w.vars["relay sink"] = "/relay/channels/"+w.field("id"), w.field("sinkUrl")
	return w.keepCredential()
}

// keepCredential of the answer, for subscriptions.
func (w *world) keepCredential() error {
	v, ok := at(w.last.body, "sinkCredential")
	if !ok {
		return fmt.Errorf("there is no credential in %s", w.last.text)
	}
	text, err := json.Marshal(v)
	w.vars["relay credential"] = string(text)
	return err
}

// reader is what a device has read of its channel, over one stream or several.
type reader struct {
	mu    sync.Mutex
	texts []string
	// last is the number of the last server-sent event.
	last string
	err  error

	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newReader() *reader { return &reader{cancel: func() {}} }

// stop ends the stream, if there is one.
func (r *reader) stop() {
	if r == nil {
		return
	}
	r.cancel()
	r.work.Wait()
}

func (r *reader) take(text, last string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
	if last != "" {
		r.last = last
	}
}

// statuses that were told, in their order. Every event is held against the
// document of the generation.
func (r *reader) statuses(w *world) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, text := range r.texts {
		var e event
		if err := errors.Join(json.Unmarshal([]byte(text), &e), json.Unmarshal([]byte(text), &e.all)); err != nil {
			return nil, err
		}
		if err := w.gateway.documents.checkEvent(w.gen, e.all); err != nil {
			return nil, err
		}
		all = append(all, e.text("status")+e.text("terminationReason"))
	}
	return all, r.err
}

// read opens a stream that begins after what was read before. It answers once the
// stream is open.
func (w *world) read(how string) error {
	ctx, cancel := context.WithCancel(context.Background())
	w.reader.cancel = cancel
	authorization := http.Header{"Authorization": {"Bearer " + w.actors["the device"].token}}
	if how == "WebSocket" {
		return w.readSocket(ctx, authorization)
	}
	r := w.reader
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, w.gateway.url+w.vars["relay"]+"/stream", nil)
	if err != nil {
		return err
	}
	q.Header = authorization
	if r.last != "" {
		q.Header.Set("Last-Event-ID", r.last)
	}
	// The client of requests has a time limit.
	answer, err := w.gateway.client.Transport.RoundTrip(q)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		answer.Body.Close()
		return fmt.Errorf("the stream is %s of %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	r.work.Go(func() {
		defer answer.Body.Close()
		lines, id := bufio.NewScanner(answer.Body), ""
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			switch value = strings.TrimPrefix(value, " "); name {
			case "id":
				id = value
			case "data":
				r.take(value, id)
			}
		}
	})
	return nil
}

// readSocket names the last event by its own id.
func (w *world) readSocket(ctx context.Context, header http.Header) error {
	r := w.reader
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.gateway.url, "http")+w.vars["relay"]+"/socket",
		&websocket.DialOptions{HTTPHeader: header, HTTPClient: &http.Client{Transport: w.gateway.client.Transport}})
	if err != nil {
		return err
	}
	conn.SetReadLimit(1 << 20)
	hello := map[string]string{}
	r.mu.Lock()
	if len(r.texts) > 0 {
		var e event
		if err := json.Unmarshal([]byte(r.texts[len(r.texts)-1]), &e); err != nil {
			r.mu.Unlock()
			return err
		}
		hello["lastEventId"] = e.ID
	}
	r.mu.Unlock()
	first, err := json.Marshal(hello)
	if err == nil {
		err = conn.Write(ctx, websocket.MessageText, first)
	}
	if err != nil {
		return errors.Join(err, conn.CloseNow())
	}
	r.work.Go(func() {
		defer conn.CloseNow()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			r.take(string(text), "")
		}
	})
	return nil
}
