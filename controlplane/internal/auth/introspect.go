package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// maxAsking is how many introspection requests to an issuer may be under way.
const maxAsking = 64

// introspector asks the introspection endpoint of an issuer. Answers are kept for
// a short time under the hash of the token; good and bad ones apart, so that a
// flood of bad tokens cannot push out the good.
type introspector struct {
	iss   *issuer
	fetch fetcher
	now   func() time.Time
	log   *slog.Logger
	count *prometheus.CounterVec

	good  *cache[access]
	bad   *cache[error]
	once  singleflight.Group
	slots chan struct{}
}

func newIntrospector(c Issuer, f fetcher, size int, now func() time.Time, log *slog.Logger, count *prometheus.CounterVec) *introspector {
	return &introspector{
		iss: &issuer{Issuer: c}, fetch: f, now: now, log: log, count: count,
		good: newCache[access](size, now), bad: newCache[error](size, now),
		slots: make(chan struct{}, maxAsking),
	}
}

// ask finds out what a token is worth.
func (i *introspector) ask(ctx context.Context, token string) (access, error) {
	sum := sha256.Sum256([]byte(token))
	key := string(sum[:])
	if a, ok := i.good.get(key); ok {
		return a, nil
	}
	if err, ok := i.bad.get(key); ok {
		return access{}, err
	}
	answer := i.once.DoChan(key, func() (any, error) {
		return i.askNow(context.WithoutCancel(ctx), key, token)
	})
	select {
	case r := <-answer:
		a, _ := r.Val.(access)
		return a, r.Err
	case <-ctx.Done():
		return access{}, &unavailableError{issuer: i.iss.Issuer.Issuer, err: ctx.Err()}
	}
}

func (i *introspector) askNow(ctx context.Context, key, token string) (access, error) {
	c, err := i.request(ctx, token)
	if err != nil {
		i.count.WithLabelValues(i.iss.Issuer.Issuer, "error").Inc()
		return access{}, &unavailableError{issuer: i.iss.Issuer.Issuer, after: time.Second, err: fmt.Errorf("introspect a token: %w", err)}
	}
	now := i.now()
	a, err := i.judge(c, now)
	if err != nil {
		i.count.WithLabelValues(i.iss.Issuer.Issuer, "inactive").Inc()
		i.bad.put(key, err, now.Add(i.iss.Introspection.NegativeTTL))
		return access{}, err
	}
	i.count.WithLabelValues(i.iss.Issuer.Issuer, "active").Inc()
	until := now.Add(i.iss.Introspection.CacheTTL)
	if a.expires.Before(until) {
		until = a.expires
	}
	i.good.put(key, a, until)
	return a, nil
}

func (i *introspector) request(ctx context.Context, token string) (claims, error) {
	wait := time.NewTimer(i.fetch.timeout)
	defer wait.Stop()
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-wait.C:
		return nil, fmt.Errorf("%d requests to its introspection endpoint are under way", maxAsking)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequest(http.MethodPost, i.iss.Introspection.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(i.iss.Introspection.ClientID), url.QueryEscape(i.iss.Introspection.ClientSecret))
	var c claims
	err = i.fetch.json(ctx, req, (*map[string]json.RawMessage)(&c))
	var status statusError
	if errors.As(err, &status) && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		i.log.Error("the issuer refuses introspection by this gateway; check introspection.client_id and client_secret", "issuer", i.iss.Issuer.Issuer)
	}
	return c, err
}

// judge reads an introspection answer.
func (i *introspector) judge(c claims, now time.Time) (access, error) {
	if string(c["active"]) != "true" {
		return access{}, invalid("the issuer says that the token is not active")
	}
	if _, there := c["iss"]; there {
		if iss, _ := c.text("iss"); iss != i.iss.Issuer.Issuer {
			return access{}, invalid("the token is of issuer %.200q", iss)
		}
	}
	if _, there := c["aud"]; there && len(i.iss.Audiences) > 0 && !c.audienceIn(i.iss.Audiences) {
		return access{}, invalid("the token is for another audience")
	}
	if kind, ok := c.text("token_type"); ok && !strings.EqualFold(kind, schemeBearer) && !strings.EqualFold(kind, schemeDPoP) {
		return access{}, invalid("token of type %.40q is not an access token", kind)
	}
	return i.iss.interpret(c, now)
}
