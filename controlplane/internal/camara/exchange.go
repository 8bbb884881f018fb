package camara

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// exchange is one request on its way through the checks.
type exchange struct {
	match
	request    *http.Request
	start      time.Time
	correlator string
	principal  gateway.Principal
	// body is nil when the request has none.
	body object
	raw  []byte
	// number, call, session and registration that the exchange turned out to be
	// about, for ladder and log.
	number       call.Number
	callID       string
	session      string
	registration string
	// traced: the request has been put on the ladder.
	traced bool
}

// handler serves an operation whose request has the documented shape.
type handler func(ctx context.Context, x *exchange) (answer, error)

// answer to a request; a nil body is none.
type answer struct {
	status int
	body   any
}

const correlatorHeader = "X-Correlator"

var correlatorPattern = regexp.MustCompile(`^[a-zA-Z0-9\-_:;./<>{}]{0,256}$`)

// correlatorOf is what the answer carries: the request's mark, or a new one when
// there is none or, with ok false, when it is not well formed.
func correlatorOf(r *http.Request) (correlator string, ok bool) {
	values := r.Header.Values(correlatorHeader)
	ok = len(values) < 2
	if len(values) == 1 {
		if ok = correlatorPattern.MatchString(values[0]); ok && values[0] != "" {
			return values[0], true
		}
	}
	return uuid.NewString(), ok
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{request: r, start: a.deps.Clock()}
	x.correlator, _ = correlatorOf(r)
	w.Header().Set(correlatorHeader, x.correlator)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if a.docs.Serve(w, r) {
			return
		}
	}
	ans, f := a.answer(w, x)
	a.finish(w, x, ans, f)
}

// answer runs the checks and the handler. A panic becomes a refusal.
func (a *API) answer(w http.ResponseWriter, x *exchange) (ans answer, f *failure) {
	defer func() {
		p := recover()
		switch {
		case p == nil:
			return
		case p == http.ErrAbortHandler:
			panic(p)
		}
		a.metrics.panics.Inc()
		a.deps.Logger.Error("a request made the gateway panic", "panic", fmt.Sprint(p), "x_correlator", x.correlator,
			"method", x.request.Method, "path", x.request.URL.Path, "stack", string(debug.Stack()))
		f = failureOf(fmt.Errorf("panic: %v", p))
	}()
	if f = a.admit(w, x); f != nil {
		return answer{}, f
	}
	a.traceRequest(x)
	ctx := x.request.Context()
	if x.Method != http.MethodGet {
		// A caller that hangs up must not stop a change half-way.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	ans, err := x.handle(ctx, x)
	if err != nil {
		return answer{}, failureOf(err)
	}
	return ans, nil
}

// admit runs every check up to the shape of the body, in the documented order.
func (a *API) admit(w http.ResponseWriter, x *exchange) (f *failure) {
	if x.match, f = a.resolve(x.request); f != nil {
		return f
	}
	if f = a.authenticate(x); f != nil {
		return f
	}
	if _, ok := correlatorOf(x.request); !ok {
		return refuse(call.InvalidArgument, "x-correlator must match %s and occur once.", correlatorPattern)
	}
	if wait := a.limits.wait(x.principal.Owner); wait > 0 {
		return refuse(codeTooManyRequests, "Requests of this application come too fast.").with("Retry-After", strconv.Itoa(wait))
	}
	if !x.granted() {
		return lacksScope(x.scopes)
	}
	if f = x.checkHead(); f != nil {
		return f
	}
	return a.readBody(w, x)
}

func (a *API) authenticate(x *exchange) *failure {
	p, err := a.deps.Authenticate(x.request)
	if err == nil {
		x.principal, x.number = p, p.Owner.Subject
		return nil
	}
	var refused *gateway.AuthError
	if !errors.As(err, &refused) {
		return failureOf(fmt.Errorf("authenticate: %w", err))
	}
	if refused.Unavailable {
		f := refuse(call.Unavailable, "The access token cannot be checked now; try again later.")
		f.cause = err
		if s := int(refused.RetryAfter.Round(time.Second).Seconds()); s > 0 {
			f.with("Retry-After", strconv.Itoa(s))
		}
		return f
	}
	challenge := refused.Challenge
	if challenge == "" {
		challenge = "Bearer"
	}
	f := refuse(codeUnauthenticated, "A valid access token is required.").with("WWW-Authenticate", challenge)
	f.cause = err
	if refused.DPoPNonce != "" {
		f.with("DPoP-Nonce", refused.DPoPNonce)
	}
	return f
}

// granted reports whether the token has one of the scopes that the operation
// lists as alternatives.
func (x *exchange) granted() bool {
	for _, s := range x.scopes {
		if x.principal.Has(s) {
			return true
		}
	}
	return false
}

func lacksScope(scopes []string) *failure {
	return refuse(call.PermissionDenied, "The access token lacks the scope %s.", strings.Join(scopes, " or "))
}

// finish writes the answer and tells of it.
func (a *API) finish(w http.ResponseWriter, x *exchange, ans answer, f *failure) {
	if f != nil {
		ans = answer{status: f.info.Status, body: f.info}
	}
	body, err := encode(ans.body)
	if err != nil {
		f = failureOf(fmt.Errorf("encode the answer: %w", err))
		ans = answer{status: f.info.Status, body: f.info}
		body, _ = encode(f.info)
	}
	header := w.Header()
	if f != nil {
		for k, v := range f.header {
			header[k] = v
		}
	}
	header.Set("Cache-Control", "no-store")
	if body != nil {
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(ans.status)
	_, _ = w.Write(body)

	a.traceAnswer(x, ans.status, header, body)
	took := a.deps.Clock().Sub(x.start)
	api, generation, operation := x.names()
	a.metrics.requests.WithLabelValues(api, generation, operation, strconv.Itoa(ans.status)).Inc()
	a.metrics.duration.WithLabelValues(api, generation, operation).Observe(took.Seconds())
	a.log(x, ans.status, f, took)
}

// names for metrics and logs; a request without operation belongs to none.
func (x *exchange) names() (api, generation, operation string) {
	if x.route == nil {
		return "none", "none", "none"
	}
	return x.adapter.api, x.adapter.generation, x.Operation.ID
}

func (a *API) log(x *exchange, status int, f *failure, took time.Duration) {
	api, generation, operation := x.names()
	level := slog.LevelInfo
	attrs := []any{"api", api, "generation", generation, "operation", operation,
		"method", x.request.Method, "path", x.request.URL.Path, "status", status,
		"duration", took, "x_correlator", x.correlator, "client", x.principal.Owner.ClientID}
	for _, about := range [][2]string{{"call", x.callID}, {"session", x.session}, {"registration", x.registration}} {
		if about[1] != "" {
			attrs = append(attrs, about[0], about[1])
		}
	}
	if f != nil {
		attrs = append(attrs, "code", f.info.Code, "reason", f.info.Message)
		if f.cause != nil {
			attrs = append(attrs, "cause", f.cause)
		}
		if f.fault() {
			level = slog.LevelError
		}
	}
	a.deps.Logger.Log(x.request.Context(), level, "api request", attrs...)
}

// encode writes JSON as it is meant to be read: without escapes for HTML.
func encode(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
