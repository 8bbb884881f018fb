package notify

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

type tracer struct {
	mu      sync.Mutex
	entries []gateway.TraceEntry
}

func (t *tracer) Trace(e gateway.TraceEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries = append(t.entries, e)
}

func TestRequest(t *testing.T) {
	s := newSink(t, nil)
	o, tr := newOutbox(), &tracer{}
	n := run(t, local(t, s), o, func(d *Deps) { d.Tracer = tr })
	to := sub("s", s.URL+"/hook?x=1")
	to.Sink.Headers = map[string]string{"X-App": "mine", "Authorization": "stolen", "content-length": "1", "x-correlator": "no"}
	o.add(to, "event-1")
	flush(t, n)
	if len(s.requests) != 1 {
		t.Fatalf("%d requests", len(s.requests))
	}
	r := s.requests[0]
	if r.Method != http.MethodPost || r.URL.String() != "/hook?x=1" || r.ProtoMajor != 2 {
		t.Errorf("got %s %s %s", r.Method, r.URL, r.Proto)
	}
	for k, want := range map[string]string{
		"Content-Type": "application/cloudevents+json", "Authorization": "Bearer sink-token",
		"X-Correlator": "event-1", "X-App": "mine", "Content-Length": "16",
	} {
		if got := r.Header.Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if s.bodies[0] != `{"id":"event-1"}` {
		t.Errorf("body is %s", s.bodies[0])
	}
	if len(tr.entries) != 2 {
		t.Fatalf("%d trace entries, want the notification and its answer", len(tr.entries))
	}
	e := tr.entries[0]
	if e.From != gateway.ActorGateway || e.To != gateway.ActorDevice || e.Title != "notification session-status: Ringing" ||
		e.CallID != "call-1" || e.Number != "+15550100" || !strings.Contains(e.Text, s.bodies[0]) || strings.Contains(e.Text, "sink-token") {
		t.Errorf("trace entry %+v", e)
	}
}

func TestNoTokenNoAuthorization(t *testing.T) {
	s := newSink(t, nil)
	o := newOutbox()
	n := run(t, local(t, s), o, nil)
	to := sub("s", s.URL)
	to.Sink.AccessToken = ""
	o.add(to, "event-1")
	flush(t, n)
	if len(s.requests) != 1 || len(s.requests[0].Header["Authorization"]) != 0 {
		t.Errorf("got %v", s.requests)
	}
}

// Every answer leads to what the table of the package comment says.
func TestAnswers(t *testing.T) {
	cases := []struct {
		status  int
		outcome string
		left    int
		ended   []string
	}{
		{200, delivered, 0, nil},
		{202, delivered, 0, nil},
		{204, delivered, 0, nil},
		{301, dropped, 1, nil},
		{307, dropped, 1, nil},
		{400, dropped, 1, nil},
		{401, unauthorized, 1, []string{"default s ACCESS_TOKEN_EXPIRED silent=false"}},
		{403, dropped, 1, nil},
		{404, dropped, 1, nil},
		{408, retried, 2, nil},
		{410, gone, 0, []string{"default s NETWORK_TERMINATED silent=true"}},
		{429, retried, 2, nil},
		{500, retried, 2, nil},
		{503, retried, 2, nil},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			var elsewhere string
			s := newSink(t, func(w http.ResponseWriter, r *http.Request, body string) {
				switch {
				case r.URL.Path == "/elsewhere":
					t.Error("a redirect was followed")
				case strings.Contains(body, "first"):
					w.Header().Set("Location", elsewhere)
					w.Header().Set("Retry-After", "60")
					w.WriteHeader(c.status)
				}
			})
			elsewhere = s.URL + "/elsewhere"
			o, registry := newOutbox(), prometheus.NewRegistry()
			config := local(t, s)
			config.BackoffMin = time.Minute
			n := run(t, config, o, func(d *Deps) { d.Registerer = registry })
			o.add(sub("s", s.URL), "first", "second")
			flush(t, n)
			var counted dto.Metric
			if err := n.metrics.deliveries.WithLabelValues(c.outcome).Write(&counted); err != nil || counted.Counter.GetValue() < 1 {
				t.Errorf("outcome %s was counted %v times, %v", c.outcome, counted.Counter.GetValue(), err)
			}
			if got := o.endings(); !slices.Equal(got, c.ended) {
				t.Errorf("ended %v, want %v", got, c.ended)
			}
			// left: how many are in the queue after the first one's answer.
			wantSecond := c.left == 1 || c.outcome == delivered
			if got := len(s.got()) == 2; got != wantSecond {
				t.Errorf("requests %v, the second event was to come: %v", s.got(), wantSecond)
			}
			wantLeft := 0
			if c.left == 2 {
				wantLeft = 2
			}
			if o.left() != wantLeft {
				t.Errorf("%d events are left, want %d", o.left(), wantLeft)
			}
			if registered, err := registry.Gather(); err != nil || len(registered) < 3 {
				t.Errorf("metrics %v, %v", registered, err)
			}
		})
	}
}

// The events of a subscription come in order although the first one is refused
// at first, with the same id.
func TestOrderWithRetries(t *testing.T) {
	var mu sync.Mutex
	refusals := map[string]int{}
	s := newSink(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		if refusals[body]++; refusals[body] < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	o := newOutbox()
	run(t, local(t, s), o, nil)
	o.add(sub("s", s.URL), "1", "2", "3")
	eventually(t, "the last delivery", func() bool { return o.left() == 0 })
	var want []string
	for n := 1; n <= 3; n++ {
		for range 3 {
			want = append(want, fmt.Sprintf(`{"id":"%d"}`, n))
		}
	}
	if got := s.got(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A sink that never answers holds up neither another origin nor, for long, the
// rest of its own.
func TestSlowSinkDelaysNobody(t *testing.T) {
	hang := make(chan struct{})
	slow := newSink(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	fast := newSink(t, nil)
	defer close(hang)
	o := newOutbox()
	c := local(t, slow)
	c.Concurrency, c.PerHost, c.Timeout = 40, 30, time.Minute
	run(t, c, o, nil)
	for i := range 2000 {
		o.add(sub(fmt.Sprintf("slow-%d", i), slow.URL), "x")
	}
	eventually(t, "the slow sink's lane being full", func() bool { return len(slow.got()) == 30 })
	for i := range 20 {
		o.add(sub(fmt.Sprintf("fast-%d", i), fast.URL), "a", "b")
	}
	eventually(t, "delivery to the fast sink", func() bool { return len(fast.got()) == 40 })
	if got := len(slow.got()); got != 30 {
		t.Errorf("the slow sink has %d requests at once, want 30", got)
	}
}

func TestExpiredTokenIsNotSent(t *testing.T) {
	s := newSink(t, nil)
	o := newOutbox()
	n := run(t, local(t, s), o, nil)
	to := sub("s", s.URL)
	to.Sink.AccessTokenExpires = time.Now().Add(-time.Second)
	o.add(to, "1")
	flush(t, n)
	if len(s.got()) != 0 || o.left() != 0 {
		t.Errorf("sent %v, %d left", s.got(), o.left())
	}
}

func TestUnrenderableIsDropped(t *testing.T) {
	s := newSink(t, nil)
	o := newOutbox()
	n := run(t, local(t, s), o, nil)
	broken := sub("s", s.URL)
	broken.Generation = "broken"
	o.add(broken, "1")
	flush(t, n)
	if len(s.got()) != 0 || o.left() != 0 {
		t.Errorf("sent %v, %d left", s.got(), o.left())
	}
}

// When Run ends, what is on its way is released for another process at once.
func TestStopReleases(t *testing.T) {
	arrived := make(chan struct{}, 10)
	s := newSink(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	o := newOutbox()
	c := local(t, s)
	c.PerHost = 1
	t.Run("running", func(t *testing.T) {
		run(t, c, o, nil)
		o.add(sub("a", s.URL), "1")
		o.add(sub("b", s.URL), "1")
		<-arrived
	})
	d, err := o.Claim(t.Context(), time.Minute, 10)
	if err != nil || len(d) != 2 {
		t.Errorf("%d deliveries can be claimed, %v, want 2", len(d), err)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := parseRetryAfter(in, now); got != want {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	}
}
