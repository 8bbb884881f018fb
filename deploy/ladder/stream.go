package ladder

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Source is the admin port of a control plane.
type Source struct {
	// URL of it, http://127.0.0.1:9090 for instance.
	URL string
	// Number that entries are asked for, empty for all.
	Number string
	// Follow goes on with what happens from now on, and connects again when the
	// stream breaks off; otherwise reading ends with what there is.
	Follow bool
	// Lost is told when the stream breaks off and is tried again; it may be nil.
	Lost func(error)
	// Retry is the time between attempts to connect again; 0 for a second.
	Retry time.Duration
}

// refusal is an answer that will not get better by asking again.
type refusal struct{ error }

// Read hands the entries to take until ctx ends. Only the first connection fails
// for good: that nothing listens there, or that the ladder is turned off.
func (s Source) Read(ctx context.Context, take func(Entry)) error {
	target, err := s.target()
	if err != nil {
		return err
	}
	retry := s.Retry
	if retry == 0 {
		retry = time.Second
	}
	last, connected := "", false
	for {
		err := s.read(ctx, target, &last, &connected, take)
		if ctx.Err() != nil || err == nil && !s.Follow {
			return nil
		}
		if err == nil {
			err = errors.New("the control plane has ended the stream")
		}
		if r := (refusal{}); errors.As(err, &r) || !connected {
			return err
		}
		if s.Lost != nil {
			s.Lost(err)
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s Source) target() (string, error) {
	text := s.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is not the URL of an admin port, as in http://127.0.0.1:9090", s.URL)
	}
	u = u.JoinPath("ladder", "stream")
	q := url.Values{}
	if s.Number != "" {
		q.Set("number", s.Number)
	}
	if !s.Follow {
		q.Set("follow", "false")
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func (s Source) read(ctx context.Context, target string, last *string, connected *bool, take func(Entry)) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	if *last != "" {
		r.Header.Set("Last-Event-ID", *last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("no control plane answers (its configuration says where, in admin): %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(target, resp)
	}
	*connected = true
	return events(resp.Body, func(id, data string) error {
		var e Entry
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return refusal{fmt.Errorf("%s sends no ladder: %w", target, err)}
		}
		*last = id
		take(e)
		return nil
	})
}

// refused explains an answer that is no stream.
func refused(target string, resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what there is of it
	var failure struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(text, &failure) // not everybody answers like that
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable && failure.Message != "":
		return errors.New(failure.Message)
	case resp.StatusCode == http.StatusNotFound:
		return refusal{fmt.Errorf("there is no message ladder at %s: it is turned off (set ladder.enabled: true in the control plane's configuration), or this is not the admin port of a control plane", target)}
	case failure.Message != "":
		return refusal{errors.New(failure.Message)}
	}
	return refusal{fmt.Errorf("%s answers %s", target, resp.Status)}
}

// events reads server-sent events and hands on those that are entries.
func events(r io.Reader, take func(id, data string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	var id string
	var data []string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "":
			if lines.Text() != "" {
				break // a comment
			}
			if len(data) > 0 {
				if err := take(id, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			data = nil
		case "id":
			id = value
		case "data":
			data = append(data, value)
		}
	}
	return lines.Err()
}
