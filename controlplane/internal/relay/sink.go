package relay

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// receive takes a notification.
func (r *Relay) receive(w http.ResponseWriter, q *http.Request, secret string) error {
	outcome, err := r.take(w, q, secret)
	r.metrics.events.WithLabelValues(outcome).Inc()
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (r *Relay) take(w http.ResponseWriter, q *http.Request, secret string) (outcome string, err error) {
	c, err := r.store.RelayChannelBySink(q.Context(), key(secret))
	switch {
	case errors.Is(err, gateway.ErrNotFound):
		return outcomeUnauthorized, refuse(http.StatusNotFound, "NOT_FOUND", "There is no such sink.")
	case err != nil:
		return outcomeFailed, unavailable(err)
	case c.Closed:
		return outcomeGone, gone()
	case !accepts(c.Credentials, bearer(q), time.Now()):
		return outcomeUnauthorized, refuse(http.StatusUnauthorized, "UNAUTHENTICATED", "A valid sink credential is required.").
			with("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, int64(r.config.MaxEvent)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return outcomeInvalid, refuse(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "An event has at most %d bytes.", r.config.MaxEvent)
	case err != nil:
		return outcomeInvalid, refuse(http.StatusBadRequest, "INVALID_ARGUMENT", "The body could not be read.").because(err)
	}
	source, id, err := checkCloudEvent(q.Header.Get("Content-Type"), body)
	if err != nil {
		return outcomeInvalid, refuse(http.StatusBadRequest, "INVALID_ARGUMENT", "The body is not a CloudEvent: %v.", err)
	}
	e := gateway.RelayEvent{Key: key(source, id), IDKey: key(id), Body: body}
	switch err := r.store.AppendRelayEvent(q.Context(), c.ID, e, r.config.Buffer); {
	case errors.Is(err, gateway.ErrFull):
		return outcomeFull, refuse(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "The channel is full; its device does not read it.").with("Retry-After", "10")
	case errors.Is(err, gateway.ErrNotFound):
		return outcomeGone, gone()
	case err != nil:
		return outcomeFailed, unavailable(err)
	}
	r.hub.wake(c.ID)
	return outcomeStored, nil
}

// bearer is the token of the Authorization header, empty for none (RFC 6750).
func bearer(q *http.Request) string {
	scheme, token, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// checkCloudEvent wants the structured JSON form of CloudEvents 1.0 with its
// mandatory attributes, and answers those that name the event.
func checkCloudEvent(contentType string, body []byte) (source, id string, err error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/cloudevents+json" {
		return "", "", errors.New("its content type is not application/cloudevents+json")
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", "", errors.New("its charset is not UTF-8")
	}
	if !utf8.Valid(body) {
		return "", "", errors.New("it is not UTF-8")
	}
	var event map[string]json.RawMessage
	if err := json.Unmarshal(body, &event); err != nil || event == nil {
		return "", "", errors.New("it is not a JSON object")
	}
	attribute := func(name string) (s string) {
		// What is no string stays empty and is refused.
		json.Unmarshal(event[name], &s)
		if s == "" && err == nil {
			err = errors.New("the attribute " + name + " is missing, empty or no string")
		}
		return s
	}
	id, source = attribute("id"), attribute("source")
	attribute("type")
	if version := attribute("specversion"); err == nil && version != "1.0" {
		err = errors.New("its specversion is not 1.0")
	}
	return source, id, err
}
