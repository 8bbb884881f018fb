package notify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// maxAnswer is how much of an answer is read, so that its connection can be used
// again.
const maxAnswer = 64 << 10

// deliver makes one attempt and tells the outbox what came of it. It reports
// whether the sink, rather than the event, is in trouble.
func (n *Notifier) deliver(ctx context.Context, d gateway.Delivery) (failing bool) {
	s := d.Subscription
	log := n.log.With("subscription", s.ID, "event", d.Event.ID, "type", string(d.Event.Type), "attempt", d.Attempts+1)
	if at := s.Sink.AccessTokenExpires; !at.IsZero() && !time.Now().Before(at) {
		n.finish(d, log, tokenExpired, "the sink's access token has expired")
		return false
	}
	body, header, err := n.render(s, d.Event)
	if err != nil {
		n.finish(d, log, unrenderable, err.Error())
		return false
	}
	status, retryAfter, err := n.post(ctx, d, body, header)
	switch {
	case err != nil && ctx.Err() != nil:
		// The process ends; the next one tries at once.
		n.retry(d, 0)
		return false
	case err != nil:
		n.again(d, log, 0, err.Error())
		return true
	case status/100 == 2:
		n.metrics.latency.Observe(max(0, time.Since(d.Since)).Seconds())
		n.finish(d, log, delivered, strconv.Itoa(status))
	case status == http.StatusUnauthorized:
		n.stop(d, log, unauthorized, call.AccessTokenExpired, "The sink refused the access token with status 401.", false)
	case status == http.StatusGone:
		n.stop(d, log, gone, call.NetworkTerminated, "The sink answered with status 410.", true)
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status/100 == 5:
		n.again(d, log, retryAfter, fmt.Sprintf("the sink answered with status %d", status))
		// A sink that asks for patience is well.
		return status != http.StatusTooManyRequests
	default:
		n.finish(d, log, dropped, fmt.Sprintf("the sink answered with status %d", status))
	}
	return false
}

// post sends the event and answers the status, and what Retry-After asks for.
func (n *Notifier) post(ctx context.Context, d gateway.Delivery, body []byte, header http.Header) (status int, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	if _, err := parseSink(d.Subscription.Sink.URL); err != nil {
		return 0, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Subscription.Sink.URL, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	fill(r.Header, d, header)
	n.trace(d, r, body)
	answer, err := n.client.Do(r)
	if err != nil {
		n.traceAnswer(d, err.Error())
		return 0, 0, err
	}
	defer answer.Body.Close()
	// What it says does not matter, but the connection is to be kept.
	io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
	n.traceAnswer(d, answer.Status)
	return answer.StatusCode, parseRetryAfter(answer.Header.Get("Retry-After"), time.Now()), nil
}

// ours are header fields that an app cannot set in its deliveries.
var ours = map[string]bool{
	"Authorization": true, "Host": true, "X-Correlator": true, "Connection": true, "Keep-Alive": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Proxy-Authorization": true, "Proxy-Authenticate": true,
	"Proxy-Connection": true, "User-Agent": true, "Cookie": true,
}

func fill(h http.Header, d gateway.Delivery, rendered http.Header) {
	for k, v := range d.Subscription.Sink.Headers {
		if k = http.CanonicalHeaderKey(k); !ours[k] && !strings.HasPrefix(k, "Content-") {
			h.Set(k, v)
		}
	}
	h.Set("Content-Type", "application/cloudevents+json")
	h.Set("User-Agent", "isthmus")
	// The same in every attempt, which is what a sink would look for.
	h.Set("X-Correlator", d.Event.ID)
	for k, v := range rendered {
		h[http.CanonicalHeaderKey(k)] = v
	}
	if token := d.Subscription.Sink.AccessToken; token != "" {
		h.Set("Authorization", "Bearer "+token)
	} else {
		h.Del("Authorization")
	}
}

// again puts a delivery off, or gives it up when its time is over.
func (n *Notifier) again(d gateway.Delivery, log *slog.Logger, atLeast time.Duration, why string) {
	since := d.Since
	if since.Before(n.started) {
		since = n.started
	}
	delay := max(n.backoff(d.Attempts), atLeast)
	if time.Until(since.Add(n.config.RetryFor)) < delay {
		n.finish(d, log, gaveUp, why)
		return
	}
	n.metrics.deliveries.WithLabelValues(retried).Inc()
	log.Warn("a notification failed and will be repeated", "after", delay, "error", why)
	n.retry(d, delay)
}

// backoff doubles with every attempt and is spread over its upper half, so that
// the events of many subscriptions do not come back together.
func (n *Notifier) backoff(attempts int) time.Duration {
	delay := n.config.BackoffMax
	if attempts < 20 {
		delay = min(n.config.BackoffMin<<attempts, n.config.BackoffMax)
	}
	return delay/2 + rand.N(delay/2+1)
}

// stop ends the subscription because of what its sink answered.
func (n *Notifier) stop(d gateway.Delivery, log *slog.Logger, outcome string, reason call.EndReason, description string, silent bool) {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	s := d.Subscription
	err := n.end.EndSubscription(ctx, s.Owner.Tenant, s.ID, reason, description, silent)
	if err == nil && silent {
		err = n.outbox.Discard(ctx, s.ID)
	}
	if err != nil {
		log.Error("a subscription could not be ended", "reason", string(reason), "error", err)
		n.retry(d, n.backoff(d.Attempts))
		return
	}
	n.finish(d, log, outcome, description)
}

// finish removes the event from the queue.
func (n *Notifier) finish(d gateway.Delivery, log *slog.Logger, outcome, why string) {
	n.metrics.deliveries.WithLabelValues(outcome).Inc()
	level := slog.LevelWarn
	if outcome == delivered {
		level = slog.LevelDebug
	}
	log.Log(context.Background(), level, "a notification is finished", "outcome", outcome, "reason", why)
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if err := n.outbox.Done(ctx, d.ID); err != nil {
		log.Error("a finished notification could not be removed and will be sent again", "error", err)
	}
}

func (n *Notifier) retry(d gateway.Delivery, after time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if err := n.outbox.Retry(ctx, d.ID, after); err != nil {
		n.log.Error("a notification could not be put off and waits for its lease to end", "subscription", d.Subscription.ID, "event", d.Event.ID, "error", err)
	}
	n.lookIn(after)
}

// parseRetryAfter reads seconds or a date (RFC 9110 10.2.3); 0 when there is
// neither.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func (n *Notifier) trace(d gateway.Delivery, r *http.Request, body []byte) {
	if n.tracer == nil {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "POST %s\r\n", r.URL)
	h := r.Header.Clone()
	if h.Get("Authorization") != "" {
		h.Set("Authorization", "Bearer …")
	}
	// Writing to a strings.Builder cannot fail.
	h.Write(&text)
	text.WriteString("\r\n")
	text.Write(body)
	title := "notification " + string(d.Event.Type)
	switch e := d.Event; {
	case e.Session != nil:
		title += ": " + string(e.Session.Status)
	case e.Registration != nil:
		title += ": " + string(e.Registration.Reason)
	case e.Subscription != nil:
		title += ": " + string(e.Subscription.Reason)
	}
	n.tracer.Trace(entry(d, gateway.ActorGateway, gateway.ActorDevice, title, text.String()))
}

// traceAnswer shows how the sink answered.
func (n *Notifier) traceAnswer(d gateway.Delivery, answer string) {
	if n.tracer != nil {
		n.tracer.Trace(entry(d, gateway.ActorDevice, gateway.ActorGateway, answer, answer))
	}
}

func entry(d gateway.Delivery, from, to gateway.Actor, title, text string) gateway.TraceEntry {
	t := gateway.TraceEntry{Time: time.Now(), From: from, To: to, Number: d.Subscription.Owner.Subject, Title: title, Text: text}
	if d.Event.Session != nil {
		t.CallID = d.Event.Session.CallID
	}
	return t
}
