package device

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// channel is the relay's answer when one is opened.
type channel struct {
	SinkURL        string `json:"sinkUrl"`
	StreamURL      string `json:"streamUrl"`
	SinkCredential any    `json:"sinkCredential"`
}

// openRelay opens a relay channel and reads its stream until the test ends.
func (d *Device) openRelay() (sink string, credential any) {
	d.t.Helper()
	var c channel
	if err := d.Do("POST", Relay, nil, map[string]any{}, &c); err != nil {
		d.t.Fatalf("device %s: open the relay: %v", d.config.Number, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	d.t.Cleanup(func() {
		cancel()
		reader.Wait()
	})
	opened := make(chan struct{})
	var once sync.Once
	reader.Go(func() { d.follow(ctx, c.StreamURL, func() { once.Do(func() { close(opened) }) }) })
	select {
	case <-opened:
	case <-time.After(patience):
		d.t.Fatalf("device %s: the relay's stream %s does not open", d.config.Number, c.StreamURL)
	}
	return c.SinkURL, c.SinkCredential
}

// follow reads the stream, and connects again where it broke off.
func (d *Device) follow(ctx context.Context, url string, opened func()) {
	if strings.HasPrefix(url, "/") {
		url = d.config.API + url
	}
	last := ""
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		err := d.read(ctx, url, &last, opened)
		if err != nil && ctx.Err() == nil {
			d.t.Logf("device %s: event stream: %v", d.config.Number, err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// read reads one connection of server-sent events.
func (d *Device) read(ctx context.Context, url string, last *string, opened func()) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+d.config.Token)
	r.Header.Set("Accept", "text/event-stream")
	if *last != "" {
		r.Header.Set("Last-Event-ID", *last)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return errors.New(resp.Status + " " + string(text))
	}
	opened()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	id, data := "", []string(nil)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if len(data) > 0 {
				if err := d.inbox.take([]byte(strings.Join(data, "\n"))); err != nil {
					d.t.Errorf("device %s: %v", d.config.Number, err)
				}
			}
			if id != "" {
				*last = id
			}
			id, data = "", nil
		case name == "id":
			id = value
		case name == "data":
			data = append(data, value)
		}
	}
	return lines.Err()
}
