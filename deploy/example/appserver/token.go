package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// tokens gets access tokens of the application itself (client credentials, RFC
// 6749 section 4.4) and keeps each until shortly before it expires.
type tokens struct {
	url, client, secret string

	mu      sync.Mutex
	token   string
	expires time.Time
}

func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Until(t.expires) > time.Minute {
		return t.token, nil
	}
	body := strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, body)
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(t.client), url.QueryEscape(t.secret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask %s for a token: %s", t.url, resp.Status)
	}
	var answer struct {
		Token  string `json:"access_token"`
		Expiry int    `json:"expires_in"` // seconds
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("ask %s for a token: %w", t.url, err)
	}
	t.token, t.expires = answer.Token, time.Now().Add(time.Duration(answer.Expiry)*time.Second)
	return t.token, nil
}
