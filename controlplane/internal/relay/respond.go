package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// failure is an answer in the form of CAMARA's ErrorInfo.
type failure struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`

	header http.Header
	cause  error
}

func (f *failure) Unwrap() error { return f.cause }

func (f *failure) Error() string {
	if f.cause != nil {
		return f.Message + ": " + f.cause.Error()
	}
	return f.Message
}

func refuse(status int, code, format string, args ...any) *failure {
	return &failure{Status: status, Code: code, Message: fmt.Sprintf(format, args...), header: http.Header{}}
}

func (f *failure) with(name, value string) *failure {
	f.header.Set(name, value)
	return f
}

func (f *failure) because(err error) *failure {
	f.cause = err
	return f
}

var errNoChannel = errors.New("no such channel")

func notFound() *failure {
	return refuse(http.StatusNotFound, "NOT_FOUND", "There is no such channel.").because(errNoChannel)
}

func gone() *failure {
	return refuse(http.StatusGone, "GONE", "The channel is closed for good.").because(errClosed)
}

// unavailable is a fault of the relay that may pass.
func unavailable(err error) *failure {
	return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "The relay cannot serve the request now; try again later.").
		with("Retry-After", "2").because(err)
}

// stored maps an error of the store about an open channel.
func stored(err error) *failure {
	if errors.Is(err, gateway.ErrNotFound) {
		return gone()
	}
	return unavailable(err)
}

func unauthenticated(err error) *failure {
	var refused *gateway.AuthError
	if !errors.As(err, &refused) {
		return unavailable(fmt.Errorf("authenticate: %w", err))
	}
	if refused.Unavailable {
		f := refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "The access token cannot be checked now; try again later.").because(err)
		if s := math.Ceil(refused.RetryAfter.Seconds()); s > 0 {
			f.with("Retry-After", strconv.Itoa(int(s)))
		}
		return f
	}
	challenge := refused.Challenge
	if challenge == "" {
		challenge = "Bearer"
	}
	f := refuse(http.StatusUnauthorized, "UNAUTHENTICATED", "A valid access token is required.").with("WWW-Authenticate", challenge).because(err)
	if refused.DPoPNonce != "" {
		f.with("DPoP-Nonce", refused.DPoPNonce)
	}
	return f
}

// fail answers a failure. Only faults of the relay itself are logged loudly.
func (r *Relay) fail(w http.ResponseWriter, q *http.Request, err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = refuse(http.StatusInternalServerError, "INTERNAL", "The relay failed.").because(err)
	}
	log := r.log.With("method", q.Method, "status", f.Status, "x_correlator", w.Header().Get(correlator), "error", f.Error())
	if f.Status >= 500 && q.Context().Err() == nil {
		log.Error("a request to the relay failed")
	} else {
		log.Debug("a request to the relay was refused")
	}
	for name, values := range f.header {
		w.Header()[name] = values
	}
	answer(w, f.Status, f)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error here is a client that went away.
	json.NewEncoder(w).Encode(body)
}

const correlator = "X-Correlator"

var correlatorPattern = regexp.MustCompile(`^[a-zA-Z0-9\-_:;./<>{}]{1,256}$`)

// correlate answers the caller's mark, or one of its own (CAMARA Commonalities).
func correlate(w http.ResponseWriter, q *http.Request) {
	mark := q.Header.Get(correlator)
	if !correlatorPattern.MatchString(mark) {
		mark = uuid.NewString()
	}
	w.Header().Set(correlator, mark)
}

// timestamp as CAMARA writes it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
