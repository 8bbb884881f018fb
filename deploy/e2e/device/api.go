package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Paths of the APIs, release r3.1.
const (
	Registrations = "/webrtc-registration/v0.4/sessions"
	Calls         = "/webrtc-call-handling/v0.4/sessions"
	Subscriptions = "/webrtc-events-subscriptions/v0.3/subscriptions"
	Relay         = "/relay/channels"
)

// Failure is an answer in the form of CAMARA's ErrorInfo.
type Failure struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("%d %s: %s", f.Status, f.Code, f.Message) }

// FailedWith reports whether err is an answer with the status.
func FailedWith(err error, status int) bool {
	var f *Failure
	return errors.As(err, &f) && f.Status == status
}

// patience bounds one request.
const patience = 30 * time.Second

// Do sends a request with the device's token; in and out are JSON, nil for none.
func (d *Device) Do(method, path string, header map[string]string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, d.config.API+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+d.config.Token)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		f := &Failure{Status: resp.StatusCode}
		if json.Unmarshal(answer, f) != nil {
			f.Message = string(answer)
		}
		return fmt.Errorf("%s %s: %w", method, path, f)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w in %s", method, path, err, answer)
	}
	return nil
}

// Description is an SDP of a call.
type Description struct {
	SDP string `json:"sdp"`
}

// Session is a media session, as the API answers it and as events carry it.
type Session struct {
	ID         string       `json:"mediaSessionId"`
	Originator string       `json:"originatorAddress"`
	Receiver   string       `json:"receiverAddress"`
	Status     string       `json:"status"`
	Reason     string       `json:"reason"`
	Offer      *Description `json:"offer"`
	Answer     *Description `json:"answer"`
}
