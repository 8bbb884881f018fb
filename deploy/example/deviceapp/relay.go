package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

// channel at the Notification Relay.
type channel struct {
	ID         string     `json:"id"`
	SinkURL    string     `json:"sinkUrl"`
	StreamURL  string     `json:"streamUrl"`
	Credential credential `json:"sinkCredential"`
}

func (a *api) openChannel(ctx context.Context) (c channel, err error) {
	return c, a.do(ctx, "POST", "/relay/channels", nil, &c)
}

// renewCredential makes a new sink credential. The old one is good for some
// minutes more, in which the subscription learns the new one.
func (a *api) renewCredential(ctx context.Context, c channel) (credential, error) {
	var answer struct {
		Credential credential `json:"sinkCredential"`
	}
	err := a.do(ctx, "POST", "/relay/channels/"+c.ID+"/credentials", nil, &answer)
	return answer.Credential, err
}

// errClosed ends a stream for good.
var errClosed = errors.New("the channel is closed")

// reader reads the stream of a channel.
type reader struct {
	api    *api
	url    string
	last   string          // where to resume
	known  map[string]bool // events that came before
	events chan<- event
}

// follow reads the stream and, whenever it breaks off, goes on after the last
// event that came. It ends with ctx, or with the channel.
func (r *reader) follow(ctx context.Context) error {
	for {
		err := r.read(ctx)
		if ctx.Err() != nil || errors.Is(err, errClosed) {
			return nil
		}
		log.Printf("the stream of events has ended, connecting again: %v", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// read reads one connection of server-sent events.
func (r *reader) read(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	// The stream ends with the token that opened it.
	token, err := r.api.token(ctx)
	if err != nil {
		return err
	}
	q.Header.Set("Authorization", "Bearer "+token)
	if r.last != "" {
		q.Header.Set("Last-Event-ID", r.last)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone, http.StatusNotFound:
		return errClosed
	default:
		return errors.New(resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var id string
	var data []string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			data = append(data, value)
		case lines.Text() == "" && len(data) > 0:
			if err := r.take(ctx, strings.Join(data, "\n")); err != nil {
				return err
			}
			r.last, data = id, nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// take passes an event on that did not come before.
func (r *reader) take(ctx context.Context, text string) error {
	var e event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return fmt.Errorf("event %s: %w", text, err)
	}
	key := e.Source + " " + e.ID
	if r.known[key] {
		return nil
	}
	r.known[key] = true
	select {
	case r.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
