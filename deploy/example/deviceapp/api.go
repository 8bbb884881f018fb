package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Paths of the APIs, CAMARA WebRTC r3.1.
const (
	registrations = "/webrtc-registration/v0.4/sessions"
	calls         = "/webrtc-call-handling/v0.4/sessions"
	subscriptions = "/webrtc-events-subscriptions/v0.3/subscriptions"
)

// api sends requests with an access token.
type api struct {
	base string
	// token answers an access token that is good for another while.
	token func(context.Context) (string, error)
}

// failure is an error in the form of CAMARA.
type failure struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (f *failure) Error() string { return fmt.Sprintf("%d %s: %s", f.Status, f.Code, f.Message) }

// requestWithin bounds one request.
const requestWithin = 30 * time.Second

// do sends in, unless it is nil, and reads the answer into out, unless that is
// nil. A header is a name and a value.
func (a *api) do(ctx context.Context, method, path string, in, out any, header ...string) error {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	token, err := a.token(ctx)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		f := &failure{Status: resp.StatusCode}
		if json.Unmarshal(answer, f) != nil {
			f.Message = string(answer)
		}
		return fmt.Errorf("%s %s: %w", method, path, f)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// credential is the sinkCredential of a subscription.
type credential struct {
	Type    string    `json:"credentialType"`
	Token   string    `json:"accessToken"`
	Expires time.Time `json:"accessTokenExpiresUtc"`
	Scheme  string    `json:"accessTokenType"`
}

// subscribe asks for all events of a device and answers the subscription's id.
func (a *api) subscribe(ctx context.Context, device, sink string, c credential) (string, error) {
	const prefix = "org.camaraproject.webrtc-events-subscriptions.v0."
	var answer struct {
		ID string `json:"id"`
	}
	err := a.do(ctx, "POST", subscriptions, map[string]any{
		"protocol":       "HTTP",
		"sink":           sink,
		"sinkCredential": c,
		"types":          []string{prefix + "session-invitation", prefix + "session-status", prefix + "registration-ends"},
		"config": map[string]any{
			"subscriptionDetail":     map[string]any{"deviceId": device},
			"subscriptionExpireTime": time.Now().Add(time.Hour),
		},
	}, &answer)
	return answer.ID, err
}

// resubscribe prolongs a subscription and hands out a new credential.
func (a *api) resubscribe(ctx context.Context, id string, c credential) error {
	return a.do(ctx, "PUT", subscriptions+"/"+id, map[string]any{
		"sinkCredential": c,
		"config":         map[string]any{"subscriptionExpireTime": time.Now().Add(time.Hour)},
	}, nil)
}

// registration of a device for a number.
type registration struct {
	ID   string `json:"registrationId"`
	Info struct {
		Number string `json:"phoneNumber"`
	} `json:"regInfo"`
	Expires time.Time `json:"expiresAt"`
}

// register registers a device. The number is that of the access token and must
// be empty then; with a token of the application itself it must be given.
func (a *api) register(ctx context.Context, device, number string) (r registration, err error) {
	body := map[string]any{"deviceId": device}
	if number != "" {
		body["phoneNumber"] = number
	}
	return r, a.do(ctx, "POST", registrations, body, &r)
}

// reregister prolongs a registration.
func (a *api) reregister(ctx context.Context, id string) (r registration, err error) {
	return r, a.do(ctx, "PUT", registrations+"/"+id, map[string]any{
		"registrationExpireTime": time.Now().Add(time.Hour),
	}, &r)
}
